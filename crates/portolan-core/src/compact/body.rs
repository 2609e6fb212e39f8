//! The bytes of a compact update, as `docs/format.md` gives them, but for the checksum.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::few::{SmallVec, smallvec};

use super::context::{Context, Path, Step, path_in, read_step};
use crate::clock::Timestamp;
use crate::codec::{INT, Reader, put_key, put_value, put_value_body, put_varint};
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
pub(super) const REMOVED: u8 = 3;
pub(super) const REMOVED_OWN: u8 = 1;
const REMOVED_LIST: u8 = 2;
/// More than one operation.
const MANY: u8 = 4;
/// In the container of what is before it.
pub(super) const SAME: u8 = 8;
/// The value is an integer, and has no tag.
pub(super) const INTEGER: u8 = 0x40;
/// What an operation left.
const FORM: u8 = 0x30;
const NOTHING: u8 = 0;
pub(super) const VALUE: u8 = 0x10;
const APPENDED: u8 = 0x20;
const PLACED: u8 = 0x30;

/// Operations up to this number are referred to by the whole id of their replica: the receiver
/// may not have heard of it.
const UNFAMILIAR: u64 = 8;
/// Numbers from here on leave no room for the bits beside them.
pub(super) const MAX_SEQ: u64 = 1 << 60;

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
///
/// `presupposed` becomes all that is left out and that makes a difference to what comes out: the
/// writer, the operation before, and the ids of replicas that are referred to by half of them.
pub(super) fn put(
    out: &mut Vec<u8>,
    presupposed: &mut Vec<u8>,
    delta: &Delta,
    context: &Context,
) -> Option<()> {
    let [own] = *delta.applied.ranges() else {
        return None;
    };
    if own.last >= MAX_SEQ {
        return None;
    }
    let (items, timestamp) = items(delta, own)?;
    presuppose(presupposed, own.replica, context, timestamp.is_some());
    let many = items.len() > 1;
    let removed = how_removed(&delta.dead, own);
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
                    put_dot(out, presupposed, Dot::new(own.replica, seq), *parent)?;
                }
                key_before = None;
                out[mark] |= put_item_value(out, value);
            }
        }
    }
    put_removed(out, presupposed, delta, own, removed)
}

/// Of an update that leaves no value, the operation before is only counted.
pub(super) fn presuppose(
    presupposed: &mut Vec<u8>,
    writer: ReplicaId,
    context: &Context,
    has_time: bool,
) {
    presupposed.clear();
    let time = if has_time {
        context.timestamp.bits()
    } else {
        0
    };
    let words = [writer.get(), context.seq, time].map(u64::to_le_bytes);
    presupposed.extend_from_slice(words.as_flattened());
    if has_time {
        context.put_place(presupposed);
    }
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
                _ => return Err(reader.malformed("many operations that are not").into()),
            }
        };
        Ok(Self {
            flags,
            tag: word(0),
            low: word(2),
            count,
        })
    }

    /// Whether it is one value in the root, after another one.
    pub(super) fn is_plain(&self, context: &Context) -> bool {
        self.flags & (MANY | FORM | SAME) == VALUE | SAME && context.path.is_empty()
    }
}

/// The delta that a compact update stands for if it is of `replica` and `context` is what was
/// before it; `presupposed` becomes the same as with [`put`].
///
/// Nothing of it is sure before the checksum is compared.
pub(super) fn read(
    reader: &mut Reader<'_>,
    presupposed: &mut Vec<u8>,
    header: &Header,
    replica: ReplicaId,
    context: &Context,
    document: &Document,
) -> Result<Delta, DecodeError> {
    let has_time = header.flags & FORM != NOTHING;
    presuppose(presupposed, replica, context, has_time);
    let first = context.seq + 1;
    let last = context.seq.saturating_add(header.count);
    if last >= MAX_SEQ {
        return Err(reader.malformed(NO_OPERATION).into());
    }
    let own = DotRange {
        replica,
        first,
        last,
    };
    let many = header.flags & MANY != 0;
    let mut familiar = Familiar {
        replicas: &document.replicas,
        presupposed,
    };
    if header.is_plain(context) {
        return read_plain(reader, header.flags, own, context, &mut familiar);
    }
    let mut draft = Draft {
        timestamp: None,
        paths: smallvec![context.path.clone()],
        entries: Entries::new(),
        nested: Nested::default(),
        places: SmallVec::<[u32; 1]>::new(),
    };
    if has_time {
        draft.timestamp = Some(read_time(reader, context.timestamp)?);
    }
    let mut key = context.key.clone();
    for seq in first..=last {
        let flags = if many { reader.byte()? } else { header.flags };
        let dot = Dot::new(replica, seq);
        draft.read_item(reader, flags, dot, &mut key, &mut familiar)?;
    }
    let dead = read_removed(reader, header.flags & REMOVED, own, &mut familiar)?;
    reader.finish()?;
    Ok(draft.finish(own, dead))
}

