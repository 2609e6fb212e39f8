//! The project's own commands: `cargo xtask demo`, `test`, `sim`, `bench` and `fuzz`.

mod checks;
mod command;
mod demo;
mod fuzz;
mod guarantees;
mod prerequisites;
mod redis;
mod server;
mod wasm;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::command::cargo;

const USAGE: &str = "\
cargo xtask demo [--check] [--release]
    Build the server, start it on a temporary store with sample maps, say what to try, and run
    until Ctrl-C. With --check, try it all once without a person and stop.
cargo xtask test [--only STEP]...
    Install what the tests need and run all of them, or the steps named.
cargo xtask sim [ARGUMENTS OF portolan-sim]...
    Run the simulator; thousands of seeds unless told otherwise.
cargo xtask bench [ARGUMENTS OF portolan-bench]...
    Run the benchmarks. The rivals are compiled at the first time, which takes minutes.
cargo xtask fuzz [TARGET]... [--seconds N]
    Run the fuzz targets, or those named, for N seconds each; 60 unless told otherwise.
    With --input FILE, run a target on that input alone; with --keep, take what was found into
    the corpus in fuzz/corpus and leave out of it what adds nothing.
";

/// Seeds of `cargo xtask sim`; the tests run fewer, see `checks.rs`.
const SIM_SEEDS: &str = "5000";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = lexopt::Parser::from_env();
    let task = match arguments.next()? {
        Some(Value(task)) => task.string()?,
        Some(Short('h') | Long("help")) => "help".to_owned(),
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("no task was named\n\n{USAGE}"),
    };
    match task.as_str() {
        "demo" => demo::run(&demo::Options::parse(&mut arguments)?),
        "test" => checks::run(&checks::names(&mut arguments)?),
        "sim" => {
            let given: Vec<OsString> = arguments.raw_args()?.collect();
            let default = ["--seeds", SIM_SEEDS].map(OsString::from);
            let given = if given.is_empty() {
                &default[..]
            } else {
                &given
            };
            package("portolan-sim", given)
        }
        "bench" => {
            prerequisites::compiler_target(wasm::TARGET)?;
            let given: Vec<OsString> = arguments.raw_args()?.collect();
            if given.is_empty() || given.iter().any(|argument| argument == "redis") {
                prerequisites::redis()?;
            }
            package("portolan-bench", &given)
        }
        "fuzz" => fuzz::run(&fuzz::Options::parse(&mut arguments)?),
        "help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("there is no task `{other}`\n\n{USAGE}"),
    }
}

/// Builds a package for speed, runs it, and ends as it ends.
fn package(name: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let status = cargo(["run", "--quiet", "--release", "--package", name, "--"])
        .args(arguments)
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
