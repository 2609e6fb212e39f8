//! Writing into containers, within a transaction.

use alloc::vec::Vec;

use crate::containers::Kind;
use crate::error::Error;
use crate::key::{Key, KeyRef};
use crate::replica::Dot;
use crate::sequence::{Sequence, Spot};
use crate::sets::member_key;
use crate::slab::Slot;
use crate::transaction::{Transaction, check_key, check_value};
use crate::value::Value;

/// A container to write into; what is wrong with its path is told by the first write.
#[derive(Debug)]
struct Target<'t, 'd> {
    transaction: &'t mut Transaction<'d>,
    container: Result<u32, Error>,
}

impl<'d> Target<'_, 'd> {
    /// The container of a kind under a key of this one.
    fn inner(self, key: &Key, kind: Kind) -> Self {
        let container = self
            .container
            .and_then(|parent| self.transaction.container(parent, key, kind));
        Self { container, ..self }
    }

    fn reborrow(&mut self) -> Target<'_, 'd> {
        Target {
            transaction: self.transaction,
            container: self.container.clone(),
        }
    }

    fn number(&self) -> Result<u32, Error> {
        self.container.clone()
    }

    /// Removes everything in it; false, and no operation, where there is nothing.
    fn clear(&mut self) -> Result<bool, Error> {
        let container = self.number()?;
        let nothing = self.transaction.document.is_bare(container);
        if nothing {
            return Ok(false);
        }
        let (seq, _) = self.transaction.next();
        self.transaction.clear(container, seq);
        self.transaction
            .document
            .settle(&mut self.transaction.journal);
        Ok(true)
    }
}

/// A map to write into.
#[derive(Debug)]
pub struct MapMut<'t, 'd>(Target<'t, 'd>);

impl<'t, 'd> MapMut<'t, 'd> {
    pub(crate) fn new(transaction: &'t mut Transaction<'d>, container: Result<u32, Error>) -> Self {
        Self(Target {
            transaction,
            container,
        })
    }

    fn inner(mut self, key: &Key, kind: Kind) -> Target<'t, 'd> {
        if let Err(error) = check_key(key)
            && self.0.container.is_ok()
        {
            self.0.container = Err(error);
        }
        self.0.inner(key, kind)
    }

    /// As [`map`](Self::map), for a path of many steps.
    #[must_use]
    pub fn into_map(self, key: impl Into<Key>) -> MapMut<'t, 'd> {
        MapMut(self.inner(&key.into(), Kind::Map))
    }

    /// As [`array`](Self::array), for a path of many steps.
    pub fn into_array(self, key: impl Into<Key>) -> ArrayMut<'t, 'd> {
        ArrayMut(self.inner(&key.into(), Kind::Array))
    }

    /// As [`or_set`](Self::or_set), for a path of many steps.
    pub fn into_or_set(self, key: impl Into<Key>) -> SetMut<'t, 'd> {
        SetMut(self.inner(&key.into(), Kind::Set))
    }

    /// As [`counter`](Self::counter), for a path of many steps.
    pub fn into_counter(self, key: impl Into<Key>) -> CounterMut<'t, 'd> {
        CounterMut(self.inner(&key.into(), Kind::Counter))
    }

    /// The map under a key. It comes into being with what is first written into it.
    pub fn map(&mut self, key: impl Into<Key>) -> MapMut<'_, 'd> {
        MapMut(self.0.reborrow()).into_map(key)
    }

    /// The array under a key.
    pub fn array(&mut self, key: impl Into<Key>) -> ArrayMut<'_, 'd> {
        MapMut(self.0.reborrow()).into_array(key)
    }

    /// The observed-remove set under a key.
    pub fn or_set(&mut self, key: impl Into<Key>) -> SetMut<'_, 'd> {
        MapMut(self.0.reborrow()).into_or_set(key)
    }

    /// The counter under a key.
    pub fn counter(&mut self, key: impl Into<Key>) -> CounterMut<'_, 'd> {
        MapMut(self.0.reborrow()).into_counter(key)
    }

