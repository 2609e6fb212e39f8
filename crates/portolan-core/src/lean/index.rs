//! From container and key to the first of what stands there, and all keys in order: as the index
//! and the order of programs, which tell more of it, together.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::order::Position;
use super::{At, Sorted};
use crate::key::KeyRef;
use crate::slab::{Record, Slab, Slot};

#[derive(Debug)]
pub(crate) struct Index {
    heads: Sorted,
    seed: u64,
}

/// The place of a key.
pub(crate) enum Place<'a> {
    /// Of one that is new.
    Vacant(Vacant<'a>),
    /// Of one under which something stands.
    Occupied(Occupied<'a>),
}

pub(crate) struct Vacant<'a> {
    heads: &'a mut Sorted,
    at: At,
}

impl Vacant<'_> {
    /// Gives it an entry of the key that was asked for.
    pub(crate) fn insert(self, slot: Slot) {
        self.heads.insert(self.at, slot);
    }
}

pub(crate) struct Occupied<'a> {
    heads: &'a mut Sorted,
    at: At,
}

impl Occupied<'_> {
    /// The first of what stands under the key.
    pub(crate) fn head(&self) -> Slot {
        self.heads.get(self.at)
    }

    /// Makes another the first.
    pub(crate) fn replace(self, slot: Slot) {
        self.heads.set(self.at, slot);
    }

    pub(crate) fn remove(self) {
        self.heads.remove(self.at);
    }
}

fn compare(slab: &Slab, slot: Slot, (container, key): Position<'_>) -> Ordering {
    let record = &slab[slot];
    let containers = record.container.cmp(&container);
    containers.then_with(|| record.key.borrowed().cmp(&key))
}

impl Index {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            heads: Sorted::default(),
            seed,
        }
    }

    /// How many keys there are, in all containers.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The first of what stands under each key, in order.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Slot> {
        self.heads.iter((0, 0))
    }

    fn at(&self, slab: &Slab, position: Position<'_>) -> Result<At, At> {
        self.heads.find(&|slot| compare(slab, slot, position))
    }

    /// The first of what stands under a key, and its record.
    pub(crate) fn find<'a>(
        &self,
        slab: &'a Slab,
        container: u32,
        key: KeyRef<'_>,
    ) -> Option<(Slot, &'a Record)> {
        let head = self.heads.get(self.at(slab, (container, key)).ok()?);
        Some((head, &slab[head]))
    }

    /// The first of the chain that an entry stands in.
    pub(crate) fn head_of(&self, slab: &Slab, slot: Slot) -> Option<Slot> {
        let record = &slab[slot];
        let (head, _) = self.find(slab, record.container, record.key.borrowed())?;
        Some(head)
    }

    /// The place of a key.
    pub(crate) fn place(
        &mut self,
        slab: &Slab,
        _hash: u32,
        container: u32,
        key: KeyRef<'_>,
    ) -> Place<'_> {
        let found = self.at(slab, (container, key));
        let heads = &mut self.heads;
        match found {
            Ok(at) => Place::Occupied(Occupied { heads, at }),
            Err(at) => Place::Vacant(Vacant { heads, at }),
        }
    }

    /// The place of a key of which the first is known.
    pub(crate) fn place_of(&mut self, slab: &Slab, head: Slot) -> Option<Occupied<'_>> {
        let record = &slab[head];
        let at = self.at(slab, (record.container, record.key.borrowed()));
        let (heads, at) = (&mut self.heads, at.ok()?);
        Some(Occupied { heads, at })
    }

    /// Up to `most` slots from a position on, or from what is `behind` it, into `out`.
    pub(crate) fn fetch(
        &self,
        slab: &Slab,
        start: Position<'_>,
        behind: bool,
        most: usize,
        out: &mut Vec<Slot>,
    ) {
        let (Ok(at) | Err(at)) = self.heads.find(&|slot| match compare(slab, slot, start) {
            Ordering::Equal if behind => Ordering::Less,
            order => order,
        });
        out.extend(self.heads.iter(at).take(most));
    }

    /// It needs no room beforehand.
    pub(crate) fn reserve(&mut self, _slab: &Slab, _keys: usize) {}

    /// It holds no more than there is.
    pub(crate) fn shrink(&mut self, _slab: &Slab) {}

    /// Tells the ids of elements apart; other keys it need not.
    pub(crate) fn hash(&self, _container: u32, key: KeyRef<'_>) -> u32 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let KeyRef::Element(id) = key else {
            return 0;
        };
        let replica = (id.replica.get() ^ self.seed).wrapping_mul(GOLDEN);
        ((replica ^ id.seq).wrapping_mul(GOLDEN) >> 32) as u32
    }

    /// What nobody outside knows.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::key::Key;
    use crate::slab::{Entry, NONE};
    use crate::value::Value;

    fn key_of(number: i64) -> Key {
        match number % 4 {
            0 => Key::from(number % 8 == 0),
            1 => Key::from(number),
            2 => Key::from(format!("key {number}")),
            _ => Key::from(number.to_be_bytes().as_slice()),
        }
    }

    proptest! {
        /// Keys that come, get another first, and go.
        #[test]
        fn keys_are_found_and_told_in_order(
            steps in prop::collection::vec((0..3u32, 0..300i64, 0..3u8), 1..900),
            start in (0..4u32, 0..300i64),
            behind: bool,
        ) {
            let (mut index, mut slab) = (Index::with_seed(7), Slab::default());
            let mut model: BTreeMap<(u32, Key), Slot> = BTreeMap::new();
            for (container, number, step) in steps {
                let key = key_of(number);
                let at = (container, key.clone());
                let head = index.find(&slab, container, key.borrowed()).map(|(head, _)| head);
                prop_assert_eq!(head, model.get(&at).copied());
                if let (Some(head), 0) = (head, step) {
                    let place = index.place_of(&slab, head);
                    place.into_iter().for_each(Occupied::remove);
                    slab.remove(head);
                    model.remove(&at);
                    continue;
                }
                let fresh = slab.insert(Entry {
                    container,
                    next: NONE,
                    key: key.clone(),
                    value: Value::Null,
                    hash: 0,
                    replica: 0,
                    timestamp: Timestamp::default(),
                    seq: 1,
                });
                match index.place(&slab, 0, container, key.borrowed()) {
                    Place::Vacant(place) => place.insert(fresh),
                    Place::Occupied(place) => {
                        prop_assert_eq!(Some(place.head()), head);
                        place.replace(fresh);
                    }
                }
                if let Some(head) = head {
                    slab.remove(head);
                }
                model.insert(at, fresh);
                prop_assert_eq!(index.head_of(&slab, fresh), Some(fresh));
            }
            prop_assert!(index.heads().eq(model.values().copied()));
            prop_assert_eq!(index.len(), model.len());
            let start = (start.0, key_of(start.1));
            let mut fetched = Vec::new();
            index.fetch(&slab, (start.0, start.1.borrowed()), behind, 40, &mut fetched);
            let after = model.range(&start..).filter(|(at, _)| !behind || **at != start);
            prop_assert!(fetched.into_iter().eq(after.map(|(_, slot)| *slot).take(40)));
        }
    }
}
