//! Several operations as one.

use alloc::vec::Vec;

use crate::few::SmallVec;

use crate::change::Origin;
use crate::clock::Timestamp;
use crate::codec::word_of;
use crate::containers::{Form, Kind, ROOT};
use crate::document::Document;
use crate::dots::DotSet;
use crate::edit::{ArrayMut, CounterMut, MapMut, SetMut};
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{Key, KeyRef};
use crate::limits::{MAX_DEPTH, MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH};
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::slab::{BIRTH, NONE, Slot};
use crate::value::Value;

/// Keys that are read from memory together.
const BLOCK: usize = 32;

/// Operations that every replica sees as one change, one event batch, one delta. Reads through
/// [`document`](Self::document) see what it has written so far.
#[derive(Debug)]
pub struct Transaction<'a> {
    pub(crate) document: &'a mut Document,
    now: u64,
    /// The own operations before it.
    base: u64,
    pub(crate) seq: u64,
    /// One timestamp for all; given to the first operation.
    timestamp: Option<Timestamp>,
    pub(crate) journal: Journal,
    /// Tombstones noted before it.
    tombstones: (usize, usize),
    /// What becomes of what it has written and nobody has let stand: [`commit`](Self::commit) or
    /// [`take_back`](Self::take_back). Where nothing is ever taken back, nothing leads there, and a
    /// program for pages is smaller.
    end: fn(&mut Transaction<'a>),
}

impl<'a> Transaction<'a> {
    /// One that stands whole or not at all.
    #[inline]
    pub(crate) fn begin(document: &'a mut Document, now: u64) -> Self {
        Self::with_end(document, now, Self::take_back)
    }

    /// One whose operations stand, however it ends.
    pub(crate) fn begin_to_stand(document: &'a mut Document, now: u64) -> Self {
        Self::with_end(document, now, Self::commit)
    }

    fn with_end(document: &'a mut Document, now: u64, end: fn(&mut Self)) -> Self {
        let base = document.own_seq();
        let journal = Journal::new(document);
        document.forgotten = Some(Vec::new());
        let tombstones = document.tombstones.noted();
        Self {
            document,
            now,
            base,
            seq: base,
            timestamp: None,
            journal,
            tombstones,
            end,
        }
    }

