//! From container and key to the first of what stands there.
//!
//! A hash table of slots and nothing else: what a look-up waits for is memory, so a table of half
//! the size, of which more stays in the caches, is worth the entries that are read in vain. These
//! are few: a slot needs no more bits than there are slots, and the others of its word hold as
//! many of its hash. Growth takes the hashes from where the slab has them, apart from the entries.

use crate::hashing::xxh3_64_with_seed;
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry as Found, OccupiedEntry, VacantEntry};

use crate::key::KeyRef;
use crate::slab::{Record, Slab, Slot};

#[derive(Debug)]
pub(crate) struct Index {
    /// Slots, in the bits of `mask`; above them the bits of their hashes.
    heads: HashTable<u32>,
    mask: u32,
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
    place: VacantEntry<'a, u32>,
    tag: u32,
}

impl Vacant<'_> {
    /// Gives it an entry of the hash that was asked for.
    #[inline]
    pub(crate) fn insert(self, slot: Slot) {
        self.place.insert(self.tag | slot);
    }
}

pub(crate) struct Occupied<'a> {
    place: OccupiedEntry<'a, u32>,
    mask: u32,
}

impl Occupied<'_> {
    /// The first of what stands under the key.
    pub(crate) fn head(&self) -> Slot {
        self.place.get() & self.mask
    }

    /// Makes another the first.
    pub(crate) fn replace(mut self, slot: Slot) {
        let word = self.place.get_mut();
        *word = *word & !self.mask | slot;
    }

    pub(crate) fn remove(self) {
        self.place.remove();
    }
}

impl Index {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            heads: HashTable::new(),
            mask: 0,
            seed,
        }
    }

    /// How many keys there are, in all containers.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The first of what stands under each key, in no order.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.heads.iter().map(|word| word & self.mask)
    }

    /// The first of what stands under a key, and its record.
    #[inline]
    pub(crate) fn find<'a>(
        &self,
        slab: &'a Slab,
        container: u32,
        key: KeyRef<'_>,
    ) -> Option<(Slot, &'a Record)> {
        let (hash, mask) = (self.hash(container, key), self.mask);
        let mut found = None;
        self.heads.find(spread(hash), |word| {
            if (word ^ hash) & !mask != 0 {
                return false;
            }
            let (head, record) = (word & mask, &slab[word & mask]);
            let same = record.is_at(container, key);
            if same {
                found = Some((head, record));
            }
            same
        });
        found
    }

    /// The first of the chain that an entry stands in.
    pub(crate) fn head_of(&self, slab: &Slab, slot: Slot) -> Option<Slot> {
        let record = &slab[slot];
        let (head, _) = self.find(slab, record.container, record.key.borrowed())?;
        Some(head)
    }

    /// The place of a key, by what [`hash`](Self::hash) gives for it.
    #[inline]
    pub(crate) fn place(
        &mut self,
        slab: &Slab,
        hash: u32,
        container: u32,
        key: KeyRef<'_>,
    ) -> Place<'_> {
        self.reserve(slab, 1);
        let (tag, mask) = (hash & !self.mask, self.mask);
        let same = |word: &u32| word & !mask == tag && slab[word & mask].is_at(container, key);
        let rehash = |word: &u32| spread(slab.hash(word & mask));
        match self.heads.entry(spread(hash), same, rehash) {
            Found::Vacant(place) => Place::Vacant(Vacant { place, tag }),
            Found::Occupied(place) => Place::Occupied(Occupied { place, mask }),
        }
    }

    /// The place of a key of which the first is known.
    pub(crate) fn place_of(&mut self, slab: &Slab, head: Slot) -> Option<Occupied<'_>> {
        self.reserve(slab, 0);
        let (hash, mask) = (slab.hash(head), self.mask);
        let word = hash & !mask | head;
        let place = self.heads.find_entry(spread(hash), |other| *other == word);
        let place = place.ok()?;
        Some(Occupied { place, mask })
    }

    /// Room for so many more keys.
    #[inline]
    pub(crate) fn reserve(&mut self, slab: &Slab, keys: usize) {
        let (needed, room) = (self.heads.len() + keys, self.heads.capacity());
        if needed > room {
            self.grow(slab, needed);
        } else if slab.limit() > self.mask {
            self.rebuild(slab, room);
        }
    }

    /// As the keys need it: what is full of places that were given up grows little by this.
    #[cold]
    fn grow(&mut self, slab: &Slab, needed: usize) {
        let keys = self.heads.len();
        let more = if keys < QUADRUPLED {
            2 * keys
        } else {
            keys / 2
        };
        self.rebuild(slab, needed.max(keys + more + 1));
    }

    #[cold]
    fn rebuild(&mut self, slab: &Slab, room: usize) {
        let before = core::mem::replace(&mut self.heads, HashTable::with_capacity(room));
        // More than the slots that there will be when it is full, where each key has one.
        let slots = slab.limit().saturating_add(self.heads.capacity() as u32);
        let after = u32::MAX >> slots.leading_zeros();
        let mask = core::mem::replace(&mut self.mask, after);
        for word in before {
            let (head, hash) = (word & mask, slab.hash(word & mask));
            let rehash = |word: &u32| spread(slab.hash(word & after));
            let word = hash & !after | head;
            self.heads.insert_unique(spread(hash), word, rehash);
        }
    }

    /// Gives memory back where few keys are left of many.
    pub(crate) fn shrink(&mut self, slab: &Slab) {
        if self.heads.len() < self.heads.capacity() / 8 {
            let (room, mask) = (self.heads.len() * 2, self.mask);
            let rehash = |word: &u32| spread(slab.hash(word & mask));
            self.heads.shrink_to(room, rehash);
        }
    }

    #[inline]
    pub(crate) fn hash(&self, container: u32, key: KeyRef<'_>) -> u32 {
        hash(self.seed, container, key)
    }

    /// What nobody outside knows.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}

