//! What has no place in another's state, under names that anybody gives it who brings it.
//!
//! The *image* of an operation is what it did, by a dot that follows from its own: the same number
//! of a replica that there is not. Its content follows from that of the operation alone: value and
//! time are the same, an element is a child of the array itself, and all that refers to an element
//! refers to its image. So two that return and bring the same operation bring one and the same
//! image, and what they bring of one element comes together in one element.
//!
//! Which dot that is depends on how much of the way to the operation is left: of the elements that
//! it leads through, those above stay what they are. So the *level* of the outermost that is gone,
//! the number of elements above it, is in the name. Where an image is deleted too, and gone, the
//! next one is the image of the image.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::lost::{Lost, within};
use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::hashing::xxh3_64;
use crate::key::Key;
use crate::nested::{DeltaContainer, Nested, Run};
use crate::replica::{Dot, ReplicaId};
use crate::sequence::Side;
use crate::value::Value;

/// A level beyond all others: of an element whose birth is not known, so that its image has no
/// time.
const UNBORN: u8 = 128;

/// The replica of the images of what a replica did.
pub(super) fn image_of(replica: ReplicaId, level: u8) -> ReplicaId {
    let mut bytes = *b"image of .........";
    bytes[9..17].copy_from_slice(&replica.get().to_le_bytes());
    bytes[17] = level;
    ReplicaId::new(xxh3_64(&bytes))
}

/// The images that a document may hold of what a replica did: each replica of images with those
/// whose images they are, the nearest first.
pub(super) fn images_of(
    document: &Document,
    replica: ReplicaId,
) -> Vec<(ReplicaId, Vec<ReplicaId>)> {
    let mut found: Vec<(ReplicaId, Vec<ReplicaId>)> = vec![(replica, Vec::new())];
    let mut at = 0;
    while let Some((of, above)) = found.get(at).cloned() {
        let mut ancestors = vec![of];
        ancestors.extend(above);
        for level in 0..=UNBORN {
            let image = image_of(of, level);
            if document.replicas.by_id(image).is_some() {
                found.push((image, ancestors.clone()));
            }
        }
        at += 1;
    }
    found.split_off(1)
}

/// The levels at which images were taken, one of the other.
#[derive(Clone, Debug, Default)]
struct Name(Vec<u8>);

impl Name {
    fn dot(&self, dot: Dot) -> Dot {
        let replica = self.0.iter();
        let replica = replica.fold(dot.replica, |of, level| image_of(of, *level));
        Dot::new(replica, dot.seq)
    }

    /// Whether a document knows an image of an operation on the way to this one, or this one.
    fn is_known(&self, dot: Dot, document: &Document) -> bool {
        let mut of = dot.replica;
        self.0.iter().any(|level| {
            of = image_of(of, *level);
            has_applied(document, Dot::new(of, dot.seq))
        })
    }
}

/// The images of what was lost.
pub(super) struct Image {
    /// To be applied where it was lost.
    pub(super) delta: Delta,
    /// Each operation with its image, and each element with that which takes its place.
    pub(super) dots: Vec<(Dot, Dot)>,
    /// Elements that are there for what was written to them, and had a value of their own before.
    pub(super) bare: Vec<Dot>,
    /// Of each array with something lost its number among the lost ones, and in the delta.
    pub(super) arrays: Vec<(u32, u32)>,
}

struct Painter<'a> {
    lost: &'a Lost,
    /// Where it was, and where it has no place.
    old: &'a Document,
    anew: &'a Document,
    image: Image,
    nested: Nested,
    numbers: BTreeMap<(u32, Key, Form), u32>,
}

impl Image {
    pub(super) fn of(lost: &Lost, old: &Document, anew: &Document) -> Self {
        let mut painter = Painter {
            lost,
            old,
            anew,
            image: Self {
                delta: Delta::default(),
                dots: Vec::new(),
                bare: Vec::new(),
                arrays: Vec::new(),
            },
            nested: Nested::default(),
            numbers: BTreeMap::new(),
        };
        for array in lost.arrays() {
            let into = painter.path(array);
            painter.array(array, into, &Name::default());
        }
        let Painter {
            mut image, nested, ..
        } = painter;
        image.delta.nested = Some(Box::new(nested));
        image.delta.sort();
        image
    }
}

