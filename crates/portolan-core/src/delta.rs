//! A piece of state with a piece of context, and its bytes.
//!
//! Format version 1 holds values of the root alone, version 2 containers too, version 3 either,
//! [packed](crate::packed); `docs/format.md` gives the bytes: the dots, then the live values in
//! columns, sorted by key, so that neighbours are alike and what they share is not written again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::few::{SmallVec, smallvec};
use smol_str::SmolStr;

use crate::clock::Timestamp;
use crate::codec::{
    Reader, check_checksum, put_checksum, put_dots, put_value_body, put_varint, put_word,
    put_zigzag, read_dots, read_value_body, value_tag,
};
use crate::dots::DotSet;
use crate::error::{DecodeError, Fault};
use crate::key::Key;
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::nested::{DeltaContainer, Nested, put_containers, put_positions};
use crate::packed::{self, Coding, EntryColumns, Expansion};
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};
use crate::sorting::{sort, sort_by};
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
        let positions = self.nested.as_ref().map_or(0, |nested| nested.births.len());
        if positions >= PACKED_POSITIONS {
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
    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, Fault> {
        let total = reader.remaining();
        let version = reader.byte()?;
        if !(FLAT..=PACKED).contains(&version) {
            return Err(DecodeError::UnknownVersion(version).into());
        }
        let applied = read_dots(&mut reader)?;
        let dead = read_dots(&mut reader)?;
        if applied.intersects(&dead) {
            return Err(reader.malformed("a dot both applied and removed from outside"));
        }
        if version == PACKED {
            return Self::read_packed(reader, total, applied, dead);
        }
        if version == FLAT {
            if reader.varint()? != 0 {
                return Err(reader.malformed("containers in a delta without containers"));
            }
            let entries = read_entries(&mut reader, &applied, &[])?;
            reader.finish()?;
            return Ok(Self {
                applied,
                dead,
                entries,
                nested: None,
            });
        }
        let count = Nested::read_count(&mut reader)?;
        if count == 0 {
            return Err(reader.malformed("no containers where there should be some"));
        }
        let mut nested = Box::new(Nested::read_containers(&mut reader, count)?);
        let entries = read_entries(&mut reader, &applied, &nested.containers)?;
        let mut plain = Expansion::new();
        nested.read_positions(&mut reader, &applied, Coding::Plain, &mut plain)?;
        nested.check(&reader, &entries)?;
        reader.finish()?;
        Ok(Self {
            applied,
            dead,
            entries,
            nested: Some(nested),
        })
    }

    /// Reads what comes behind the dots in the packed form, in a delta of `total` bytes.
    fn read_packed(
        mut reader: Reader<'_>,
        total: usize,
        applied: DotSet,
        dead: DotSet,
    ) -> Result<Self, Fault> {
        let mut expansion = Expansion::of_bytes(total);
        let count = Nested::read_count(&mut reader)?;
        let mut nested = match count {
            0 => None,
            count => Some(Box::new(Nested::read_containers(&mut reader, count)?)),
        };
        let containers = nested.as_ref().map_or(&[][..], |nested| &nested.containers);
        let entries = packed::read_entries(&mut reader, &applied, containers, &mut expansion)?;
        if let Some(nested) = &mut nested {
            nested.read_positions(&mut reader, &applied, Coding::Packed, &mut expansion)?;
            nested.check(&reader, &entries)?;
        }
        expansion.read_ballast(&mut reader, total)?;
        reader.finish()?;
        Ok(Self {
            applied,
            dead,
            entries,
            nested,
        })
    }
}

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
fn encode_single(applied: &DotSet, dead: &DotSet, entry: &DeltaEntry) -> Vec<u8> {
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

const PLAIN: u8 = 0;
const IN_RUNS: u8 = 1;

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
fn times_in_runs(changes: usize, times: usize) -> bool {
    changes * 2 < times
}

fn read_times(reader: &mut Reader<'_>, entries: &mut [DeltaEntry]) -> Result<(), Fault> {
    let (mut before, mut changes, times) = (0u64, 0, entries.len());
    let form = reader.byte()?;
    match form {
        PLAIN => {
            for (i, entry) in entries.iter_mut().enumerate() {
                let step = reader.zigzag()? as u64;
                changes += usize::from(i > 0 && step != 0);
                before = before.wrapping_add(step);
                entry.timestamp = Timestamp::from_bits(before);
            }
        }
        IN_RUNS => {
            let runs = read_runs(reader, times, |reader| {
                before = before.wrapping_add(reader.zigzag()? as u64);
                Ok(before)
            })?;
            changes = runs.len().saturating_sub(1);
            for_runs(entries, &runs, |entry, bits| {
                entry.timestamp = Timestamp::from_bits(bits);
            });
        }
        _ => return Err(reader.malformed("an unknown form of timestamps")),
    }
    if times_in_runs(changes, times) != (form == IN_RUNS) {
        return Err(reader.malformed("timestamps in the longer one of their forms"));
    }
    Ok(())
}

/// Reads runs that cover `count` items, no two neighbours alike.
pub(crate) fn read_runs<'a, T: Copy + PartialEq>(
    reader: &mut Reader<'a>,
    count: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<SmallVec<[(usize, T); 2]>, Fault> {
    let mut runs = SmallVec::<[(usize, T); 2]>::new();
    let mut left = count;
    while left > 0 {
        let length = reader.bounded("the length of a run", left as u64)?;
        if length == 0 {
            return Err(reader.malformed("an empty run"));
        }
        let item = item(reader)?;
        if runs.last().is_some_and(|(_, last)| *last == item) {
            return Err(reader.malformed("a run that continues the one before it"));
        }
        runs.push((length, item));
        left -= length;
    }
    Ok(runs)
}

/// Runs `f` on each entry with the item of its run.
fn for_runs<T: Copy>(
    entries: &mut [DeltaEntry],
    runs: &[(usize, T)],
    mut f: impl FnMut(&mut DeltaEntry, T),
) {
    let mut rest = entries;
    for (length, item) in runs {
        let (run, after) = rest.split_at_mut(*length);
        for entry in run {
            f(entry, *item);
        }
        rest = after;
    }
}

/// The kind of a key in the front-coded column; ascending as kinds sort.
const KEY_FALSE: u8 = 1;
const KEY_TRUE: u8 = 2;
const KEY_INT: u8 = 3;
const KEY_STR: u8 = 5;
const KEY_BYTES: u8 = 6;
const KEY_ELEMENT: u8 = 9;

/// Where the content of a key is put that does not lie in it as bytes.
pub(crate) type Room = [u8; 16];

/// The bytes that stand for a key: its kind, then its content; they sort as keys do.
#[inline]
fn sort_bytes<'a>(key: &'a Key, room: &'a mut Room) -> (u8, &'a [u8]) {
    match key {
        Key::Bool(false) => (KEY_FALSE, &[]),
        Key::Bool(true) => (KEY_TRUE, &[]),
        Key::Int(i) => {
            room[..8].copy_from_slice(&(*i as u64 ^ (1 << 63)).to_be_bytes());
            (KEY_INT, &room[..8])
        }
        Key::Str(s) => (KEY_STR, s.as_bytes()),
        Key::Bytes(b) => (KEY_BYTES, b),
        Key::Element(id) => {
            let id = u128::from(id.replica.get()) << 64 | u128::from(id.seq);
            *room = id.to_be_bytes();
            (KEY_ELEMENT, room)
        }
    }
}

