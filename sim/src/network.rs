//! Links between nodes: each with its delay, its width and its faults.

use bytes::Bytes;
use fastrand::Rng;
use portolan_core::sync::SessionId;

/// One link. The node `ends[0]` dials, `ends[1]` answers.
pub(crate) struct Link {
    pub(crate) ends: [usize; 2],
    pub(crate) up: bool,
    /// Grows with every connection: what is under way of an older one is lost.
    pub(crate) epoch: u64,
    pub(crate) sessions: [Option<SessionId>; 2],
    /// When to dial again.
    pub(crate) dial_at: u64,
    /// Loses, doubles and reorders frames, as no transport in use does.
    pub(crate) lossy: bool,
    delay: u64,
    /// Bytes a millisecond.
    width: usize,
    /// When each direction has sent all that it was given.
    busy_until: [u64; 2],
    /// When the last frame of each direction arrives: frames do not overtake each other.
    last_arrival: [u64; 2],
}

impl Link {
    pub(crate) fn new(ends: [usize; 2], lossy: bool, rng: &mut Rng) -> Self {
        Self {
            ends,
            up: true,
            epoch: 0,
            sessions: [None; 2],
            dial_at: 0,
            lossy,
            delay: rng.u64(0..50),
            width: if rng.u8(..) < 40 {
                rng.usize(1..20)
            } else {
                10_000
            },
            busy_until: [0; 2],
            last_arrival: [0; 2],
        }
    }

    /// Whether a direction takes another frame now: a slow one makes its sender wait.
    pub(crate) fn is_free(&self, from: usize, now: u64) -> bool {
        self.busy_until[from] <= now
    }

    pub(crate) fn free_at(&self, from: usize) -> u64 {
        self.busy_until[from]
    }

    /// When a frame sent now arrives: once, never, or more often.
    pub(crate) fn send(&mut self, from: usize, frame: &Bytes, now: u64, rng: &mut Rng) -> Vec<u64> {
        self.busy_until[from] = now + (frame.len() / self.width) as u64;
        let arrival = self.busy_until[from] + self.delay;
        if !self.lossy {
            self.last_arrival[from] = self.last_arrival[from].max(arrival);
            return vec![self.last_arrival[from]];
        }
        let copies = match rng.u8(..) {
            0..30 => 0,
            30..50 => 2,
            _ => 1,
        };
        (0..copies).map(|_| arrival + rng.u64(0..100)).collect()
    }

    /// Forgets the connection; it is dialled again after a while.
    pub(crate) fn cut(&mut self, now: u64, rng: &mut Rng) -> [Option<SessionId>; 2] {
        self.epoch += 1;
        self.dial_at = now + rng.u64(1..2_000);
        self.busy_until = [now; 2];
        self.last_arrival = [now; 2];
        std::mem::take(&mut self.sessions)
    }
}
