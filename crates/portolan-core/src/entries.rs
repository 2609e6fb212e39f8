//! Reading: the siblings of a key, and keys in order.

use alloc::vec::Vec;
use core::ops::Bound;

use crate::clock::Timestamp;
use crate::document::Document;
use crate::key::Key;
use crate::order::LEAST;
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::slab::{NONE, Slot};
use crate::value::Value;
use crate::view::AllHeld;

/// One of the concurrent values of a key.
#[derive(Clone, Copy, Debug)]
pub struct Sibling<'a> {
    /// Its value.
    pub value: &'a Value,
    /// The operation that wrote it.
    pub dot: Dot,
    /// When that was.
    pub timestamp: Timestamp,
}

impl Sibling<'_> {
    fn rank(&self) -> (Timestamp, Dot) {
        (self.timestamp, self.dot)
    }
}

/// The siblings of a key, winner first (highest timestamp, then replica id).
#[derive(Clone, Debug)]
pub struct Siblings<'a> {
    document: &'a Document,
    next: Slot,
    /// Of an array's element, the value it was born with.
    born: Option<Sibling<'a>>,
}

impl<'a> Siblings<'a> {
    pub(crate) fn new(document: &'a Document, head: Slot) -> Self {
        Self {
            document,
            next: head,
            born: None,
        }
    }

    /// What an array's element holds.
    pub(crate) fn of_element(document: &'a Document, element: Spot) -> Self {
        Self::with_id(document, element).1
    }

    /// The id of an array's element, and what it holds.
    #[inline]
    pub(crate) fn with_id(document: &'a Document, element: Spot) -> (Dot, Self) {
        let position = &document.elements[element];
        let dot = document.dot_of_position(position);
        let born = position.born().map(|value| Sibling {
            value,
            dot,
            timestamp: position.timestamp(),
        });
        let written = document.written_under(position.array(), dot);
        let siblings = Self {
            document,
            next: written.unwrap_or(NONE),
            born,
        };
        (dot, siblings)
    }
}

impl<'a> Iterator for Siblings<'a> {
    type Item = Sibling<'a>;

    #[inline]
    fn next(&mut self) -> Option<Sibling<'a>> {
        if self.next == NONE {
            return self.born.take();
        }
        let entry = &self.document.slab[self.next];
        if entry.is_container() {
            self.next = NONE;
            return self.born.take();
        }
        let sibling = Sibling {
            value: &entry.value,
            dot: self.document.dot(self.next),
            timestamp: self.document.slab.stamp(self.next).timestamp,
        };
        if let Some(born) = self.born.take_if(|born| born.rank() > sibling.rank()) {
            return Some(born);
        }
        self.next = entry.next;
        Some(sibling)
    }
}

/// Where the next batch of keys starts.
#[derive(Clone, Debug)]
enum After {
    /// At the first of all.
    Start,
    /// At this key or behind it.
    Until(Key),
    /// Behind this key.
    Past(Key),
    End,
}

/// Keys in order, each with its siblings.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    document: &'a Document,
    container: u32,
    after: After,
    end: Bound<Key>,
    ready: Vec<Slot>,
    at: usize,
}

/// Keys fetched from the order at once.
const BATCH: usize = 256;

impl<'a> Entries<'a> {
    pub(crate) fn new(
        document: &'a Document,
        container: u32,
        (start, end): (Bound<Key>, Bound<Key>),
    ) -> Self {
        let after = match start {
            Bound::Unbounded => After::Start,
            Bound::Included(key) => After::Until(key),
            Bound::Excluded(key) => After::Past(key),
        };
        let (ready, at) = (Vec::new(), 0);
        Self {
            document,
            container,
            after,
            end,
            ready,
            at,
        }
    }

    fn refill(&mut self) {
        self.ready.clear();
        self.at = 0;
        let slab = &self.document.slab;
        let container = self.container;
        let (start, behind) = match &self.after {
            After::End => return,
            After::Start => (LEAST, false),
            After::Until(key) => (key.borrowed(), false),
            After::Past(key) => (key.borrowed(), true),
        };
        let start = (container, start);
        self.document
            .fetch_heads(start, behind, BATCH, &mut self.ready);
        let inside = |slot: &Slot| slab[*slot].container == container;
        if !self.ready.last().is_none_or(inside) {
            self.ready.retain(inside);
            self.after = After::End;
            return;
        }
        self.after = match self.ready.last() {
            Some(last) if self.ready.len() == BATCH => After::Past(slab[*last].key.clone()),
            _ => After::End,
        };
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a Key, Siblings<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.ready.len() {
            self.refill();
        }
        let slot = *self.ready.get(self.at)?;
        self.at += 1;
        let key = &self.document.slab[slot].key;
        let inside = match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
        };
        if !inside {
            (self.after, self.at) = (After::End, 0);
            self.ready.clear();
            return None;
        }
        Some((key, Siblings::new(self.document, slot)))
    }
}

impl<'a> Entries<'a> {
    /// The same keys, each with everything under it: values and containers, the kind written last
    /// first.
    pub fn held(mut self) -> impl Iterator<Item = (&'a Key, AllHeld<'a>)> {
        core::iter::from_fn(move || {
            let (key, values) = self.next()?;
            Some((key, self.document.all_held(values.next, values)))
        })
    }

    /// The first of what stands under the next key.
    pub(crate) fn next_head(&mut self) -> Option<Slot> {
        self.next().map(|(_, siblings)| siblings.next)
    }
}

impl<'a> IntoIterator for &'a Document {
    type Item = (&'a Key, Siblings<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}