/// Lengths up to 14 share a byte; 15 says that the length follows.
pub(crate) const LONG: usize = 15;

/// Most sort bytes that two different keys share: a few bytes of a delta must not stand for
/// kilobytes of keys.
pub(crate) const MAX_SHARED_BYTES: usize = 128;

/// Appends what a key has beyond the beginning it shares with the one before: a byte with both
/// lengths, or 15 and the length, then the bytes. The kind of the key counts as its first byte.
#[inline]
pub(crate) fn put_front_coded(out: &mut Vec<u8>, before: Option<&Key>, key: &Key) {
    let mut room = Room::default();
    let start = Start::of(before, key, &mut room);
    put_sort_bytes(out, start.shared, start.kind, start.text);
}

/// A key beside the one before it.
pub(crate) struct Start<'a> {
    pub(crate) kind: u8,
    /// Its other sort bytes.
    pub(crate) text: &'a [u8],
    /// How many of all these it shares with the key before.
    pub(crate) shared: usize,
    /// What that has behind them, 0 where it ends.
    pub(crate) replaced: u8,
}

impl<'a> Start<'a> {
    #[inline]
    pub(crate) fn of(before: Option<&Key>, key: &'a Key, room: &'a mut Room) -> Self {
        let (kind, text) = sort_bytes(key, room);
        let (mut shared, mut replaced) = (0, 0);
        if let Some(before) = before {
            let mut room = Room::default();
            let (kind_before, text_before) = sort_bytes(before, &mut room);
            replaced = kind_before;
            if kind == kind_before {
                shared = 1 + common_prefix(text_before, text);
                let same = shared == 1 + text.len() && text.len() == text_before.len();
                if !same {
                    shared = shared.min(MAX_SHARED_BYTES);
                }
                replaced = text_before.get(shared - 1).copied().unwrap_or(0);
            }
        }
        Self {
            kind,
            text,
            shared,
            replaced,
        }
    }
}

