//! Going on from another replica's whole state: for one that comes back after the others have let
//! go of what it still refers to.
//!
//! The order of an array's positions can only be told among those that nobody has let go of. So
//! the replica takes over the state of one that was not away, as a fresh one would, and then what
//! it has applied and the other has not: under its own dots where it has a place there; else (an
//! element beside one that is gone, or a write to one that is gone) done again by a new operation,
//! which removes the old one. All of that is ordinary operations to everybody else.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::arrays::Origin;
use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::dots::DotSet;
use crate::key::Key;
use crate::nested::{DeltaContainer, Nested, Run};
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::transaction::Transaction;
use crate::value::Value;

/// Why a delta cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It refers to what was let go of here: the sender has been left behind.
    Theirs,
    /// It presupposes that something was let go of that is held here, or was let go of without
    /// what it brings: this replica has been left behind.
    Ours,
}

impl Document {
    /// Whether a delta cannot be applied, since one of the two was not waited for when positions
    /// were let go of. Costs nothing for a delta of maps at the root.
    pub(crate) fn misfit(&self, delta: &Delta) -> Option<Misfit> {
        let nested = delta.nested.as_deref()?;
        let here = |dot: Dot| {
            let known = self.replicas.by_id(dot.replica);
            known.is_some_and(|known| known.applied.contains(dot))
        };
        let told = |dot: Dot| {
            let behind = (dot.replica, dot.seq);
            let after = nested
                .runs
                .partition_point(|run| (run.replica, run.first) <= behind);
            let run = after.checked_sub(1).map(|at| &nested.runs[at]);
            run.is_some_and(|run| run.replica == dot.replica && dot.seq <= run.last())
        };
        let gone = |dot: Dot| here(dot) && self.spot(dot).is_none() && !told(dot);
        let mut inside = vec![false; nested.containers.len() + 1];
        for (number, container) in (1..).zip(&nested.containers) {
            let element = match container.key {
                Key::Element(id) => gone(id),
                _ => false,
            };
            inside[number] = element || inside[container.parent as usize];
        }
        for run in &nested.runs {
            let dots = DotSet::from_range(run.replica, run.first, run.last());
            if self.replicas.covers(&dots) {
                continue;
            }
            let origin = run.parent.is_some_and(gone) || run.of.is_some_and(gone);
            if origin || inside[run.container as usize] {
                return Some(Misfit::Theirs);
            }
            if let Some(((_, replica, seq), _)) = run.adopted
                && here(Dot::new(replica, seq))
            {
                return Some(Misfit::Ours);
            }
        }
        for entry in &delta.entries {
            let Some(at) = entry.container.checked_sub(1) else {
                continue;
            };
            let of_element = matches!(
                nested.containers[at as usize].form,
                Form::Array | Form::Moves
            );
            let lost = match entry.key {
                Key::Element(id) if of_element => gone(id),
                _ => false,
            };
            if (lost || inside[entry.container as usize]) && !here(entry.dot) {
                return Some(Misfit::Theirs);
            }
        }
        None
    }

    /// Takes over another replica's whole state, and then what is applied here and not there.
    /// Costs both states.
    pub(crate) fn begin_anew(&mut self, whole: &Delta, now: u64) {
        let mut anew = Document::with_hash_seed(self.replica(), self.index.seed());
        anew.apply(whole);
        anew.clock.observe(self.clock.last());
        let beyond = self.replicas.applied_beyond(&anew.version());
        if !beyond.is_empty() {
            let mut delta = self.delta_of(&beyond);
            let lost = Lost::take_from(&mut delta, &anew);
            anew.apply(&delta);
            lost.restore(self, &mut anew, now);
        }
        anew.keep_past(self.past_limit());
        anew.observe(self.recorder.is_some());
        anew.renamings = core::mem::take(&mut self.renamings);
        *self = anew;
    }
}

/// What has no place in another state.
#[derive(Default)]
struct Lost {
    containers: Vec<DeltaContainer>,
    /// Of each container, the root first, whether it stands in an element that has no place.
    inside: Vec<bool>,
    /// Live values, by container and key.
    entries: BTreeMap<(u32, Key), Vec<DeltaEntry>>,
    /// Containers with something of that in them, at any depth, by what they are in and the key.
    inner: BTreeMap<(u32, Key), BTreeSet<u32>>,
    /// Live values that elements were born with, by their array.
    births: BTreeMap<u32, BTreeMap<Dot, Value>>,
    /// Elements that have a place, and were moved to where there is none; by their array, each
    /// with the dot of the move.
    moves: BTreeMap<u32, BTreeMap<Dot, Dot>>,
}

/// One position of a delta.
struct Place {
    dot: Dot,
    origin: Origin,
    rank: (Timestamp, Dot),
}