    /// Replaces every sibling seen here. A value concurrently set elsewhere will stay beside it,
    /// and so do containers under the key.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        self.set_in(ROOT, key.into(), value.into())
    }

    /// As [`set`](Self::set) of one after the other, until one is refused; quicker than these where
    /// they are many. Room for all that are new is made at once.
    ///
    /// ```
    /// use portolan_core::{Document, ReplicaId};
    ///
    /// let now = 1_767_225_600_000; // milliseconds since the Unix epoch
    /// let mut fleet = Document::new(ReplicaId::new(1));
    /// let rates = [("north", 10), ("south", 20)];
    /// fleet.transact(now, |tx| tx.set_all(rates))?;
    /// assert_eq!(fleet.get("south").and_then(|rate| rate.as_int()), Some(20));
    /// # Ok::<(), portolan_core::Error>(())
    /// ```
    pub fn set_all<K: Into<Key>, V: Into<Value>>(
        &mut self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let mut entries = entries.into_iter().fuse();
        let document = &mut *self.document;
        let new = entries.size_hint().0.saturating_sub(document.index.len());
        document.index.reserve(&document.slab, new);
        // Keys lie scattered in memory: a loop that does nothing but take some waits for all of
        // them at once.
        let mut block = SmallVec::<[(Key, Value); BLOCK]>::new();
        loop {
            let some = entries.by_ref().take(BLOCK);
            block.extend(some.map(|(key, value)| (key.into(), value.into())));
            if block.is_empty() {
                return Ok(());
            }
            for (key, value) in block.drain(..) {
                self.set_in(ROOT, key, value)?;
            }
        }
    }

    /// Removes what is seen here under the key, containers included; what is concurrently written
    /// elsewhere will survive. False, and no operation, where there is nothing.
    pub fn unset<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> bool {
        self.unset_in(ROOT, key.into())
    }

    /// The map under a key. It comes into being with what is first written into it.
    pub fn map(&mut self, key: impl Into<Key>) -> MapMut<'_, 'a> {
        MapMut::new(self, Ok(ROOT)).into_map(key)
    }

    /// The array under a key.
    pub fn array(&mut self, key: impl Into<Key>) -> ArrayMut<'_, 'a> {
        MapMut::new(self, Ok(ROOT)).into_array(key)
    }

    /// The observed-remove set under a key.
    pub fn or_set(&mut self, key: impl Into<Key>) -> SetMut<'_, 'a> {
        MapMut::new(self, Ok(ROOT)).into_or_set(key)
    }

    /// The counter under a key.
    pub fn counter(&mut self, key: impl Into<Key>) -> CounterMut<'_, 'a> {
        MapMut::new(self, Ok(ROOT)).into_counter(key)
    }

    /// The root, as a map among maps.
    pub fn root(&mut self) -> MapMut<'_, 'a> {
        MapMut::new(self, Ok(ROOT))
    }

    #[inline]
    pub(crate) fn set_in(&mut self, container: u32, key: Key, value: Value) -> Result<(), Error> {
        check_key(&key)?;
        self.put(container, key, value)
    }

    #[inline]
    pub(crate) fn put(&mut self, container: u32, key: Key, value: Value) -> Result<(), Error> {
        check_value(&value)?;
        let (seq, timestamp) = self.next();
        self.journal.added(container, &key);
        let removed = &mut self.journal.removed;
        self.document
            .put(container, key, value, seq, timestamp, removed);
        Ok(())
    }

    pub(crate) fn unset_in(&mut self, container: u32, key: KeyRef<'_>) -> bool {
        let Some(head) = self.document.find(container, key) else {
            return false;
        };
        let (seq, _) = self.next();
        self.take_all(head, seq);
        self.document.settle(&mut self.journal);
        true
    }

    /// Removes everything under a key, of which `head` is the first.
    fn take_all(&mut self, head: Slot, killer: u64) {
        let document = &mut *self.document;
        let inner: SmallVec<[u32; 4]> = document
            .chain(head)
            .filter_map(|slot| document.slab[slot].inner())
            .collect();
        document.take_values(head, killer, &mut self.journal);
        for container in inner {
            self.clear(container, killer);
        }
    }

    /// Removes everything in a container.
    pub(crate) fn clear(&mut self, container: u32, killer: u64) {
        match self.document.containers.get(container).form {
            Form::Map | Form::Set => {
                for head in self.document.heads(container) {
                    self.take_all(head, killer);
                }
            }
            Form::Array => {
                let document = &*self.document;
                let elements: Vec<Spot> = match document.sequence(container) {
                    Some(sequence) => sequence.iter(&document.elements, 0).collect(),
                    None => Vec::new(),
                };
                for element in elements {
                    self.take_element(element, killer);
                }
            }
            Form::Counter => self.reset_counter(container, killer),
            Form::Moves => {}
        }
    }

    pub(crate) fn reset_counter(&mut self, counter: u32, killer: u64) {
        let mut journal = core::mem::take(&mut self.journal);
        let (now, seq, timestamp) = (self.now, &mut self.seq, &mut self.timestamp);
        let next = |document: &mut Document| {
            *seq += 1;
            let clock = &mut document.clock;
            (*seq, *timestamp.get_or_insert_with(|| clock.tick(now)))
        };
        self.document.reset(counter, killer, next, &mut journal);
        self.journal = journal;
    }

    /// Removes everything that an element holds.
    pub(crate) fn take_element(&mut self, element: Spot, killer: u64) {
        if let Some(head) = self.document.written(element) {
            self.take_all(head, killer);
        }
        if self.document.elements[element].born().is_some() {
            self.document.kill_birth(element, killer, &mut self.journal);
        }
    }

    /// The number of a container, known or new.
    pub(crate) fn container(&mut self, parent: u32, key: &Key, kind: Kind) -> Result<u32, Error> {
        if self.document.containers.depth(parent) >= MAX_DEPTH {
            return Err(Error::PathTooDeep);
        }
        Ok(self.document.containers.intern(parent, key, kind.into()))
    }

    /// The document as this transaction has left it so far.
    pub fn document(&self) -> &Document {
        self.document
    }

    #[inline]
    pub(crate) fn next(&mut self) -> (u64, Timestamp) {
        self.take_dots(1)
    }

    /// The first of `count` dots, and the timestamp of all.
    #[inline]
    pub(crate) fn take_dots(&mut self, count: u64) -> (u64, Timestamp) {
        let first = self.seq + 1;
        self.seq += count;
        let (clock, now) = (&mut self.document.clock, self.now);
        (
            first,
            *self.timestamp.get_or_insert_with(|| clock.tick(now)),
        )
    }

    /// Lets everything stand that has been written; the end of the transaction.
    pub(crate) fn commit(&mut self) {
        let (base, seq) = (self.base, core::mem::replace(&mut self.seq, self.base));
        if seq == base {
            return;
        }
        let document = &mut *self.document;
        document.settle(&mut self.journal);
        document.keep(base + 1, seq);
        let replica = document.replica();
        let new = || DotSet::from_range(replica, base + 1, seq);
        let journal = &self.journal;
        if !journal.removed.is_empty() || !journal.births.is_empty() {
            let timestamp = self.timestamp.unwrap_or_default();
            document.keep_removed(&new(), timestamp, journal);
        }
        if document.recorder.is_some() {
            document.record_batch(Origin::Local, &new(), core::mem::take(&mut self.journal));
        }
    }
}

