//! Where the time of operations comes from, unless the caller says otherwise.

use alloc::boxed::Box;

/// Gives the time in milliseconds since the Unix epoch.
pub(super) type TimeSource = Box<dyn FnMut() -> u64 + Send + Sync>;

/// The time of this machine. A browser's page has none that this crate could ask.
#[cfg(all(
    feature = "std",
    not(all(target_family = "wasm", target_os = "unknown"))
))]
pub(super) fn system_time() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock set before 1970 is wrong, and harms nothing: timestamps grow all the same.
    since.map_or(0, |since| since.as_millis() as u64)
}
