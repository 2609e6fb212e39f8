//! An observed-remove set.

use super::shared::Shared;
use super::update::Update;
use super::{PLACE, content};
use crate::edit::SetMut;
use crate::error::Error;
use crate::value::Value;
use crate::view::SetView;

/// An observed-remove set of plain values: a removal takes what its replica has seen, and a
/// concurrent insertion survives it.
///
/// ```
/// use portolan_core::ReplicaId;
/// use portolan_core::types::{InstanceId, OrSet};
///
/// let id = InstanceId::new(1);
/// let mut here = OrSet::new(id, ReplicaId::new(1));
/// let mut there = OrSet::new(id, ReplicaId::new(2));
/// there.apply(&here.insert("ada")?)?;
///
/// let insertion = there.insert("ada")?; // anew
/// let removal = here.remove("ada")?.expect("it was there");
/// there.apply(&removal)?;
/// here.apply(&insertion)?;
/// assert!(here.contains("ada") && there.contains("ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type OrSet = Shared<content::Set>;

impl Shared<content::Set> {
    /// The set, to read.
    pub fn read(&self) -> SetView<'_> {
        self.document.or_set(PLACE)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Whether it is a member; `1`, `1.0` and `true` are three.
    pub fn contains(&self, member: impl Into<Value>) -> bool {
        self.read().contains(member)
    }

    /// All members: booleans, integers, strings, then all others, each kind in order.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        self.read().iter()
    }

    /// Inserts a member; one that is there is inserted anew, so that it survives a concurrent
    /// removal.
    pub fn insert(&mut self, member: impl Into<Value>) -> Result<Update, Error> {
        let ((), update) = self.transact(|set| set.insert(member))?;
        Ok(update)
    }

    /// Removes a member as far as it is seen here. `None` where it is not.
    pub fn remove(&mut self, member: impl Into<Value>) -> Result<Option<Update>, Error> {
        let (removed, update) = self.transact(|set| set.remove(member))?;
        Ok(removed.then_some(update))
    }

    /// Removes every member that is seen here. `None` where there is none.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general over its lifetimes"
    )]
    pub fn clear(&mut self) -> Result<Option<Update>, Error> {
        let (any, update) = self.write(|tx| tx.or_set(PLACE).clear())?;
        Ok(any.then_some(update))
    }

    /// Runs several operations as one: every replica sees all of them at once. Where the closure
    /// fails or panics, none of them has happened.
    pub fn transact<T, E>(
        &mut self,
        f: impl FnOnce(&mut SetMut<'_, '_>) -> Result<T, E>,
    ) -> Result<(T, Update), E> {
        self.write(|tx| f(&mut tx.or_set(PLACE)))
    }
}
