//! A replicated growable array.

use core::ops::{Bound, RangeBounds};

use super::shared::Shared;
use super::update::Update;
use super::{PLACE, content};
use crate::edit::ArrayMut;
use crate::entries::Siblings;
use crate::error::Error;
use crate::replica::Dot;
use crate::value::Value;
use crate::view::ArrayView;

/// A replicated growable array: elements keep their ids for life, whatever comes and goes around
/// them, and what replicas insert in a row stays in a row. Indices count the elements that show.
///
/// ```
/// use portolan_core::types::{InstanceId, RgArray};
/// use portolan_core::{ReplicaId, Value};
///
/// let id = InstanceId::new(1);
/// let mut here = RgArray::new(id, ReplicaId::new(1));
/// let mut there = RgArray::new(id, ReplicaId::new(2));
/// let (north, first) = here.append("north")?;
/// let (_, second) = here.append("north")?; // another element, of equal value
/// there.apply(&second)?; // in any order
/// there.apply(&first)?;
///
/// let deletion = there.delete(0)?;
/// here.apply(&deletion)?;
/// assert_eq!((here.len(), here.index_of(north)), (1, None));
/// here.undelete(north)?;
/// assert_eq!(here.index_of(north), Some(0));
/// here.set(0, "east")?;
/// assert!(here.values(..).eq(&[Value::from("east"), Value::from("north")]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type RgArray = Shared<content::Array>;

impl Shared<content::Array> {
    /// The array, to read.
    pub fn read(&self) -> ArrayView<'_> {
        self.document.array(PLACE)
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The winner at an index. Logarithmic.
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.read().get(index)
    }

    /// All siblings at an index, the winner first: those who set it concurrently.
    pub fn get_all(&self, index: usize) -> Siblings<'_> {
        self.read().get_all(index)
    }

    /// The id of the element at an index. Logarithmic.
    pub fn id(&self, index: usize) -> Option<Dot> {
        self.read().id(index)
    }

    /// The index at which an element stands; `None` where it is unknown or deleted. Logarithmic.
    pub fn index_of(&self, id: Dot) -> Option<usize> {
        self.read().index_of(id)
    }

    /// What an element holds, the winner; `None` where it is unknown or deleted. Logarithmic.
    pub fn element(&self, id: Dot) -> Option<&Value> {
        self.get(self.index_of(id)?)
    }

    /// The elements in order, each with its id and siblings.
    pub fn iter(&self) -> impl Iterator<Item = (Dot, Siblings<'_>)> {
        self.read().iter()
    }

    /// The elements of a range of indices, as [`iter`](Self::iter); the range may reach beyond
    /// the end. The first costs log n, each further one constant time.
    pub fn slice(
        &self,
        indices: impl RangeBounds<usize>,
    ) -> impl Iterator<Item = (Dot, Siblings<'_>)> {
        let from = match indices.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match indices.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => usize::MAX,
        };
        let from = from.min(self.len());
        self.read().slice(from).take(end.saturating_sub(from))
    }

    /// The winners of a range of indices.
    pub fn values(&self, indices: impl RangeBounds<usize>) -> impl Iterator<Item = &Value> {
        self.slice(indices)
            .filter_map(|(_, mut siblings)| siblings.next().map(|winner| winner.value))
    }

    /// Appends a value; gives the new element's id too. Elements appended by several replicas
    /// stand in the order of timestamp, then replica id, on every replica.
    pub fn append(&mut self, value: impl Into<Value>) -> Result<(Dot, Update), Error> {
        self.transact(|array| array.append(value))
    }

    /// Inserts a value before the element at an index, or at the end; gives the new element's id
    /// too.
    pub fn insert(
        &mut self,
        index: usize,
        value: impl Into<Value>,
    ) -> Result<(Dot, Update), Error> {
        self.transact(|array| array.insert(index, value))
    }

    /// Replaces what the element at an index holds; a value concurrently set there stays beside
    /// it, and survives a concurrent deletion.
    pub fn set(&mut self, index: usize, value: impl Into<Value>) -> Result<Update, Error> {
        let ((), update) = self.transact(|array| array.set(index, value))?;
        Ok(update)
    }

    /// Deletes the element at an index; what is concurrently written to it survives.
    pub fn delete(&mut self, index: usize) -> Result<Update, Error> {
        let ((), update) = self.transact(|array| array.delete(index))?;
        Ok(update)
    }

    /// Brings a deleted element back in its old place, with what it last held. `None` where it
    /// is not deleted.
    pub fn undelete(&mut self, id: Dot) -> Result<Option<Update>, Error> {
        let (back, update) = self.transact(|array| array.undelete(id))?;
        Ok(back.then_some(update))
    }

    /// Moves the element at index `from` so that it then stands at index `to`. Of concurrent
    /// moves of one element the latest decides where it is.
    pub fn move_to(&mut self, from: usize, to: usize) -> Result<Update, Error> {
        let ((), update) = self.transact(|array| array.move_to(from, to))?;
        Ok(update)
    }

    /// Deletes every element that is seen here. `None` where there is none.
    pub fn clear(&mut self) -> Result<Option<Update>, Error> {
        let (any, update) = self.write(|tx| tx.array(PLACE).clear())?;
        Ok(any.then_some(update))
    }

    /// Runs several operations as one: every replica sees all of them at once. Where the closure
    /// fails or panics, none of them has happened.
    pub fn transact<T, E>(
        &mut self,
        f: impl FnOnce(&mut ArrayMut<'_, '_>) -> Result<T, E>,
    ) -> Result<(T, Update), E> {
        self.write(|tx| f(&mut tx.array(PLACE)))
    }
}