impl Lost {
    /// Takes out of a delta what it has no place for in a document.
    fn take_from(delta: &mut Delta, anew: &Document) -> Self {
        let Some(nested) = delta.nested.as_deref_mut() else {
            return Self::default();
        };
        let mut lost = Self {
            containers: nested.containers.clone(),
            inside: vec![false],
            ..Self::default()
        };
        // The containers' numbers there, as far as they are there.
        let mut numbers = vec![Some(ROOT)];
        let mut places = places(nested);
        let mut placed: BTreeSet<Dot> = BTreeSet::new();
        for (number, container) in (1u32..).zip(&nested.containers) {
            let parent = container.parent as usize;
            let stays = match container.key {
                Key::Element(id) => placed.contains(&id) || shows(anew, numbers[parent], id),
                _ => true,
            };
            lost.inside.push(lost.inside[parent] || !stays);
            let found = numbers[parent]
                .and_then(|parent| anew.containers.find(parent, &container.key, container.form));
            numbers.push(found);
            let mut within = places.remove(&number).unwrap_or_default();
            if lost.inside[number as usize] {
                continue;
            }
            // A child comes after its parent.
            within.sort_unstable_by_key(|place| place.rank);
            for place in within {
                let origin = place.origin;
                let beneath = origin
                    .parent
                    .is_none_or(|parent| placed.contains(&parent) || stands(anew, found, parent));
                let of = origin
                    .of
                    .is_none_or(|of| placed.contains(&of) || shows(anew, found, of));
                if beneath && of && origin.adopted.is_none() {
                    placed.insert(place.dot);
                }
            }
        }
        lost.take_positions(nested, &placed);
        let containers = &lost.containers;
        let (inside, entries, moves) = (&lost.inside, &mut lost.entries, &mut lost.moves);
        delta.entries.retain(|entry| {
            let number = entry.container;
            let Some(at) = number.checked_sub(1) else {
                return true;
            };
            let container = &containers[at as usize];
            let there = numbers[number as usize];
            let stays = !inside[number as usize]
                && match (container.form, &entry.key) {
                    (Form::Array, Key::Element(id)) => {
                        placed.contains(id) || shows(anew, there, *id)
                    }
                    (Form::Moves, _) => placed.contains(&entry.dot),
                    _ => true,
                };
            if stays {
                return true;
            }
            if container.form != Form::Moves {
                let place = (number, entry.key.clone());
                entries.entry(place).or_default().push(entry.clone());
            } else if let (false, Key::Element(id)) = (inside[number as usize], &entry.key) {
                let array = DeltaContainer {
                    form: Form::Array,
                    ..container.clone()
                };
                if let Ok(at) = containers.binary_search_by(|other| {
                    (other.parent, &other.key, other.form).cmp(&(
                        array.parent,
                        &array.key,
                        array.form,
                    ))
                }) {
                    let moves = moves.entry(at as u32 + 1).or_default();
                    moves.insert(*id, entry.dot);
                }
            }
            false
        });
        lost.note_inner();
        lost
    }

    fn note_inner(&mut self) {
        let holders = self.entries.keys().map(|(container, _)| container);
        for number in holders.chain(self.births.keys()) {
            let mut at = *number;
            while at != ROOT {
                let container = &self.containers[at as usize - 1];
                let place = (container.parent, container.key.clone());
                if !self.inner.entry(place).or_default().insert(at) {
                    break;
                }
                at = container.parent;
            }
        }
    }

    /// Leaves those positions that have a place.
    fn take_positions(&mut self, nested: &mut Nested, placed: &BTreeSet<Dot>) {
        let runs = core::mem::take(&mut nested.runs);
        let births = core::mem::take(&mut nested.births);
        let times = core::mem::take(&mut nested.times);
        let mut born = births.into_iter().zip(times);
        for run in runs {
            for (at, (value, time)) in (0..run.length).zip(born.by_ref()) {
                let (dot, origin) = (run.dot(at), run.origin(at));
                if !placed.contains(&dot) {
                    if let Some(value) = value {
                        let array = self.births.entry(run.container).or_default();
                        array.insert(dot, value);
                    }
                    continue;
                }
                nested.births.push(value);
                nested.times.push(time);
                let single = Run {
                    first: dot.seq,
                    length: 1,
                    parent: origin.parent,
                    side: origin.side,
                    chain: false,
                    of: origin.of,
                    adopted: origin.adopted,
                    ..run
                };
                let next = match nested.runs.last_mut() {
                    Some(last) => last.extend(single),
                    None => Some(single),
                };
                nested.runs.extend(next);
            }
        }
    }

