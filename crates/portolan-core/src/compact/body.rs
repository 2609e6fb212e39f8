//! The bytes of a compact update, as `docs/format.md` gives them, but for the checksum.

use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};

use super::context::{Context, Path, Step, path_in, read_step};
use crate::clock::Timestamp;
use crate::codec::{Reader, put_key, put_value, put_value_body, put_varint};
use crate::delta::{
    Delta, DeltaEntry, Entries, put_front_coded, read_bounded_value, read_front_coded,
};
use crate::document::Document;
use crate::dots::{DotRange, DotSet};
use crate::error::DecodeError;
use crate::key::Key;
use crate::limits::{MAX_COMPACT_OPERATIONS, MAX_COMPACT_RANGES, MAX_DEPTH};
use crate::nested::{DeltaContainer, Nested, Run};
use crate::replica::{Dot, ReplicaId};
use crate::replicas::{Replicas, short_id, tag_of};
use crate::sequence::Side;
use crate::value::Value;

/// Set in the first byte of every compact update, and of no delta.
pub(super) const COMPACT: u8 = 0x80;

/// Where the removed dots are told: not at all, as one own operation, as a list.
const REMOVED: u8 = 3;
const REMOVED_OWN: u8 = 1;
const REMOVED_LIST: u8 = 2;
/// More than one operation.
const MANY: u8 = 4;
/// In the container of what is before it.
const SAME: u8 = 8;
/// The value is an integer, and has no tag.
const INTEGER: u8 = 0x40;
/// What an operation left.
const FORM: u8 = 0x30;
const NOTHING: u8 = 0;
const VALUE: u8 = 0x10;
const APPENDED: u8 = 0x20;
const PLACED: u8 = 0x30;

/// Operations up to this number are referred to by the whole id of their replica: the receiver
/// may not have heard of it.
const UNFAMILIAR: u64 = 8;
/// Numbers from here on leave no room for the bits beside them.
const MAX_SEQ: u64 = 1 << 60;

/// What one operation left.
enum Item<'a> {
    Nothing,
    Value {
        container: u32,
        key: &'a Key,
        value: &'a Value,
    },
    Position {
        container: u32,
        parent: Option<Dot>,
        side: Side,
        value: &'a Value,
    },
}

/// Appends a delta as the difference to what was before it; `None` where it has no such form.
pub(super) fn put(out: &mut Vec<u8>, delta: &Delta, context: &Context) -> Option<()> {
    let [own] = *delta.applied.ranges() else {
        return None;
    };
    if own.last >= MAX_SEQ {
        return None;
    }
    let (items, timestamp) = items(delta, own)?;
    let many = items.len() > 1;
    let removed = match *delta.dead.ranges() {
        [] => 0,
        [range] if range.replica == own.replica && range.first == range.last => REMOVED_OWN,
        _ => REMOVED_LIST,
    };
    let start = out.len();
    out.push(COMPACT | removed);
    if many {
        out[start] |= MANY | timestamp.map_or(NOTHING, |_| VALUE);
    }
    out.extend_from_slice(&tag_of(own.replica).to_le_bytes());
    out.extend_from_slice(&(own.first as u16).to_le_bytes());
    if many {
        put_varint(out, items.len() as u64);
    }
    if let Some(timestamp) = timestamp {
        put_time(out, context.timestamp, timestamp)?;
    }
    let mut container = None;
    let mut path = context.path.clone();
    let mut key_before = context.key.as_ref();
    for (item, seq) in items.iter().zip(own.first..) {
        let mark = if many {
            out.push(0);
            out.len() - 1
        } else {
            start
        };
        let (form, at) = match item {
            Item::Nothing => continue,
            Item::Value { container, .. } => (VALUE, *container),
            Item::Position {
                container,
                parent: None,
                ..
            } => (APPENDED, *container),
            Item::Position { container, .. } => (PLACED, *container),
        };
        out[mark] |= form;
        if container == Some(at) {
            out[mark] |= SAME;
        } else {
            container = Some(at);
            let next = path_in(delta, at);
            if next == path {
                out[mark] |= SAME;
            } else {
                put_path(out, &path, &next);
                path = next;
            }
        }
        match item {
            Item::Nothing => {}
            Item::Value { key, value, .. } => {
                put_front_coded(out, key_before, key);
                key_before = Some(key);
                out[mark] |= put_item_value(out, value);
            }
            Item::Position {
                parent,
                side,
                value,
                ..
            } => {
                if let Some(parent) = parent {
                    out.push(u8::from(*side == Side::Right));
                    put_dot(out, Dot::new(own.replica, seq), *parent)?;
                }
                key_before = None;
                out[mark] |= put_item_value(out, value);
            }
        }
    }
    put_removed(out, delta, own, removed)
}

