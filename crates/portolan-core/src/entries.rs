//! Reading: the siblings of a key, and keys in order.

use std::ops::Bound;

use crate::clock::Timestamp;
use crate::document::{Document, ROOT};
use crate::key::Key;
use crate::replica::Dot;
use crate::slab::{NONE, Slot};
use crate::value::Value;

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

/// The siblings of a key, winner first (highest timestamp, then replica id).
#[derive(Clone, Debug)]
pub struct Siblings<'a> {
    document: &'a Document,
    next: Slot,
}

impl<'a> Siblings<'a> {
    pub(crate) fn new(document: &'a Document, head: Slot) -> Self {
        Self {
            document,
            next: head,
        }
    }
}

impl<'a> Iterator for Siblings<'a> {
    type Item = Sibling<'a>;

    fn next(&mut self) -> Option<Sibling<'a>> {
        if self.next == NONE {
            return None;
        }
        let entry = &self.document.slab[self.next];
        self.next = entry.next;
        let dot = self.document.dot_of(entry);
        Some(Sibling {
            value: &entry.value,
            dot,
            timestamp: entry.timestamp,
        })
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
    after: After,
    end: Bound<Key>,
    ready: Vec<Slot>,
    at: usize,
}

/// Keys fetched from the order at once.
const BATCH: usize = 256;

impl<'a> Entries<'a> {
    pub(crate) fn new(document: &'a Document, start: Bound<Key>, end: Bound<Key>) -> Self {
        let after = match start {
            Bound::Unbounded => After::Start,
            Bound::Included(key) => After::Until(key),
            Bound::Excluded(key) => After::Past(key),
        };
        let (ready, at) = (Vec::new(), 0);
        Self {
            document,
            after,
            end,
            ready,
            at,
        }
    }

    fn refill(&mut self) {
        self.ready.clear();
        self.at = 0;
        let order = self.document.built_order();
        let slab = &self.document.slab;
        match &self.after {
            After::End => return,
            After::Start => order.fetch(slab, |_| false, BATCH, &mut self.ready),
            After::Until(key) => {
                let start = (ROOT, key.borrowed());
                order.fetch(slab, |place| place < start, BATCH, &mut self.ready);
            }
            After::Past(key) => {
                let start = (ROOT, key.borrowed());
                order.fetch(slab, |place| place <= start, BATCH, &mut self.ready);
            }
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

impl<'a> IntoIterator for &'a Document {
    type Item = (&'a Key, Siblings<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}
