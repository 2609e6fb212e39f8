//! Maps from spots, and from other numbers that are given out by us, so that nobody can choose them
//! to collide.
//!
//! One hash table of numbers for values of all kinds, which lie in a row beside it: a table of its
//! own for each kind would be compiled anew each time.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};

#[cfg(not(feature = "small"))]
use self::hashed::Places;
#[cfg(feature = "small")]
use crate::lean::places::Places;

#[derive(Debug)]
pub(crate) struct SpotMap<V> {
    places: Places,
    entries: Vec<Option<(u64, V)>>,
    /// Places in `entries` that are empty.
    vacant: Vec<u32>,
}

impl<V> Default for SpotMap<V> {
    fn default() -> Self {
        Self {
            places: Places::default(),
            entries: Vec::new(),
            vacant: Vec::new(),
        }
    }
}

impl<V> SpotMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn contains(&self, key: impl Into<u64>) -> bool {
        self.places.get(key.into()).is_some()
    }

    pub(crate) fn get(&self, key: impl Into<u64>) -> Option<&V> {
        let at = self.places.get(key.into())?;
        let (_, value) = self.entries[at as usize].as_ref()?;
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, key: impl Into<u64>) -> Option<&mut V> {
        let at = self.places.get(key.into())?;
        let (_, value) = self.entries[at as usize].as_mut()?;
        Some(value)
    }

    /// Puts a value under a key; gives the one that stood there.
    pub(crate) fn insert(&mut self, key: impl Into<u64>, value: V) -> Option<V> {
        let key = key.into();
        let entry = Some((key, value));
        if let Some(at) = self.places.get(key) {
            let old = core::mem::replace(&mut self.entries[at as usize], entry);
            return old.map(|(_, value)| value);
        }
        let at = if let Some(at) = self.vacant.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        self.places.insert(key, at);
        None
    }

    /// Takes a value out; with the last one the memory is given back.
    pub(crate) fn remove(&mut self, key: impl Into<u64>) -> Option<V> {
        let at = self.places.remove(key.into())?;
        let (_, value) = self.entries[at as usize].take()?;
        if self.places.is_empty() {
            *self = Self::default();
        } else {
            self.vacant.push(at);
        }
        Some(value)
    }

    /// All keys with their values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let entries = self.entries.iter().flatten();
        entries.map(|(key, value)| (*key, value))
    }

    /// Keeps those of which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        for at in 0..self.entries.len() {
            // Shorter by then, where the last one went.
            let entry = self.entries.get_mut(at).and_then(Option::as_mut);
            if let Some((key, value)) = entry
                && !keep(value)
            {
                let key = *key;
                self.remove(key);
            }
        }
    }
}

#[cfg(not(feature = "small"))]
mod hashed {
    use hashbrown::HashMap;

    use super::SpotHash;

    #[derive(Debug, Default)]
    pub(super) struct Places {
        places: HashMap<u64, u32, SpotHash>,
    }

    impl Places {
        #[inline]
        pub(super) fn is_empty(&self) -> bool {
            self.places.is_empty()
        }

        #[inline]
        pub(super) fn get(&self, key: u64) -> Option<u32> {
            self.places.get(&key).copied()
        }

        #[inline]
        pub(super) fn insert(&mut self, key: u64, place: u32) {
            self.places.insert(key, place);
        }

        #[inline]
        pub(super) fn remove(&mut self, key: u64) -> Option<u32> {
            self.places.remove(&key)
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpotHash;

#[derive(Debug)]
pub(crate) struct SpotHasher(u64);

impl BuildHasher for SpotHash {
    type Hasher = SpotHasher;

    fn build_hasher(&self) -> SpotHasher {
        SpotHasher(0)
    }
}

impl Hasher for SpotHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Multiplied by 2^64 / φ; the table takes its bits from both ends.
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((0..6u8, 0..20u32), 0..200)) {
            let (mut map, mut model) = (SpotMap::default(), BTreeMap::new());
            for (at, (step, key)) in steps.into_iter().enumerate() {
                let wide = u64::from(key);
                match step {
                    0..=2 => prop_assert_eq!(map.insert(key, at), model.insert(wide, at)),
                    3 | 4 => prop_assert_eq!(map.remove(key), model.remove(&wide)),
                    _ => {
                        map.retain(|value| *value % 3 > 0);
                        model.retain(|_, value| *value % 3 > 0);
                    }
                }
                prop_assert_eq!(map.get(key), model.get(&wide));
                prop_assert_eq!(map.get_mut(key), model.get_mut(&wide));
                prop_assert_eq!(map.contains(key), model.contains_key(&wide));
                prop_assert_eq!(map.is_empty(), model.is_empty());
                let all: BTreeMap<u64, usize> = map.iter().map(|(key, at)| (key, *at)).collect();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
