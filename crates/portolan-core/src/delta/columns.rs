//! How a delta is written: its entries in columns.

use alloc::vec::Vec;

use super::keys::put_front_coded;
use super::{DeltaEntry, FLAT, NESTED, PACKED};
use crate::clock::Timestamp;
use crate::codec::{put_checksum, put_dots, put_value_body, put_varint, put_zigzag, value_tag};
use crate::dots::DotSet;
use crate::few::SmallVec;
use crate::key::Key;
use crate::nested::{Nested, put_containers, put_positions};
use crate::packed::{self, Coding, EntryColumns, Expansion};
use crate::replica::{Dot, ReplicaId};
use crate::value::Value;

/// A live value on its way into bytes.
pub(crate) struct EntryRef<'a> {
    pub(crate) container: u32,
    pub(crate) key: &'a Key,
    pub(crate) value: &'a Value,
    /// The tag of the value, so that making this has touched all that it refers to.
    tag: u8,
    pub(crate) dot: Dot,
    pub(crate) timestamp: Timestamp,
}

impl<'a> EntryRef<'a> {
    #[inline]
    pub(crate) fn new(
        container: u32,
        key: &'a Key,
        value: &'a Value,
        dot: Dot,
        timestamp: Timestamp,
    ) -> Self {
        Self {
            container,
            key,
            value,
            tag: value_tag(value),
            dot,
            timestamp,
        }
    }
}

/// Runs of equal items: each item once, behind the length of its run.
pub(crate) struct Runs<T> {
    bytes: Vec<u8>,
    last: Option<T>,
    length: u64,
    put: fn(&mut Vec<u8>, T),
}

