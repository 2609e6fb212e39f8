//! The time that work takes.

use std::hint::black_box;
use std::time::Instant;

/// More than the caches of the machines in use.
const CACHES: usize = 64 << 20;

/// Takes the time of work, from warm or from cold caches.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    filler: Vec<u64>,
}

impl Stopwatch {
    /// Takes times as they are.
    pub(crate) fn warm() -> Self {
        Self::default()
    }

    /// Empties the caches each time. Where times of small and large maps are compared, this
    /// keeps apart what the program does more of from what the caches do less of.
    pub(crate) fn cold() -> Self {
        Self {
            filler: vec![1; CACHES / size_of::<u64>()],
        }
    }

    /// Does the work; returns its milliseconds and its result.
    pub(crate) fn time<T>(
        &mut self,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(f64, T)> {
        for word in &mut self.filler {
            *word = word.wrapping_mul(3);
        }
        black_box(&self.filler);
        let start = Instant::now();
        let result = work()?;
        Ok((start.elapsed().as_secs_f64() * 1000.0, result))
    }
}
