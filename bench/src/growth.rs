//! How the time of a task grows with the number of its operations.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::report::{Measure, median};
use crate::task::{Task, figures};

const SIZES: [usize; 5] = [2_500, 5_000, 10_000, 20_000, 40_000];

/// Small sizes are repeated until this many operations are done, to see past the noise.
const OPERATIONS: usize = 80_000;

/// An engine that needs longer than this for one size is not asked for the next, which would
/// take four times as long where it grows with the square; two sizes it always does.
const PATIENCE: Duration = Duration::from_secs(2);

/// The exponent `e` of time ~ n^e; where a task has several loops, the worst of them.
pub(crate) fn exponent<E: Engine>(task: Task) -> anyhow::Result<Vec<Measure>> {
    let mut points: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    figures::<E>(task, SIZES[0])?;
    for (i, n) in SIZES.into_iter().enumerate() {
        let start = Instant::now();
        let mut times: Vec<(String, Vec<f64>)> = Vec::new();
        for _ in 0..(OPERATIONS / n).max(1) {
            for measure in figures::<E>(task, n)? {
                if measure.unit == "ms" {
                    entry(&mut times, measure.metric).push(measure.value);
                }
            }
            if start.elapsed() > PATIENCE {
                break;
            }
        }
        for (metric, values) in times {
            entry(&mut points, metric).push(((n as f64).ln(), median(&values).ln()));
        }
        if start.elapsed() > PATIENCE && i > 0 {
            break;
        }
    }
    let worst = points
        .iter()
        .map(|(_, points)| slope(points))
        .reduce(f64::max);
    Ok(worst
        .map(|value| Measure::new("exponent", value, "exponent"))
        .into_iter()
        .collect())
}

fn entry<T>(list: &mut Vec<(String, Vec<T>)>, name: String) -> &mut Vec<T> {
    let place = list.iter().position(|(known, _)| *known == name);
    let place = place.unwrap_or_else(|| {
        list.push((name, Vec::new()));
        list.len() - 1
    });
    &mut list[place].1
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
    use super::slope;

    #[test]
    fn slope_of_a_square_is_two() {
        let square = [1.0_f64, 2.0, 4.0, 8.0].map(|n| (n.ln(), (3.0 * n * n).ln()));
        assert!((slope(&square) - 2.0).abs() < 1e-9);
    }
}