impl<T: Copy + PartialEq> Runs<T> {
    pub(crate) fn new(put: fn(&mut Vec<u8>, T)) -> Self {
        Self {
            bytes: Vec::new(),
            last: None,
            length: 0,
            put,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        if self.last == Some(item) {
            self.length += 1;
            return;
        }
        self.close();
        self.last = Some(item);
        self.length = 1;
    }

    fn close(&mut self) {
        if let Some(item) = self.last.take() {
            put_varint(&mut self.bytes, self.length);
            (self.put)(&mut self.bytes, item);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.close();
        self.bytes
    }
}

/// Entries that are read from memory together.
const BLOCK: usize = 32;

/// The bytes of a delta whose entries come sorted.
pub(crate) fn encode<'a>(
    applied: &DotSet,
    dead: &DotSet,
    nested: Option<&Nested>,
    entries: impl ExactSizeIterator<Item = EntryRef<'a>> + Clone,
) -> Vec<u8> {
    let count = entries.len();
    let mut out = Vec::with_capacity(64 + count * 10);
    out.push(if nested.is_some() { NESTED } else { FLAT });
    put_dots(&mut out, applied);
    put_dots(&mut out, dead);
    put_containers(&mut out, nested.map_or(&[], |nested| &nested.containers));
    put_varint(&mut out, count as u64);
    if nested.is_some() {
        let mut containers = Runs::new(|out, number: u32| put_varint(out, number.into()));
        entries
            .clone()
            .for_each(|entry| containers.push(entry.container));
        out.append(&mut containers.finish());
    }

    let mut columns = Columns::new(applied, count);
    let (mut container, mut key_before): (u32, Option<&Key>) = (0, None);
    // Entries lie scattered in memory: a loop that does nothing but refer to some waits for all of
    // them at once.
    let mut block = SmallVec::<[EntryRef<'_>; BLOCK]>::new();
    let mut entries = entries.fuse();
    loop {
        block.clear();
        block.extend(entries.by_ref().take(BLOCK));
        if block.is_empty() {
            break;
        }
        for entry in &block {
            if entry.container != container {
                (container, key_before) = (entry.container, None);
            }
            put_front_coded(&mut out, key_before, entry.key);
            key_before = Some(entry.key);
            put_value_body(&mut columns.values, entry.value);
            columns.push(entry.tag, entry.dot, entry.timestamp);
        }
    }
    let replicas = columns.finish(&mut out);
    if let Some(nested) = nested {
        put_positions(
            &mut out,
            nested,
            &replicas,
            Coding::Plain,
            &mut Expansion::new(),
        );
    }
    put_checksum(&mut out);
    out
}

/// As [`encode`], packed.
pub(crate) fn encode_packed<'a>(
    applied: &DotSet,
    dead: &DotSet,
    nested: Option<&Nested>,
    entries: impl ExactSizeIterator<Item = EntryRef<'a>>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 6);
    let mut expansion = Expansion::new();
    let replicas = replicas_of(applied);
    out.push(PACKED);
    put_dots(&mut out, applied);
    put_dots(&mut out, dead);
    put_containers(&mut out, nested.map_or(&[], |nested| &nested.containers));
    put_varint(&mut out, entries.len() as u64);
    packed::put_entries(
        &mut out,
        entries,
        &replicas,
        nested.is_some(),
        &mut expansion,
    );
    if let Some(nested) = nested {
        put_positions(&mut out, nested, &replicas, Coding::Packed, &mut expansion);
    }
    expansion.put_ballast(&mut out);
    put_checksum(&mut out);
    out
}

/// As [`encode_packed`], of the root alone: `put` tells the columns all.
pub(crate) fn encode_packed_flat(
    applied: &DotSet,
    dead: &DotSet,
    count: usize,
    put: impl FnOnce(&mut EntryColumns<'_>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + count * 6);
    let mut expansion = Expansion::new();
    let replicas = replicas_of(applied);
    out.push(PACKED);
    put_dots(&mut out, applied);
    put_dots(&mut out, dead);
    put_containers(&mut out, &[]);
    put_varint(&mut out, count as u64);
    let mut columns = EntryColumns::new(&replicas, count, &mut expansion);
    put(&mut columns);
    columns.put(&mut out);
    expansion.put_ballast(&mut out);
    put_checksum(&mut out);
    out
}

/// As [`encode`] where there is one value and nothing but the root: each column has one item.
pub(super) fn encode_single(applied: &DotSet, dead: &DotSet, entry: &DeltaEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(FLAT);
    put_dots(&mut out, applied);
    put_dots(&mut out, dead);
    out.extend_from_slice(&[0, 1]);
    put_front_coded(&mut out, None, &entry.key);
    out.extend_from_slice(&[1, value_tag(&entry.value)]);
    put_value_body(&mut out, &entry.value);
    let mut writers = applied.ranges().chunk_by(|a, b| a.replica == b.replica);
    let mut number = 0;
    let writer = writers.find(|group| {
        let found = group[0].replica == entry.dot.replica;
        number += u64::from(!found);
        found
    });
    // proof: the dot of an entry is always among the applied ones.
    let first = writer.map_or(0, |group| group[0].first);
    out.push(1);
    put_varint(&mut out, number);
    put_zigzag(&mut out, entry.dot.seq.wrapping_sub(first) as i64);
    out.extend_from_slice(&[IN_RUNS, 1]);
    put_zigzag(&mut out, entry.timestamp.bits() as i64);
    put_checksum(&mut out);
    out
}

/// What stands of values behind the containers and the keys, column by column.
pub(crate) struct Columns {
    replicas: SmallVec<[(ReplicaId, u64); 2]>,
    tags: Runs<u8>,
    /// The contents of the values.
    pub(crate) values: Vec<u8>,
    writers: Runs<u64>,
    seqs: Vec<u8>,
    times: Vec<u64>,
    /// The last one, and its place among the replicas.
    writer: Option<(ReplicaId, usize)>,
    seq_before: u64,
}

impl Columns {
    /// For so many values of operations among `applied`.
    pub(crate) fn new(applied: &DotSet, count: usize) -> Self {
        Self {
            replicas: replicas_of(applied),
            tags: Runs::new(Vec::push),
            values: Vec::with_capacity(count * 3 + 8),
            writers: Runs::new(put_varint),
            seqs: Vec::with_capacity(count * 3 + 8),
            times: Vec::with_capacity(count),
            writer: None,
            seq_before: 0,
        }
    }

    /// The tag of a value, and the operation that wrote it.
    #[inline]
    pub(crate) fn push(&mut self, tag: u8, dot: Dot, timestamp: Timestamp) {
        self.tags.push(tag);
        let number = match self.writer {
            Some((replica, number)) if replica == dot.replica => number,
            // proof: the dot of an entry is always among the applied ones.
            _ => self
                .replicas
                .partition_point(|(replica, _)| *replica < dot.replica),
        };
        if self.writer.is_none() {
            self.seq_before = self.replicas.get(number).map_or(0, |(_, first)| *first);
        }
        self.writer = Some((dot.replica, number));
        self.writers.push(number as u64);
        put_zigzag(&mut self.seqs, dot.seq.wrapping_sub(self.seq_before) as i64);
        self.seq_before = dot.seq;
        self.times.push(timestamp.bits());
    }

    /// Appends all; gives the replicas in order, each with its first number.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> SmallVec<[(ReplicaId, u64); 2]> {
        out.append(&mut self.tags.finish());
        out.append(&mut self.values);
        out.append(&mut self.writers.finish());
        out.append(&mut self.seqs);
        put_times(out, &self.times);
        self.replicas
    }
}

/// The bytes of a delta of the root alone: `put` appends the keys, front-coded and in order, and
/// tells the columns the rest.
pub(crate) fn encode_flat(
    applied: &DotSet,
    dead: &DotSet,
    count: usize,
    put: impl FnOnce(&mut Vec<u8>, &mut Columns),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + count * 10);
    out.push(FLAT);
    put_dots(&mut out, applied);
    put_dots(&mut out, dead);
    put_containers(&mut out, &[]);
    put_varint(&mut out, count as u64);
    let mut columns = Columns::new(applied, count);
    put(&mut out, &mut columns);
    columns.finish(&mut out);
    put_checksum(&mut out);
    out
}

/// The replicas of a dot set in order, each with its first number.
pub(crate) fn replicas_of(dots: &DotSet) -> SmallVec<[(ReplicaId, u64); 2]> {
    let groups = dots.ranges().chunk_by(|a, b| a.replica == b.replica);
    groups
        .map(|group| (group[0].replica, group[0].first))
        .collect()
}

pub(super) const PLAIN: u8 = 0;
pub(super) const IN_RUNS: u8 = 1;

/// Timestamps as differences: in runs where most repeat, singly where they do not.
fn put_times(out: &mut Vec<u8>, times: &[u64]) {
    let changes = times.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let mut before = 0u64;
    if times_in_runs(changes, times.len()) {
        out.push(IN_RUNS);
        for run in times.chunk_by(|a, b| a == b) {
            put_varint(out, run.len() as u64);
            put_zigzag(out, run[0].wrapping_sub(before) as i64);
            before = run[0];
        }
    } else {
        out.push(PLAIN);
        for time in times {
            put_zigzag(out, time.wrapping_sub(before) as i64);
            before = *time;
        }
    }
}

/// Whether so many timestamps, of which so many are not the one before, are written in runs.
pub(super) fn times_in_runs(changes: usize, times: usize) -> bool {
    changes * 2 < times
}
