//! A piece of state with a piece of context, and its bytes.
//!
//! Format version 1 holds values of the root alone, version 2 containers too, version 3 either,
//! [packed](crate::packed); `docs/format.md` gives the bytes: the dots, then the live values in
//! columns, sorted by key, so that neighbours are alike and what they share is not written again.

mod columns;
mod entries;
mod keys;

use alloc::boxed::Box;
use alloc::vec::Vec;

use self::columns::encode_single;
pub(crate) use self::columns::{
    Columns, EntryRef, encode, encode_flat, encode_packed, encode_packed_flat, replicas_of,
};
pub(crate) use self::entries::{check_entries, read_bounded_value, read_runs};
use self::entries::{read_entries, read_write};
pub(crate) use self::keys::{
    Keys, LONG, MAX_SHARED_BYTES, Room, Start, put_front_coded, put_text_end, read_front_coded,
};
use crate::clock::Timestamp;
use crate::codec::{Reader, check_checksum, read_dots};
use crate::dots::DotSet;
use crate::error::{DecodeError, Fault};
use crate::few::SmallVec;
use crate::key::Key;
use crate::nested::{DeltaContainer, Nested};
use crate::packed::{self, Coding, Expansion};
use crate::renaming::Renaming;
use crate::replica::Dot;
use crate::sorting::sort_by;
use crate::value::Value;

/// Values of the root alone.
const FLAT: u8 = 1;
/// With containers.
const NESTED: u8 = 2;
/// In columns that are packed.
const PACKED: u8 = 3;

/// A delta with so many positions of arrays is packed: there is text to be saved on, and the time
/// is little beside that for making the positions.
const PACKED_POSITIONS: usize = 1024;

/// What a replica needs to catch up: a piece of state with a piece of causal context.
///
/// It names every operation it stands for, gives the values of those that are live, and names
/// the dots that they removed. Applying it twice, late or out of order does no harm.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Delta {
    pub(crate) applied: DotSet,
    /// Removed by `applied`, or more, and not itself in `applied`.
    pub(crate) dead: DotSet,
    /// Sorted by container and key, siblings in their order.
    pub(crate) entries: Entries,
    /// Where there is more than the root.
    pub(crate) nested: Option<Box<Nested>>,
}

/// One is held in place: most deltas are a write of one key.
pub(crate) type Entries = SmallVec<[DeltaEntry; 1]>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeltaEntry {
    /// 0 for the root, else one more than the place among the delta's containers.
    pub(crate) container: u32,
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) dot: Dot,
    pub(crate) timestamp: Timestamp,
}

impl Delta {
    /// The operations that it stands for; once applied, a replica's version covers them.
    pub fn applied(&self) -> &DotSet {
        &self.applied
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.dead.is_empty()
    }

    /// How many live values it carries.
    pub fn len(&self) -> usize {
        let born = self.nested.as_ref().map_or(0, |nested| nested.live());
        self.entries.len() + born
    }

    /// The latest timestamp in it.
    pub fn latest(&self) -> Timestamp {
        let values = self.entries.iter().map(|entry| entry.timestamp);
        let latest = values.max().unwrap_or_default();
        match &self.nested {
            Some(nested) => latest.max(nested.latest()),
            None => latest,
        }
    }

    /// Sorts the values by container and key, siblings in their order.
    pub(crate) fn sort(&mut self) {
        sort_by(&mut self.entries, |a, b| {
            let newest_first = || {
                (b.timestamp, b.dot.replica, b.dot.seq).cmp(&(
                    a.timestamp,
                    a.dot.replica,
                    a.dot.seq,
                ))
            };
            (a.container, &a.key)
                .cmp(&(b.container, &b.key))
                .then_with(newest_first)
        });
    }

    /// Calls its operations otherwise.
    pub(crate) fn rename(&mut self, renaming: &Renaming) {
        self.applied = renaming.dots(&self.applied);
        for entry in &mut self.entries {
            entry.dot = renaming.dot(entry.dot);
            renaming.key(&mut entry.key);
        }
        if let Some(nested) = &mut self.nested {
            for container in &mut nested.containers {
                renaming.key(&mut container.key);
            }
            for run in &mut nested.runs {
                let first = renaming.dot(run.dot(0));
                (run.replica, run.first) = (first.replica, first.seq);
                run.parent = run.parent.map(|dot| renaming.dot(dot));
                run.of = run.of.map(|dot| renaming.dot(dot));
            }
        }
        self.sort();
    }

