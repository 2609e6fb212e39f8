//! Live operations in memory: one entry each, at a slot that does not move.
//!
//! An entry is split: what a look-up reads stands apart from what it does not. Entries stand in
//! chunks, so that growth neither copies what is there nor takes memory for
//! what is not, and a chunk that has emptied gives its memory back.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::key::Key;
pub(crate) use crate::record::{BIRTH, Entry, NONE, Operation, Record, Slot, Stamp};

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// What belongs to a chunk; apart from it, so that reading passes by less.
#[derive(Debug)]
struct Side {
    stamps: Vec<Stamp>,
    /// As in the entries: little memory for the index to go through.
    hashes: Vec<u32>,
    used: usize,
    /// Chain of vacant slots below the length of the chunk.
    vacant: Slot,
    /// Whether `Slab::open` has it.
    open: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Vec<Record>>,
    sides: Vec<Side>,
    /// Chunks that have room.
    open: Vec<u32>,
    /// How many chunks are not empty.
    filled: usize,
}

impl Slab {
    #[inline]
    pub(crate) fn insert(&mut self, entry: Entry) -> Slot {
        let (record, stamp, hash) = entry.split();
        self.place(record, stamp, hash)
    }

    /// Lets a container of that number stand among the siblings of its key.
    pub(crate) fn insert_container(
        &mut self,
        container: u32,
        key: Key,
        hash: u32,
        number: u32,
    ) -> Slot {
        let record = Record::container(container, key, number);
        self.place(record, Stamp::default(), hash)
    }

    #[expect(clippy::inline_always, reason = "else each record is built twice")]
    #[inline(always)]
    fn place(&mut self, record: Record, stamp: Stamp, hash: u32) -> Slot {
        let number = match self.open.last() {
            Some(number) => *number,
            None => self.add_chunk(),
        };
        let chunk = &mut self.chunks[number as usize];
        let side = &mut self.sides[number as usize];
        if side.used == 0 {
            self.filled += 1;
            // A small document grows its first chunk by and by; later ones will fill.
            if number > 0 {
                chunk.reserve_exact(CHUNK);
                side.stamps.reserve_exact(CHUNK);
                side.hashes.reserve_exact(CHUNK);
            }
        }
        side.used += 1;
        if side.used == CHUNK {
            side.open = false;
            self.open.pop();
        }
        if side.vacant == NONE {
            let at = chunk.len() as u32;
            chunk.push(record);
            side.stamps.push(stamp);
            side.hashes.push(hash);
            (number << CHUNK_BITS) | at
        } else {
            let slot = side.vacant;
            let place = &mut chunk[slot as usize % CHUNK];
            side.vacant = place.next;
            *place = record;
            side.stamps[slot as usize % CHUNK] = stamp;
            side.hashes[slot as usize % CHUNK] = hash;
            slot
        }
    }

    /// More than any slot, that of the next entry included.
    #[inline]
    pub(crate) fn limit(&self) -> u32 {
        (self.chunks.len() as u32 + 1) << CHUNK_BITS
    }

    fn add_chunk(&mut self) -> u32 {
        let number = self.chunks.len() as u32;
        assert!(
            number < BIRTH >> CHUNK_BITS,
            "a document holds at most 2^31 values in maps, sets and counters"
        );
        self.chunks.push(Vec::new());
        self.sides.push(Side {
            stamps: Vec::new(),
            hashes: Vec::new(),
            used: 0,
            vacant: NONE,
            open: true,
        });
        self.open.push(number);
        number
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        let number = slot >> CHUNK_BITS;
        let (stamp, hash) = (self.stamp(slot), self.hash(slot));
        let chunk = &mut self.chunks[number as usize];
        let side = &mut self.sides[number as usize];
        let vacant = Record::vacant(side.vacant);
        let record = core::mem::replace(&mut chunk[slot as usize % CHUNK], vacant);
        side.vacant = slot;
        side.used -= 1;
        if side.used == 0 {
            *chunk = Vec::new();
            side.stamps = Vec::new();
            side.hashes = Vec::new();
            side.vacant = NONE;
            self.filled -= 1;
        }
        if !side.open {
            side.open = true;
            self.open.push(number);
        }
        // Of many chunks even what is known of them is worth giving back.
        if self.filled == 0 && self.chunks.len() > 1 {
            *self = Self::default();
        }
        Entry::of(record, stamp, hash)
    }

    /// Puts an entry in the place of another, and gives that.
    pub(crate) fn replace(&mut self, slot: Slot, entry: Entry) -> Entry {
        let (record, stamp, hash) = entry.split();
        let (chunk, at) = ((slot >> CHUNK_BITS) as usize, slot as usize % CHUNK);
        let record = core::mem::replace(&mut self.chunks[chunk][at], record);
        let side = &mut self.sides[chunk];
        let stamp = core::mem::replace(&mut side.stamps[at], stamp);
        let hash = core::mem::replace(&mut side.hashes[at], hash);
        Entry::of(record, stamp, hash)
    }

    /// The hash of the container and the key of an entry.
    #[inline]
    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        self.sides[(slot >> CHUNK_BITS) as usize].hashes[slot as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn stamp(&self, slot: Slot) -> Stamp {
        self.sides[(slot >> CHUNK_BITS) as usize].stamps[slot as usize % CHUNK]
    }

    /// The live operation at a slot.
    #[inline]
    pub(crate) fn operation(&self, slot: Slot) -> Operation<'_> {
        let (record, stamp) = (&self[slot], self.stamp(slot));
        Operation {
            container: record.container,
            key: &record.key,
            value: &record.value,
            replica: record.replica,
            timestamp: stamp.timestamp,
            seq: stamp.seq,
        }
    }
}

impl Index<Slot> for Slab {
    type Output = Record;

    #[inline]
    fn index(&self, slot: Slot) -> &Record {
        &self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
    }
}

impl IndexMut<Slot> for Slab {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::of(Record::vacant(NONE), Stamp::default(), 0)
    }

    #[test]
    fn slots_are_reused_and_chunks_freed() {
        let mut slab = Slab::default();
        let mut slots: Vec<Slot> = (0..1000).map(|_| slab.insert(entry())).collect();
        let high = slots.iter().max().copied();
        for slot in slots.drain(..) {
            slab.remove(slot);
        }
        assert_eq!((slab.chunks.capacity(), slab.sides.capacity()), (0, 0));
        assert_eq!(slab.open.capacity(), 0);
        let again: std::collections::BTreeSet<Slot> =
            (0..1000).map(|_| slab.insert(entry())).collect();
        assert_eq!(again.len(), 1000);
        assert!(again.last().copied() <= high.map(|slot| slot | (CHUNK as u32 - 1)));
    }
}
