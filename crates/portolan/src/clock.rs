//! The time that the engine is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How far the system's clock may run ahead before it is followed.
const TOLERATED_MILLIS: u64 = 1_000;

/// Milliseconds since the Unix epoch that never go back, because delays are measured with them.
///
/// Runs with the monotonic clock; jumps forward with the system's clock, as after a sleep.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The epoch's milliseconds at `start`, so to speak.
    base: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            base: AtomicU64::new(system_millis()),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        let elapsed = self.start.elapsed().as_millis() as u64;
        let now = self.base.load(Ordering::Relaxed) + elapsed;
        let system = system_millis();
        if system <= now + TOLERATED_MILLIS {
            return now;
        }
        self.base.fetch_max(system - elapsed, Ordering::Relaxed);
        system
    }
}

fn system_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock that stands before 1970 orders nothing, and harms nothing.
    since.map_or(0, |since| since.as_millis() as u64)
}

/// 64 random bits from the system.
pub(crate) fn random() -> u64 {
    // A system without randomness has none to give to anybody: ids would collide, and maps break.
    getrandom::u64().expect("the system gives random numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_systems_and_does_not_go_back() {
        let clock = Clock::new();
        let (mut last, before) = (0, system_millis());
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(last + 1_000 >= before);
        clock.base.store(0, Ordering::Relaxed);
        assert!(clock.now() >= before, "it follows the system forward");
    }
}
