//! The engine suite: every task with every engine, the runs interleaved.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::child::{ask, build};
use crate::engine::{ENGINES, PORTOLAN};
use crate::growth::Growth;
use crate::options::{Job, Kind, Options};
use crate::report::{Measure, Report};
use crate::task::Task;

/// Growth that took longer to find than this is a slow rival's; it is found in a few runs only.
const GROWTH_PATIENCE: Duration = Duration::from_secs(5);

/// These are the runs.
const SLOW_RUNS: u32 = 3;

/// One engine at one task.
struct Entrant {
    task: Task,
    engine: &'static str,
    growth: Growth,
    slow: bool,
}

/// Measures what the options want. Each run goes through all tasks and all engines, so that a
/// machine that is busy for a while is busy for all of them.
pub(crate) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let tasks: Vec<Task> = Task::ALL
        .into_iter()
        .filter(|task| options.wants(task.name()))
        .collect();
    let program = std::env::current_exe()?;
    let counting = counting_program(&tasks)?;
    let mut entrants: Vec<Entrant> = tasks.iter().copied().flat_map(entrants).collect();
    for run in 1..=options.runs {
        let mut last = None;
        for entrant in &mut entrants {
            let (task, engine) = (entrant.task, entrant.engine);
            if last.replace(task) != Some(task) {
                eprintln!("run {run} of {}: {}", options.runs, task.name());
            }
            let job = |kind| Job {
                engine: engine.to_owned(),
                task,
                kind,
            };
            let figures = ask(&program, &job(Kind::Figures))?;
            report.add(task.name(), engine, figures.measures);
            if !entrant.slow || run <= SLOW_RUNS {
                let start = Instant::now();
                entrant
                    .growth
                    .merge(ask(&program, &job(Kind::Growth))?.growth);
                entrant.slow = start.elapsed() > GROWTH_PATIENCE;
            }
            // Bytes do not vary as times do: once is enough.
            if let (1, true, Some(counting)) = (run, task.has_heap(), &counting) {
                let heap = ask(counting, &job(Kind::Heap))?;
                report.add(task.name(), engine, heap.measures);
            }
        }
    }
    for entrant in entrants {
        if let Some(exponent) = entrant.growth.exponent() {
            let measure = Measure::new("exponent", exponent, "exponent");
            report.add(entrant.task.name(), entrant.engine, vec![measure]);
        }
    }
    Ok(())
}

fn entrants(task: Task) -> impl Iterator<Item = Entrant> {
    // The rivals have no such protocol.
    let alone = task == Task::Reconcile;
    let engines = ENGINES
        .iter()
        .filter(move |engine| !alone || **engine == PORTOLAN);
    engines.map(move |engine| Entrant {
        task,
        engine,
        growth: Growth::default(),
        slow: false,
    })
}

/// The build of this program that counts the heap, where a task asks for it.
fn counting_program(tasks: &[Task]) -> anyhow::Result<Option<PathBuf>> {
    if !tasks.iter().any(|task| task.has_heap()) {
        return Ok(None);
    }
    let features: &[&str] = if cfg!(feature = "rivals") {
        &[]
    } else {
        &["--no-default-features"]
    };
    build("portolan-bench", "portolan-bench-heap", features).map(Some)
}