impl Document {
    /// A transaction of one value in the root, where nobody observes: nothing in it can fail
    /// half-way, so it needs nothing of what takes back.
    pub(crate) fn set_alone(&mut self, now: u64, key: Key, value: Value) -> Result<(), Error> {
        check_key(&key)?;
        check_value(&value)?;
        let seq = self.own_seq() + 1;
        let timestamp = self.clock.tick(now);
        let mut removed = Vec::new();
        self.put(ROOT, key, value, seq, timestamp, &mut removed);
        self.keep(seq, seq);
        if !removed.is_empty() {
            let killers = DotSet::from_range(self.replica(), seq, seq);
            self.keep_removed(&killers, timestamp, &Journal::of_removed(removed));
        }
        Ok(())
    }

    /// Lets own operations stand that have been written.
    #[inline]
    fn keep(&mut self, first: u64, last: u64) {
        let replica = self.replica();
        let known = self.replicas.get_mut(self.own);
        known.applied.insert_range(replica, first, last);
        if !known.early.is_empty() {
            // Only somebody who lies can know of removals of what was not written so far.
            let new = DotSet::from_range(replica, first, last);
            known.early = known.early.difference(&new);
        }
    }

    /// Notes what own operations have removed.
    fn keep_removed(&mut self, killers: &DotSet, timestamp: Timestamp, journal: &Journal) {
        let (replica, live) = (self.replica(), self.live());
        let mut removed = SmallVec::<[(Dot, Dot); 2]>::new();
        removed.reserve(journal.removed.len());
        let mut note = |killer, dot| removed.push((Dot::new(replica, killer), dot));
        for (killer, entry) in &journal.removed {
            note(*killer, self.dot_of(entry));
        }
        for (killer, spot, _) in &journal.births {
            note(*killer, self.dot_at(*spot));
        }
        for (killer, dot) in &journal.spent {
            note(*killer, *dot);
        }
        self.log.note(&removed, live);
        self.note_past(Origin::Local, killers, timestamp, journal);
    }
}

impl Drop for Transaction<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.seq != self.base {
            (self.end)(self);
        }
        self.document.forgotten = None;
        self.document.containers.sweep();
    }
}

impl Transaction<'_> {
    /// Undoes all that it has written.
    fn take_back(&mut self) {
        let document = &mut *self.document;
        let own = document.own;
        let mut journal = core::mem::take(&mut self.journal);
        let its_own = |replica, seq| replica == own && seq > self.base;
        let live = &document.replicas.get(own).live;
        let (spots, slots): (Vec<Slot>, Vec<Slot>) = live
            .range(self.base + 1, self.seq)
            .map(|(_, slot)| slot)
            .partition(|slot| slot & BIRTH != 0);
        document.kill(slots);
        let mut unheard = Journal::default();
        for spot in spots {
            document.kill_birth(spot & !BIRTH, 0, &mut unheard);
        }
        for (spot, last) in document.forgotten.take().into_iter().flatten().rev() {
            document.elements.set_value(spot, last);
        }
        // Backwards: of siblings the last comes first, and each is at once in its place.
        for (_, entry) in journal.removed.drain(..).rev() {
            if !its_own(entry.replica, entry.seq) {
                document.restore(entry, NONE);
            }
        }
        for (_, spot, _) in journal.births.drain(..).rev() {
            let element = &document.elements[spot];
            if !its_own(element.replica(), element.seq()) {
                document.revive_birth(spot);
            }
        }
        document.settle(&mut unheard);
        let (first, last) = (self.base + 1, self.seq);
        document.forget(own, first, last, &mut unheard);
        document.drop_notes(self.tombstones);
    }
}

#[inline]
pub(crate) fn check_key(key: &Key) -> Result<(), Error> {
    if matches!(key, Key::Element(_)) {
        return Err(Error::ElementAsKey);
    }
    match key.byte_len() {
        bytes if bytes > MAX_KEY_BYTES => Err(Error::KeyTooLong(bytes)),
        _ => Ok(()),
    }
}

#[inline]
pub(crate) fn check_value(value: &Value) -> Result<(), Error> {
    if word_of(value).is_some() {
        return Ok(());
    }
    match size(value, 0)? {
        bytes if bytes > MAX_VALUE_BYTES => Err(Error::ValueTooLarge(bytes)),
        _ => Ok(()),
    }
}

/// A bound on the encoded bytes of a value that is itself `depth` levels deep.
fn size(value: &Value, depth: usize) -> Result<usize, Error> {
    let mut bytes = match value {
        Value::Str(s) => 4 + s.len(),
        Value::Bytes(b) => 4 + b.len(),
        Value::List(_) | Value::Map(_) if depth >= MAX_VALUE_DEPTH => {
            return Err(Error::ValueTooDeep);
        }
        Value::List(_) | Value::Map(_) => 4,
        _ => return Ok(10),
    };
    match value {
        Value::List(list) => {
            for item in list.iter() {
                bytes += 1 + size(item, depth + 1)?;
            }
        }
        Value::Map(map) => {
            for (key, item) in map.iter() {
                bytes += 5 + key.len() + size(item, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(bytes)
}
