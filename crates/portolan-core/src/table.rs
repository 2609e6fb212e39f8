//! The numbers of containers, found by what names them.

use hashbrown::HashTable;

use crate::containers::Asked;
use crate::index::{self, spread};
use crate::key::KeyRef;

#[derive(Debug, Default)]
pub(crate) struct Table {
    numbers: HashTable<u32>,
}

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(crate) fn hash(seed: u64, parent: u32, key: KeyRef<'_>) -> u64 {
        spread(index::hash(seed, parent, key))
    }

    /// The number that is asked for, of this hash.
    pub(crate) fn find(&self, hash: u64, asked: Asked<'_>) -> Option<u32> {
        let found = self.numbers.find(hash, |number| asked.is(*number));
        found.copied()
    }

    /// Adds a number that is not in it; `rehash` gives the hashes of others.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        number: u32,
        _asked: Asked<'_>,
        rehash: impl Fn(u32) -> u64,
    ) {
        self.numbers
            .insert_unique(hash, number, |number| rehash(*number));
    }

    pub(crate) fn remove(&mut self, hash: u64, asked: Asked<'_>) {
        let found = self.numbers.find_entry(hash, |number| asked.is(*number));
        if let Ok(place) = found {
            place.remove();
        }
    }
}
