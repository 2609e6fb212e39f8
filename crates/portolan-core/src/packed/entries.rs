//! The values of maps, sets and counters, packed.

use alloc::vec::Vec;

use crate::few::SmallVec;

use super::columns::{
    Numbers, put_numbers, put_series, put_symbols, read_numbers, read_series, read_symbols,
};
use super::{Coding, Expansion, Values, put_values};
use crate::clock::Timestamp;
use crate::codec::Reader;
use crate::delta::{
    DeltaEntry, Entries, EntryRef, Keys, LONG, Room, Start, check_entries, replicas_of,
};
use crate::dots::DotSet;
use crate::error::Fault;
use crate::key::Key;
use crate::limits::MAX_KEY_BYTES;
use crate::nested::DeltaContainer;
use crate::replica::{Dot, ReplicaId};
use crate::sorting::sort;
use crate::value::Value;

/// Entries that are read from memory together.
const BLOCK: usize = 32;

/// Appends values, which come sorted, with the containers they are in, where there are any.
pub(crate) fn put_entries<'a>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = EntryRef<'a>>,
    replicas: &[(ReplicaId, u64)],
    nested: bool,
    expansion: &mut Expansion,
) {
    let room = entries.size_hint().0;
    let mut keys = PackedKeys::with_capacity(room);
    let mut values: Vec<&Value> = Vec::with_capacity(room);
    let mut containers = Vec::new();
    let mut writers = Vec::with_capacity(room);
    let mut seqs = Vec::with_capacity(room);
    let mut times: Vec<(i64, u64, u64)> = Vec::with_capacity(room);
    let mut before: Option<(u32, &Key)> = None;
    let mut writer: Option<(ReplicaId, usize)> = None;
    // Entries lie scattered in memory: a loop that does nothing but refer to some waits for all of
    // them at once.
    let mut block = SmallVec::<[EntryRef<'_>; BLOCK]>::new();
    let mut entries = entries.fuse();
    let blocks = core::iter::from_fn(|| {
        block.extend(entries.by_ref().take(BLOCK));
        (!block.is_empty()).then(|| core::mem::take(&mut block))
    });
    for entry in blocks.flatten() {
        let key = before.filter(|(container, _)| *container == entry.container);
        keys.push(key.map(|(_, key)| key), entry.key, expansion);
        before = Some((entry.container, entry.key));
        if nested {
            containers.push(i64::from(entry.container));
        }
        values.push(entry.value);
        let number = match writer {
            Some((replica, number)) if replica == entry.dot.replica => number,
            // proof: the dot of an entry is always among the applied ones.
            _ => replicas.partition_point(|(replica, _)| *replica < entry.dot.replica),
        };
        writer = Some((entry.dot.replica, number));
        writers.push(number as i64);
        seqs.push(entry.dot.seq);
        times.push((number as i64, entry.dot.seq, entry.timestamp.bits()));
    }
    put_numbers(out, &containers);
    keys.put(out);
    put_values(out, Coding::Packed, values.iter().copied(), expansion);
    put_numbers(out, &writers);
    put_series(out, &seqs);
    put_times(out, &mut times);
}

/// Appends timestamps, each with the number of its replica and the sequence number, in the order
/// of these: as replicas write on, time goes on.
fn put_times(out: &mut Vec<u8>, times: &mut [(i64, u64, u64)]) {
    if times.windows(2).any(|pair| pair[0].2 != pair[1].2) {
        sort(times);
    }
    let times: Vec<u64> = times.iter().map(|(.., time)| *time).collect();
    put_series(out, &times);
}

/// Reads what [`put_times`] wrote, into entries whose dots are known.
fn read_times(reader: &mut Reader<'_>, entries: &mut [DeltaEntry]) -> Result<(), Fault> {
    let times = read_series(reader, entries.len())?;
    let alike = times.windows(2).all(|pair| pair[0] == pair[1]);
    let mut dots: Vec<(Dot, usize)> = Vec::new();
    if !alike {
        dots = entries.iter().map(|entry| entry.dot).zip(0..).collect();
        sort(&mut dots);
    }
    for (place, time) in times.into_iter().enumerate() {
        let at = dots.get(place).map_or(place, |(_, at)| *at);
        entries[at].timestamp = Timestamp::from_bits(time);
    }
    Ok(())
}

/// Keys, as in the plain form, each part in a column of its own.
#[derive(Default)]
struct PackedKeys {
    /// The bytes with both lengths.
    heads: Vec<u8>,
    /// What lengths exceed 15 by.
    long: Vec<i64>,
    /// The first own byte of each, less what the key before has in that place.
    steps: Vec<i64>,
    /// The other own bytes of all.
    rest: Vec<u8>,
}

impl PackedKeys {
    fn with_capacity(keys: usize) -> Self {
        Self {
            heads: Vec::with_capacity(keys),
            steps: Vec::with_capacity(keys),
            ..Self::default()
        }
    }

    #[inline]
    fn push(&mut self, before: Option<&Key>, key: &Key, expansion: &mut Expansion) {
        let mut room = Room::default();
        let Start {
            kind,
            text,
            shared,
            replaced,
        } = Start::of(before, key, &mut room);
        let own = 1 + text.len() - shared;
        expansion.add(Expansion::ENTRY + if own > 0 { 1 + text.len() as u64 } else { 0 });
        self.heads
            .push((shared.min(LONG) << 4 | own.min(LONG)) as u8);
        for length in [shared, own] {
            if length >= LONG {
                self.long.push((length - LONG) as i64);
            }
        }
        if own > 0 {
            let first = if shared == 0 { kind } else { text[shared - 1] };
            self.steps.push(i64::from(first) - i64::from(replaced));
            self.rest.extend_from_slice(&text[shared..]);
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_symbols(out, &self.heads);
        put_numbers(out, &self.long);
        put_numbers(out, &self.steps);
        put_symbols(out, &self.rest);
    }
}

/// Reads what [`put_entries`] wrote.
pub(crate) fn read_entries(
    reader: &mut Reader<'_>,
    applied: &DotSet,
    containers: &[DeltaContainer],
    expansion: &mut Expansion,
) -> Result<Entries, Fault> {
    let count = reader.varint()?;
    expansion.claim(count, Expansion::ENTRY)?;
    let count = count as usize;
    let nested = !containers.is_empty();
    let groups = read_numbers(reader, if nested { count } else { 0 })?;
    let known = |container: i64| (0..=containers.len() as i64).contains(&container);
    if !groups.groups().all(|(_, container)| known(container)) {
        return Err(reader.malformed("a container without a number"));
    }
    if !groups.groups().is_sorted_by(|a, b| a.1 <= b.1) {
        return Err(reader.malformed("containers out of order"));
    }
    let mut entries = Entries::with_capacity(count);
    let keys = ReadKeys::read(reader, count, expansion)?;
    keys.unpack(reader, &groups, &mut entries)?;
    let values = Values::read(reader, Coding::Packed, count, expansion)?;
    let mut places = entries.iter_mut();
    values.for_each(|value| {
        // proof: there are as many values as entries.
        if let Some(entry) = places.next() {
            entry.value = value;
        }
    });
    let replicas = replicas_of(applied);
    let writers = read_numbers(reader, count)?;
    let seqs = read_series(reader, count)?;
    for (entry, (writer, seq)) in entries.iter_mut().zip(writers.iter().zip(seqs)) {
        let writer = usize::try_from(writer).ok();
        let writer = writer.and_then(|number| replicas.get(number));
        let Some((replica, _)) = writer else {
            return Err(reader.malformed("a value without a replica among the applied ones"));
        };
        entry.dot = Dot::new(*replica, seq);
    }
    read_times(reader, &mut entries)?;
    check_entries(reader, applied, &entries)?;
    Ok(entries)
}

/// What [`PackedKeys`] wrote.
struct ReadKeys {
    heads: Vec<u8>,
    long: Numbers,
    steps: Numbers,
    rest: Vec<u8>,
}

impl ReadKeys {
    fn read(
        reader: &mut Reader<'_>,
        count: usize,
        expansion: &mut Expansion,
    ) -> Result<Self, Fault> {
        let heads = read_symbols(reader, count)?;
        let parts = heads.iter().flat_map(|head| [head >> 4, head & 15]);
        let long = parts.filter(|part| usize::from(*part) == LONG).count();
        let long = read_numbers(reader, long)?;
        let owning = heads.iter().filter(|head| *head & 15 > 0).count();
        let steps = read_numbers(reader, owning)?;
        for length in long.iter() {
            let (found, limit) = (length as u64, MAX_KEY_BYTES as u64);
            if found > limit {
                let what = "the length of a key";
                return Err(Fault::limit(what, found, limit));
            }
        }
        let lengths = lengths(&heads, &long).filter(|(_, own)| *own > 0);
        let (sum, rest) = lengths.fold((0, 0), |(sum, rest), (shared, own)| {
            (sum + (shared + own) as u64, rest + own - 1)
        });
        expansion.claim(sum, 1)?;
        let rest = read_symbols(reader, rest)?;
        Ok(Self {
            heads,
            long,
            steps,
            rest,
        })
    }

    /// Appends an entry for each key, with the containers that these numbers tell, or the root.
    fn unpack(
        &self,
        reader: &Reader<'_>,
        containers: &Numbers,
        entries: &mut Entries,
    ) -> Result<(), Fault> {
        let mut keys = Keys::default();
        let mut containers = containers.iter().chain(core::iter::repeat(0));
        let (mut steps, mut rest) = (self.steps.iter(), self.rest.as_slice());
        let mut bytes = SmallVec::<[u8; 64]>::new();
        for (shared, own) in lengths(&self.heads, &self.long) {
            let container = containers.next().unwrap_or(0) as u32;
            let mut above = entries.last();
            if above.is_some_and(|above| above.container != container) {
                (keys, above) = (Keys::default(), None);
            }
            bytes.clear();
            if own > 0 {
                let replaced = keys.current().get(shared).copied().unwrap_or(0);
                // proof: there are steps and other bytes for as many as the lengths tell.
                let first = i64::from(replaced).wrapping_add(steps.next().unwrap_or(0));
                let first = u8::try_from(first)
                    .map_err(|_| reader.malformed("a byte of a key out of bounds"))?;
                let (more, behind) = rest.split_at(own - 1);
                rest = behind;
                bytes.push(first);
                bytes.extend_from_slice(more);
            }
            let key = keys.follow(reader, shared, &bytes, above.map(|entry| &entry.key))?;
            entries.push(DeltaEntry {
                container,
                key,
                value: Value::Null,
                dot: Dot::new(ReplicaId::new(0), 0),
                timestamp: Timestamp::default(),
            });
        }
        Ok(())
    }
}

/// Of each key how many bytes it shares with the one before, and how many it has of its own.
fn lengths<'a>(heads: &'a [u8], long: &'a Numbers) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut long = long.iter();
    let mut part = move |part: u8| match usize::from(part) {
        LONG => LONG + long.next().unwrap_or(0) as usize,
        short => short,
    };
    heads
        .iter()
        .map(move |head| (part(head >> 4), part(head & 15)))
}
