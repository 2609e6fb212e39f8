//! A counter within a map.

use std::fmt;

use portolan_core::{CounterMut, Key};

use crate::error::Result;
use crate::location::{Location, LocationMut};
use crate::pattern::path_text;
use crate::site::Site;

/// A counter in a [`Map`](crate::Map): what replicas add at the same time sums up. Cheap to clone,
/// safe to share.
#[derive(Clone)]
pub struct Counter(pub(crate) Site);

impl Counter {
    fn edit<T>(
        &self,
        f: impl FnOnce(CounterMut<'_, '_>) -> Result<T, portolan_core::Error>,
    ) -> Result<T> {
        self.0.transact(|transaction| {
            let at = LocationMut::find(transaction, &self.0.path)?;
            Ok(f(at.into_counter())?)
        })
    }

    /// The keys that lead here.
    pub fn path(&self) -> &[Key] {
        &self.0.path
    }

    /// What it shows; 0 where nothing was added.
    pub fn get(&self) -> i64 {
        let find = |document: &_| Location::find(document, &self.0.path).map(|at| at.counter());
        self.0.read(|document| find(document)).unwrap_or(0)
    }

    /// Adds a number, which may be negative.
    pub fn add(&self, n: i64) -> Result<()> {
        self.edit(|mut counter| counter.add(n))
    }

    /// Takes back what is seen here to have been added; what is added concurrently still counts.
    /// False where there was nothing.
    pub fn reset(&self) -> Result<bool> {
        self.edit(|mut counter| counter.reset())
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter")
            .field(&path_text(self.path()))
            .finish()
    }
}
