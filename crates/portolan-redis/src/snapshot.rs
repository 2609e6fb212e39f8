//! What a map held at one revision.

use std::sync::Arc;

use bytes::Bytes;

use crate::key::Key;

/// What a map held at one revision, in the order of the keys. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    revision: u64,
    entries: Arc<[(Key, Bytes)]>,
}

impl Snapshot {
    pub(crate) fn new(revision: u64, mut entries: Vec<(Key, Bytes)>) -> Self {
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            revision,
            entries: entries.into(),
        }
    }

    /// The revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key, in logarithmic time.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Bytes> {
        let key = key.as_ref();
        let found = self
            .entries
            .binary_search_by(|(held, _)| held.as_bytes().cmp(key));
        found.ok().map(|place| &self.entries[place].1)
    }

    pub(crate) fn entry(&self, place: usize) -> (Key, Bytes) {
        self.entries[place].clone()
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Bytes)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }
}