/// As [`read`], of one value in the root, after another one: what most updates are. What it takes
/// is in the only form that there is.
fn read_plain(
    reader: &mut Reader<'_>,
    flags: u8,
    own: DotRange,
    context: &Context,
    familiar: &mut Familiar<'_>,
) -> Result<Delta, DecodeError> {
    let timestamp = read_time(reader, context.timestamp)?;
    let key = read_front_coded(reader, context.key.as_ref())?;
    let value = read_item_value(reader, flags)?;
    let dead = read_removed(reader, flags & REMOVED, own, familiar)?;
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
        familiar: &mut Familiar<'_>,
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
            parent = Some(read_dot(reader, dot, familiar)?);
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
            for mut run in core::mem::take(&mut self.nested.runs) {
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

pub(super) fn read_item_value(reader: &mut Reader<'_>, flags: u8) -> Result<Value, DecodeError> {
    if flags & INTEGER != 0 {
        return Ok(Value::Int(reader.zigzag()?));
    }
    let tag = reader.byte()?;
    if tag == INT {
        return Err(reader
            .malformed("an integer that is told as any other value")
            .into());
    }
    Ok(read_bounded_value(reader, tag)?)
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

#[inline]
pub(super) fn read_time(
    reader: &mut Reader<'_>,
    before: Timestamp,
) -> Result<Timestamp, DecodeError> {
    let step = reader.varint()?;
    let millis = before.millis() + (step >> 1);
    let next = next_counter(before, step >> 1);
    let counter = if step & 1 == 0 {
        u64::from(next)
    } else {
        reader.varint()?
    };
    if millis >> 48 != 0 || counter >> 16 != 0 {
        return Err(reader.malformed("a timestamp of more than 64 bits").into());
    }
    let time = Timestamp::from_bits(millis << 16 | counter);
    if time <= before || (step & 1 != 0 && counter == u64::from(next)) {
        return Err(reader
            .malformed("a timestamp that does not grow, or is in the longer form")
            .into());
    }
    Ok(time)
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

fn put_removed(
    out: &mut Vec<u8>,
    presupposed: &mut Vec<u8>,
    delta: &Delta,
    own: DotRange,
    how: u8,
) -> Option<()> {
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
            put_dot(out, presupposed, referring, first)?;
            put_varint(out, range.last - range.first);
        }
    }
    Some(())
}

fn read_removed(
    reader: &mut Reader<'_>,
    how: u8,
    own: DotRange,
    familiar: &mut Familiar<'_>,
) -> Result<DotSet, DecodeError> {
    let mut dead = DotSet::new();
    let referring = Dot::new(own.replica, own.first);
    match how {
        0 => {}
        REMOVED_OWN => {
            let behind = reader.varint()?;
            dead.insert(so_far_behind(reader, referring, behind)?);
        }
        REMOVED_LIST => {
            let count = reader.bounded("the number of ranges", MAX_COMPACT_RANGES as u64)?;
            for i in 0..count {
                let dot = read_dot(reader, referring, familiar)?;
                let last = dot.seq.checked_add(reader.varint()?);
                let last = last.filter(|last| *last < MAX_SEQ);
                let last = last.ok_or_else(|| reader.malformed(NO_OPERATION))?;
                let range = DotRange {
                    replica: dot.replica,
                    first: dot.seq,
                    last,
                };
                dead.insert_range(range.replica, range.first, range.last);
                if dead.ranges().len() != i + 1 || dead.ranges().last() != Some(&range) {
                    return Err(reader
                        .malformed("ranges that touch or are out of order")
                        .into());
                }
            }
            if how_removed(&dead, own) != REMOVED_LIST {
                return Err(reader
                    .malformed("a list of removed operations that is none")
                    .into());
            }
        }
        _ => {
            return Err(reader
                .malformed("an unknown way to tell what was removed")
                .into());
        }
    }
    if !dead.is_empty() && dead.intersects(&DotSet::from_range(own.replica, own.first, own.last)) {
        return Err(reader
            .malformed("a dot both applied and removed from outside")
            .into());
    }
    Ok(dead)
}

/// How these removed dots are told.
fn how_removed(dead: &DotSet, own: DotRange) -> u8 {
    match *dead.ranges() {
        [] => 0,
        [range] if range.replica == own.replica && range.first == range.last => REMOVED_OWN,
        _ => REMOVED_LIST,
    }
}

/// Tells replicas by half of their ids, and notes which were meant.
struct Familiar<'a> {
    replicas: &'a Replicas,
    presupposed: &'a mut Vec<u8>,
}

impl Familiar<'_> {
    fn of(&mut self, short: u32) -> Option<ReplicaId> {
        let id = self.replicas.with_short_id(short)?;
        self.presupposed.extend_from_slice(&id.get().to_le_bytes());
        Some(id)
    }
}

