//! The engine suite: every task with every engine, the runs interleaved.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::child::{ask, build};
use crate::growth::Growth;
use crate::options::{Job, Kind, Options};
use crate::report::{Measure, Report};
use crate::task::Task;
use crate::trace::Trace;

/// What took longer to find than this is a slow rival's; it is found in a few runs only.
const PATIENCE: Duration = Duration::from_secs(5);

/// These are the runs.
const SLOW_RUNS: u32 = 3;

/// One engine at one task.
struct Entrant {
    task: Task,
    engine: &'static str,
    growth: Growth,
    /// Whether its figures, and its growth, take long to find.
    slow: [bool; 2],
}

/// Measures what the options want. Each run goes through all tasks and all engines, so that a
/// machine that is busy for a while is busy for all of them.
pub(crate) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let tasks: Vec<Task> = Task::all()
        .filter(|task| options.wants(task.name()) && is_possible(*task))
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
            for (kind, slow) in [Kind::Figures, Kind::Growth].into_iter().zip(0..) {
                if entrant.slow[slow] && run > SLOW_RUNS {
                    continue;
                }
                let start = Instant::now();
                let answer = ask(&program, &job(kind))?;
                report.add(task.name(), engine, answer.measures);
                entrant.growth.merge(answer.growth);
                entrant.slow[slow] = start.elapsed() > PATIENCE;
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
    task.engines().iter().map(move |engine| Entrant {
        task,
        engine,
        growth: Growth::default(),
        slow: [false; 2],
    })
}

/// Says so where it is not.
fn is_possible(task: Task) -> bool {
    let obstacle = task.trace().and_then(Trace::obstacle);
    if let Some(obstacle) = &obstacle {
        eprintln!("{} is left out: {obstacle}", task.name());
    }
    obstacle.is_none()
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