/// As [`put_front_coded`], for a text of which the first `shared` bytes are those of the text
/// before, and the `own` others, eight at the most, the first of `end`, a big-endian number.
#[inline]
pub(crate) fn put_text_end(out: &mut Vec<u8>, shared: usize, end: u64, own: usize) {
    let shared = 1 + shared;
    debug_assert!(own <= 8 && (shared <= MAX_SHARED_BYTES || own == 0));
    if shared < LONG && own < 8 {
        let lengths = (shared << 4 | own) as u64;
        put_word(out, end.swap_bytes() << 8 | lengths, own + 1);
        return;
    }
    put_lengths(out, shared, own);
    put_word(out, end.swap_bytes(), own);
}

#[inline]
fn put_sort_bytes(out: &mut Vec<u8>, shared: usize, kind: u8, text: &[u8]) {
    let own = 1 + text.len() - shared;
    put_lengths(out, shared, own);
    if shared == 0 {
        out.push(kind);
        out.extend_from_slice(text);
        return;
    }
    match text.last_chunk::<8>() {
        Some(last) if (1..=8).contains(&own) => {
            put_word(out, u64::from_le_bytes(*last) >> ((8 - own) * 8), own);
        }
        _ => out.extend_from_slice(&text[shared - 1..]),
    }
}

#[inline]
fn put_lengths(out: &mut Vec<u8>, shared: usize, own: usize) {
    out.push((shared.min(LONG) << 4 | own.min(LONG)) as u8);
    for length in [shared, own] {
        if length >= LONG {
            put_varint(out, (length - LONG) as u64);
        }
    }
}

#[inline]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut shared = 0;
    for (x, y) in words {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return shared + (differing.trailing_zeros() / 8) as usize;
        }
        shared += 8;
    }
    let rest = a[shared..].iter().zip(&b[shared..]);
    shared + rest.take_while(|(a, b)| a == b).count()
}

/// Reads keys that were front-coded, one after the other.
#[derive(Default)]
pub(crate) struct Keys {
    /// The sort bytes of the last one.
    current: Vec<u8>,
}

impl Keys {
    /// The sort bytes of the last one.
    pub(crate) fn current(&self) -> &[u8] {
        &self.current
    }

    #[inline]
    fn next(&mut self, reader: &mut Reader<'_>, last: Option<&Key>) -> Result<Key, Fault> {
        let [shared, own] = read_lengths(reader)?;
        let own = reader.take(own)?;
        let own = own.split_first().map(|(first, more)| (*first, more));
        self.follow(reader, shared, own, last)
    }

    /// The key that shares so many bytes with the `last` one, and has these of its own: the first,
    /// and more.
    #[inline]
    pub(crate) fn follow(
        &mut self,
        reader: &Reader<'_>,
        shared: usize,
        own: Option<(u8, &[u8])>,
        last: Option<&Key>,
    ) -> Result<Key, Fault> {
        if shared > self.current.len() {
            return Err(reader.malformed("a key that shares more than there is"));
        }
        check_length(shared + own.map_or(0, |(_, more)| 1 + more.len()))?;
        let rest = self.current[shared..].split_first();
        let rest = rest.map(|(first, more)| (*first, more));
        if own.is_none() && rest.is_none() {
            // A sibling holds the same key, not one more.
            let last = last.cloned();
            return last.ok_or_else(|| reader.malformed("a key without a kind"));
        }
        if shared > MAX_SHARED_BYTES {
            return Err(reader.malformed("a key that shares more than it may"));
        }
        let behind = if shared < MAX_SHARED_BYTES {
            own.map(|(first, _)| first) > rest.map(|(first, _)| first)
        } else {
            own > rest
        };
        if !behind {
            return Err(reader.malformed("keys out of order, or that share less than they could"));
        }
        self.current.truncate(shared);
        if let Some((first, more)) = own {
            self.current.push(first);
            self.current.extend_from_slice(more);
        }
        key_of_sort_bytes(reader, &self.current)
    }
}