/// In how a dot is told: by how far it is behind, of a replica known by half of its id, in full.
const BEHIND: u64 = 0;
const FAMILIAR: u64 = 1;
const FULL: u64 = 2;

/// Appends a dot to which an own operation refers.
fn put_dot(out: &mut Vec<u8>, presupposed: &mut Vec<u8>, own: Dot, dot: Dot) -> Option<()> {
    if dot.seq >= MAX_SEQ {
        return None;
    }
    let id = dot.replica.get().to_le_bytes();
    if dot.replica == own.replica {
        put_varint(out, own.seq.checked_sub(dot.seq)? << 2 | BEHIND);
    } else if dot.seq > UNFAMILIAR {
        put_varint(out, dot.seq << 2 | FAMILIAR);
        out.extend_from_slice(&short_id(dot.replica).to_le_bytes());
        presupposed.extend_from_slice(&id);
    } else {
        put_varint(out, dot.seq << 2 | FULL);
        out.extend_from_slice(&id);
    }
    Some(())
}

fn read_dot(
    reader: &mut Reader<'_>,
    own: Dot,
    familiar: &mut Familiar<'_>,
) -> Result<Dot, DecodeError> {
    let number = reader.varint()?;
    let (seq, form) = (number >> 2, number & 3);
    let replica = match form {
        BEHIND => return so_far_behind(reader, own, seq),
        FAMILIAR => {
            let mut short = [0; 4];
            short.copy_from_slice(reader.take(4)?);
            let known = familiar.of(u32::from_le_bytes(short));
            known.ok_or_else(|| reader.malformed("a replica that is not known here"))?
        }
        FULL => ReplicaId::new(reader.u64_le()?),
        _ => {
            return Err(reader
                .malformed("an unknown way to tell an operation")
                .into());
        }
    };
    if seq == 0 || seq >= MAX_SEQ {
        return Err(reader.malformed(NO_OPERATION).into());
    }
    if replica == own.replica || (form == FAMILIAR) != (seq > UNFAMILIAR) {
        return Err(reader
            .malformed("an operation that is told in another form than its own")
            .into());
    }
    Ok(Dot::new(replica, seq))
}

/// The operation of the same replica, so many before.
fn so_far_behind(reader: &Reader<'_>, own: Dot, behind: u64) -> Result<Dot, DecodeError> {
    let seq = own.seq.checked_sub(behind).filter(|seq| *seq > 0);
    let seq = seq.ok_or_else(|| reader.malformed(NO_OPERATION))?;
    Ok(Dot::new(own.replica, seq))
}

const NO_OPERATION: &str = "a sequence number that no operation has";