/// The hash of a key in a container.
#[inline]
pub(crate) fn hash(seed: u64, container: u32, key: KeyRef<'_>) -> u32 {
    let seed = seed ^ u64::from(container).wrapping_mul(GOLDEN);
    let hash = match key {
        // Most keys are short: these alone are hashed in line.
        KeyRef::Str(text) if text.len() <= 16 => hash_short(text.as_bytes(), seed),
        KeyRef::Str(text) => hash_long(text.as_bytes(), seed),
        KeyRef::Int(i) => fold(i as u64, 1, seed),
        KeyRef::Bool(b) => fold(u64::from(b), 2, seed),
        KeyRef::Bytes(bytes) => hash_long(bytes, seed ^ 3),
        KeyRef::Element(id) => fold(id.replica.get(), id.seq, seed ^ 4),
    };
    hash as u32
}

impl Record {
    #[inline]
    fn is_at(&self, container: u32, key: KeyRef<'_>) -> bool {
        self.container == container && self.key.is(key)
    }
}

/// Tables of fewer keys grow fourfold, larger ones twofold: putting all keys into a table anew costs
/// more than the memory for eleven bytes a key at the most.
const QUADRUPLED: usize = 1 << 15;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The table takes the place from the low bits and a tag from the high ones.
#[inline]
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(GOLDEN)
}

/// Two words as one, each bit of which hangs on all of theirs: both halves of a product, whose
/// factors nobody knows who does not know the seed.
#[inline]
fn fold(a: u64, b: u64, seed: u64) -> u64 {
    // Digits of pi, so that a seed of zero does no harm.
    let a = a ^ seed ^ 0x243f_6a88_85a3_08d3;
    let b = b ^ seed.rotate_left(32) ^ 0x1319_8a2e_0370_7344;
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// As [`hash_long`] for up to sixteen bytes, in a third of the time.
#[inline]
fn hash_short(bytes: &[u8], seed: u64) -> u64 {
    // Length and words tell the bytes: the words overlap where they are more than those.
    let seed = seed.wrapping_add((bytes.len() as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|word| u64::from_le_bytes(*word));
        return fold(first, last, seed);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|word| u64::from(u32::from_le_bytes(*word)));
        return fold(first, last, seed);
    }
    let few = bytes
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    fold(few, 0, seed)
}

