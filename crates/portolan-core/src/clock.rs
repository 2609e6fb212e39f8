//! Hybrid logical clocks (Kulkarni et al., *Logical Physical Clocks*, OPODIS 2014).
//!
//! A timestamp orders siblings, history and what a person sees; no merge depends on it.

use core::fmt;

/// 48 bits of milliseconds since the Unix epoch, then 16 bits of counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp with these 64 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The first timestamp of a millisecond.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis << 16)
    }

    /// All 64 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The counter within the millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.millis(), self.counter())
    }
}

/// Gives timestamps that only grow, whatever the time it is told does.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Timestamp,
}

impl Clock {
    /// A timestamp later than every one given or observed before, and not before `now`
    /// (milliseconds since the Unix epoch).
    pub fn tick(&mut self, now: u64) -> Timestamp {
        let physical = Timestamp::from_millis(now & ((1 << 48) - 1));
        self.last = physical.max(Timestamp(self.last.0.saturating_add(1)));
        self.last
    }

    /// Makes every later timestamp exceed `seen`.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// The latest timestamp given or observed.
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_grow_when_time_stands_still_or_goes_back() {
        let mut clock = Clock::default();
        let first = clock.tick(1_000);
        let second = clock.tick(1_000);
        let third = clock.tick(10);
        assert!(first < second && second < third);
        assert_eq!((third.millis(), third.counter()), (1_000, 2));
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let mut clock = Clock::default();
        clock.observe(Timestamp::from_bits((7 << 16) | 0xffff));
        assert_eq!(clock.tick(0), Timestamp::from_millis(8));
    }
}
