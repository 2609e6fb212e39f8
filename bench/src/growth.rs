//! How the time of a task grows with the number of its operations.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::report::Measure;
use crate::stopwatch::Stopwatch;

const SIZES: [usize; 5] = [2_500, 5_000, 10_000, 20_000, 40_000];

/// Small sizes are repeated until this many operations are done, to see past the noise.
const OPERATIONS: usize = 80_000;

/// An engine that needs longer than this for one size is not asked for the next, which would
/// take four times as long where it grows with the square; two sizes it always does.
const PATIENCE: Duration = Duration::from_secs(2);

/// More heap than any engine needs at the largest size.
const HEAP: usize = 256 << 20;

/// Environment of a process that measures growth: glibc's allocator then serves large blocks
/// from the heap too, and never gives the heap back.
pub(crate) const KEEP_HEAP: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// The shortest time that a loop took at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    metric: String,
    n: usize,
    ms: f64,
}

/// Times of a task's loops at growing sizes. Of repeated times the shortest counts: what other
/// programs take from the machine only ever adds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Growth {
    points: Vec<Point>,
}

impl Growth {
    /// Measures what `figures` does, at all sizes up to `most`.
    pub(crate) fn of(
        most: usize,
        mut figures: impl FnMut(usize, &mut Stopwatch) -> anyhow::Result<Vec<Measure>>,
    ) -> anyhow::Result<Self> {
        touch_heap();
        let mut watch = Stopwatch::cold();
        figures(SIZES[0], &mut watch)?;
        let mut growth = Self::default();
        for (i, n) in SIZES.into_iter().filter(|n| *n <= most).enumerate() {
            let start = Instant::now();
            for _ in 0..(OPERATIONS / n).max(1) {
                for measure in figures(n, &mut watch)? {
                    if measure.unit == "ms" {
                        growth.add(Point {
                            metric: measure.metric,
                            n,
                            ms: measure.value,
                        });
                    }
                }
                if start.elapsed() > PATIENCE {
                    break;
                }
            }
            if start.elapsed() > PATIENCE && i > 0 {
                break;
            }
        }
        Ok(growth)
    }

    /// Joins in what another run measured.
    pub(crate) fn merge(&mut self, other: Self) {
        for point in other.points {
            self.add(point);
        }
    }

    /// The `e` of time ~ n^e; where a task has several loops, that of the worst.
    pub(crate) fn exponent(&self) -> Option<f64> {
        let exponents = self.points.iter().map(|first| {
            let points = self.points.iter().filter(|p| p.metric == first.metric);
            slope(
                &points
                    .map(|p| ((p.n as f64).ln(), p.ms.ln()))
                    .collect::<Vec<_>>(),
            )
        });
        exponents.reduce(f64::max)
    }

    fn add(&mut self, point: Point) {
        let known = self
            .points
            .iter_mut()
            .find(|known| known.metric == point.metric && known.n == point.n);
        match known {
            Some(known) => known.ms = known.ms.min(point.ms),
            None => self.points.push(point),
        }
    }
}

/// Has the kernel hand out pages now, so that large sizes do not wait for them where small ones
/// do not.
fn touch_heap() {
    drop(black_box(vec![1_u8; HEAP]));
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let covariance: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(metric: &str, n: usize, ms: f64) -> Point {
        Point {
            metric: metric.to_owned(),
            n,
            ms,
        }
    }

    #[test]
    fn exponent_is_that_of_the_worst_loop() {
        let mut growth = Growth::default();
        for n in [2, 4, 8, 16] {
            let time = n as f64;
            growth.add(point("encode_ms", n, 5.0 * time));
            growth.add(point("decode_ms", n, 3.0 * time * time));
        }
        let exponent = growth.exponent().unwrap();
        assert!((exponent - 2.0).abs() < 1e-9, "{exponent}");
    }

    #[test]
    fn shortest_of_repeated_times_counts() {
        let mut growth = Growth::default();
        for ms in [3.0, 1.0, 2.0] {
            growth.add(point("time_ms", 10, ms));
        }
        assert_eq!(growth.points.len(), 1);
        assert!((growth.points[0].ms - 1.0).abs() < 1e-9);
    }
}
