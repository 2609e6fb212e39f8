//! One measurement in a process of its own: allocators, caches and threads of one engine
//! never meet another's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::HeapProbe;
use crate::engine::{
    ArrayEngine, ArrayEngineUse, Engine, EngineUse, with_array_engine, with_engine,
};
use crate::growth::{Growth, KEEP_HEAP};
use crate::options::{Job, Kind};
use crate::reconcile;
use crate::report::{Measure, medians};
use crate::stopwatch::Stopwatch;
use crate::task::Task;
use crate::task::array::{self, ArrayTask, Input};
use crate::task::map::{self, MapTask};
use crate::wasm;

/// The share of the full size that warms the code up first.
const WARM_UP: usize = 10;

/// A task of so few operations is done several times in one process, by every engine: it takes a few
/// milliseconds, and what else the machine does for one of them would show as much as the work.
const FEW: usize = 10_000;
const ROUNDS: usize = 5;

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
        Task::Reconcile => answer_times(job, job.task.size(), reconcile::catch_up)?,
        Task::WasmSize => answer_size(job)?,
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
            _ => answer_times(self.job, task.size(), figures),
        }
    }
}

impl ArrayEngineUse for Measurement<'_, ArrayTask> {
    type Output = Answer;

    fn run<E: ArrayEngine>(self) -> anyhow::Result<Answer> {
        let task = self.task;
        let input = Input::of(task)?;
        let figures = |n, watch: &mut _| array::figures::<E>(task, &input, n, watch);
        let size = task.size().min(E::reach(task));
        let mut answer = answer_times(self.job, size, figures)?;
        if size < task.size() {
            // Under names of their own they are not compared with those of the full size.
            for measure in &mut answer.measures {
                measure.metric = format!("{}@{size}", measure.metric);
            }
        }
        Ok(answer)
    }
}

/// A size is what it is: it neither warms up nor grows.
fn answer_size(job: &Job) -> anyhow::Result<Answer> {
    let measures = match job.kind {
        Kind::Figures => wasm::size(&job.engine)?,
        Kind::Growth | Kind::Heap => Vec::new(),
    };
    Ok(Answer {
        measures,
        ..Answer::default()
    })
}

/// Measures all but the heap.
fn answer_times(
    job: &Job,
    size: usize,
    mut figures: impl FnMut(usize, &mut Stopwatch) -> anyhow::Result<Vec<Measure>>,
) -> anyhow::Result<Answer> {
    let mut answer = Answer::default();
    match job.kind {
        Kind::Figures => {
            let mut watch = Stopwatch::warm();
            figures(size / WARM_UP, &mut watch)?;
            let rounds = if job.task.size() <= FEW { ROUNDS } else { 1 };
            let rounds: anyhow::Result<Vec<_>> =
                (0..rounds).map(|_| figures(size, &mut watch)).collect();
            answer.measures = medians(&rounds?);
        }
        Kind::Growth => answer.growth = Growth::of(job.task.most(), figures)?,
        Kind::Heap => bail!("this build does not count the heap, or the task has none"),
    }
    Ok(answer)
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
