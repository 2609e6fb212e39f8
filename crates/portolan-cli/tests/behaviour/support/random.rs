//! Choices that can be made again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*), so that a run can be repeated.
pub(crate) struct Random(u64);

impl Random {
    /// By the seed that `PORTOLAN_SEED` gives, else by the clock; tells it.
    pub(crate) fn of_this_run() -> Self {
        let given = std::env::var("PORTOLAN_SEED").ok();
        let seed = given.and_then(|n| n.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64 | 1
        });
        eprintln!("PORTOLAN_SEED={seed}");
        Self(seed)
    }

    /// One that chooses otherwise.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.below(1 << 30) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