    /// Does it again by new operations of a document, which remove the old ones.
    fn restore(self, old: &Document, anew: &mut Document, now: u64) {
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
        let again = |transaction: &mut Transaction<'_>| {
            for array in arrays {
                let into = self.intern(transaction.document, array);
                self.restore_array(old, transaction, array, into);
            }
            Ok::<_, core::convert::Infallible>(())
        };
        let Ok(()) = anew.transact(now, again);
        let done = anew.own_seq() > base;
        if done {
            let killer = Dot::new(anew.replica(), base + 1);
            let pairs: Vec<(Dot, Dot)> = dead.into_iter().map(|dot| (killer, dot)).collect();
            let live = anew.live();
            anew.log.note(&pairs, live);
        }
    }

    /// The array that holds the outermost element without a place around a container; of an array
    /// with a place, itself.
    fn outermost(&self, number: u32) -> u32 {
        let mut at = number;
        while self.inside[at as usize] {
            at = self.containers[at as usize - 1].parent;
        }
        at
    }

    /// The number of a container in a document.
    fn intern(&self, document: &mut Document, number: u32) -> u32 {
        let Some(at) = number.checked_sub(1) else {
            return ROOT;
        };
        let container = &self.containers[at as usize];
        let parent = self.intern(document, container.parent);
        document
            .containers
            .intern(parent, &container.key, container.form)
    }

    /// The number of a container in the document that it comes from.
    fn find(&self, document: &Document, number: u32) -> Option<u32> {
        let Some(at) = number.checked_sub(1) else {
            return Some(ROOT);
        };
        let container = &self.containers[at as usize];
        let parent = self.find(document, container.parent)?;
        document
            .containers
            .find(parent, &container.key, container.form)
    }

    /// The elements of an array that have something to be done again.
    fn elements_of(&self, array: u32) -> BTreeSet<Dot> {
        let births = self.births.get(&array).into_iter();
        let mut elements: BTreeSet<Dot> = births.flat_map(BTreeMap::keys).copied().collect();
        let written = within(&self.entries, array).map(|(key, _)| key);
        let inner = within(&self.inner, array);
        let inner = inner.filter(|(_, numbers)| {
            let mut numbers = numbers.iter();
            numbers.any(|number| self.inside[*number as usize])
        });
        for key in written.chain(inner.map(|(key, _)| key)) {
            if let Key::Element(id) = key {
                elements.insert(*id);
            }
        }
        elements
    }

    /// Each element stands behind the one behind which it stood.
    fn restore_array(
        &self,
        old: &Document,
        transaction: &mut Transaction<'_>,
        array: u32,
        into: u32,
    ) {
        let mut left = self.elements_of(array);
        let none = BTreeMap::new();
        let moves = self.moves.get(&array).unwrap_or(&none);
        let mut order: Vec<Dot> = Vec::new();
        let from = self.find(old, array);
        if let Some(sequence) = from.and_then(|from| old.sequence(from)) {
            let shown = sequence.iter(&old.elements, 0);
            order.extend(shown.map(|element| old.dot_at(element)));
        }
        let mut before: Option<Spot> = None;
        for id in order {
            if left.remove(&id) {
                before = Some(self.restore_element(old, transaction, (array, id), into, before));
                continue;
            }
            let here = |document: &Document| {
                let element = document.element_in(into, id)?;
                document.elements[element].shown().then_some(element)
            };
            let Some(element) = here(transaction.document) else {
                continue;
            };
            if moves.contains_key(&id) && before != Some(element) {
                let mut to = index_behind(transaction.document, into, before);
                let now = index_behind(transaction.document, into, Some(element));
                to -= usize::from(now <= to);
                let (seq, timestamp) = transaction.next();
                let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
                document.move_element(element, to, seq, timestamp, journal);
                document.settle(journal);
            }
            before = Some(element);
        }
        // Those that did not show, as others were awaited.
        for id in left {
            before = Some(self.restore_element(old, transaction, (array, id), into, before));
        }
    }

    fn restore_element(
        &self,
        old: &Document,
        transaction: &mut Transaction<'_>,
        (array, id): (u32, Dot),
        into: u32,
        before: Option<Spot>,
    ) -> Spot {
        let place = (array, Key::Element(id));
        let written = self.entries.get(&place).into_iter().flatten();
        let mut values: Vec<Value> = written.map(|entry| entry.value.clone()).collect();
        let born = self.births.get(&array).and_then(|births| births.get(&id));
        values.extend(born.cloned());
        let mut values = values.into_iter();
        let first = values.next();
        let bare = first.is_none();
        let index = index_behind(transaction.document, into, before);
        let (seq, timestamp) = transaction.next();
        let (document, journal) = (&mut *transaction.document, &mut transaction.journal);
        let value = first.unwrap_or(Value::Null);
        document.insert_born(into, Some(index), value, (seq, timestamp), journal);
        let again = Dot::new(document.replica(), seq);
        let key = Key::Element(again);
        for sibling in values {
            let (seq, timestamp) = transaction.next();
            let document = &mut *transaction.document;
            document.put_beside(into, key.clone(), sibling, seq, timestamp);
        }
        for number in self.inner.get(&place).into_iter().flatten() {
            let form = self.containers[*number as usize - 1].form;
            let inner = transaction.document.containers.intern(into, &key, form);
            self.restore_container(old, transaction, *number, inner);
        }
        let document = &mut *transaction.document;
        // proof: it was inserted above, under this dot.
        let spot = document.spot(again).expect("the position of its birth");
        if bare {
            document.kill_birth(spot, seq, &mut transaction.journal);
        }
        transaction.document.settle(&mut transaction.journal);
        spot
    }

    fn restore_container(
        &self,
        old: &Document,
        transaction: &mut Transaction<'_>,
        number: u32,
        into: u32,
    ) {
        let form = self.containers[number as usize - 1].form;
        if form == Form::Array {
            return self.restore_array(old, transaction, number, into);
        }
        for entry in within(&self.entries, number).flat_map(|(_, entries)| entries) {
            if form == Form::Counter && !matches!(entry.value, Value::Int(_)) {
                continue; // what resets have seen of sums that are done again as a whole
            }
            let (seq, timestamp) = transaction.next();
            let document = &mut *transaction.document;
            let key = match form {
                Form::Counter => Key::Element(Dot::new(document.replica(), seq)),
                _ => entry.key.clone(),
            };
            document.put_beside(into, key, entry.value.clone(), seq, timestamp);
        }
        for (key, numbers) in within(&self.inner, number) {
            for inner in numbers {
                let form = self.containers[*inner as usize - 1].form;
                let there = transaction.document.containers.intern(into, key, form);
                self.restore_container(old, transaction, *inner, there);
            }
        }
    }
}

