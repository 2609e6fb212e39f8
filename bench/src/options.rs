//! The command line.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};

use crate::redis;
use crate::sync::{self, client::Client};
use crate::task::Task;

/// Measures Portolan beside its rivals and prints the medians with their ratios.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// How often each figure is measured; the median counts.
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,

    /// Only this task, or the tasks whose names start so (`map/get`, `map`).
    #[arg(long, global = true, value_name = "TASK")]
    pub(crate) only: Option<String>,

    /// Also write the medians to this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What to measure; everything where nothing is said.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The engines as libraries.
    Engine,
    /// Servers with client processes over loopback.
    Sync,
    /// Coordinated maps, beside bare commands to the same Redis.
    Redis,
    /// One measurement, for the parent process.
    #[command(hide = true)]
    Measure(Job),
    /// A client process, for the parent process.
    #[command(hide = true)]
    Client(Client),
}

/// One measurement of one engine.
#[derive(Clone, Debug, Args)]
pub(crate) struct Job {
    #[arg(long)]
    pub(crate) engine: String,
    #[arg(long)]
    pub(crate) task: Task,
    #[arg(long)]
    pub(crate) kind: Kind,
}

/// Which figures of a task are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Times and sizes at the task's full size.
    Figures,
    /// The exponent of its growth.
    Growth,
    /// The heap; only the counting build can tell.
    Heap,
}

impl Options {
    pub(crate) fn wants_engine(&self) -> bool {
        matches!(self.command, None | Some(Command::Engine)) && self.wants_any(&engine_tasks())
    }

    pub(crate) fn wants_sync(&self) -> bool {
        matches!(self.command, None | Some(Command::Sync)) && self.wants_any(&sync::TASKS)
    }

    pub(crate) fn wants_redis(&self) -> bool {
        matches!(self.command, None | Some(Command::Redis)) && self.wants_any(&redis::TASKS)
    }

    pub(crate) fn wants(&self, task: &str) -> bool {
        self.only.as_deref().is_none_or(|only| {
            task.strip_prefix(only)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// A task that is misspelt would otherwise be a run that measures nothing.
    pub(crate) fn check_only(&self) -> anyhow::Result<()> {
        if !self.wants_engine() && !self.wants_sync() && !self.wants_redis() {
            let names = [engine_tasks(), sync::TASKS.to_vec(), redis::TASKS.to_vec()];
            let names = names.concat().join(", ");
            bail!("no such task here; there are {names}");
        }
        Ok(())
    }

    fn wants_any(&self, tasks: &[&str]) -> bool {
        tasks.iter().any(|task| self.wants(task))
    }
}

fn engine_tasks() -> Vec<&'static str> {
    Task::all().map(Task::name).collect()
}
