//! From container and key to the first of what stands there.
//!
//! A hash table of slots and nothing else: what a look-up waits for is memory, so a table of half
//! the size, of which more stays in the caches, is worth the entries that are read in vain (one
//! look-up in twenty: those that share their seven bits in the table). Growth goes through the
//! entries, which keep their hashes, as they lie in memory.

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry as Place, OccupiedEntry};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::KeyRef;
use crate::order::as_they_stand;
use crate::slab::{Record, Slab, Slot};

#[derive(Debug)]
pub(crate) struct Index {
    heads: HashTable<Slot>,
    seed: u64,
}

impl Index {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            heads: HashTable::new(),
            seed,
        }
    }

    /// How many keys there are, in all containers.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The first of what stands under each key, in no order.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.heads.iter().copied()
    }

    /// The first of what stands under a key, and its record.
    #[inline]
    pub(crate) fn find<'a>(
        &self,
        slab: &'a Slab,
        container: u32,
        key: KeyRef<'_>,
    ) -> Option<(Slot, &'a Record)> {
        let hash = spread(self.hash(container, key));
        let mut found = None;
        self.heads.find(hash, |head| {
            let entry = &slab[*head];
            let same = entry.is_at(container, key);
            if same {
                found = Some((*head, entry));
            }
            same
        });
        found
    }

    /// The first of the chain that an entry stands in.
    pub(crate) fn head_of(&self, slab: &Slab, slot: Slot) -> Option<Slot> {
        let entry = &slab[slot];
        let key = entry.key.borrowed();
        let same = |head: &Slot| *head == slot || slab[*head].is_at(entry.container, key);
        self.heads.find(spread(entry.hash), same).copied()
    }

    /// The place of a key, by what [`hash`](Self::hash) gives for it; where the key is new it has
    /// to be given an entry of that hash before the next call.
    #[inline]
    pub(crate) fn place(
        &mut self,
        slab: &Slab,
        hash: u32,
        container: u32,
        key: KeyRef<'_>,
    ) -> Place<'_, Slot> {
        if self.heads.len() == self.heads.capacity() {
            // What is full of places that were given up does not grow by this.
            self.rebuild(slab, self.heads.len() + self.heads.len() / 2 + 1);
        }
        self.heads.entry(
            spread(hash),
            |head| slab[*head].is_at(container, key),
            |head| rehash(slab, *head),
        )
    }

    #[cold]
    fn rebuild(&mut self, slab: &Slab, room: usize) {
        let mut heads: Vec<Slot> = self.heads.iter().copied().collect();
        as_they_stand(&mut heads);
        self.heads = HashTable::with_capacity(room);
        for head in heads {
            self.heads
                .insert_unique(rehash(slab, head), head, |head| rehash(slab, *head));
        }
    }

    /// The place of a key of which the first is known.
    pub(crate) fn place_of(&mut self, slab: &Slab, head: Slot) -> Option<OccupiedEntry<'_, Slot>> {
        let place = self
            .heads
            .find_entry(rehash(slab, head), |other| *other == head);
        place.ok()
    }

    /// Room for so many more keys.
    pub(crate) fn reserve(&mut self, slab: &Slab, keys: usize) {
        self.heads.reserve(keys, |head| rehash(slab, *head));
    }

    /// Gives memory back where few keys are left of many.
    pub(crate) fn shrink(&mut self, slab: &Slab) {
        if self.heads.len() < self.heads.capacity() / 8 {
            let room = self.heads.len() * 2;
            self.heads.shrink_to(room, |head| rehash(slab, *head));
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
    (hash ^ (hash >> 32)) as u32
}

impl Record {
    #[inline]
    fn is_at(&self, container: u32, key: KeyRef<'_>) -> bool {
        self.container == container && self.key.is(key)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The table takes the place from the low bits and a tag from the high ones.
#[inline]
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(GOLDEN)
}

#[inline]
fn rehash(slab: &Slab, head: Slot) -> u64 {
    spread(slab[head].hash)
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
    use std::collections::BTreeSet;

    use super::*;

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