    /// Replaces every sibling seen here, as [`Transaction::set`] does in the root.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let container = self.0.number()?;
        self.0
            .transaction
            .set_in(container, key.into(), value.into())
    }

    /// Removes what is seen here under the key, as [`Transaction::unset`] does in the root.
    pub fn unset<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> Result<bool, Error> {
        let container = self.0.number()?;
        Ok(self.0.transaction.unset_in(container, key.into()))
    }

    /// Removes the values that are seen here under the key, and leaves the containers; false, and
    /// no operation, where there is none.
    pub fn unset_values<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> Result<bool, Error> {
        let container = self.0.number()?;
        let transaction = &mut *self.0.transaction;
        let head = transaction.document.find(container, key.into());
        let value = |head: &Slot| !transaction.document.slab[*head].is_container();
        let Some(head) = head.filter(value) else {
            return Ok(false);
        };
        let (seq, _) = transaction.next();
        let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
        document.take_values(head, seq, journal);
        document.settle(journal);
        Ok(true)
    }

    /// Removes everything that is seen here in the map; false where there is nothing.
    pub fn clear(&mut self) -> Result<bool, Error> {
        self.0.clear()
    }
}

/// An observed-remove set to write into: concurrent insertions survive a removal.
#[derive(Debug)]
pub struct SetMut<'t, 'd>(Target<'t, 'd>);

impl SetMut<'_, '_> {
    /// Inserts a member; one that is there is inserted anew, so that it survives a concurrent
    /// removal. Members take as much room as keys may.
    pub fn insert(&mut self, member: impl Into<Value>) -> Result<(), Error> {
        let container = self.0.number()?;
        let member = member.into();
        check_value(&member)?;
        let key = member_key(&member);
        self.0.transaction.set_in(container, key, Value::Null)
    }

    /// Removes a member as far as it is seen here; false where it is not.
    pub fn remove(&mut self, member: impl Into<Value>) -> Result<bool, Error> {
        let container = self.0.number()?;
        let key = member_key(&member.into());
        Ok(self.0.transaction.unset_in(container, key.borrowed()))
    }

    /// Removes every member that is seen here; false where there is none.
    pub fn clear(&mut self) -> Result<bool, Error> {
        self.0.clear()
    }
}

/// A counter to write into: what replicas add concurrently sums up.
#[derive(Debug)]
pub struct CounterMut<'t, 'd>(Target<'t, 'd>);

impl CounterMut<'_, '_> {
    /// Adds a number, which may be negative. Fails, with nothing done, where what this replica has
    /// added since the last reset would not fit 64 bits.
    pub fn add(&mut self, n: i64) -> Result<(), Error> {
        let counter = self.0.number()?;
        self.0.transaction.add(counter, n)
    }

    /// Takes back everything that is seen here to have been added; what is added concurrently
    /// still counts. False, and no operation, where there is nothing to take back.
    pub fn reset(&mut self) -> Result<bool, Error> {
        let counter = self.0.number()?;
        if self.0.transaction.document.is_reset(counter) {
            return Ok(false);
        }
        self.0.clear()
    }
}

/// An array to write into. Indices count the elements that show.
#[derive(Debug)]
pub struct ArrayMut<'t, 'd>(Target<'t, 'd>);

