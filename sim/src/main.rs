//! Runs simulated clusters and checks each of them; a failure prints the seed that repeats it.

mod disk;
mod network;
mod node;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::world::{Outcome, World};

/// Whole clusters in one thread on virtual time, with loss, partitions, crashes and backups.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Runs this seed alone, and tells what happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// Lets replicas be forgotten that are silent for long, in half of the clusters.
    #[arg(long)]
    forget: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let outcome = World::new(seed, arguments.forget, true).run();
        println!("seed {seed}: {outcome:?}");
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let mut total = Outcome::default();
    let mut failed = Vec::new();
    for seed in arguments.start..arguments.start + arguments.seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            World::new(seed, arguments.forget, false).run()
        }));
        if let Ok(outcome) = run {
            total.add(&outcome);
        } else {
            println!("seed {seed} failed; repeat it with --seed {seed}");
            failed.push(seed);
        }
    }
    println!("{total:?} in {:.1} s", started.elapsed().as_secs_f64());
    let passed = arguments.seeds - failed.len() as u64;
    println!("simulation: {passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that once failed, each with what was wrong.
    const REGRESSIONS: [(u64, &str); 16] = [
        (11, "the position of a move that lost stayed for ever"),
        (80, "operations of a forgotten replica were waited for"),
        (309, "an undone move of a deleted element left a position"),
        (
            491,
            "what had begun anew was sent back before that was stored",
        ),
        (
            8,
            "only the member table knew that a store was an old backup",
        ),
        (384, "what was kept back was asked of everybody"),
        (574, "what was kept back was forgotten and called otherwise"),
        (625, "members waited for what an old backup had lost"),
        (
            314,
            "what a reset had seen went though nobody knew its adder",
        ),
        (
            1090,
            "a value came to an element that had been let go of here",
        ),
        (1237, "a disk of the simulator did not sync"),
        (
            557,
            "what was sealed under an id that was given up was waited for",
        ),
        (
            1529,
            "an old backup told operations under names that a table knew to be used",
        ),
        (
            1987,
            "after a fresh start a removal was undone without what it had removed",
        ),
        (
            1325,
            "an element that came back had lost the move that told where it stands",
        ),
        (
            1388,
            "what a reset had seen stayed where its adder had left before",
        ),
    ];

    #[test]
    fn clusters_converge_and_lose_nothing() {
        for seed in 1_000_000..1_000_012 {
            println!("seed {seed}");
            World::new(seed, false, false).run();
        }
    }

    #[test]
    fn seeds_that_once_failed_pass() {
        for (seed, what) in REGRESSIONS {
            println!("seed {seed}: {what}");
            World::new(seed, true, false).run();
        }
        println!("seed 790: a reset by a backup took, in the reference, what it had never seen");
        World::new(790, false, false).run();
    }

    #[test]
    fn a_seed_repeats_to_the_byte() {
        let [a, b] = [7, 7].map(|seed| World::new(seed, false, false).run());
        assert_eq!(a, b);
    }
}