#[inline(never)]
fn hash_long(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::key::Key;
    use crate::slab::{Entry, NONE};
    use crate::value::Value;

    #[test]
    fn short_texts_that_are_alike_have_different_hashes() {
        let texts: BTreeSet<String> = (0..=16)
            .flat_map(|len| ["a", "b", "\0"].map(|letter| letter.repeat(len)))
            .chain((0..20_000).map(|i| format!("key-{i:06}")))
            .chain((0..1000).map(|i| i.to_string()))
            .collect();
        let hash = |text: &String| hash_short(text.as_bytes(), 7);
        let hashes: BTreeSet<u64> = texts.iter().map(hash).collect();
        assert_eq!(hashes.len(), texts.len());
    }

    fn entry(index: &Index, container: u32, key: &Key, next: Slot) -> Entry {
        Entry {
            container,
            next,
            key: key.clone(),
            value: Value::Null,
            hash: index.hash(container, key.borrowed()),
            replica: 0,
            timestamp: Timestamp::default(),
            seq: 1,
        }
    }

    proptest! {
        /// Keys that come, get more siblings than there are keys, and go.
        #[test]
        fn the_first_of_each_chain_is_found_whatever_slots_it_has(
            steps in prop::collection::vec((0..2u32, 0..40i64, 0..400u32), 1..60),
            seed: u64,
        ) {
            let (mut index, mut slab) = (Index::with_seed(seed), Slab::default());
            let mut model: BTreeMap<(u32, Key), Slot> = BTreeMap::new();
            for (container, key, siblings) in steps {
                let key = Key::from(key);
                let place = (container, key.clone());
                if siblings % 4 == 0 && let Some(head) = model.remove(&place) {
                    let found = index.place_of(&slab, head);
                    prop_assert!(found.is_some());
                    found.into_iter().for_each(Occupied::remove);
                    let mut next = head;
                    while next != NONE {
                        next = slab.remove(next).next;
                    }
                    index.shrink(&slab);
                    continue;
                }
                for _ in 0..siblings {
                    let head = model.get(&place).copied();
                    let fresh = entry(&index, container, &key, head.unwrap_or(NONE));
                    match index.place(&slab, fresh.hash, container, key.borrowed()) {
                        Place::Vacant(vacant) => {
                            prop_assert_eq!(head, None);
                            let slot = slab.insert(fresh);
                            vacant.insert(slot);
                            model.insert(place.clone(), slot);
                        }
                        Place::Occupied(occupied) => {
                            prop_assert_eq!(head, Some(occupied.head()));
                            let slot = slab.insert(fresh);
                            occupied.replace(slot);
                            model.insert(place.clone(), slot);
                        }
                    }
                }
            }
            prop_assert_eq!(index.len(), model.len());
            let heads: BTreeSet<Slot> = index.heads().collect();
            prop_assert_eq!(heads, model.values().copied().collect());
            for ((container, key), head) in &model {
                let found = index.find(&slab, *container, key.borrowed());
                prop_assert_eq!(found.map(|(slot, _)| slot), Some(*head));
                let last = std::iter::successors(Some(*head), |slot| {
                    Some(slab[*slot].next).filter(|next| *next != NONE)
                }).last();
                let first = last.and_then(|slot| index.head_of(&slab, slot));
                prop_assert_eq!(first, Some(*head));
            }
        }
    }

    #[test]
    fn every_container_and_kind_of_key_has_hashes_of_its_own() {
        let index = Index::with_seed(0);
        let keys = [
            KeyRef::Str(""),
            KeyRef::Str("\0"),
            KeyRef::Str("\0\0\0\0\0\0\0\0"),
            KeyRef::Int(0),
            KeyRef::Bool(false),
            KeyRef::Bytes(&[]),
        ];
        let all = (0..4).flat_map(|container| keys.map(|key| index.hash(container, key)));
        assert_eq!(all.collect::<BTreeSet<u32>>().len(), 4 * keys.len());
    }
}
