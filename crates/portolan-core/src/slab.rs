//! Live operations in memory: one entry each, at a slot that does not move.
//!
//! Entries stand in chunks, so that growth neither copies what is there nor takes memory for
//! what is not, and a chunk that has emptied gives its memory back.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::clock::Timestamp;
use crate::key::Key;
use crate::value::Value;

/// Where an entry stands.
pub(crate) type Slot = u32;

/// No slot: the end of a chain.
pub(crate) const NONE: Slot = u32::MAX;

/// Set in what a dot leads to where that is the spot of an element and not a slot.
pub(crate) const BIRTH: u32 = 1 << 31;

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// One live operation: a value under a key. 80 bytes, in the order that a lookup reads them, so
/// that it touches as few cache lines as it can.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Entry {
    /// The container that the key is in, as interned in the document.
    pub(crate) container: u32,
    /// The next sibling; in a vacant slot, the next vacant one of the chunk.
    pub(crate) next: Slot,
    pub(crate) key: Key,
    pub(crate) value: Value,
    /// The hash of container and key, kept so that the index grows without reading keys.
    pub(crate) hash: u32,
    /// The replica, as interned in the document.
    pub(crate) replica: u32,
    pub(crate) timestamp: Timestamp,
    pub(crate) seq: u64,
}

/// In place of the replica, where an entry stands for a container and not for an operation.
const CONTAINER: u32 = u32::MAX;

impl Entry {
    /// What stands for the container of that number among the siblings of its key.
    pub(crate) fn container(container: u32, key: Key, hash: u32, number: u32) -> Self {
        Self {
            key,
            value: Value::Null,
            timestamp: Timestamp::default(),
            seq: u64::from(number),
            replica: CONTAINER,
            container,
            hash,
            next: NONE,
        }
    }

    /// Whether it stands for a container.
    #[inline]
    pub(crate) fn is_container(&self) -> bool {
        self.replica == CONTAINER
    }

    /// The number of the container that it stands for.
    #[inline]
    pub(crate) fn inner(&self) -> Option<u32> {
        self.is_container().then_some(self.seq as u32)
    }

    fn vacant(next: Slot) -> Self {
        Self {
            key: Key::Bool(false),
            value: Value::Null,
            timestamp: Timestamp::default(),
            seq: 0,
            replica: 0,
            container: 0,
            hash: 0,
            next,
        }
    }
}

/// What a chunk has room for.
#[derive(Debug)]
struct Room {
    used: usize,
    /// Chain of vacant slots below the length of the chunk.
    vacant: Slot,
    /// Whether `Slab::open` has it.
    open: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Vec<Entry>>,
    /// Of each chunk; apart from it, so that reading passes by less.
    rooms: Vec<Room>,
    /// Chunks that have room.
    open: Vec<u32>,
}

impl Slab {
    pub(crate) fn insert(&mut self, entry: Entry) -> Slot {
        let number = self
            .open
            .last()
            .copied()
            .unwrap_or_else(|| self.add_chunk());
        let chunk = &mut self.chunks[number as usize];
        let room = &mut self.rooms[number as usize];
        room.used += 1;
        if room.used == CHUNK {
            room.open = false;
            self.open.pop();
        }
        if room.vacant == NONE {
            // A small document grows its first chunk by and by; later ones will fill.
            if chunk.capacity() == 0 && number > 0 {
                chunk.reserve_exact(CHUNK);
            }
            chunk.push(entry);
            (number << CHUNK_BITS) | (chunk.len() - 1) as u32
        } else {
            let slot = room.vacant;
            let place = &mut chunk[slot as usize % CHUNK];
            room.vacant = place.next;
            *place = entry;
            slot
        }
    }

    fn add_chunk(&mut self) -> u32 {
        let number = self.chunks.len() as u32;
        assert!(
            number < BIRTH >> CHUNK_BITS,
            "a document holds at most 2^31 values in maps, sets and counters"
        );
        self.chunks.push(Vec::new());
        self.rooms.push(Room {
            used: 0,
            vacant: NONE,
            open: true,
        });
        self.open.push(number);
        number
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        let number = slot >> CHUNK_BITS;
        let chunk = &mut self.chunks[number as usize];
        let room = &mut self.rooms[number as usize];
        let vacant = Entry::vacant(room.vacant);
        let entry = core::mem::replace(&mut chunk[slot as usize % CHUNK], vacant);
        room.vacant = slot;
        room.used -= 1;
        if room.used == 0 {
            *chunk = Vec::new();
            room.vacant = NONE;
        }
        if !room.open {
            room.open = true;
            self.open.push(number);
        }
        entry
    }
}

impl Index<Slot> for Slab {
    type Output = Entry;

    #[inline]
    fn index(&self, slot: Slot) -> &Entry {
        &self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
    }
}

impl IndexMut<Slot> for Slab {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_eighty_bytes() {
        assert_eq!(size_of::<Entry>(), 80);
    }

    #[test]
    fn slots_are_reused_and_chunks_freed() {
        let mut slab = Slab::default();
        let mut slots: Vec<Slot> = (0..1000)
            .map(|_| slab.insert(Entry::vacant(NONE)))
            .collect();
        let high = slots.iter().max().copied();
        for slot in slots.drain(..) {
            slab.remove(slot);
        }
        assert!(slab.chunks.iter().all(|chunk| chunk.capacity() == 0));
        let again: std::collections::BTreeSet<Slot> = (0..1000)
            .map(|_| slab.insert(Entry::vacant(NONE)))
            .collect();
        assert_eq!(again.len(), 1000);
        assert!(again.last().copied() <= high.map(|slot| slot | (CHUNK as u32 - 1)));
    }
}