/// What each operation left, and when they were done, where anything is left to tell of it.
fn items(delta: &Delta, own: DotRange) -> Option<(SmallVec<[Item<'_>; 1]>, Option<Timestamp>)> {
    let count = own.last - own.first + 1;
    if count > MAX_COMPACT_OPERATIONS {
        return None;
    }
    let mut timestamp = None;
    let mut at_once = |time: Timestamp| *timestamp.get_or_insert(time) == time;
    let mut items: SmallVec<[Item<'_>; 1]> = (0..count).map(|_| Item::Nothing).collect();
    for entry in &delta.entries {
        if !at_once(entry.timestamp) {
            return None;
        }
        items[(entry.dot.seq - own.first) as usize] = Item::Value {
            container: entry.container,
            key: &entry.key,
            value: &entry.value,
        };
    }
    let Some(nested) = &delta.nested else {
        return Some((items, timestamp));
    };
    let mut positions = nested.births.iter().zip(&nested.times);
    for run in &nested.runs {
        for at in 0..run.length {
            let (birth, time) = positions.next()?;
            let origin = run.origin(at);
            let value = birth.as_ref()?;
            if origin.of.is_some() || origin.adopted.is_some() || !at_once(*time) {
                return None;
            }
            items[(run.dot(at).seq - own.first) as usize] = Item::Position {
                container: run.container,
                parent: origin.parent,
                side: origin.side,
                value,
            };
        }
    }
    Some((items, timestamp))
}

/// What can be read of a compact update without its context.
#[derive(Debug)]
pub(super) struct Header {
    flags: u8,
    pub(super) tag: u16,
    /// The low bits of the first operation's number.
    pub(super) low: u16,
    pub(super) count: u64,
}

impl Header {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.byte()?;
        let first = reader.take(4)?;
        let word = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        let count = if flags & MANY == 0 {
            1
        } else {
            match reader.bounded("the number of operations", MAX_COMPACT_OPERATIONS)? {
                count @ 2.. => count as u64,
                _ => return Err(reader.malformed("many operations that are not")),
            }
        };
        Ok(Self {
            flags,
            tag: word(0),
            low: word(2),
            count,
        })
    }
}

/// The delta that a compact update stands for if it is of `replica` and `context` is what was
/// before it.
///
/// Nothing of it is sure before the checksum is compared.
pub(super) fn read(
    reader: &mut Reader<'_>,
    header: &Header,
    replica: ReplicaId,
    context: &Context,
    document: &Document,
) -> Result<Delta, DecodeError> {
    let first = context.seq + 1;
    let last = context.seq.saturating_add(header.count);
    if last >= MAX_SEQ {
        return Err(reader.malformed("a sequence number that no operation has"));
    }
    let own = DotRange {
        replica,
        first,
        last,
    };
    let many = header.flags & MANY != 0;
    if header.flags & (MANY | FORM | SAME) == VALUE | SAME && context.path.is_empty() {
        return read_plain(reader, header.flags, own, context, &document.replicas);
    }
    let mut draft = Draft {
        timestamp: None,
        paths: smallvec![context.path.clone()],
        entries: Entries::new(),
        nested: Nested::default(),
        places: SmallVec::new(),
    };
    if header.flags & FORM != NOTHING {
        draft.timestamp = Some(read_time(reader, context.timestamp)?);
    }
    let mut key = context.key.clone();
    for seq in first..=last {
        let flags = if many { reader.byte()? } else { header.flags };
        let dot = Dot::new(replica, seq);
        draft.read_item(reader, flags, dot, &mut key, document)?;
    }
    let dead = read_removed(reader, header.flags & REMOVED, own, &document.replicas)?;
    reader.finish()?;
    Ok(draft.finish(own, dead))
}

/// As [`read`], of one value in the root, after another one: what most updates are.
fn read_plain(
    reader: &mut Reader<'_>,
    flags: u8,
    own: DotRange,
    context: &Context,
    replicas: &Replicas,
) -> Result<Delta, DecodeError> {
    let timestamp = read_time(reader, context.timestamp)?;
    let key = read_front_coded(reader, context.key.as_ref())?;
    let value = read_item_value(reader, flags)?;
    let dead = read_removed(reader, flags & REMOVED, own, replicas)?;
    reader.finish()?;
    let entry = DeltaEntry {
        container: 0,
        key,
        value,
        dot: Dot::new(own.replica, own.first),
        timestamp,
    };
    Ok(Delta {
        applied: DotSet::from_range(own.replica, own.first, own.last),
        dead,
        entries: smallvec![entry],
        nested: None,
    })
}

/// A delta while it is read.
struct Draft {
    timestamp: Option<Timestamp>,
    /// The last one is the current one.
    paths: SmallVec<[Path; 1]>,
    /// With the index of their path in place of the container's number.
    entries: Entries,
    nested: Nested,
    /// The index of the path of each position.
    places: SmallVec<[u32; 1]>,
}

impl Draft {
    fn read_item(
        &mut self,
        reader: &mut Reader<'_>,
        flags: u8,
        dot: Dot,
        key_before: &mut Option<Key>,
        document: &Document,
    ) -> Result<(), DecodeError> {
        let form = flags & FORM;
        let Some(timestamp) = self.timestamp.filter(|_| form != NOTHING) else {
            return Ok(());
        };
        if flags & SAME == 0 {
            let path = match self.paths.last() {
                Some(before) => read_path(reader, before)?,
                None => Path::new(),
            };
            self.paths.push(path);
        }
        let place = self.paths.len() as u32 - 1;
        if form == VALUE {
            let key = read_front_coded(reader, key_before.as_ref())?;
            *key_before = Some(key.clone());
            let value = read_item_value(reader, flags)?;
            self.entries.push(DeltaEntry {
                container: place,
                key,
                value,
                dot,
                timestamp,
            });
            return Ok(());
        }
        let (mut parent, mut side) = (None, Side::Right);
        if form == PLACED {
            if reader.byte()? == 0 {
                side = Side::Left;
            }
            parent = Some(read_dot(reader, dot, &document.replicas)?);
        }
        *key_before = None;
        let value = read_item_value(reader, flags)?;
        self.nested.births.push(Some(value));
        self.nested.times.push(timestamp);
        self.places.push(place);
        self.nested.runs.push(Run {
            container: place,
            replica: dot.replica,
            first: dot.seq,
            length: 1,
            parent,
            side,
            chain: false,
            of: None,
            adopted: None,
        });
        Ok(())
    }

    fn finish(mut self, own: DotRange, dead: DotSet) -> Delta {
        let mut used = vec![false; self.paths.len()];
        let entries = self.entries.iter().map(|entry| entry.container);
        for place in entries.chain(self.places.iter().copied()) {
            used[place as usize] = true;
        }
        let used = self.paths.iter().zip(&used).filter(|(_, used)| **used);
        let mut nested = None;
        if used.clone().any(|(path, _)| !path.is_empty()) {
            let (containers, numbers) = containers(used.map(|(path, _)| path));
            let number = |place: u32| {
                let path = self.paths[place as usize].as_slice();
                numbers.get(&(path.len(), path)).copied().unwrap_or(0)
            };
            for entry in &mut self.entries {
                entry.container = number(entry.container);
            }
            let mut runs: Vec<Run> = Vec::new();
            for mut run in std::mem::take(&mut self.nested.runs) {
                run.container = number(run.container);
                let next = match runs.last_mut() {
                    Some(last) => last.extend(run),
                    None => Some(run),
                };
                runs.extend(next);
            }
            nested = Some(Box::new(Nested {
                containers,
                runs,
                births: self.nested.births,
                times: self.nested.times,
            }));
        } else {
            for entry in &mut self.entries {
                entry.container = 0;
            }
        }
        let mut delta = Delta {
            applied: DotSet::from_range(own.replica, own.first, own.last),
            dead,
            entries: self.entries,
            nested,
        };
        delta.sort();
        delta
    }
}

/// The containers on these paths in the order of a delta, and the number that each has there.
#[expect(clippy::type_complexity, reason = "it has one reader")]
fn containers<'a>(
    paths: impl Iterator<Item = &'a Path>,
) -> (Vec<DeltaContainer>, BTreeMap<(usize, &'a [Step]), u32>) {
    let above = paths.flat_map(|path| (1..=path.len()).map(|end| &path[..end]));
    let mut numbers: BTreeMap<(usize, &[Step]), u32> =
        above.map(|path| ((path.len(), path), 0)).collect();
    // Parents come before what is in them, and paths of one length sort as their parents do.
    for (number, (_, place)) in (1..).zip(&mut numbers) {
        *place = number;
    }
    let listed = numbers.keys().filter_map(|(len, path)| {
        let ((key, form), above) = path.split_last()?;
        let parent = numbers.get(&(len - 1, above)).copied().unwrap_or(0);
        let (key, form) = (key.clone(), *form);
        Some(DeltaContainer { parent, key, form })
    });
    (listed.collect(), numbers)
}

/// Appends a value; gives the flag that it takes.
fn put_item_value(out: &mut Vec<u8>, value: &Value) -> u8 {
    if let Value::Int(_) = value {
        put_value_body(out, value);
        INTEGER
    } else {
        put_value(out, value);
        0
    }
}

fn read_item_value(reader: &mut Reader<'_>, flags: u8) -> Result<Value, DecodeError> {
    if flags & INTEGER != 0 {
        return Ok(Value::Int(reader.zigzag()?));
    }
    let tag = reader.byte()?;
    read_bounded_value(reader, tag)
}

fn put_time(out: &mut Vec<u8>, before: Timestamp, time: Timestamp) -> Option<()> {
    if time <= before {
        return None;
    }
    let millis = time.millis() - before.millis();
    let odd = u32::from(time.counter()) != next_counter(before, millis);
    put_varint(out, millis << 1 | u64::from(odd));
    if odd {
        put_varint(out, time.counter().into());
    }
    Some(())
}

fn read_time(reader: &mut Reader<'_>, before: Timestamp) -> Result<Timestamp, DecodeError> {
    let step = reader.varint()?;
    let millis = before.millis() + (step >> 1);
    let counter = if step & 1 == 0 {
        u64::from(next_counter(before, step >> 1))
    } else {
        reader.varint()?
    };
    if millis >> 48 != 0 || counter >> 16 != 0 {
        return Err(reader.malformed("a timestamp of more than 64 bits"));
    }
    Ok(Timestamp::from_bits(millis << 16 | counter))
}

/// The counter that a clock gives so many milliseconds later where nothing interferes.
fn next_counter(before: Timestamp, millis: u64) -> u32 {
    if millis == 0 {
        u32::from(before.counter()) + 1
    } else {
        0
    }
}

fn put_path(out: &mut Vec<u8>, before: &[Step], path: &[Step]) {
    let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    put_varint(out, (path.len() - shared) as u64);
    for (key, form) in &path[shared..] {
        put_key(out, key);
        out.push(*form as u8);
    }
}

fn read_path(reader: &mut Reader<'_>, before: &[Step]) -> Result<Path, DecodeError> {
    let shared = reader.bounded("the depth of a container", before.len() as u64)?;
    let own = reader.bounded("the depth of a container", (MAX_DEPTH - shared) as u64)?;
    let mut path: Path = before[..shared].iter().cloned().collect();
    for _ in 0..own {
        path.push(read_step(reader)?);
    }
    Ok(path)
}

fn put_removed(out: &mut Vec<u8>, delta: &Delta, own: DotRange, how: u8) -> Option<()> {
    let ranges = delta.dead.ranges();
    if ranges.len() > MAX_COMPACT_RANGES {
        return None;
    }
    if how == REMOVED_LIST {
        put_varint(out, ranges.len() as u64);
    }
    let referring = Dot::new(own.replica, own.first);
    for range in ranges {
        let first = Dot::new(range.replica, range.first);
        if how == REMOVED_OWN {
            put_varint(out, own.first.checked_sub(range.first)?);
        } else {
            put_dot(out, referring, first)?;
            put_varint(out, range.last - range.first);
        }
    }
    Some(())
}

fn read_removed(
    reader: &mut Reader<'_>,
    how: u8,
    own: DotRange,
    replicas: &Replicas,
) -> Result<DotSet, DecodeError> {
    let mut dead = DotSet::new();
    let referring = Dot::new(own.replica, own.first);
    let count = match how {
        0 => 0,
        REMOVED_OWN => 1,
        REMOVED_LIST => reader.bounded("the number of ranges", MAX_COMPACT_RANGES as u64)?,
        _ => return Err(reader.malformed("an unknown way to tell what was removed")),
    };
    for _ in 0..count {
        let (first, more) = if how == REMOVED_OWN {
            (before(reader, referring)?, 0)
        } else {
            (read_dot(reader, referring, replicas)?, reader.varint()?)
        };
        let last = first.seq.checked_add(more).filter(|last| *last < MAX_SEQ);
        let last =
            last.ok_or_else(|| reader.malformed("a sequence number that no operation has"))?;
        dead.insert_range(first.replica, first.seq, last);
    }
    if dead.intersects(&DotSet::from_range(own.replica, own.first, own.last)) {
        return Err(reader.malformed("a dot both applied and removed from outside"));
    }
    Ok(dead)
}

/// In how a dot is told: by how far it is behind, of a replica known by half of its id, in full.
const BEHIND: u64 = 0;
const FAMILIAR: u64 = 1;
const FULL: u64 = 2;

/// Appends a dot to which an own operation refers.
fn put_dot(out: &mut Vec<u8>, own: Dot, dot: Dot) -> Option<()> {
    if dot.seq >= MAX_SEQ {
        return None;
    }
    if dot.replica == own.replica {
        put_varint(out, own.seq.checked_sub(dot.seq)? << 2 | BEHIND);
    } else if dot.seq > UNFAMILIAR {
        put_varint(out, dot.seq << 2 | FAMILIAR);
        out.extend_from_slice(&short_id(dot.replica).to_le_bytes());
    } else {
        put_varint(out, dot.seq << 2 | FULL);
        out.extend_from_slice(&dot.replica.get().to_le_bytes());
    }
    Some(())
}

fn read_dot(reader: &mut Reader<'_>, own: Dot, replicas: &Replicas) -> Result<Dot, DecodeError> {
    let number = reader.varint()?;
    let seq = number >> 2;
    let replica = match number & 3 {
        BEHIND => {
            let seq = own.seq.checked_sub(seq).filter(|seq| *seq > 0);
            let seq = seq.ok_or_else(|| reader.malformed(NO_OPERATION))?;
            return Ok(Dot::new(own.replica, seq));
        }
        FAMILIAR => {
            let mut short = [0; 4];
            short.copy_from_slice(reader.take(4)?);
            let known = replicas.with_short_id(u32::from_le_bytes(short));
            known.ok_or_else(|| reader.malformed("a replica that is not known here"))?
        }
        FULL => ReplicaId::new(reader.u64_le()?),
        _ => return Err(reader.malformed("an unknown way to tell an operation")),
    };
    if seq == 0 || seq >= MAX_SEQ {
        return Err(reader.malformed(NO_OPERATION));
    }
    Ok(Dot::new(replica, seq))
}

/// An operation of the same replica, so many before.
fn before(reader: &mut Reader<'_>, own: Dot) -> Result<Dot, DecodeError> {
    let behind = reader.varint()?;
    let seq = own.seq.checked_sub(behind).filter(|seq| *seq > 0);
    let seq = seq.ok_or_else(|| reader.malformed(NO_OPERATION))?;
    Ok(Dot::new(own.replica, seq))
}

const NO_OPERATION: &str = "a sequence number that no operation has";