/// What stands in a container, by key.
fn within<T>(all: &BTreeMap<(u32, Key), T>, container: u32) -> impl Iterator<Item = (&Key, &T)> {
    // No key comes before this one.
    let inside = all.range((container, Key::Bool(false))..);
    let inside = inside.take_while(move |((number, _), _)| *number == container);
    inside.map(|((_, key), within)| (key, within))
}

/// The positions of a delta, by their array.
fn places(nested: &Nested) -> BTreeMap<u32, Vec<Place>> {
    let mut places: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    let mut number = 0;
    for run in &nested.runs {
        for at in 0..run.length {
            let dot = run.dot(at);
            places.entry(run.container).or_default().push(Place {
                dot,
                origin: run.origin(at),
                rank: (nested.times[number], dot),
            });
            number += 1;
        }
    }
    places
}

/// Whether an element shows in an array.
fn shows(document: &Document, array: Option<u32>, id: Dot) -> bool {
    let element = array.and_then(|array| document.element_in(array, id));
    element.is_some_and(|element| document.elements[element].shown())
}

/// Whether an element stands at a position of an array, and shows.
fn stands(document: &Document, array: Option<u32>, position: Dot) -> bool {
    let (Some(array), Some(spot)) = (array, document.spot(position)) else {
        return false;
    };
    if document.elements[spot].array() != array || document.orphans.origin(spot).is_some() {
        return false;
    }
    let element = document.elements.of(spot);
    document.elements[element].shown() && document.elements.place(element) == spot
}

/// The index behind an element.
fn index_behind(document: &Document, array: u32, element: Option<Spot>) -> usize {
    let index = element.and_then(|element| {
        let sequence = document.sequence(array)?;
        sequence.index_of(&document.elements, element)
    });
    index.map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReplicaId;

    #[test]
    fn what_was_inserted_into_an_element_that_is_gone_is_done_again() {
        let mut here = Document::new(ReplicaId::new(1));
        let write = |tx: &mut Transaction<'_>| tx.array("list").append("element");
        let id = here.transact(1, write).unwrap();
        let mut away = Document::new(ReplicaId::new(2));
        away.apply(&here.snapshot());
        let inside = away.transact(2, |tx| {
            tx.array("list").array(0).append(7)?;
            tx.array("list").map(0).set("key", 8)
        });
        inside.unwrap();
        here.transact(2, |tx| tx.array("list").delete(0)).unwrap();
        for _ in 0..3 {
            let now = here.version();
            here.forget_stable(&now, &now);
        }
        assert_eq!(here.tombstones(), 0);

        away.begin_anew(&here.snapshot(), 3);
        let list = away.array("list");
        assert_eq!(list.len(), 1);
        assert_ne!(list.id(0), Some(id));
        assert_eq!(list.array(0).get(0), Some(&Value::from(7)));
        assert_eq!(list.map(0).get("key"), Some(&Value::from(8)));
        let delta = away.delta_since(&here.version());
        assert_eq!(here.misfit(&delta), None);
        here.apply(&delta);
        assert_eq!(here.encode(), away.encode());
    }
}
