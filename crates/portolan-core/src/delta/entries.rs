//! How the entries of a delta are read, from bytes that nobody vouches for.

use alloc::vec;
use alloc::vec::Vec;

use super::columns::{IN_RUNS, PLAIN, replicas_of, times_in_runs};
use super::keys::{Keys, read_front_coded};
use super::{DeltaEntry, Entries};
use crate::clock::Timestamp;
use crate::codec::{Reader, read_value_body};
use crate::dots::DotSet;
use crate::error::Fault;
use crate::few::{SmallVec, smallvec};
use crate::key::Key;
use crate::limits::MAX_VALUE_BYTES;
use crate::nested::DeltaContainer;
use crate::replica::{Dot, ReplicaId};
use crate::sorting::sort;
use crate::value::Value;

pub(super) fn read_entries(
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
