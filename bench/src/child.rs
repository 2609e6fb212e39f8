//! One measurement in a process of its own: allocators, caches and threads of one engine
//! never meet another's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::HeapProbe;
use crate::engine::{
    ArrayEngine, ArrayEngineUse, Engine, EngineUse, with_array_engine, with_engine,
};
use crate::growth::{Growth, KEEP_HEAP};
use crate::options::{Job, Kind};
use crate::report::Measure;
use crate::stopwatch::Stopwatch;
use crate::task::Task;
use crate::task::array::{self, ArrayTask, Input};
use crate::task::map::{self, MapTask};

/// The shares of the full size that are done before it. They warm the code up, and how their
/// times differ tells how long the next would take.
const SHARES: [usize; 4] = [1000, 100, 10, 1];

/// An engine that would need longer than this does a tenth, or a hundredth, of the full size.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a child tells its parent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) measures: Vec<Measure>,
    pub(crate) growth: Growth,
}

/// Starts the program on the job and reads what it measured.
pub(crate) fn ask(program: &Path, job: &Job) -> anyhow::Result<Answer> {
    let (kind, environment) = match job.kind {
        Kind::Figures => ("figures", [].as_slice()),
        Kind::Growth => ("growth", KEEP_HEAP.as_slice()),
        Kind::Heap => ("heap", [].as_slice()),
    };
    let output = Command::new(program)
        .args(["measure", "--engine", &job.engine])
        .args(["--task", job.task.name(), "--kind", kind])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} of {} failed: {}",
        job.task.name(),
        job.engine,
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The other side of [`ask`].
pub(crate) fn answer(job: &Job, probe: Option<HeapProbe>) -> anyhow::Result<()> {
    let answer = match job.task {
        Task::Map(task) => with_engine(&job.engine, Measurement { job, probe, task })?,
        Task::Array(task) => with_array_engine(&job.engine, Measurement { job, probe, task })?,
    };
    println!("{}", serde_json::to_string(&answer)?);
    Ok(())
}

struct Measurement<'a, T> {
    job: &'a Job,
    probe: Option<HeapProbe>,
    task: T,
}

impl EngineUse for Measurement<'_, MapTask> {
    type Output = Answer;

    fn run<E: Engine>(self) -> anyhow::Result<Answer> {
        let task = self.task;
        let figures = |n, watch: &mut _| map::figures::<E>(task, n, watch);
        match (self.job.kind, self.probe) {
            (Kind::Heap, Some(probe)) => Ok(Answer {
                measures: map::heap::<E>(task, probe)?,
                ..Answer::default()
            }),
            _ => answer_times(self.job, figures),
        }
    }
}

impl ArrayEngineUse for Measurement<'_, ArrayTask> {
    type Output = Answer;

    fn run<E: ArrayEngine>(self) -> anyhow::Result<Answer> {
        let input = Input::of(self.task)?;
        let figures = |n, watch: &mut _| array::figures::<E>(self.task, &input, n, watch);
        answer_times(self.job, figures)
    }
}

/// Measures all but the heap.
fn answer_times(
    job: &Job,
    figures: impl FnMut(usize, &mut Stopwatch) -> anyhow::Result<Vec<Measure>>,
) -> anyhow::Result<Answer> {
    let mut answer = Answer::default();
    match job.kind {
        Kind::Figures => answer.measures = full_figures(job.task.size(), figures)?,
        Kind::Growth => answer.growth = Growth::of(job.task.most(), figures)?,
        Kind::Heap => bail!("this build does not count the heap, or the task has none"),
    }
    Ok(answer)
}

/// The figures at the full size; at the largest share of it, which they then name, where that
/// would take too long.
fn full_figures(
    size: usize,
    mut figures: impl FnMut(usize, &mut Stopwatch) -> anyhow::Result<Vec<Measure>>,
) -> anyhow::Result<Vec<Measure>> {
    let mut watch = Stopwatch::warm();
    let mut measures = Vec::new();
    let mut last: Option<Duration> = None;
    let mut growth: f64 = 10.0;
    for share in SHARES {
        let n = size / share;
        if last.is_some_and(|last| last.mul_f64(growth) > PATIENCE) {
            break;
        }
        let start = Instant::now();
        measures = figures(n, &mut watch)?;
        if share > 1 {
            for measure in &mut measures {
                measure.metric = format!("{}@{n}", measure.metric);
            }
        }
        let time = start.elapsed();
        if let Some(last) = last.replace(time) {
            // At least linear, at most the square.
            growth = (time.as_secs_f64() / last.as_secs_f64()).clamp(10.0, 100.0);
        }
    }
    Ok(measures)
}

/// Builds another program of the workspace, quickly where it is up to date; tells its path.
pub(crate) fn build(package: &str, binary: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    eprintln!("building {binary}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", package])
        .args(["--bin", binary])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo could not build {binary}");
    // Cargo puts it beside this program, which is a release build as well.
    let path = std::env::current_exe()?.with_file_name(binary);
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}
