//! The numbers of containers, found by what names them.

use core::cmp::Ordering;

use super::Sorted;
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

    /// The number that is asked for; `order` tells how another compares to it.
    pub(crate) fn find(&self, _hash: u64, order: impl Fn(u32) -> Ordering) -> Option<u32> {
        Some(self.numbers.get(self.numbers.find(&order).ok()?))
    }

    /// Adds a number that is not in it.
    pub(crate) fn insert(
        &mut self,
        _hash: u64,
        number: u32,
        order: impl Fn(u32) -> Ordering,
        _rehash: impl Fn(u32) -> u64,
    ) {
        if let Err(at) = self.numbers.find(&order) {
            self.numbers.insert(at, number);
        }
    }

    pub(crate) fn remove(&mut self, _hash: u64, order: impl Fn(u32) -> Ordering) {
        if let Ok(at) = self.numbers.find(&order) {
            self.numbers.remove(at);
        }
    }
}
