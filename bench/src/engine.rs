//! What every engine must be able to do, and the list of them.
//!
//! Each does it in the way its own documentation recommends; where there are several, in the
//! fastest of them.

#[cfg(feature = "rivals")]
mod automerge;
#[cfg(feature = "rivals")]
mod crdts;
#[cfg(feature = "rivals")]
mod loro;
mod portolan;
#[cfg(feature = "rivals")]
mod yrs;

use anyhow::bail;

use crate::workload::{Contents, Entry};

/// The name that the others are compared with.
pub(crate) const PORTOLAN: &str = "portolan";

/// One replica of a map.
pub(crate) trait Engine: Sized {
    /// An empty replica; `replica` is its number, from which it makes its id.
    fn new(replica: u64) -> anyhow::Result<Self>;

    /// Sets all entries in one transaction.
    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()>;

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

/// Work that is done with whichever engine is asked for.
pub(crate) trait EngineUse {
    type Output;

    fn run<E: Engine>(self) -> anyhow::Result<Self::Output>;
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
