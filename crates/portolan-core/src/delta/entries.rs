//! How the entries of a delta are read, from bytes that nobody vouches for.

use alloc::vec;
use alloc::vec::Vec;

use super::columns::{IN_RUNS, PLAIN, replicas_of, times_in_runs};
use super::keys::{Keys, read_front_coded};
use super::{Delta, DeltaEntry, Entries, FLAT};
use crate::clock::Timestamp;
use crate::codec::{Reader, read_value_body};
use crate::dots::DotSet;
use crate::error::Fault;
use crate::few::{self, SmallVec, smallvec};
use crate::key::Key;
use crate::limits::MAX_VALUE_BYTES;
use crate::nested::DeltaContainer;
use crate::replica::{Dot, ReplicaId};
use crate::sorting::sort;
use crate::value::Value;

/// The delta of one operation that set a key of the root and removed nothing, as comes first from
/// every new replica, without building what others take. `None` where it is any other, and where
/// anything is wrong with it.
pub(super) fn read_write(mut reader: Reader<'_>) -> Option<Delta> {
    // One replica, of one range.
    let [FLAT, 1, replica @ .., 1] = reader.take(11).ok()?.first_chunk::<11>()? else {
        return None;
    };
    let replica = ReplicaId::new(u64::from_le_bytes(*replica));
    // The largest number stays free.
    let seq = reader.varint().ok()?.checked_add(1);
    let seq = seq.filter(|seq| *seq < u64::MAX)?;
    // That number alone, none removed, no container, one value.
    if *reader.take(4).ok()? != [0, 0, 0, 1] {
        return None;
    }
    let key = read_front_coded(&mut reader, None).ok()?;
    if reader.byte().ok()? != 1 || matches!(key, Key::Element(_)) {
        return None;
    }
    let tag = reader.byte().ok()?;
    let value = read_bounded_value(&mut reader, tag).ok()?;
    // Of the first replica, and of its first number.
    if *reader.take(5).ok()? != [1, 0, 0, IN_RUNS, 1] {
        return None;
    }
    let timestamp = Timestamp::from_bits(reader.zigzag().ok()? as u64);
    reader.finish().ok()?;
    Some(Delta {
        applied: DotSet::from_range(replica, seq, seq),
        dead: DotSet::new(),
        entries: few::one(DeltaEntry {
            container: 0,
            key,
            value,
            dot: Dot::new(replica, seq),
            timestamp,
        }),
        nested: None,
    })
}

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
        return Ok(few::one(read_single(reader, applied)?));
    }
    let groups = if containers.is_empty() {
        smallvec![(count, 0)]
    } else {
        let last = containers.len() as u64;
        read_runs(reader, count, |reader| {
            let number = reader.bounded("the number of a container", last)?;
            Ok(number as i64)
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
                container: container as u32,
                key,
                value: Value::Null,
                dot,
                timestamp: Timestamp::default(),
            });
        }
    }
    let tags = read_runs(reader, count, |reader| Ok(reader.byte()?.into()))?;
    let mut rest = entries.as_mut_slice();
    for (length, tag) in tags {
        let (run, after) = rest.split_at_mut(length);
        for entry in run {
            entry.value = read_bounded_value(reader, tag as u8)?;
        }
        rest = after;
    }
    let last = replicas.len().saturating_sub(1) as u64;
    let writers = read_runs(reader, count, |reader| {
        let number = reader.bounded("the number of a value's replica", last)?;
        if number >= replicas.len() {
            return Err(reader.malformed("a value without a replica among the applied ones"));
        }
        Ok(number as i64)
    })?;
    for_runs(&mut entries, &writers, |entry, number| {
        entry.dot.replica = replicas[number as usize].0;
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
    let mut starts = applied.by_replica();
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
                Ok(before as i64)
            })?;
            changes = runs.len().saturating_sub(1);
            for_runs(entries, &runs, |entry, bits| {
                entry.timestamp = Timestamp::from_bits(bits as u64);
            });
        }
        _ => return Err(reader.malformed("an unknown form of timestamps")),
    }
    if times_in_runs(changes, times) != (form == IN_RUNS) {
        return Err(reader.malformed("timestamps in the longer one of their forms"));
    }
    Ok(())
}

/// Numbers in runs of equals: how long each run is, and what it consists of.
pub(crate) type NumberRuns = SmallVec<[(usize, i64); 2]>;

/// Reads runs that cover `count` items, no two neighbours alike.
pub(crate) fn read_runs<'a>(
    reader: &mut Reader<'a>,
    count: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<i64, Fault>,
) -> Result<NumberRuns, Fault> {
    if crate::SMALL {
        let item: &mut dyn FnMut(&mut Reader<'a>) -> Result<i64, Fault> = &mut item;
        return read_runs_of(reader, count, item); // compiled once, and not for each `item`
    }
    read_runs_of(reader, count, item)
}

fn read_runs_of<'a>(
    reader: &mut Reader<'a>,
    count: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<i64, Fault>,
) -> Result<NumberRuns, Fault> {
    let mut runs = NumberRuns::new();
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
fn for_runs(
    entries: &mut [DeltaEntry],
    runs: &[(usize, i64)],
    mut f: impl FnMut(&mut DeltaEntry, i64),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::check_checksum;

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            "[aéê世]{0,40}".prop_map(Key::from),
            any::<i64>().prop_map(Key::from),
            any::<bool>().prop_map(Key::from),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(Key::from),
            any::<(u64, u64)>()
                .prop_map(|(id, seq)| Key::Element(Dot::new(ReplicaId::new(id), seq))),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            "[a-zé]{0,30}".prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::from),
        ]
    }

    proptest! {
        /// Whatever byte is another one, or cut off.
        #[test]
        fn a_write_is_read_shortly_as_any_delta_is(
            key in keys(),
            value in values(),
            replica: u64,
            (seq, last, removed) in (1..300u64, 0..2u64, any::<bool>()),
            timestamp: u64,
            shift in 0..64u32,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        ) {
            let replica = ReplicaId::new(replica);
            let mut delta = Delta {
                applied: DotSet::from_range(replica, seq, seq + last),
                entries: few::one(DeltaEntry {
                    container: 0,
                    key,
                    value,
                    dot: Dot::new(replica, seq),
                    timestamp: Timestamp::from_bits(timestamp >> shift),
                }),
                ..Delta::default()
            };
            if removed && seq > 1 {
                delta.dead = DotSet::from_range(replica, 1, 1);
            }
            let element = matches!(delta.entries[0].key, Key::Element(_));
            let is_write = last == 0 && delta.dead.is_empty() && !element;
            let bytes = delta.encode();
            let body = check_checksum(&bytes).unwrap();
            prop_assert_eq!(read_write(Reader::new(body)), is_write.then_some(delta));
            for (place, byte) in changes {
                let place = place.index(body.len());
                let mut changed = body.to_vec();
                changed[place] = byte;
                for changed in [&changed[..], &changed[..place]] {
                    if let Some(short) = read_write(Reader::new(changed)) {
                        // By their bytes: a value may be no number, which is not equal to itself.
                        let any = Delta::read_any(Reader::new(changed));
                        prop_assert_eq!(any.map(|any| any.encode()), Ok(short.encode()));
                    }
                }
            }
        }
    }
}