    /// The containers in it beside the root.
    pub(crate) fn containers(&self) -> &[DeltaContainer] {
        self.nested
            .as_ref()
            .map_or(&[], |nested| &nested.containers)
    }

    /// Its bytes, with a format version and a checksum; equal deltas have equal bytes.
    ///
    /// Linear in the number of values and of dot ranges. What holds a thousand or more elements of
    /// arrays is [packed](Self::encode_packed): that takes next to no time beside making it.
    pub fn encode(&self) -> Vec<u8> {
        #[cfg(feature = "packing")]
        if self
            .nested
            .as_ref()
            .is_some_and(|nested| nested.births.len() >= PACKED_POSITIONS)
        {
            return self.encode_packed();
        }
        if !crate::SMALL
            && let ([entry], None) = (self.entries.as_slice(), &self.nested)
        {
            return encode_single(&self.applied, &self.dead, entry);
        }
        let nested = self.nested.as_deref();
        encode(&self.applied, &self.dead, nested, self.entry_refs())
    }

    /// As [`encode`](Self::encode), in fewer bytes: for what is kept or sent far. Takes a few
    /// nanoseconds more for each value and each byte of text.
    #[cfg(feature = "packing")]
    pub fn encode_packed(&self) -> Vec<u8> {
        let nested = self.nested.as_deref();
        encode_packed(&self.applied, &self.dead, nested, self.entry_refs())
    }

    fn entry_refs(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> + Clone {
        self.entries.iter().map(|entry| {
            let (key, value) = (&entry.key, &entry.value);
            EntryRef::new(entry.container, key, value, entry.dot, entry.timestamp)
        })
    }

    /// Reads what [`encode`](Self::encode) wrote. Whatever the bytes claim, it takes no more than
    /// some hundred bytes of memory for each of them (maps of one key each, as values: two
    /// hundred).
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::read(Reader::new(check_checksum(bytes)?))?)
    }

    /// Reads to the end what [`encode`](Self::encode) wrote, but for the checksum.
    pub(crate) fn read(reader: Reader<'_>) -> Result<Self, Fault> {
        if !crate::SMALL
            && let Some(delta) = read_write(reader.clone())
        {
            return Ok(delta);
        }
        Self::read_any(reader)
    }

    /// As [`read`](Self::read), of any delta.
    fn read_any(mut reader: Reader<'_>) -> Result<Self, Fault> {
        let total = reader.remaining();
        let version = reader.byte()?;
        let (coding, mut expansion) = match version {
            FLAT | NESTED => (Coding::Plain, Expansion::new()),
            PACKED => (Coding::Packed, Expansion::of_bytes(total)),
            _ => return Err(DecodeError::UnknownVersion(version).into()),
        };
        let applied = read_dots(&mut reader)?;
        let dead = read_dots(&mut reader)?;
        if applied.intersects(&dead) {
            return Err(reader.malformed("a dot both applied and removed from outside"));
        }
        let count = Nested::read_count(&mut reader)?;
        if version != PACKED && (version == NESTED) != (count > 0) {
            return Err(reader.malformed("a version for deltas with containers, or without"));
        }
        let mut nested = match count {
            0 => None,
            count => Some(Box::new(Nested::read_containers(&mut reader, count)?)),
        };
        let containers = nested.as_ref().map_or(&[][..], |nested| &nested.containers);
        let entries = match coding {
            Coding::Plain => read_entries(&mut reader, &applied, containers)?,
            Coding::Packed => {
                packed::read_entries(&mut reader, &applied, containers, &mut expansion)?
            }
        };
        if let Some(nested) = &mut nested {
            nested.read_positions(&mut reader, &applied, coding, &mut expansion)?;
            nested.check(&reader, &entries)?;
        }
        if coding == Coding::Packed {
            expansion.read_ballast(&mut reader, total)?;
        }
        reader.finish()?;
        Ok(Self {
            applied,
            dead,
            entries,
            nested,
        })
    }
}
