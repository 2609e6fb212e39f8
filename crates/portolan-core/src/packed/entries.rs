//! The values of maps, sets and counters, packed.

use alloc::vec::Vec;

use crate::few::SmallVec;

use super::columns::{
    Groups, Numbers, put_numbers, put_series, put_symbols, read_numbers, read_series, read_symbols,
};
use super::{Coding, Expansion, ValueColumns, Values};
use crate::clock::Timestamp;
use crate::codec::{Reader, put_word};
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
    entries: impl ExactSizeIterator<Item = EntryRef<'a>>,
    replicas: &[(ReplicaId, u64)],
    nested: bool,
    expansion: &mut Expansion,
) {
    let mut columns = EntryColumns::new(replicas, entries.len(), expansion);
    let mut containers = Groups::default();
    let mut before: Option<(u32, &Key)> = None;
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
            let key = before.filter(|(container, _)| *container == entry.container);
            columns.push_key(key.map(|(_, key)| key), entry.key);
            before = Some((entry.container, entry.key));
            if nested {
                containers.push(entry.container.into());
            }
            columns.values.push(entry.value);
            columns.push_operation(entry.dot, entry.timestamp);
        }
    }
    containers.put(out);
    columns.put(out);
}

/// Values of maps, sets and counters on their way into bytes, but for their containers.
pub(crate) struct EntryColumns<'a> {
    replicas: &'a [(ReplicaId, u64)],
    expansion: &'a mut Expansion,
    keys: PackedKeys,
    pub(crate) values: ValueColumns,
    writers: Groups,
    seqs: Vec<u64>,
    times: Vec<u64>,
    /// The last one, and its place among the replicas.
    writer: Option<(ReplicaId, usize)>,
}

impl<'a> EntryColumns<'a> {
    /// For so many values of operations of these replicas.
    pub(crate) fn new(
        replicas: &'a [(ReplicaId, u64)],
        count: usize,
        expansion: &'a mut Expansion,
    ) -> Self {
        Self {
            replicas,
            expansion,
            keys: PackedKeys::with_capacity(count),
            values: ValueColumns::new(Coding::Packed),
            writers: Groups::default(),
            seqs: Vec::with_capacity(count),
            times: Vec::with_capacity(count),
            writer: None,
        }
    }

    /// A key, and the one before in its container.
    #[inline]
    pub(crate) fn push_key(&mut self, before: Option<&Key>, key: &Key) {
        let mut room = Room::default();
        let Start {
            kind,
            text,
            shared,
            replaced,
        } = Start::of(before, key, &mut room);
        let own = 1 + text.len() - shared;
        self.keys.push_lengths(shared, own, self.expansion);
        if own > 0 {
            let first = if shared == 0 { kind } else { text[shared - 1] };
            self.keys.steps.push(i64::from(first) - i64::from(replaced));
            self.keys.rest.extend_from_slice(&text[shared..]);
        }
    }

    /// A key that is a text as the one before, of which it shares the first `shared` bytes, and has
    /// `own` others, eight at the most, the first of `end`, a big-endian number; where these stand,
    /// the text before has those of `replaced`, and zeros behind its end.
    #[inline]
    pub(crate) fn push_text_end(&mut self, shared: usize, end: u64, own: usize, replaced: u64) {
        self.keys.push_lengths(1 + shared, own, self.expansion);
        if own > 0 {
            let [first, replaced] = [end, replaced].map(|word| i64::from((word >> 56) as u8));
            self.keys.steps.push(first - replaced);
            put_word(&mut self.keys.rest, end.swap_bytes() >> 8, own - 1);
        }
    }

    /// The operation that wrote the value.
    #[inline]
    pub(crate) fn push_operation(&mut self, dot: Dot, timestamp: Timestamp) {
        let number = match self.writer {
            Some((replica, number)) if replica == dot.replica => number,
            // proof: the dot of an entry is always among the applied ones.
            _ => self
                .replicas
                .partition_point(|(replica, _)| *replica < dot.replica),
        };
        self.writer = Some((dot.replica, number));
        self.writers.push(number as i64);
        self.seqs.push(dot.seq);
        self.times.push(timestamp.bits());
    }

    /// Appends all.
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        self.keys.put(out);
        self.values.put(out, self.expansion);
        self.writers.put(out);
        put_series(out, &self.seqs);
        put_times(out, &self.writers, &self.seqs, self.times);
    }
}

/// Appends timestamps in the order of the numbers of their replicas and of the sequence numbers: as
/// replicas write on, time goes on.
fn put_times(out: &mut Vec<u8>, writers: &Groups, seqs: &[u64], mut times: Vec<u64>) {
    if times.windows(2).any(|pair| pair[0] != pair[1]) {
        let writers = writers.iter();
        let writers = writers.flat_map(|(length, writer)| core::iter::repeat_n(writer, length));
        let operations = writers.zip(seqs).zip(&times);
        let mut operations: Vec<(i64, u64, u64)> = operations
            .map(|((writer, seq), time)| (writer, *seq, *time))
            .collect();
        sort(&mut operations);
        times.clear();
        times.extend(operations.iter().map(|(.., time)| time));
    }
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

    /// How many sort bytes a key shares with the one before, and how many it has of its own.
    #[inline]
    fn push_lengths(&mut self, shared: usize, own: usize, expansion: &mut Expansion) {
        let bytes = if own > 0 { shared + own } else { 0 };
        expansion.add(Expansion::ENTRY + bytes as u64);
        self.heads
            .push((shared.min(LONG) << 4 | own.min(LONG)) as u8);
        for length in [shared, own] {
            if length >= LONG {
                self.long.push((length - LONG) as i64);
            }
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
        for (shared, own) in lengths(&self.heads, &self.long) {
            let container = containers.next().unwrap_or(0) as u32;
            let mut above = entries.last();
            if above.is_some_and(|above| above.container != container) {
                (keys, above) = (Keys::default(), None);
            }
            let mut bytes = None;
            if own > 0 {
                let replaced = keys.current().get(shared).copied().unwrap_or(0);
                // proof: there are steps and other bytes for as many as the lengths tell.
                let first = i64::from(replaced).wrapping_add(steps.next().unwrap_or(0));
                let first = u8::try_from(first)
                    .map_err(|_| reader.malformed("a byte of a key out of bounds"))?;
                let (more, behind) = rest.split_at(own - 1);
                rest = behind;
                bytes = Some((first, more));
            }
            let key = keys.follow(reader, shared, bytes, above.map(|entry| &entry.key))?;
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
