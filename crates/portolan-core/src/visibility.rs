//! What of a batch there is to tell: what stands in an element that does not show, because its
//! position is not known so far, is told when the element comes to show.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::change::{Change, Place};
use crate::containers::{Form, ROOT};
use crate::document::Document;
use crate::journal::{Cause, Journal};
use crate::key::Key;
use crate::replica::Dot;
use crate::sets::member_of;
use crate::slab::Slot;
use crate::value::Value;

/// Which containers a watcher hears of.
pub(crate) struct Visibility<'a> {
    document: &'a Document,
    /// Of elements that came or went, whether they showed before.
    before: BTreeMap<Dot, bool>,
    /// Elements that have come to show, with what had waited for their positions.
    found: BTreeSet<Dot>,
    known: BTreeMap<u32, bool>,
}

/// What is in elements that have come to show, all of it.
#[derive(Default)]
pub(crate) struct Revealed {
    /// What happened in arrays, one after the other.
    pub(crate) elements: Vec<Change>,
    pub(crate) others: Vec<Change>,
}

impl<'a> Visibility<'a> {
    pub(crate) fn new(document: &'a Document, journal: &Journal) -> Self {
        let mut before = BTreeMap::new();
        for step in &journal.steps {
            before.entry(step.element).or_insert(!step.shown);
        }
        let found = journal.found.iter();
        Self {
            document,
            before,
            found: found.map(|element| document.dot_at(*element)).collect(),
            known: BTreeMap::new(),
        }
    }

    /// Whether what the journal notes of a container is told: it showed before or does now. What
    /// is in an element that comes to show is told as it stands.
    pub(crate) fn is_told(&mut self, container: u32) -> bool {
        if container == ROOT {
            return true;
        }
        if let Some(told) = self.known.get(&container) {
            return *told;
        }
        let (mut before, mut after) = (true, true);
        for (array, id) in self.elements_above(container) {
            let element = self.document.element_in(array, id);
            let shows = element.is_some_and(|spot| self.document.elements[spot].shown());
            before &= self.before.get(&id).copied().unwrap_or(shows);
            after &= shows && !self.found.contains(&id);
        }
        self.known.insert(container, before || after);
        before || after
    }

    /// The elements that a container stands in, each with its array, the innermost first.
    fn elements_above(&self, container: u32) -> impl Iterator<Item = (u32, Dot)> + use<'a> {
        let (document, mut at) = (self.document, container);
        let above = core::iter::from_fn(move || {
            let known = (at != ROOT).then(|| document.containers.get(at))?;
            at = known.parent;
            Some((known.parent, &known.key))
        });
        above.filter_map(|(array, key)| match key {
            Key::Element(id) => Some((array, *id)),
            _ => None,
        })
    }

    /// Whether a container stands in no element but those that showed before.
    fn stands(&self, container: u32) -> bool {
        self.elements_above(container).all(|(array, id)| {
            let element = self.document.element_in(array, id);
            let shows = element.is_some_and(|spot| self.document.elements[spot].shown());
            shows && !self.found.contains(&id)
        })
    }

    /// All that is in the elements that have come to show.
    pub(crate) fn revealed(&self, cause: &Cause<'_>) -> Revealed {
        let mut told = Revealed::default();
        for id in &self.found {
            let Some(element) = self.document.spot(*id) else {
                continue;
            };
            let known = &self.document.elements[element];
            // What is within another one of them is told with that.
            if known.shown() && self.stands(known.array()) {
                self.tell_inner(self.document.written(element), cause, &mut told);
            }
        }
        told
    }

    /// Tells of the containers in a chain.
    fn tell_inner(&self, head: Option<Slot>, cause: &Cause<'_>, told: &mut Revealed) {
        let slots = head.into_iter().flat_map(|head| self.document.chain(head));
        for inner in slots.filter_map(|slot| self.document.slab[slot].inner()) {
            self.tell(inner, cause, told);
        }
    }

    fn tell(&self, container: u32, cause: &Cause<'_>, told: &mut Revealed) {
        let document = self.document;
        match document.containers.get(container).form {
            Form::Map | Form::Set => {
                for head in document.heads(container) {
                    let key = &document.slab[head].key;
                    told.others.extend(self.coming(container, key, cause));
                    self.tell_inner(Some(head), cause, told);
                }
            }
            Form::Array => {
                let sequence = document.sequence(container);
                let elements = sequence.map(|sequence| sequence.iter(&document.elements, 0));
                for (index, element) in elements.into_iter().flatten().enumerate() {
                    let id = document.dot_at(element);
                    let coming = self.coming(container, &Key::Element(id), cause);
                    let mut coming = coming.unwrap_or_else(|| {
                        let path = document.containers.path(container);
                        document.change(path, Place::Key, None, Vec::new(), cause)
                    });
                    coming.place = Place::Element { id, index };
                    coming.new.get_or_insert(Value::Null);
                    told.elements.push(coming);
                    self.tell_inner(document.written(element), cause, told);
                }
            }
            Form::Counter => {
                let now = document.count(container);
                if now != 0 {
                    let change = document.count_change(container, 0, now, cause);
                    told.others.push(change);
                }
            }
            Form::Moves => {}
        }
    }

    /// The values under a key, or a member, as one that comes; `None` where there is no value.
    fn coming(&self, container: u32, key: &Key, cause: &Cause<'_>) -> Option<Change> {
        let document = self.document;
        let now = document.present(container, key);
        let (_, writer, ..) = now.first()?;
        let (writer, mut path) = (*writer, document.containers.path(container));
        let form = document.containers.get(container).form;
        if form == Form::Map {
            path.push(key.clone());
        }
        let mut change = document.change(path, Place::Key, None, now, cause);
        change.by = Some(writer);
        if form == Form::Set {
            change.place = Place::Member;
            (change.new, change.siblings) = (member_of(key), Vec::new());
        }
        Some(change)
    }
}
