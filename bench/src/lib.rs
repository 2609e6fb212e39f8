//! Portolan beside its rivals: the same work, measured in the same run.
//!
//! Three suites: `engine` compares replicated maps as libraries, each in a process of its own;
//! `sync` compares servers, with real client processes over loopback; `redis` compares coordinated
//! maps with bare commands to the same Redis. Nothing depends on this
//! crate, so the rivals never slow the build.

mod child;
mod edits;
mod engine;
mod growth;
mod options;
mod reconcile;
mod redis;
mod report;
mod stopwatch;
mod suite;
mod sync;
mod task;
mod trace;
mod wasm;
mod workload;

use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;

use options::{Command, Options};
use report::Report;

/// Tells how many bytes the process holds on its heap; only a build that counts them has one.
pub type HeapProbe = fn() -> usize;

/// Does what the command line asks for, and says why where it cannot.
pub fn run(heap: Option<HeapProbe>) -> ExitCode {
    match obey(&Options::parse(), heap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(options: &Options, heap: Option<HeapProbe>) -> anyhow::Result<()> {
    match &options.command {
        Some(Command::Measure(job)) => return child::answer(job, heap),
        Some(Command::Client(client)) => return sync::client::run(client),
        _ => {}
    }
    ensure!(
        !cfg!(debug_assertions),
        "figures of a debug build mean nothing: use `cargo xtask bench`, or `cargo run --release`"
    );
    options.check_only()?;
    let mut report = Report::default();
    if options.wants_engine() {
        suite::run(options, &mut report)?;
    }
    if options.wants_sync() {
        sync::run(options, &mut report)?;
    }
    if options.wants_redis() {
        redis::run(options, &mut report)?;
    }
    print!("{report}");
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(())
}
