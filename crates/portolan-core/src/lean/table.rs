//! The numbers of containers, found by what names them.

use super::Sorted;
use crate::containers::Asked;
use crate::key::KeyRef;

#[derive(Debug, Default)]
pub(crate) struct Table {
    numbers: Sorted,
}

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// It needs none.
    pub(crate) fn hash(_seed: u64, _parent: u32, _key: KeyRef<'_>) -> u64 {
        0
    }

    /// The number that is asked for.
    pub(crate) fn find(&self, _hash: u64, asked: Asked<'_>) -> Option<u32> {
        let at = self.numbers.find(&|number| asked.compare(number));
        Some(self.numbers.get(at.ok()?))
    }

    /// Adds a number that is not in it.
    pub(crate) fn insert(
        &mut self,
        _hash: u64,
        number: u32,
        asked: Asked<'_>,
        _rehash: impl Fn(u32) -> u64,
    ) {
        if let Err(at) = self.numbers.find(&|number| asked.compare(number)) {
            self.numbers.insert(at, number);
        }
    }

    pub(crate) fn remove(&mut self, _hash: u64, asked: Asked<'_>) {
        if let Ok(at) = self.numbers.find(&|number| asked.compare(number)) {
            self.numbers.remove(at);
        }
    }
}
