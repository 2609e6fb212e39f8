//! What every engine must be able to do, and the list of them.
//!
//! Each does it in the way its own documentation recommends; where there are several, in the
//! fastest of them.

#[cfg(feature = "rivals")]
mod automerge;
#[cfg(feature = "rivals")]
mod crdts;
#[cfg(feature = "rivals")]
mod diamond_types;
#[cfg(feature = "rivals")]
mod loro;
mod portolan;
#[cfg(feature = "rivals")]
mod yrs;

use anyhow::bail;

use crate::edits::{Edit, Element};
use crate::task::array::ArrayTask;
use crate::workload::{Contents, Entry};

/// The name that the others are compared with.
pub(crate) const PORTOLAN: &str = "portolan";

/// One replica of a map.
pub(crate) trait Engine: Sized {
    /// An empty replica; `replica` is its number, from which it makes its id.
    fn new(replica: u64) -> anyhow::Result<Self>;

    /// Sets all entries in one transaction.
    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()>;

    /// As [`set_batch`](Self::set_batch), with a call for each entry.
    fn set_batch_calls(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        self.set_batch(entries)
    }

    /// Sets all entries, each in a transaction of its own.
    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()>;

    /// Removes the keys in one transaction.
    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()>;

    /// Gets the keys one by one and adds their values up.
    fn sum(&self, keys: &[String]) -> anyhow::Result<i64>;

    /// Reads the whole map.
    fn contents(&self) -> anyhow::Result<Contents>;

    /// The whole map as bytes, to be kept.
    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>>;

    /// The replica that the bytes of [`snapshot`](Self::snapshot) describe.
    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self>;

    /// As [`snapshot`](Self::snapshot), in the fewest bytes that the engine's documentation has
    /// a way to; for many that is the same.
    fn small_snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        self.snapshot()
    }

    /// The replica that the bytes of [`small_snapshot`](Self::small_snapshot) describe.
    fn open_small(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        Self::open(replica, bytes)
    }

    /// Sets all entries, each in a transaction of its own; returns the bytes to send for each.
    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>>;

    /// Joins in what [`updates`](Self::updates) gave for one entry.
    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()>;

    /// All that another replica lacks which has seen nothing of this one.
    fn export(&mut self) -> anyhow::Result<Vec<u8>>;

    /// Joins in what [`export`](Self::export) gave.
    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
}

/// One replica of an array, each element of which has an identity of its own.
pub(crate) trait ArrayEngine: Sized {
    /// An empty replica; `replica` is its number, from which it makes its id.
    fn new(replica: u64) -> anyhow::Result<Self>;

    /// The most operations of the task that it does in reasonable time, where these are fewer
    /// than the task has.
    fn reach(_task: ArrayTask) -> usize {
        usize::MAX
    }

    /// Makes all edits in one transaction.
    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()>;

    /// Makes all edits, each in a transaction of its own.
    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()>;

    /// Reads the whole array.
    fn elements(&self) -> anyhow::Result<Vec<Element>>;

    /// The whole array as bytes, to be kept: the fewest that the engine's documentation has a
    /// way to.
    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>>;

    /// The replica that the bytes of [`snapshot`](Self::snapshot) describe.
    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self>;

    /// Makes the edits in one transaction that is to be sent.
    fn share(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        self.edit_batch(edits)
    }

    /// What this replica did since it was asked last, for the only other one.
    fn send(&mut self) -> anyhow::Result<Vec<u8>>;

    /// Joins in what [`send`](Self::send) gave.
    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
}

/// Work that is done with whichever engine is asked for.
pub(crate) trait EngineUse {
    type Output;

    fn run<E: Engine>(self) -> anyhow::Result<Self::Output>;
}

/// The same for arrays.
pub(crate) trait ArrayEngineUse {
    type Output;

    fn run<E: ArrayEngine>(self) -> anyhow::Result<Self::Output>;
}

/// Does the work with the engine of that name.
pub(crate) fn with_engine<U: EngineUse>(name: &str, work: U) -> anyhow::Result<U::Output> {
    match name {
        PORTOLAN => work.run::<portolan::Map>(),
        #[cfg(feature = "rivals")]
        "loro" => work.run::<loro::Map>(),
        #[cfg(feature = "rivals")]
        "automerge" => work.run::<automerge::Map>(),
        #[cfg(feature = "rivals")]
        "yrs" => work.run::<yrs::Map>(),
        #[cfg(feature = "rivals")]
        "crdts" => work.run::<crdts::Map>(),
        _ => bail!("no engine is named {name}"),
    }
}

/// The engines of this build.
pub(crate) const ENGINES: &[&str] = if cfg!(feature = "rivals") {
    &[PORTOLAN, "loro", "automerge", "yrs", "crdts"]
} else {
    &[PORTOLAN]
};

/// Does the work with the arrays of the engine of that name.
pub(crate) fn with_array_engine<U: ArrayEngineUse>(
    name: &str,
    work: U,
) -> anyhow::Result<U::Output> {
    match name {
        PORTOLAN => work.run::<portolan::Array>(),
        #[cfg(feature = "rivals")]
        "loro" => work.run::<loro::Array>(),
        #[cfg(feature = "rivals")]
        "automerge" => work.run::<automerge::Array>(),
        #[cfg(feature = "rivals")]
        "yrs" => work.run::<yrs::Array>(),
        #[cfg(feature = "rivals")]
        "crdts" => work.run::<crdts::Array>(),
        #[cfg(feature = "rivals")]
        "diamond-types" => work.run::<diamond_types::Text>(),
        _ => bail!("no engine with arrays is named {name}"),
    }
}

/// The engines of this build that have arrays.
pub(crate) const ARRAY_ENGINES: &[&str] = if cfg!(feature = "rivals") {
    &[PORTOLAN, "loro", "automerge", "yrs", "crdts"]
} else {
    &[PORTOLAN]
};

/// Those that have arrays of characters at least.
pub(crate) const TEXT_ENGINES: &[&str] = if cfg!(feature = "rivals") {
    &[
        PORTOLAN,
        "loro",
        "automerge",
        "yrs",
        "crdts",
        "diamond-types",
    ]
} else {
    &[PORTOLAN]
};

/// Those of them that merge the trace of two people as its recorder did. crdts puts concurrent
/// insertions at one place into another order, after which positions mean something else.
pub(crate) const DUET_ENGINES: &[&str] = if cfg!(feature = "rivals") {
    &[PORTOLAN, "loro", "automerge", "yrs", "diamond-types"]
} else {
    &[PORTOLAN]
};

/// Those of which `bench/wasm` has a module.
pub(crate) const WASM_ENGINES: &[&str] = if cfg!(feature = "rivals") {
    &[PORTOLAN, "yrs"]
} else {
    &[PORTOLAN]
};
