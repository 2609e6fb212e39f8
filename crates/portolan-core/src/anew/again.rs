//! Doing again, by new operations, what has no place in another's state.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::lost::{Lost, within};
use crate::containers::{Form, ROOT};
use crate::document::Document;
use crate::key::Key;
use crate::renaming::Renaming;
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::transaction::Transaction;
use crate::value::Value;

impl Lost {
    /// Does it again by new operations of a document, which remove the old ones. Gives the dots of
    /// values and elements, each with its new one.
    pub(super) fn restore(self, old: &Document, anew: &mut Document, now: u64) -> Vec<(Dot, Dot)> {
        let entries = self.entries.keys().map(|(container, _)| container);
        let holders = entries.chain(self.births.keys()).chain(self.moves.keys());
        let mut arrays: BTreeSet<u32> = holders.map(|number| self.outermost(*number)).collect();
        arrays.retain(|number| *number != ROOT);
        let entries = self.entries.values().flatten();
        let dead = entries.map(|entry| entry.dot);
        let births = self.births.values().flat_map(BTreeMap::keys);
        let moves = self.moves.values().flat_map(BTreeMap::values);
        let dead: Vec<Dot> = dead.chain(births.copied()).chain(moves.copied()).collect();
        let base = anew.own_seq();
        let work = |transaction: &mut Transaction<'_>| {
            let mut again = Again {
                lost: &self,
                old,
                transaction,
                dots: Vec::new(),
            };
            for array in arrays {
                let into = self.intern(again.transaction.document, array);
                again.array(array, into);
            }
            Ok::<_, core::convert::Infallible>(again.dots)
        };
        let Ok(dots) = anew.transact(now, work);
        if anew.own_seq() > base {
            let killer = Dot::new(anew.replica(), base + 1);
            let pairs: Vec<(Dot, Dot)> = dead.into_iter().map(|dot| (killer, dot)).collect();
            let live = anew.live();
            anew.log.note(&pairs, live);
        }
        dots
    }
}

/// A transaction that does again what was lost.
struct Again<'a, 'd> {
    lost: &'a Lost,
    /// Where it was.
    old: &'a Document,
    transaction: &'a mut Transaction<'d>,
    /// The dots of values and elements, each with its new one.
    dots: Vec<(Dot, Dot)>,
}

impl Again<'_, '_> {
    /// Each element stands behind the one behind which it stood.
    fn array(&mut self, array: u32, into: u32) {
        let lost = self.lost;
        let mut left = lost.elements_of(array);
        let none = BTreeMap::new();
        let moves = lost.moves.get(&array).unwrap_or(&none);
        let mut order: Vec<Dot> = Vec::new();
        let from = lost.find(self.old, array);
        if let Some(sequence) = from.and_then(|from| self.old.sequence(from)) {
            let shown = sequence.iter(&self.old.elements, 0);
            order.extend(shown.map(|element| self.old.dot_at(element)));
        }
        let mut before: Option<Spot> = None;
        for id in order {
            if left.remove(&id) {
                before = Some(self.element((array, id), into, before));
                continue;
            }
            let here = |document: &Document| {
                let element = document.element_in(into, id)?;
                document.elements[element].shown().then_some(element)
            };
            let Some(element) = here(self.transaction.document) else {
                continue;
            };
            if let Some(dot) = moves.get(&id) {
                self.move_behind(element, *dot, before);
            }
            before = Some(element);
        }
        // Those that did not show, as others were awaited.
        for id in left {
            before = Some(self.element((array, id), into, before));
        }
    }

    fn move_behind(&mut self, element: Spot, moved: Dot, before: Option<Spot>) {
        let document = &*self.transaction.document;
        let array = document.elements[element].array();
        let mut to = index_behind(document, array, before);
        let now = index_behind(document, array, Some(element));
        to -= usize::from(now <= to);
        let (seq, timestamp) = self.transaction.next();
        let (document, journal) = (
            &mut *self.transaction.document,
            &mut self.transaction.journal,
        );
        document.move_element(element, to, seq, timestamp, journal);
        document.settle(journal);
        self.dots.push((moved, Dot::new(document.replica(), seq)));
    }

