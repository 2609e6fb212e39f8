//! `cargo xtask fuzz`: the fuzz targets, one after the other.
//!
//! What is kept of their inputs is in `fuzz/corpus`; what a run finds beside it stays below
//! cargo's target directory until somebody keeps it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use crate::command::{command, output, root, run as run_command, target};
use crate::prerequisites;

/// Seconds for each target where none are named.
const SECONDS: u32 = 60;
/// Seconds for each target in every run of the tests.
const SECONDS_OF_TESTS: u32 = 10;
/// The stable compiler has no sanitizers. The code under test has no `unsafe`, in which they
/// would look for mistakes.
const SANITIZER: [&str; 2] = ["--sanitizer", "none"];
/// An input that takes longer (in seconds), or more memory, has found something.
const LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=1024"];
/// Long enough for the golden files and for scripts of all the steps that targets take; and long
/// ones from the start, since most of what matters needs several steps.
const LENGTHS: [&str; 2] = ["-max_len=1000", "-len_control=0"];

pub(crate) struct Options {
    /// All where none is named.
    targets: Vec<String>,
    seconds: u32,
    /// The same for every run of the tests, so that they depend on the change alone as far as
    /// speed lets them.
    seed: Option<u32>,
    /// Run this input and nothing else.
    input: Option<PathBuf>,
    /// Put what was found into the kept corpus, and drop from it what adds nothing.
    keep: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &mut lexopt::Parser) -> Result<Self> {
        let mut options = Self {
            targets: Vec::new(),
            seconds: SECONDS,
            seed: None,
            input: None,
            keep: false,
        };
        while let Some(argument) = arguments.next()? {
            match argument {
                Value(target) => options.targets.push(target.string()?),
                Long("seconds") => options.seconds = arguments.value()?.parse()?,
                Long("input") => {
                    let file = PathBuf::from(arguments.value()?);
                    options.input = Some(std::path::absolute(file)?);
                }
                Long("keep") => options.keep = true,
                other => return Err(other.unexpected().into()),
            }
        }
        if options.input.is_some() && options.targets.len() != 1 {
            bail!("--input needs the one target that the input is for");
        }
        Ok(options)
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let all = targets()?;
    if let Some(name) = options.targets.iter().find(|name| !all.contains(name)) {
        let all = all.join(", ");
        bail!("there is no fuzz target `{name}`; there are: {all}");
    }
    build()?;
    let named = |name: &&String| options.targets.is_empty() || options.targets.contains(name);
    for name in all.iter().filter(named) {
        if let Some(input) = &options.input {
            run_command(program(name)?.arg(input))?;
        } else if options.keep {
            keep(name)?;
        } else {
            search(name, options.seconds, options.seed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A short run of all targets.
pub(crate) fn check() -> Result<()> {
    let options = Options {
        targets: Vec::new(),
        seconds: SECONDS_OF_TESTS,
        seed: Some(1),
        input: None,
        keep: false,
    };
    run(&options).map(drop)
}

/// The names of the targets: of the files in `fuzz/targets`.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).context("the folder `fuzz/targets`")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.display().to_string()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets. Optimising across crates would double the time, for a tenth of the runs.
fn build() -> Result<()> {
    prerequisites::cpp_compiler()?;
    let fuzzer = prerequisites::cargo_fuzz()?;
    let mut build = command(fuzzer, ["build"]);
    build.args(SANITIZER);
    run_command(build.env("CARGO_PROFILE_RELEASE_LTO", "off"))
}

/// Looks for inputs that break a target, for so many seconds.
fn search(name: &str, seconds: u32, seed: Option<u32>) -> Result<()> {
    let found = found(name)?;
    let log = found.with_extension("log");
    let mut program = program(name)?;
    program.arg(format!("-max_total_time={seconds}"));
    program.args(seed.map(|seed| format!("-seed={seed}")));
    program.arg(&found).arg(kept(name)?);
    let done = run_command(program.stderr(File::create(&log)?));
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let progress = |line: &&str| line.starts_with('#');
    if done.is_err() {
        for line in said.lines().filter(|line| !progress(line)) {
            println!("{line}");
        }
        println!("again: cargo xtask fuzz {name} --input FILE, with the file named above");
        return done;
    }
    // `#1000 DONE cov: 200 …`: inputs, and places in the program that they reach.
    let done = said
        .lines()
        .find(|line| progress(line) && line.contains("DONE"));
    let mut words = done.unwrap_or_default().split_whitespace();
    let runs = words.next().unwrap_or_default().trim_start_matches('#');
    let reached = words.skip_while(|word| *word != "cov:").nth(1);
    println!(
        "{name:<10} {runs:>10} inputs, {:>6} edges",
        reached.unwrap_or("?")
    );
    Ok(())
}

/// Makes the kept corpus anew: the fewest inputs that reach all that the kept ones and those
/// found since reach.
fn keep(name: &str) -> Result<()> {
    let (kept, found) = (kept(name)?, found(name)?);
    let least = found.with_extension("least");
    if least.exists() {
        fs::remove_dir_all(&least)?;
    }
    fs::create_dir(&least)?;
    let mut program = program(name)?;
    // How often an edge is passed does not count: that would keep ten times as many inputs.
    program.args(["-set_cover_merge=1", "-use_counters=0"]);
    program.args([&least, &kept, &found]);
    let log = found.with_extension("log");
    run_command(program.stderr(File::create(log)?))?;
    fs::remove_dir_all(&kept)?;
    fs::create_dir(&kept)?;
    let mut files = 0;
    for entry in fs::read_dir(&least)? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name()))?;
        files += 1;
    }
    println!("{name:<10} {files:>10} inputs kept");
    Ok(())
}

/// The program of a target, which was built.
fn program(name: &str) -> Result<Command> {
    let host = output(&mut command("rustc", ["--print", "host-tuple"]))?;
    let folder = target()?.join(host.trim()).join("release");
    let mut program = command(folder.join(name), LIMITS);
    program.args(LENGTHS);
    let artifacts = root().join("fuzz/artifacts").join(name);
    fs::create_dir_all(&artifacts)?;
    program.arg(option("-artifact_prefix=", &artifacts.join("")));
    Ok(program)
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// Inputs that are part of the project.
fn kept(name: &str) -> Result<PathBuf> {
    folder(root().join("fuzz/corpus").join(name))
}

/// Inputs that runs have found on this machine.
fn found(name: &str) -> Result<PathBuf> {
    folder(target()?.join("fuzz").join(name))
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