/// How many sort bytes a key shares with the one before, and how many of its own follow.
#[inline]
fn read_lengths(reader: &mut Reader<'_>) -> Result<[usize; 2], Fault> {
    let lengths = usize::from(reader.byte()?);
    let mut parts = [lengths >> 4, lengths & 15];
    for part in &mut parts {
        if *part == LONG {
            *part += reader.bounded("the length of a key", MAX_KEY_BYTES as u64)?;
        }
    }
    check_length(parts[0] + parts[1])?;
    Ok(parts)
}

/// Whether a key may have so many sort bytes.
fn check_length(sort_bytes: usize) -> Result<(), Fault> {
    if sort_bytes > MAX_KEY_BYTES + 1 {
        let (found, limit) = ((sort_bytes - 1) as u64, MAX_KEY_BYTES as u64);
        return Err(Fault::limit("the length of a key", found, limit));
    }
    Ok(())
}

#[inline]
fn key_of_sort_bytes(reader: &Reader<'_>, bytes: &[u8]) -> Result<Key, Fault> {
    let Some((kind, text)) = bytes.split_first() else {
        return Err(reader.malformed("a key without a kind"));
    };
    match (*kind, text) {
        (KEY_FALSE, []) => Ok(Key::Bool(false)),
        (KEY_TRUE, []) => Ok(Key::Bool(true)),
        (KEY_INT, text) => match <[u8; 8]>::try_from(text) {
            Ok(bytes) => Ok(Key::Int((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)),
            Err(_) => Err(reader.malformed("an integer key that has not eight bytes")),
        },
        (KEY_STR, text) => match core::str::from_utf8(text) {
            Ok(text) => Ok(Key::Str(SmolStr::new(text))),
            Err(_) => Err(reader.malformed("text that is not UTF-8")),
        },
        (KEY_BYTES, text) => Ok(Key::Bytes(text.into())),
        (KEY_ELEMENT, text) => match <[u8; 16]>::try_from(text) {
            Ok(bytes) => {
                let id = u128::from_be_bytes(bytes);
                let (replica, seq) = ((id >> 64) as u64, id as u64);
                Ok(Key::Element(Dot::new(ReplicaId::new(replica), seq)))
            }
            Err(_) => Err(reader.malformed("an element's id that has not sixteen bytes")),
        },
        _ => Err(reader.malformed("an unknown kind of key")),
    }
}

/// Reads a key that was front-coded after any other, in order or not; it shares as much as it can.
pub(crate) fn read_front_coded(
    reader: &mut Reader<'_>,
    before: Option<&Key>,
) -> Result<Key, Fault> {
    let [shared, own] = read_lengths(reader)?;
    let own = reader.take(own)?;
    let Some(before) = before else {
        if shared > 0 {
            return Err(reader.malformed("a key that shares more than there is"));
        }
        return key_of_sort_bytes(reader, own);
    };
    if let (Key::Str(before), Some(at)) = (before, shared.checked_sub(1))
        && let Some(text) = text_after(before, at, own)
    {
        return Ok(Key::Str(text));
    }
    let mut room = Room::default();
    let (kind, content) = sort_bytes(before, &mut room);
    let (next, rest) = match shared.checked_sub(1) {
        None => (Some(&kind), None),
        Some(at) => {
            let rest = content.get(at..);
            let rest =
                rest.ok_or_else(|| reader.malformed("a key that shares more than there is"))?;
            (rest.first(), Some(rest))
        }
    };
    let more = match rest {
        Some(rest) if rest == own => !own.is_empty(),
        _ => shared > MAX_SHARED_BYTES || shared < MAX_SHARED_BYTES && own.first() == next,
    };
    if more {
        return Err(reader.malformed("a key that shares more than it may, or less"));
    }
    if own.is_empty() && shared == 1 + content.len() {
        return Ok(before.clone());
    }
    let mut bytes = SmallVec::<[u8; 64]>::new();
    if let Some(at) = shared.checked_sub(1) {
        bytes.push(kind);
        bytes.extend_from_slice(&content[..at]);
    }
    bytes.extend_from_slice(own);
    key_of_sort_bytes(reader, &bytes)
}

/// The text that shares its first bytes, up to `at`, with the one before, and goes on with others
/// than that: what most keys are. `None` where it is not so, or long.
#[inline]
fn text_after(before: &str, at: usize, own: &[u8]) -> Option<SmolStr> {
    let mut text = [0; 32];
    let (before, end) = (before.as_bytes(), at + own.len());
    let differs = before.get(at..)?.first() != own.first();
    if !differs || at >= MAX_SHARED_BYTES || end > text.len() {
        return None;
    }
    text[..at].copy_from_slice(&before[..at]);
    text[at..end].copy_from_slice(own);
    core::str::from_utf8(&text[..end]).ok().map(SmolStr::new)
}

fn read_entries(
    reader: &mut Reader<'_>,
    applied: &DotSet,
    containers: &[DeltaContainer],
) -> Result<Entries, Fault> {
    // An entry takes two bytes at the least, of its key and of its number, and many times that in
    // memory: the room for all is taken when some have come.
    let most = reader.remaining() / 2;
    let count = reader.bounded("the number of values", most as u64)?;
    if count == 1 && containers.is_empty() && !crate::SMALL {
        return Ok(smallvec![read_single(reader, applied)?]);
    }
    let groups = if containers.is_empty() {
        smallvec![(count, 0)]
    } else {
        let last = containers.len() as u64;
        read_runs(reader, count, |reader| {
            let number = reader.bounded("the number of a container", last)?;
            Ok(number as u32)
        })?
    };
    if !groups.is_sorted_by(|a, b| a.1 < b.1) {
        return Err(reader.malformed("containers out of order"));
    }
    let replicas = replicas_of(applied);
    let mut entries = Entries::with_capacity(count.min(4096));
    for (length, container) in groups {
        let mut keys = Keys::default();
        let first = entries.len();
        for _ in 0..length {
            let above = entries[first..].last();
            let key = keys.next(reader, above.map(|entry: &DeltaEntry| &entry.key))?;
            if entries.len() == entries.capacity() {
                entries.reserve_exact(count - entries.len());
            }
            let dot = Dot::new(ReplicaId::new(0), 0);
            entries.push(DeltaEntry {
                container,
                key,
                value: Value::Null,
                dot,
                timestamp: Timestamp::default(),
            });
        }
    }
    let tags = read_runs(reader, count, Reader::byte)?;
    let mut rest = entries.as_mut_slice();
    for (length, tag) in tags {
        let (run, after) = rest.split_at_mut(length);
        for entry in run {
            entry.value = read_bounded_value(reader, tag)?;
        }
        rest = after;
    }
    let last = replicas.len().saturating_sub(1) as u64;
    let writers = read_runs(reader, count, |reader| {
        let number = reader.bounded("the number of a value's replica", last)?;
        let writer = replicas.get(number);
        writer.ok_or_else(|| reader.malformed("a value without a replica among the applied ones"))
    })?;
    for_runs(&mut entries, &writers, |entry, (replica, _)| {
        entry.dot.replica = *replica;
    });
    let first = entries.first().map(|entry| entry.dot.replica);
    let mut seq = replicas
        .iter()
        .find(|(id, _)| Some(*id) == first)
        .map_or(0, |(_, seq)| *seq);
    for entry in &mut entries {
        seq = seq.wrapping_add(reader.zigzag()? as u64);
        entry.dot.seq = seq;
    }
    read_times(reader, &mut entries)?;
    check_entries(reader, applied, &entries)?;
    Ok(entries)
}

/// What can only be told of all columns together.
pub(crate) fn check_entries(
    reader: &Reader<'_>,
    applied: &DotSet,
    entries: &[DeltaEntry],
) -> Result<(), Fault> {
    if !entries.iter().all(|entry| applied.contains(entry.dot)) {
        return Err(reader.malformed("a value whose operation is not among the applied ones"));
    }
    let ascending =
        entries.is_sorted_by(|a, b| a.container != b.container || a.key != b.key || precedes(a, b));
    if !ascending {
        return Err(reader.malformed("siblings out of order"));
    }
    let outside = |entry: &DeltaEntry| entry.container == 0 && matches!(entry.key, Key::Element(_));
    // Elements sort last.
    let root = entries.partition_point(|entry| entry.container == 0);
    if entries[..root].last().is_some_and(outside) {
        return Err(reader.malformed(ELEMENT_OUTSIDE));
    }
    if repeats_a_dot(applied, entries) {
        return Err(reader.malformed("two values of one operation"));
    }
    Ok(())
}

/// As [`read_entries`] where there is one: each column has one item, each run the length one.
fn read_single(reader: &mut Reader<'_>, applied: &DotSet) -> Result<DeltaEntry, Fault> {
    let key = read_front_coded(reader, None)?;
    read_run_of_one(reader)?;
    let tag = reader.byte()?;
    let value = read_bounded_value(reader, tag)?;
    read_run_of_one(reader)?;
    let number = reader.varint()?;
    let mut starts = applied.ranges().chunk_by(|a, b| a.replica == b.replica);
    let start = usize::try_from(number)
        .ok()
        .and_then(|number| starts.nth(number));
    let Some([start, ..]) = start else {
        return Err(reader.malformed("a value without a replica among the applied ones"));
    };
    let seq = start.first.wrapping_add(reader.zigzag()? as u64);
    let dot = Dot::new(start.replica, seq);
    if !applied.contains(dot) {
        return Err(reader.malformed("a value whose operation is not among the applied ones"));
    }
    if reader.byte()? != IN_RUNS {
        return Err(reader.malformed("timestamps in the longer one of their forms"));
    }
    read_run_of_one(reader)?;
    let timestamp = Timestamp::from_bits(reader.zigzag()? as u64);
    if matches!(key, Key::Element(_)) {
        return Err(reader.malformed(ELEMENT_OUTSIDE));
    }
    Ok(DeltaEntry {
        container: 0,
        key,
        value,
        dot,
        timestamp,
    })
}

const ELEMENT_OUTSIDE: &str = "an element outside of arrays";

fn read_run_of_one(reader: &mut Reader<'_>) -> Result<(), Fault> {
    match reader.bounded("the length of a run", 1)? {
        1 => Ok(()),
        _ => Err(reader.malformed("an empty run")),
    }
}

pub(crate) fn read_bounded_value(reader: &mut Reader<'_>, tag: u8) -> Result<Value, Fault> {
    let before = reader.remaining();
    let value = read_value_body(reader, tag, 0)?;
    let (found, limit) = ((before - reader.remaining()) as u64, MAX_VALUE_BYTES as u64);
    if found > limit {
        return Err(Fault::limit("the size of a value", found, limit));
    }
    Ok(value)
}

/// Whether two values have one dot; all are among the `applied`.
fn repeats_a_dot(applied: &DotSet, entries: &[DeltaEntry]) -> bool {
    let dots = || entries.iter().map(|entry| entry.dot);
    // Keys are often as old as they sort.
    if dots().is_sorted_by(|a, b| a < b) {
        return false;
    }
    // One way is enough for a page.
    if crate::SMALL || applied.len() > entries.len() as u64 * 64 {
        let mut sorted: Vec<Dot> = dots().collect();
        sort(&mut sorted);
        return sorted.windows(2).any(|pair| pair[0] == pair[1]);
    }
    // A bit for each operation applied: no more memory than a word for each value.
    let mut bits = vec![0u64; (applied.len() / 64) as usize + 1];
    let mut before = 0;
    let mut ranges = Vec::with_capacity(applied.ranges().len());
    for range in applied.ranges() {
        ranges.push((range.replica, range.first, before));
        before += range.last - range.first + 1;
    }
    dots().any(|dot| {
        let after = ranges.partition_point(|r| (r.0, r.1) <= (dot.replica, dot.seq));
        // proof: the dot is in the range that starts last before it.
        let (_, first, before) = ranges[after - 1];
        let at = before + (dot.seq - first);
        let (word, bit) = (&mut bits[(at / 64) as usize], 1 << (at % 64));
        let repeats = *word & bit != 0;
        *word |= bit;
        repeats
    })
}

/// Whether `a` stands before `b` among siblings.
fn precedes(a: &DeltaEntry, b: &DeltaEntry) -> bool {
    (a.timestamp, a.dot.replica, a.dot.seq) > (b.timestamp, b.dot.replica, b.dot.seq)
}