impl<'t, 'd> ArrayMut<'t, 'd> {
    /// How many elements there are.
    pub fn len(&self) -> Result<usize, Error> {
        let array = self.0.number()?;
        let sequence = self.0.transaction.document.sequence(array);
        Ok(sequence.map_or(0, Sequence::len))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Appends a value and gives the new element's id. Elements appended by several replicas
    /// stand in the order of timestamp, then replica id, on every replica.
    pub fn append(&mut self, value: impl Into<Value>) -> Result<Dot, Error> {
        self.insert_born(None, value.into())
    }

    /// Appends several values; gives the id of the first, the others follow in sequence.
    pub fn append_all(
        &mut self,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<Dot>, Error> {
        let values: Vec<Value> = values.into_iter().collect();
        if values.is_empty() {
            return Ok(None);
        }
        self.insert_all_born(None, values).map(Some)
    }

    /// Inserts a value before the element at an index, or at the end; gives the new element's id.
    /// It stays between its neighbours, and what is concurrently inserted there does not come
    /// between what one replica inserts in a row.
    pub fn insert(&mut self, index: usize, value: impl Into<Value>) -> Result<Dot, Error> {
        self.insert_born(Some(index), value.into())
    }

    /// Inserts several values in a row; gives the id of the first, the others follow in sequence.
    pub fn insert_all(
        &mut self,
        index: usize,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<Dot>, Error> {
        let values: Vec<Value> = values.into_iter().collect();
        if values.is_empty() {
            return Ok(None);
        }
        self.insert_all_born(Some(index), values).map(Some)
    }

    fn insert_born(&mut self, index: Option<usize>, value: Value) -> Result<Dot, Error> {
        let array = self.place_for(index)?;
        check_value(&value)?;
        let transaction = &mut *self.0.transaction;
        let dot = transaction.take_dots(1);
        let journal = &mut transaction.journal;
        let document = &mut *transaction.document;
        document.insert_born(array, index, value, dot, journal);
        Ok(Dot::new(document.replica(), dot.0))
    }

    fn insert_all_born(&mut self, index: Option<usize>, values: Vec<Value>) -> Result<Dot, Error> {
        let array = self.place_for(index)?;
        values.iter().try_for_each(check_value)?;
        let transaction = &mut *self.0.transaction;
        let dot = transaction.take_dots(values.len() as u64);
        let journal = &mut transaction.journal;
        let document = &mut *transaction.document;
        document.insert_all_born(array, index, values.into_iter(), dot, journal);
        Ok(Dot::new(document.replica(), dot.0))
    }

    /// The number of the array, if it has such an index.
    fn place_for(&self, index: Option<usize>) -> Result<u32, Error> {
        let array = self.0.number()?;
        let len = self.len()?;
        match index {
            Some(index) if index > len => Err(Error::IndexOutOfBounds { index, len }),
            _ => Ok(array),
        }
    }

    /// Replaces what the element at an index holds; a value concurrently set there stays beside
    /// it, and survives a concurrent deletion.
    pub fn set(&mut self, index: usize, value: impl Into<Value>) -> Result<(), Error> {
        let element = self.at(index)?;
        let value = value.into();
        check_value(&value)?;
        let transaction = &mut *self.0.transaction;
        let document = &mut *transaction.document;
        let (array, id) = (document.elements[element].array(), document.dot_at(element));
        let born = document.elements[element].born().is_some();
        transaction.put(array, Key::Element(id), value)?;
        if born {
            let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
            document.kill_birth(element, transaction.seq, journal);
        }
        transaction.document.settle(&mut transaction.journal);
        Ok(())
    }

    /// Deletes the element at an index; what is concurrently written to it survives.
    pub fn delete(&mut self, index: usize) -> Result<(), Error> {
        let element = self.at(index)?;
        let transaction = &mut *self.0.transaction;
        let (seq, _) = transaction.next();
        transaction.take_element(element, seq);
        transaction.document.settle(&mut transaction.journal);
        Ok(())
    }

    /// Removes the values that the element at an index holds, and leaves its containers: where
    /// there are none, the element goes. False, and no operation, where there is no value.
    pub fn unset_values(&mut self, index: usize) -> Result<bool, Error> {
        let element = self.at(index)?;
        let transaction = &mut *self.0.transaction;
        let document = &*transaction.document;
        let value = |head: &Slot| !document.slab[*head].is_container();
        let head = document.written(element).filter(value);
        let born = document.elements[element].born().is_some();
        if head.is_none() && !born {
            return Ok(false);
        }
        let (seq, _) = transaction.next();
        let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
        if let Some(head) = head {
            document.take_values(head, seq, journal);
        }
        if born {
            document.kill_birth(element, seq, journal);
        }
        document.settle(journal);
        Ok(true)
    }

    /// Brings a deleted element back in its old place, with what it last held. False, and no
    /// operation, where it is not deleted. Fails once its deletion is known to be stable.
    pub fn undelete(&mut self, id: Dot) -> Result<bool, Error> {
        let element = self.element(id)?;
        let document = &*self.0.transaction.document;
        if document.elements[element].shown() {
            return Ok(false);
        }
        let value = document.last_value(element)?;
        let array = document.elements[element].array();
        let transaction = &mut *self.0.transaction;
        transaction.put(array, Key::Element(id), value)?;
        transaction.document.settle(&mut transaction.journal);
        Ok(true)
    }

    /// Moves the element at index `from` so that it then stands at index `to`. Of concurrent
    /// moves of one element the latest decides where it is.
    pub fn move_to(&mut self, from: usize, to: usize) -> Result<(), Error> {
        let element = self.at(from)?;
        let len = self.len()?;
        if to >= len {
            return Err(Error::IndexOutOfBounds { index: to, len });
        }
        self.shift(element, to);
        Ok(())
    }

    fn shift(&mut self, element: Spot, to: usize) {
        let transaction = &mut *self.0.transaction;
        let (seq, timestamp) = transaction.next();
        let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
        document.move_element(element, to, seq, timestamp, journal);
        document.settle(journal);
    }

    /// Deletes every element that is seen here; false where there is none.
    pub fn clear(&mut self) -> Result<bool, Error> {
        self.0.clear()
    }

    /// The id of the element at an index.
    pub fn id(&self, index: usize) -> Result<Dot, Error> {
        let element = self.at(index)?;
        Ok(self.0.transaction.document.dot_at(element))
    }

    /// The index at which an element stands; `None` while it is deleted.
    pub fn index_of(&self, id: Dot) -> Result<Option<usize>, Error> {
        let element = self.element(id)?;
        let array = self.0.number()?;
        let document = &*self.0.transaction.document;
        let sequence = document.sequence(array);
        Ok(sequence.and_then(|sequence| sequence.index_of(&document.elements, element)))
    }

    fn at(&self, index: usize) -> Result<Spot, Error> {
        let array = self.0.number()?;
        let element = self.0.transaction.document.element_at(array, index);
        let len = self.len()?;
        element.ok_or(Error::IndexOutOfBounds { index, len })
    }

    fn element(&self, id: Dot) -> Result<Spot, Error> {
        let array = self.0.number()?;
        let document = &*self.0.transaction.document;
        let element = document.known_element(array, id);
        let placed = element.filter(|element| !document.is_orphan(*element));
        placed.ok_or(Error::NoSuchElement)
    }

    fn inner(self, index: usize, kind: Kind) -> Target<'t, 'd> {
        match self.id(index) {
            Ok(id) => self.0.inner(&Key::Element(id), kind),
            Err(error) => Target {
                container: Err(error),
                ..self.0
            },
        }
    }

    /// The map that the element at an index holds.
    #[must_use]
    pub fn into_map(self, index: usize) -> MapMut<'t, 'd> {
        MapMut(self.inner(index, Kind::Map))
    }

    /// The array that the element at an index holds.
    #[must_use]
    pub fn into_array(self, index: usize) -> ArrayMut<'t, 'd> {
        ArrayMut(self.inner(index, Kind::Array))
    }

    /// The observed-remove set that the element at an index holds.
    pub fn into_or_set(self, index: usize) -> SetMut<'t, 'd> {
        SetMut(self.inner(index, Kind::Set))
    }

    /// The counter that the element at an index holds.
    pub fn into_counter(self, index: usize) -> CounterMut<'t, 'd> {
        CounterMut(self.inner(index, Kind::Counter))
    }

    /// The map that the element at an index holds.
    pub fn map(&mut self, index: usize) -> MapMut<'_, 'd> {
        ArrayMut(self.0.reborrow()).into_map(index)
    }

    /// The array that the element at an index holds.
    pub fn array(&mut self, index: usize) -> ArrayMut<'_, 'd> {
        ArrayMut(self.0.reborrow()).into_array(index)
    }

    /// The observed-remove set that the element at an index holds.
    pub fn or_set(&mut self, index: usize) -> SetMut<'_, 'd> {
        ArrayMut(self.0.reborrow()).into_or_set(index)
    }

    /// The counter that the element at an index holds.
    pub fn counter(&mut self, index: usize) -> CounterMut<'_, 'd> {
        ArrayMut(self.0.reborrow()).into_counter(index)
    }
}