    fn element(&mut self, (array, id): (u32, Dot), into: u32, before: Option<Spot>) -> Spot {
        let lost = self.lost;
        let place = (array, Key::Element(id));
        // The last one written is the winner.
        let written = lost.entries.get(&place).into_iter().flatten().rev();
        let mut values: Vec<(Dot, Value)> = written
            .map(|entry| (entry.dot, entry.value.clone()))
            .collect();
        let born = lost.births.get(&array).and_then(|births| births.get(&id));
        if let Some(value) = born {
            values.insert(0, (id, value.clone()));
        }
        let mut values = values.into_iter();
        let first = values.next();
        let index = index_behind(self.transaction.document, into, before);
        let (seq, timestamp) = self.transaction.next();
        let (document, journal) = (
            &mut *self.transaction.document,
            &mut self.transaction.journal,
        );
        let again = Dot::new(document.replica(), seq);
        self.dots.push((id, again));
        let bare = first.is_none();
        let (dot, value) = first.unwrap_or((id, Value::Null));
        if dot != id {
            self.dots.push((dot, again));
        }
        document.insert_born(into, Some(index), value, (seq, timestamp), journal);
        document.note_renaming(Renaming::one(id, again));
        let key = Key::Element(again);
        for (dot, sibling) in values {
            self.put(into, key.clone(), sibling, dot);
        }
        for number in lost.inner.get(&place).into_iter().flatten() {
            let form = lost.containers[*number as usize - 1].form;
            let inner = self
                .transaction
                .document
                .containers
                .intern(into, &key, form);
            self.container(*number, inner);
        }
        let document = &mut *self.transaction.document;
        // proof: it was inserted above, under this dot.
        let spot = document.spot(again).expect("the position of its birth");
        if bare {
            document.kill_birth(spot, seq, &mut self.transaction.journal);
        }
        document.settle(&mut self.transaction.journal);
        spot
    }

    fn container(&mut self, number: u32, into: u32) {
        let lost = self.lost;
        match lost.containers[number as usize - 1].form {
            Form::Array => return self.array(number, into),
            Form::Counter => return self.counter(number, into),
            Form::Map | Form::Set | Form::Moves => {}
        }
        for (key, siblings) in within(&lost.entries, number) {
            for entry in siblings.iter().rev() {
                self.put(into, key.clone(), entry.value.clone(), entry.dot);
            }
        }
        for (key, numbers) in within(&lost.inner, number) {
            for inner in numbers {
                let form = lost.containers[*inner as usize - 1].form;
                let there = self.transaction.document.containers.intern(into, key, form);
                self.container(*inner, there);
            }
        }
    }

    /// Adds what no reset has seen. Whoever has added more meanwhile, and begins anew himself, is
    /// told by a note what was done again of his.
    fn counter(&mut self, number: u32, into: u32) {
        let lost = self.lost;
        let from = lost.intern(self.transaction.document, number);
        for (key, sums) in within(&lost.entries, number) {
            let sums = sums.iter().filter_map(|entry| {
                let sum = entry.value.as_int()?;
                Some((entry.dot, sum))
            });
            let (Some((dot, sum)), Key::Element(epoch)) = (sums.max(), key) else {
                continue;
            };
            let document = &*self.transaction.document;
            let (own, seen) = (document.replica(), document.seen(from, *epoch));
            if seen.is_some_and(|(seq, _)| u64::try_from(seq).is_ok_and(|seq| seq >= dot.seq)) {
                continue;
            }
            let rest = sum.saturating_sub(seen.map_or(0, |(_, sum)| sum));
            let (seq, timestamp) = self.transaction.next();
            let document = &mut *self.transaction.document;
            let again = Dot::new(own, seq);
            document.put_beside(into, Key::Element(again), rest.into(), seq, timestamp);
            self.dots.push((dot, again));
            if epoch.replica != own {
                let note = vec![Value::Int(dot.seq as i64), Value::Int(sum)];
                let (seq, timestamp) = self.transaction.next();
                let document = &mut *self.transaction.document;
                document.put_beside(from, key.clone(), note.into(), seq, timestamp);
            }
        }
    }

    /// Writes what was written by `dot`.
    fn put(&mut self, container: u32, key: Key, value: Value, dot: Dot) {
        let (seq, timestamp) = self.transaction.next();
        let document = &mut *self.transaction.document;
        document.put_beside(container, key, value, seq, timestamp);
        self.dots.push((dot, Dot::new(document.replica(), seq)));
    }
}

/// The index behind an element.
fn index_behind(document: &Document, array: u32, element: Option<Spot>) -> usize {
    let index = element.and_then(|element| {
        let sequence = document.sequence(array)?;
        sequence.index_of(&document.elements, element)
    });
    index.map_or(0, |index| index + 1)
}