impl Painter<'_> {
    /// The number in the image of a container that stands.
    fn path(&mut self, number: u32) -> u32 {
        let Some(at) = number.checked_sub(1) else {
            return ROOT;
        };
        let container = &self.lost.containers[at as usize];
        let parent = self.path(container.parent);
        self.container_in(parent, &container.key, container.form)
    }

    fn container_in(&mut self, parent: u32, key: &Key, form: Form) -> u32 {
        let containers = &mut self.nested.containers;
        let known = self.numbers.entry((parent, key.clone(), form));
        *known.or_insert_with(|| {
            let key = key.clone();
            containers.push(DeltaContainer { parent, key, form });
            containers.len() as u32
        })
    }

    /// The elements of an array that have something lost in them.
    fn array(&mut self, array: u32, into: u32, name: &Name) {
        self.image.arrays.push((array, into));
        for id in self.lost.elements_of(array) {
            self.element(array, id, into, name.clone());
        }
    }

    fn element(&mut self, array: u32, id: Dot, into: u32, mut name: Name) {
        let (lost, anew) = (self.lost, self.anew);
        let born = self
            .old
            .spot(id)
            .map(|spot| self.old.elements[spot].timestamp());
        let level = lost.level(array) + if born.is_some() { 0 } else { UNBORN };
        if name.0.is_empty() {
            name.0.push(level);
        }
        // What was deleted and is gone does not come back by that name.
        let is_gone = |host: Dot| {
            let stands = anew.spot(host);
            has_applied(anew, host) && !stands.is_some_and(|spot| anew.elements[spot].shown())
        };
        while is_gone(name.dot(id)) {
            name.0.push(level);
        }
        let host = name.dot(id);
        let before = self.image.delta.applied.len();
        let place = (array, Key::Element(id));
        for entry in lost.entries.get(&place).into_iter().flatten() {
            self.put(into, Key::Element(host), entry, &name);
        }
        for number in lost.inner.get(&place).into_iter().flatten() {
            let form = lost.containers[*number as usize - 1].form;
            let inner = self.container_in(into, &Key::Element(host), form);
            self.container(*number, inner, &name);
        }
        let value = lost.births.get(&array).and_then(|births| births.get(&id));
        let value = value.filter(|_| !name.is_known(id, anew));
        let is_needed = value.is_some() || self.image.delta.applied.len() > before;
        if has_applied(anew, host) {
            self.image.dots.push((id, host));
        } else if is_needed {
            if value.is_none() {
                self.image.bare.push(host);
            }
            self.position(into, host, value.cloned(), born.unwrap_or_default());
            self.note(id, host);
        }
    }

    fn position(&mut self, into: u32, dot: Dot, value: Option<Value>, time: Timestamp) {
        self.nested.births.push(value);
        self.nested.times.push(time);
        self.nested.runs.push(Run {
            container: into,
            replica: dot.replica,
            first: dot.seq,
            length: 1,
            parent: None,
            side: Side::Right,
            chain: false,
            of: None,
            adopted: None,
        });
    }

    fn container(&mut self, number: u32, into: u32, name: &Name) {
        let lost = self.lost;
        match lost.containers[number as usize - 1].form {
            Form::Array => return self.array(number, into, name),
            Form::Counter => return self.counter(number, into, name),
            Form::Map | Form::Set | Form::Moves => {}
        }
        for (key, siblings) in within(&lost.entries, number) {
            for entry in siblings {
                self.put(into, key.clone(), entry, name);
            }
        }
        for (key, numbers) in within(&lost.inner, number) {
            for inner in numbers {
                let form = lost.containers[*inner as usize - 1].form;
                let there = self.container_in(into, key, form);
                self.container(*inner, there, name);
            }
        }
    }

    /// The sums of a counter, with what resets have seen of them.
    fn counter(&mut self, number: u32, into: u32, name: &Name) {
        let lost = self.lost;
        let from = lost.find(self.anew, number);
        for (key, sums) in within(&lost.entries, number) {
            let Key::Element(epoch) = key else { continue };
            let Some(sum) = sums.iter().max_by_key(|sum| sum.dot.seq) else {
                continue;
            };
            let notes = from.map_or(Vec::new(), |from| self.anew.notes(from, *epoch));
            let key = Key::Element(name.dot(*epoch));
            self.put(into, key.clone(), sum, name);
            for note in &notes {
                self.put(into, key.clone(), note, name);
            }
        }
    }

    /// The image of what was written, unless it is known already.
    fn put(&mut self, into: u32, key: Key, entry: &DeltaEntry, name: &Name) {
        if name.is_known(entry.dot, self.anew) {
            return;
        }
        let dot = name.dot(entry.dot);
        self.image.delta.entries.push(DeltaEntry {
            container: into,
            key,
            value: entry.value.clone(),
            dot,
            timestamp: entry.timestamp,
        });
        self.note(entry.dot, dot);
    }

    fn note(&mut self, dot: Dot, image: Dot) {
        self.image.delta.applied.insert(image);
        self.image.dots.push((dot, image));
    }
}

pub(super) fn has_applied(document: &Document, dot: Dot) -> bool {
    let known = document.replicas.by_id(dot.replica);
    known.is_some_and(|known| known.applied.contains(dot))
}
