//! The engine suite: every task with every engine, the runs interleaved.

use crate::child::{ask, build};
use crate::engine::ENGINES;
use crate::options::{Job, Kind, Options};
use crate::report::Report;
use crate::task::Task;

use std::time::{Duration, Instant};

/// Growth that took longer to find than this is a slow rival's; it is not found again.
const GROWTH_PATIENCE: Duration = Duration::from_secs(5);

/// Measures what the options want. Each run goes through all tasks and all engines, so that a
/// machine that is busy for a while is busy for all of them.
pub(crate) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let tasks: Vec<Task> = Task::ALL
        .into_iter()
        .filter(|task| options.wants(task.name()))
        .collect();
    let program = std::env::current_exe()?;
    let counting = if tasks.iter().any(|task| task.has_heap()) {
        let features: &[&str] = if cfg!(feature = "rivals") {
            &[]
        } else {
            &["--no-default-features"]
        };
        Some(build("portolan-bench", "portolan-bench-heap", features)?)
    } else {
        None
    };
    let mut slow = Vec::new();
    for run in 1..=options.runs {
        for task in &tasks {
            eprintln!("run {run} of {}: {}", options.runs, task.name());
            for engine in ENGINES {
                let job = |kind| Job {
                    engine: (*engine).to_owned(),
                    task: *task,
                    kind,
                };
                report.add(task.name(), engine, ask(&program, &job(Kind::Figures))?);
                if !slow.contains(&(*task, *engine)) {
                    let start = Instant::now();
                    report.add(task.name(), engine, ask(&program, &job(Kind::Growth))?);
                    if start.elapsed() > GROWTH_PATIENCE {
                        slow.push((*task, *engine));
                    }
                }
                // Bytes do not vary as times do: once is enough.
                if let (1, true, Some(counting)) = (run, task.has_heap(), &counting) {
                    report.add(task.name(), engine, ask(counting, &job(Kind::Heap))?);
                }
            }
        }
    }
    Ok(())
}
