//! The synchronisation suite: a real server and two client processes over loopback.
//!
//! The clients are programs of their own, in the language of the system under test. They are
//! told what to do by lines on standard input and answer by lines on standard output, the same
//! for every system: `client.rs` and `hocuspocus/client.js`.

pub(crate) mod client;
mod process;
pub(crate) mod system;

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::options::Options;
use crate::report::{Measure, Report};
use process::Process;
use system::{Running, System};

const LATE_JOIN: &str = "sync/late-join";
const LATENCY: &str = "sync/latency";
const BURST: &str = "sync/burst";

/// The tasks of the suite.
pub(crate) const TASKS: [&str; 3] = [LATE_JOIN, LATENCY, BURST];

/// Keys that the map holds before anything is measured.
const KEYS: usize = 10_000;

/// Edits in a second while latency is measured.
const RATE: usize = 180;

/// Edits whose latency counts.
const EDITS: usize = 900;

/// Edits before those, a second of them: what is compiled when it is first run must not count.
const WARM_UP: usize = 180;

/// Single sets that must arrive.
const BURST_SETS: usize = 5_000;

/// No answer takes as long, however slow the machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures what the options want. Each run goes through all systems; each has a new server.
pub(crate) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let systems = System::all()?;
    for run in 1..=options.runs {
        for system in &systems {
            eprintln!("run {run} of {}: sync with {}", options.runs, system.name());
            measure(system, options, report)
                .with_context(|| format!("{} failed", system.name()))?;
        }
    }
    Ok(())
}

fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let server = system.serve()?;
    let mut writer = client(&server, "writer")?;
    writer.expect("connected")?;
    writer.tell(&format!("fill {KEYS}"))?;
    writer.expect("filled")?;

    let mut reader = client(&server, "reader")?;
    reader.tell(&format!("join {KEYS}"))?;
    let joined: f64 = number(&reader.expect("joined")?)?;
    let mut add = |task: &str, measures: Vec<Measure>| {
        if options.wants(task) {
            report.add(task, system.name(), measures);
        }
    };
    add(LATE_JOIN, vec![Measure::new("time_ms", joined, "ms")]);
    if options.wants(LATENCY) {
        add(LATENCY, latency(&mut writer, &mut reader)?);
    }
    if options.wants(BURST) {
        add(BURST, burst(&mut writer, &mut reader)?);
    }
    Ok(())
}

fn client(server: &Running, role: &str) -> anyhow::Result<Process> {
    Process::start(&mut server.client(role)?, PATIENCE)
}

/// From an edit at the writer until the reader was told of it.
fn latency(writer: &mut Process, reader: &mut Process) -> anyhow::Result<Vec<Measure>> {
    let edits = WARM_UP + EDITS;
    reader.tell(&format!("edits {edits}"))?;
    reader.expect("watching")?;
    writer.tell(&format!("edit {RATE} {edits}"))?;
    writer.expect("edited")?;
    let words = reader.expect("latencies")?;
    let latencies: Vec<f64> = words.split(' ').map(number).collect::<Result<_, _>>()?;
    ensure!(
        latencies.len() == edits,
        "{} of {edits} edits were seen",
        latencies.len()
    );
    let mut counted = latencies[WARM_UP..].to_vec();
    counted.sort_by(f64::total_cmp);
    let percentile = |percent: usize| counted[(counted.len() * percent).div_ceil(100) - 1];
    // The clients tell microseconds.
    Ok(vec![
        Measure::new("p50_ms", percentile(50) / 1000.0, "ms"),
        Measure::new("p99_ms", percentile(99) / 1000.0, "ms"),
    ])
}

/// From the first of many single sets at the writer until the reader has them all.
fn burst(writer: &mut Process, reader: &mut Process) -> anyhow::Result<Vec<Measure>> {
    reader.tell(&format!("burst {BURST_SETS}"))?;
    reader.expect("watching")?;
    writer.tell(&format!("burst {BURST_SETS}"))?;
    let started: f64 = number(&writer.expect("started")?)?;
    let finished: f64 = number(&reader.expect("finished")?)?;
    let time = (finished - started) / 1000.0;
    Ok(vec![Measure::new("time_ms", time, "ms")])
}

fn number(word: &str) -> anyhow::Result<f64> {
    word.parse()
        .with_context(|| format!("{word:?} is no number"))
}
