//! Live operations in memory: one entry each, at a slot that does not move.
//!
//! An entry is split: what a look-up reads stands apart from what it does not. Entries stand in
//! chunks, so that growth neither copies what is there nor takes memory for
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

/// One live operation: a value under a key.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The container that the key is in, as interned in the document.
    pub(crate) container: u32,
    /// The next sibling.
    pub(crate) next: Slot,
    pub(crate) key: Key,
    pub(crate) value: Value,
    /// The hash of container and key, kept so that the index grows without reading entries.
    pub(crate) hash: u32,
    /// The replica, as interned in the document.
    pub(crate) replica: u32,
    pub(crate) timestamp: Timestamp,
    pub(crate) seq: u64,
}

/// As an [`Entry`], wherever its parts stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) container: u32,
    pub(crate) key: &'a Key,
    pub(crate) value: &'a Value,
    pub(crate) replica: u32,
    pub(crate) timestamp: Timestamp,
    pub(crate) seq: u64,
}

impl Entry {
    #[inline]
    pub(crate) fn operation(&self) -> Operation<'_> {
        Operation {
            container: self.container,
            key: &self.key,
            value: &self.value,
            replica: self.replica,
            timestamp: self.timestamp,
            seq: self.seq,
        }
    }
}

/// In place of the replica, where a record stands for a container and not for an operation.
const CONTAINER: u32 = u32::MAX;

/// What a look-up reads of an entry. A cache line: for a key that nobody asked for lately, that is
/// what a look-up waits for, and with lines that hold half of two entries it waits for two.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Record {
    /// As in the entry.
    pub(crate) container: u32,
    /// As in the entry; in a vacant slot, the next vacant one of the chunk.
    pub(crate) next: Slot,
    /// As in the entry.
    pub(crate) key: Key,
    /// As in the entry; where the record stands for a container, its number.
    pub(crate) value: Value,
    /// As in the entry.
    pub(crate) replica: u32,
}

impl Record {
    /// What stands for the container of that number among the siblings of its key.
    fn container(container: u32, key: Key, number: u32) -> Self {
        Self {
            container,
            next: NONE,
            key,
            value: Value::Int(number.into()),
            replica: CONTAINER,
        }
    }

    fn vacant(next: Slot) -> Self {
        Self {
            container: 0,
            next,
            key: Key::Bool(false),
            value: Value::Null,
            replica: 0,
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
        match self.value {
            Value::Int(number) if self.is_container() => Some(number as u32),
            _ => None,
        }
    }
}

/// What a look-up does not read of an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) timestamp: Timestamp,
    pub(crate) seq: u64,
}

impl Entry {
    #[inline]
    fn split(self) -> (Record, Stamp, u32) {
        let record = Record {
            container: self.container,
            next: self.next,
            key: self.key,
            value: self.value,
            replica: self.replica,
        };
        let (timestamp, seq) = (self.timestamp, self.seq);
        (record, Stamp { timestamp, seq }, self.hash)
    }

    fn of(record: Record, stamp: Stamp, hash: u32) -> Self {
        Self {
            container: record.container,
            next: record.next,
            key: record.key,
            value: record.value,
            hash,
            replica: record.replica,
            timestamp: stamp.timestamp,
            seq: stamp.seq,
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
    chunks: Vec<Vec<Record>>,
    /// Those of each chunk.
    stamps: Vec<Vec<Stamp>>,
    /// As in the entries, of each chunk: little memory for the index to go through.
    hashes: Vec<Vec<u32>>,
    /// Of each chunk; apart from it, so that reading passes by less.
    rooms: Vec<Room>,
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

    #[inline]
    fn place(&mut self, record: Record, stamp: Stamp, hash: u32) -> Slot {
        let number = match self.open.last() {
            Some(number) => *number,
            None => self.add_chunk(),
        };
        let room = &mut self.rooms[number as usize];
        self.filled += usize::from(room.used == 0);
        room.used += 1;
        if room.used == CHUNK {
            room.open = false;
            self.open.pop();
        }
        let chunk = &mut self.chunks[number as usize];
        let stamps = &mut self.stamps[number as usize];
        let hashes = &mut self.hashes[number as usize];
        if room.vacant == NONE {
            // A small document grows its first chunk by and by; later ones will fill.
            if chunk.capacity() == 0 && number > 0 {
                chunk.reserve_exact(CHUNK);
                stamps.reserve_exact(CHUNK);
                hashes.reserve_exact(CHUNK);
            }
            chunk.push(record);
            stamps.push(stamp);
            hashes.push(hash);
            (number << CHUNK_BITS) | (chunk.len() - 1) as u32
        } else {
            let slot = room.vacant;
            let place = &mut chunk[slot as usize % CHUNK];
            room.vacant = place.next;
            *place = record;
            stamps[slot as usize % CHUNK] = stamp;
            hashes[slot as usize % CHUNK] = hash;
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
        self.stamps.push(Vec::new());
        self.hashes.push(Vec::new());
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
        let (stamp, hash) = (self.stamp(slot), self.hash(slot));
        let chunk = &mut self.chunks[number as usize];
        let room = &mut self.rooms[number as usize];
        let vacant = Record::vacant(room.vacant);
        let record = core::mem::replace(&mut chunk[slot as usize % CHUNK], vacant);
        room.vacant = slot;
        room.used -= 1;
        if room.used == 0 {
            *chunk = Vec::new();
            self.stamps[number as usize] = Vec::new();
            self.hashes[number as usize] = Vec::new();
            room.vacant = NONE;
            self.filled -= 1;
        }
        if !room.open {
            room.open = true;
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
        let stamp = core::mem::replace(&mut self.stamps[chunk][at], stamp);
        let hash = core::mem::replace(&mut self.hashes[chunk][at], hash);
        Entry::of(record, stamp, hash)
    }

    /// The hash of the container and the key of an entry.
    #[inline]
    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        self.hashes[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn stamp(&self, slot: Slot) -> Stamp {
        self.stamps[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK]
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

    #[test]
    fn a_record_takes_a_cache_line_and_a_stamp_a_quarter() {
        assert_eq!((size_of::<Record>(), align_of::<Record>()), (64, 64));
        assert_eq!(size_of::<Stamp>(), 16);
    }

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
        assert_eq!((slab.chunks.capacity(), slab.stamps.capacity()), (0, 0));
        assert_eq!(slab.hashes.capacity(), 0);
        assert_eq!((slab.rooms.capacity(), slab.open.capacity()), (0, 0));
        let again: std::collections::BTreeSet<Slot> =
            (0..1000).map(|_| slab.insert(entry())).collect();
        assert_eq!(again.len(), 1000);
        assert!(again.last().copied() <= high.map(|slot| slot | (CHUNK as u32 - 1)));
    }
}
