//! Taking own operations back, by new ones.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::containers::{Form, ROOT};
use crate::document::Document;
use crate::dots::DotSet;
use crate::error::Error;
use crate::key::Key;
use crate::past::{PastValue, Path};
use crate::replica::Dot;
use crate::slab::{BIRTH, Slot};
use crate::transaction::Transaction;
use crate::value::Value;

/// What operations did to one key.
#[derive(Default)]
struct Done {
    /// What they wrote that still stands.
    wrote: Vec<Slot>,
    /// What others had written that they removed.
    removed: Vec<PastValue>,
    /// What they wrote and something has replaced since.
    replaced: Vec<PastValue>,
}

impl Document {
    /// Takes back what the own operations with these numbers did, by new operations in one
    /// transaction: what they wrote and nobody has replaced since goes, what they removed comes
    /// back where nobody has written since, elements return to their old places, and counters to
    /// what they showed, but for what others have added. Costs what they did.
    ///
    /// What another replica's undo has written again is that replica's: whoever has written it
    /// first does not take it back with this, as each replica knows of its own undoing alone.
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
        let mut written = undone.clone();
        written.union_with(&self.past.written_again(&undone).collect());
        for range in written.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            for (seq, slot) in known.live.range(range.first, range.last) {
                if slot & BIRTH != 0 {
                    born.insert(Dot::new(range.replica, seq));
                    continue;
                }
                let entry = &self.slab[slot];
                let key = (self.path_of(entry.container), entry.key.clone());
                done.entry(key).or_default().wrote.push(slot);
            }
        }
        for removal in self.past.removals() {
            for value in &removal.values {
                let own = undone.contains(self.past.first_of(value.dot));
                if !own && !removal.killers.intersects(&undone) {
                    continue;
                }
                let key = (value.path.clone(), value.key.clone());
                let key = done.entry(key).or_default();
                if own {
                    key.replaced.push(value.clone());
                } else {
                    key.removed.push(value.clone());
                }
            }
        }
        self.transact(now, |tx| {
            for ((path, key), done) in done {
                tx.undo_key(&path, &key, done, &undone)?;
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
        key: &Key,
        done: Done,
        undone: &DotSet,
    ) -> Result<(), Error> {
        let form = path.last().map_or(Form::Map, |(_, form)| *form);
        let mut container = ROOT;
        for (key, form) in path {
            container = self.document.containers.intern(container, key, *form);
        }
        match form {
            Form::Counter => self.undo_count(container, &done)?,
            Form::Moves => self.undo_move(key, &done, undone),
            Form::Map | Form::Set => self.undo_write(container, key, done),
            Form::Array => {
                if let Key::Element(id) = key
                    && let Some(element) = self.document.spot(*id)
                    && !self.document.elements[element].is_sealed()
                {
                    self.undo_write(container, key, done);
                    self.document.settle(&mut self.journal);
                }
            }
        }
        Ok(())
    }

    /// Puts back what was under a key, in place of what was written.
    fn undo_write(&mut self, container: u32, key: &Key, done: Done) {
        if done.wrote.is_empty() && (done.removed.is_empty() || self.holds_values(container, key)) {
            return; // somebody has written or removed since
        }
        let (seq, _) = self.next();
        let killed = self.document.kill(done.wrote);
        for entry in killed {
            self.journal.added(container, &entry.key);
            self.journal.removed(seq, entry);
        }
        let mut removed = done.removed;
        removed.sort_by_key(|value| (value.timestamp, value.dot));
        for value in removed {
            self.place_again(container, key.clone(), value);
        }
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
    fn place_again(&mut self, container: u32, key: Key, value: PastValue) {
        let (seq, timestamp) = self.next();
        self.journal.added(container, &key);
        let document = &mut *self.document;
        let dot = Dot::new(document.replica(), seq);
        document.past.note_again(dot, value.dot);
        document.put_beside(container, key, value.value, seq, timestamp);
    }

    /// Adds what a counter showed more before, or takes away what it did not.
    fn undo_count(&mut self, counter: u32, done: &Done) -> Result<(), Error> {
        let sum = |value: &Value| match value {
            Value::Int(sum) => Some(*sum),
            _ => None,
        };
        // Each sum holds the ones before it: the last one counts.
        let live = done.wrote.iter();
        let live = live.map(|slot| self.document.slab.operation(*slot));
        let live = live.filter_map(|entry| Some((entry.seq, sum(entry.value)?)));
        let replaced = done.replaced.iter();
        let replaced = replaced.filter_map(|value| Some((value.dot.seq, sum(&value.value)?)));
        let wrote = live.chain(replaced).max().map_or(0, |(_, sum)| sum);
        let removed = done.removed.iter().filter_map(|value| sum(&value.value));
        let removed = removed.fold(0, i64::saturating_add);
        let back = removed.checked_sub(wrote).ok_or(Error::CounterOverflow)?;
        if back == 0 {
            return Ok(());
        }
        self.add(counter, back)
    }

    /// Moves an element back to where it stood before own moves.
    fn undo_move(&mut self, key: &Key, done: &Done, undone: &DotSet) {
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
        let known = &self.document.elements[element];
        if !known.shown() && known.is_sealed() {
            return; // nothing is done to it from here any more
        }
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
}
