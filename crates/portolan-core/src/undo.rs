//! Taking own operations back, by new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::containers::{Form, ROOT};
use crate::document::Document;
use crate::dots::DotSet;
use crate::error::Error;
use crate::key::Key;
use crate::past::{Path, PastValue};
use crate::replica::Dot;
use crate::slab::{BIRTH, Slot};
use crate::transaction::Transaction;
use crate::value::Value;

/// What operations did to one key.
#[derive(Default)]
struct Done {
    /// What they wrote that still stands.
    wrote: Vec<Slot>,
    /// What they removed, by dot.
    removed: Vec<PastValue>,
}

impl Document {
    /// Takes back what the own operations with these numbers did, by new operations in one
    /// transaction: what they wrote and nobody has replaced since goes, what they removed comes
    /// back where nobody has written since, elements return to their old places, and counters to
    /// what they showed, but for what others have added. Costs what they did.
    ///
    /// The numbers of a transaction's operations are those between [`own_seq`](Self::own_seq)
    /// before it and after it. Fails where what they removed is not known any more.
    pub fn undo(&mut self, now: u64, operations: RangeInclusive<u64>) -> Result<(), Error> {
        let (first, last) = (*operations.start(), (*operations.end()).min(self.own_seq()));
        if first == 0 || first > last {
            return Ok(());
        }
        let undone = DotSet::from_range(self.replica(), first, last);
        if !self.past.reaches(&undone) {
            return Err(Error::PastForgotten);
        }
        let mut done: BTreeMap<(Path, Key), Done> = BTreeMap::new();
        let mut born: BTreeSet<Dot> = BTreeSet::new();
        let known = self.replicas.get(self.own);
        for (seq, slot) in known.live.range(first, last) {
            if slot & BIRTH != 0 {
                born.insert(Dot::new(self.replica(), seq));
                continue;
            }
            let entry = &self.slab[slot];
            let key = (self.path_of(entry.container), entry.key.clone());
            done.entry(key).or_default().wrote.push(slot);
        }
        for removal in self.past.removals() {
            if !removal.killers.intersects(&undone) {
                continue;
            }
            for value in removal.values.iter().filter(|v| !undone.contains(v.dot)) {
                let key = (value.path.clone(), value.key.clone());
                done.entry(key).or_default().removed.push(value.clone());
            }
        }
        self.transact(now, |tx| {
            for ((path, key), done) in done {
                tx.undo_key(&path, key, done, &undone)?;
            }
            for id in born {
                tx.undo_birth(id);
            }
            Ok(())
        })
    }
}

impl Transaction<'_> {
    fn undo_key(
        &mut self,
        path: &Path,
        key: Key,
        done: Done,
        undone: &DotSet,
    ) -> Result<(), Error> {
        let form = path.last().map_or(Form::Map, |(_, form)| *form);
        let mut container = ROOT;
        for (key, form) in path {
            container = self.document.containers.intern(container, key, *form);
        }
        match form {
            Form::Counter => self.undo_count(container, done),
            Form::Moves => {
                self.undo_move(&key, done, undone);
                Ok(())
            }
            Form::Map | Form::Set => self.undo_write(container, key, done),
            Form::Array => {
                let id = key.clone();
                let shown = |tx: &Self| match &id {
                    Key::Element(id) => {
                        let element = tx.document.spot(*id);
                        element.is_some_and(|element| tx.document.elements[element].shown())
                    }
                    _ => false,
                };
                let before = shown(self);
                self.undo_write(container, key, done)?;
                self.document.settle(&mut self.journal);
                if let (Key::Element(id), false, true) = (&id, before, shown(self)) {
                    self.return_element(*id);
                }
                Ok(())
            }
        }
    }

    /// Puts back what was under a key, in place of what was written.
    fn undo_write(&mut self, container: u32, key: Key, done: Done) -> Result<(), Error> {
        let (seq, _) = self.next();
        let overtaken = done.wrote.is_empty() && self.holds_values(container, &key);
        let killed = self.document.kill(done.wrote);
        for entry in killed {
            self.journal.added(container, &entry.key);
            self.journal.removed(seq, entry);
        }
        if overtaken {
            return Ok(()); // somebody has written since
        }
        let mut removed = done.removed;
        removed.sort_by_key(|value| (value.timestamp, value.dot));
        for value in removed {
            self.place_again(container, key.clone(), value.value);
        }
        Ok(())
    }

    fn holds_values(&self, container: u32, key: &Key) -> bool {
        let head = self.document.find(container, key.borrowed());
        let entry = head.map(|head| &self.document.slab[head]);
        let born = match key {
            Key::Element(id) => self
                .document
                .spot(*id)
                .is_some_and(|spot| self.document.elements[spot].born().is_some()),
            _ => false,
        };
        born || entry.is_some_and(|entry| !entry.is_container())
    }

    /// Writes a value beside what is there.
    fn place_again(&mut self, container: u32, key: Key, value: Value) {
        let (seq, timestamp) = self.next();
        self.journal.added(container, &key);
        self.document
            .put_beside(container, key, value, seq, timestamp);
    }

    /// Adds what a counter showed more before, or takes away what it did not.
    fn undo_count(&mut self, counter: u32, done: Done) -> Result<(), Error> {
        let sum = |value: &Value| match value {
            Value::Int(sum) => *sum,
            _ => 0,
        };
        let wrote = done.wrote.iter();
        let wrote: i64 = wrote
            .map(|slot| sum(&self.document.slab[*slot].value))
            .sum();
        let removed: i64 = done.removed.iter().map(|value| sum(&value.value)).sum();
        let back = removed.checked_sub(wrote).ok_or(Error::CounterOverflow)?;
        if back == 0 {
            return Ok(());
        }
        let (seq, timestamp) = self.next();
        let journal = &mut self.journal;
        self.document
            .add_to(counter, back, seq, timestamp, journal)
    }

    /// Moves an element back to where it stood before own moves.
    fn undo_move(&mut self, key: &Key, done: Done, undone: &DotSet) {
        let Key::Element(id) = key else { return };
        let before = done.removed.iter().max_by_key(|v| (v.timestamp, v.dot));
        let before = before.map_or(*id, |value| value.dot);
        if done.wrote.is_empty() || undone.contains(before) {
            return;
        }
        let (Some(element), Some(place)) = (self.document.spot(*id), self.document.spot(before))
        else {
            return;
        };
        let Some(to) = self.document.rank_at(element, place) else {
            return;
        };
        let (seq, timestamp) = self.next();
        let (document, journal) = (&mut *self.document, &mut self.journal);
        document.move_element(element, to, seq, timestamp, journal);
        document.settle(journal);
    }

    fn undo_birth(&mut self, id: Dot) {
        let Some(element) = self.document.spot(id) else {
            return;
        };
        if self.document.elements[element].born().is_none() {
            return;
        }
        let (seq, _) = self.next();
        self.document.kill_birth(element, seq, &mut self.journal);
        self.document.settle(&mut self.journal);
    }

    /// Gives an element that shows again a position of its own in its old place: others may have
    /// dropped the old one by now.
    fn return_element(&mut self, id: Dot) {
        let Some(element) = self.document.spot(id) else {
            return;
        };
        let array = self.document.elements[element].array();
        let sequence = self.document.sequence(array);
        let Some(to) = sequence.map(|s| s.rank_of(&self.document.elements, element)) else {
            return;
        };
        let (seq, timestamp) = self.next();
        let (document, journal) = (&mut *self.document, &mut self.journal);
        document.move_element(element, to, seq, timestamp, journal);
        document.settle(journal);
    }
}
