//! A counter that can be reset.

use super::shared::Shared;
use super::update::Update;
use super::{PLACE, content};
use crate::edit::CounterMut;
use crate::error::Error;

/// A counter: what replicas add concurrently sums up, and a reset takes back what its replica
/// has seen.
///
/// ```
/// use portolan_core::ReplicaId;
/// use portolan_core::types::{Counter, InstanceId};
///
/// let id = InstanceId::new(1);
/// let mut here = Counter::new(id, ReplicaId::new(1));
/// let mut there = Counter::new(id, ReplicaId::new(2));
/// let (five, three) = (here.add(5)?, there.add(3)?);
/// let reset = here.reset()?.expect("there was something");
/// here.apply(&three)?;
/// there.apply(&reset)?;
/// there.apply(&five)?;
/// assert_eq!((here.read(), there.read()), (3, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Counter = Shared<content::Counter>;

impl Shared<content::Counter> {
    /// What it shows.
    pub fn read(&self) -> i64 {
        self.document.counter(PLACE)
    }

    /// Adds a number, which may be negative.
    pub fn add(&mut self, n: i64) -> Result<Update, Error> {
        let ((), update) = self.transact(|counter| counter.add(n))?;
        Ok(update)
    }

    /// Takes back everything that is seen here to have been added; what is added concurrently
    /// still counts. `None` where nothing was added.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general over its lifetimes"
    )]
    pub fn reset(&mut self) -> Result<Option<Update>, Error> {
        let (any, update) = self.write(|tx| tx.counter(PLACE).reset())?;
        Ok(any.then_some(update))
    }

    /// Runs several operations as one: every replica sees all of them at once. Where the closure
    /// fails or panics, none of them has happened.
    pub fn transact<T, E>(
        &mut self,
        f: impl FnOnce(&mut CounterMut<'_, '_>) -> Result<T, E>,
    ) -> Result<(T, Update), E> {
        self.write(|tx| f(&mut tx.counter(PLACE)))
    }
}
