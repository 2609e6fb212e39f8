//! A live operation in memory: an entry, and the parts in which it is kept.

use crate::clock::Timestamp;
use crate::key::Key;
use crate::value::Value;

/// Where an entry stands.
pub(crate) type Slot = u32;

/// No slot: the end of a chain.
pub(crate) const NONE: Slot = u32::MAX;

/// Set in what a dot leads to where that is the spot of an element and not a slot.
pub(crate) const BIRTH: u32 = 1 << 31;

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
    pub(crate) fn container(container: u32, key: Key, number: u32) -> Self {
        Self {
            container,
            next: NONE,
            key,
            value: Value::Int(number.into()),
            replica: CONTAINER,
        }
    }

    pub(crate) fn vacant(next: Slot) -> Self {
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
    pub(crate) fn split(self) -> (Record, Stamp, u32) {
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

    pub(crate) fn of(record: Record, stamp: Stamp, hash: u32) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_a_cache_line_and_a_stamp_a_quarter() {
        assert_eq!((size_of::<Record>(), align_of::<Record>()), (64, 64));
        assert_eq!(size_of::<Stamp>(), 16);
    }
}
