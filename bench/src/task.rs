//! The tasks: what each engine has to do, and what of it is measured.
//!
//! Every task checks the result, so that no engine looks fast by doing less.

pub(crate) mod map;

use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{anyhow, ensure};

use crate::report::Measure;
use map::MapTask;

/// A task of the engine suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// One on a map.
    Map(MapTask),
}

impl Task {
    /// All of them, in the order in which they are told.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        MapTask::ALL.into_iter().map(Self::Map)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Map(task) => task.name(),
        }
    }

    /// How many operations its figures are for.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Map(task) => task.size(),
        }
    }

    /// Whether what it leaves on the heap is a figure of its own.
    pub(crate) fn has_heap(self) -> bool {
        match self {
            Self::Map(task) => task.has_heap(),
        }
    }
}

impl FromStr for Task {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        Self::all()
            .find(|task| task.name() == name)
            .ok_or_else(|| anyhow!("no task is named {name}"))
    }
}

fn ms(metric: &str, time: f64) -> Measure {
    Measure::new(metric, time, "ms")
}

fn size(bytes: usize) -> Measure {
    Measure::new("bytes", bytes as f64, "bytes")
}

fn same<T: PartialEq + Debug>(found: &T, expected: &T) -> anyhow::Result<()> {
    ensure!(
        found == expected,
        "the engine's result is wrong: {found:?} and not {expected:?}"
    );
    Ok(())
}
