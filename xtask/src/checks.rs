//! `cargo xtask test`: every check, each timed, one after the other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use crate::command::{cargo, command, root, run as run_command, target};
use crate::redis::Redis;
use crate::{demo, fuzz, guarantees, prerequisites, server, wasm};

/// Seeds of the simulator in every run of the tests, and as many in which replicas are forgotten:
/// three minutes at the most.
const SIM_SEEDS: &str = "200";
const NO_ARGUMENTS: [&str; 0] = [];

struct Step {
    name: &'static str,
    check: fn() -> Result<()>,
}

/// What fails soonest comes first.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        check: format,
    },
    Step {
        name: "clippy",
        check: clippy,
    },
    Step {
        name: "tests",
        check: tests,
    },
    Step {
        name: "valkey",
        check: valkey,
    },
    Step {
        name: "examples",
        check: examples,
    },
    Step {
        name: "demo",
        check: demo,
    },
    Step {
        name: "documentation",
        check: documentation,
    },
    Step {
        name: "wasm",
        check: wasm::check,
    },
    Step {
        name: "simulator",
        check: simulator,
    },
    Step {
        name: "bench",
        check: bench,
    },
    Step {
        name: "fuzz",
        check: fuzz::check,
    },
    Step {
        name: "dependencies",
        check: dependencies,
    },
];

/// The steps named on the command line; all where none is.
pub(crate) fn names(arguments: &mut lexopt::Parser) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("only") => names.push(arguments.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(names)
}

/// Runs the steps named, and tells how each ended and how long it took.
pub(crate) fn run(names: &[String]) -> Result<ExitCode> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == name) {
            let all: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("there is no step `{name}`; there are: {}", all.join(", "));
        }
    }
    let chosen = |step: &&Step| names.is_empty() || names.iter().any(|name| name == step.name);
    let mut ended = Vec::new();
    for step in STEPS.iter().filter(chosen) {
        println!("\n=== {}", step.name);
        let begin = Instant::now();
        let result = (step.check)();
        if let Err(error) = &result {
            println!("=== {} failed: {error:#}", step.name);
        }
        ended.push((step.name, begin.elapsed(), result.is_ok()));
    }
    Ok(summary(&ended))
}

/// The last line is one that test runners' readers know: `N passed, N failed`.
fn summary(ended: &[(&str, Duration, bool)]) -> ExitCode {
    println!();
    for (name, took, passed) in ended {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("{name:<14} {:>7.1} s  {verdict}", took.as_secs_f64());
    }
    let failed: Vec<_> = ended.iter().filter(|(.., passed)| !passed).collect();
    for (name, ..) in &failed {
        println!("again: cargo xtask test --only {name}");
    }
    let passed = ended.len() - failed.len();
    println!("\n{passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn format() -> Result<()> {
    prerequisites::component("fmt", "rustfmt")?;
    run_command(&mut cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    prerequisites::component("clippy", "clippy")?;
    run_command(&mut cargo([
        "clippy",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn tests() -> Result<()> {
    prerequisites::iso_codes()?;
    prerequisites::redis()?;
    run_command(&mut cargo(["test", "--no-fail-fast"]))
}

/// The tests with a Redis once more, with a Valkey. Where there is none they are left out: what is
/// promised is held by those with the Redis.
fn valkey() -> Result<()> {
    prerequisites::redis()?;
    let program = match prerequisites::valkey() {
        Ok(program) => program,
        Err(error) => {
            println!("left out: {error:#}");
            return Ok(());
        }
    };
    let mut test = cargo(["test", "--package", "portolan-redis", "--tests"]);
    run_command(test.env("PORTOLAN_REDIS_SERVER", program))
}

/// Each folder of `examples/` is a program that checks what it shows and ends by itself.
fn examples() -> Result<()> {
    prerequisites::redis()?;
    build()?;
    let folder = root().join("examples");
    let entries = std::fs::read_dir(&folder).context("the folder `examples`")?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("Cargo.toml").exists() {
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    names.sort();
    let redis = Redis::start()?;
    for mut name in names {
        println!("--- {}", name.display());
        name.push(std::env::consts::EXE_SUFFIX);
        let program = target()?.join("debug").join(name);
        run_command(command(program, NO_ARGUMENTS).env("PORTOLAN_REDIS", redis.url()))?;
    }
    Ok(())
}

fn demo() -> Result<()> {
    build()?;
    demo::check(&server::binary(false)?)
}

/// All default members at once: built one by one, what they depend on would be compiled again
/// for each choice of features.
fn build() -> Result<()> {
    run_command(&mut cargo(["build"]))
}

fn documentation() -> Result<()> {
    guarantees::check()?;
    // Of the libraries: the comments in programs are their help, and no Markdown.
    let doc = ["doc", "--no-deps", "--lib"];
    run_command(cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))
}

fn simulator() -> Result<()> {
    let simulator = ["run", "--release", "--package", "portolan-sim", "--"];
    run_command(cargo(simulator).args(["--seeds", SIM_SEEDS]))?;
    run_command(cargo(simulator).args(["--forget", "--start", SIM_SEEDS, "--seeds", SIM_SEEDS]))
}

/// That the benchmarks run at all; one run tells no figures. Without the rivals, which take
/// minutes to compile.
fn bench() -> Result<()> {
    let package = ["run", "--release", "--package", "portolan-bench"];
    let engine = ["engine", "--only", "map/get", "--runs", "1"];
    run_command(
        cargo(package)
            .args(["--no-default-features", "--"])
            .args(engine),
    )
}

/// Advisories are left out: their database is not in a package registry, see CONTRIBUTING.md.
fn dependencies() -> Result<()> {
    let deny = prerequisites::cargo_deny()?;
    let check = ["check", "--hide-inclusion-graph"];
    run_command(command(deny, check).args(["licenses", "bans", "sources"]))
}
