//! How much one connection may send.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BURST, FRAME_UNIT_BYTES, MAX_PAUSE};

/// A leaky bucket (the generic cell rate algorithm) that never spills: it says how long to wait
/// before more is taken in, and what is not read waits at the sender.
pub(super) struct Pace {
    /// What one frame costs; zero for no limit.
    interval: Duration,
    /// When the bucket will be empty.
    empty_at: Instant,
}

impl Pace {
    /// `rate` frames a second, after a burst; 0 for no limit.
    pub(super) fn new(rate: u32) -> Self {
        let interval = match rate {
            0 => Duration::ZERO,
            n => Duration::from_secs(1) / n,
        };
        Self {
            interval,
            empty_at: Instant::now(),
        }
    }

    /// Counts a frame of some bytes: a large one as many.
    pub(super) fn frame(&mut self, bytes: usize, now: Instant) {
        self.count(bytes.div_ceil(FRAME_UNIT_BYTES).max(1), now);
    }

    /// Counts as much work as so many frames make.
    pub(super) fn count(&mut self, frames: usize, now: Instant) {
        let cost = self
            .interval
            .saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX));
        let most = now + BURST + MAX_PAUSE;
        self.empty_at = (self.empty_at.max(now) + cost.min(MAX_PAUSE + BURST)).min(most);
    }

    /// When to take in more, if not now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let next = self.empty_at.checked_sub(BURST)?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of some bytes that are taken in without a pause.
    fn taken(pace: &mut Pace, bytes: usize, now: Instant) -> u32 {
        let mut frames = 0;
        while pace.pause(now).is_none() && frames < 100_000 {
            pace.frame(bytes, now);
            frames += 1;
        }
        frames
    }

    #[test]
    fn after_a_burst_the_rate_is_kept() {
        let mut pace = Pace::new(100);
        let start = Instant::now();
        // One more than two seconds' worth: the next one waits.
        assert_eq!(taken(&mut pace, 10, start), 201);
        let next = pace.pause(start).unwrap();
        assert!(next - start <= Duration::from_millis(10));
        assert_eq!(taken(&mut pace, 10, start + Duration::from_secs(1)), 100);
        assert_eq!(taken(&mut pace, 10, start + Duration::from_mins(1)), 201);
    }

    #[test]
    fn large_frames_count_as_many_and_no_pause_is_longer_than_a_peer_waits() {
        let mut pace = Pace::new(100);
        let start = Instant::now();
        assert_eq!(taken(&mut pace, 10 * FRAME_UNIT_BYTES, start), 21);
        pace.count(usize::MAX, start);
        assert!(pace.pause(start).unwrap() - start <= MAX_PAUSE);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut pace = Pace::new(0);
        assert_eq!(taken(&mut pace, 1_000_000, Instant::now()), 100_000);
    }
}
