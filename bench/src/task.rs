//! The tasks: what each engine has to do, and what of it is measured.
//!
//! Every task checks the result, so that no engine looks fast by doing less.

pub(crate) mod array;
pub(crate) mod map;

use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{anyhow, ensure};

use crate::engine::{ARRAY_ENGINES, DUET_ENGINES, ENGINES, PORTOLAN, TEXT_ENGINES, WASM_ENGINES};
use crate::report::Measure;
use crate::trace::Trace;
use array::ArrayTask;
use map::MapTask;

/// A task of the engine suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// One on a map.
    Map(MapTask),
    /// One on an array.
    Array(ArrayTask),
    /// A replica catches up with one that has ten other keys and no log.
    Reconcile,
    /// What a page has to load.
    WasmSize,
}

impl Task {
    /// All of them, in the order in which they are told.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let maps = MapTask::ALL.into_iter().map(Self::Map);
        let arrays = ArrayTask::ALL.into_iter().map(Self::Array);
        maps.chain(arrays).chain([Self::Reconcile, Self::WasmSize])
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Map(task) => task.name(),
            Self::Array(task) => task.name(),
            Self::Reconcile => "reconcile/million",
            Self::WasmSize => "wasm/size",
        }
    }

    /// How many operations its figures are for.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Map(task) => task.size(),
            Self::Array(task) => task.size(),
            Self::Reconcile => 1_000_000,
            Self::WasmSize => 1,
        }
    }

    /// Whether what it leaves on the heap is a figure of its own.
    pub(crate) fn has_heap(self) -> bool {
        match self {
            Self::Map(task) => task.has_heap(),
            Self::Array(_) | Self::Reconcile | Self::WasmSize => false,
        }
    }

    /// The trace that it replays; where that is missing, the task cannot be done.
    pub(crate) const fn trace(self) -> Option<Trace> {
        match self {
            Self::Map(_) | Self::Reconcile | Self::WasmSize => None,
            Self::Array(task) => task.trace(),
        }
    }

    /// The most operations that there are for it.
    pub(crate) const fn most(self) -> usize {
        match self.trace() {
            Some(_) => self.size(),
            None => usize::MAX,
        }
    }

    /// The engines that can do it.
    pub(crate) const fn engines(self) -> &'static [&'static str] {
        match (self, self.trace()) {
            (Self::Map(_), _) => ENGINES,
            // The rivals have no such protocol.
            (Self::Reconcile, _) => &[PORTOLAN],
            (Self::WasmSize, _) => WASM_ENGINES,
            (Self::Array(_), None) => ARRAY_ENGINES,
            (Self::Array(_), Some(Trace::Paper)) => TEXT_ENGINES,
            (Self::Array(_), Some(Trace::Friends)) => DUET_ENGINES,
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
