//! What a replica has written and has no place in another's state.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::is_note;
use crate::arrays::Origin;
use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::key::Key;
use crate::nested::{DeltaContainer, Nested, Run};
use crate::replica::Dot;
use crate::value::Value;

/// What has no place in another state.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) containers: Vec<DeltaContainer>,
    /// Of each container, the root first, whether it stands in an element that has no place.
    pub(super) inside: Vec<bool>,
    /// Live values, by container and key, siblings in their order. Notes of resets are none of
    /// them: they stay, for they count wherever the sums are that they take from.
    pub(super) entries: BTreeMap<(u32, Key), Vec<DeltaEntry>>,
    /// Containers with something of that in them, at any depth, by what they are in and the key.
    pub(super) inner: BTreeMap<(u32, Key), BTreeSet<u32>>,
    /// Live values that elements were born with, by their array.
    pub(super) births: BTreeMap<u32, BTreeMap<Dot, Value>>,
    /// Elements that have a place, and were moved to where there is none; by their array, each
    /// with the dot of the move.
    pub(super) moves: BTreeMap<u32, BTreeMap<Dot, Dot>>,
}

/// One position of a delta.
struct Place {
    dot: Dot,
    origin: Origin,
    rank: (Timestamp, Dot),
}

impl Lost {
    /// Takes out of a delta what it has no place for in a document.
    pub(super) fn take_from(delta: &mut Delta, anew: &Document) -> Self {
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
            let stays = is_note(container.form, &entry.value)
                || !inside[number as usize]
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

    /// The array that holds the outermost element without a place around a container; of an array
    /// with a place, itself.
    fn outermost(&self, number: u32) -> u32 {
        let mut at = number;
        while self.inside[at as usize] {
            at = self.containers[at as usize - 1].parent;
        }
        at
    }

    /// The arrays that stand, and have something of that in them.
    pub(super) fn arrays(&self) -> BTreeSet<u32> {
        let entries = self.entries.keys().map(|(container, _)| container);
        let holders = entries.chain(self.births.keys()).chain(self.moves.keys());
        let mut arrays: BTreeSet<u32> = holders.map(|number| self.outermost(*number)).collect();
        arrays.remove(&ROOT);
        arrays
    }

    /// How many elements there are on the way to a container.
    pub(super) fn level(&self, number: u32) -> u8 {
        let mut level = 0;
        let mut at = number;
        while at != ROOT {
            let container = &self.containers[at as usize - 1];
            level += u8::from(matches!(container.key, Key::Element(_)));
            at = container.parent;
        }
        level
    }

    /// The number of a container in a document.
    pub(super) fn find(&self, document: &Document, number: u32) -> Option<u32> {
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
    pub(super) fn elements_of(&self, array: u32) -> BTreeSet<Dot> {
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
}

/// What stands in a container, by key.
pub(super) fn within<T>(
    all: &BTreeMap<(u32, Key), T>,
    container: u32,
) -> impl Iterator<Item = (&Key, &T)> {
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
