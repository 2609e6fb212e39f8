//! Maps: what each engine has to do with them, and what of it is measured.

use std::collections::HashMap;

use super::{ms, same, size};
use crate::HeapProbe;
use crate::engine::Engine;
use crate::report::Measure;
use crate::stopwatch::Stopwatch;
use crate::workload::{Contents, Entry, entries, entries_with, mixed_overwrites, overwrites};

/// Keys that [`MapTask::Overwrite`] writes to in turn.
const OVERWRITTEN_KEYS: usize = 100;

/// A task on a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapTask {
    /// Sets in one transaction.
    SetBatch,
    /// The same, with a call for each.
    SetBatchCalls,
    /// Sets, each a transaction.
    SetEach,
    /// Reads of single keys, in the order of writing.
    Get,
    /// The same in another order.
    GetShuffled,
    /// The whole map to bytes and back.
    Snapshot,
    /// The same, where the bytes are to be few.
    SnapshotSmall,
    /// Updates of one set each, applied one by one to another replica.
    Update,
    /// Sets to the same few keys, each a transaction, key by key.
    Overwrite,
    /// The same in random order.
    OverwriteMixed,
    /// Removal of every key, in one transaction.
    Delete,
    /// Two replicas that wrote the same keys exchange what they have.
    Conflict,
    /// One update each from many replicas, applied one by one to one document.
    Clients,
}

impl MapTask {
    pub(crate) const ALL: [Self; 13] = [
        Self::SetBatch,
        Self::SetBatchCalls,
        Self::SetEach,
        Self::Get,
        Self::GetShuffled,
        Self::Snapshot,
        Self::SnapshotSmall,
        Self::Update,
        Self::Overwrite,
        Self::OverwriteMixed,
        Self::Delete,
        Self::Conflict,
        Self::Clients,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SetBatch => "map/set-batch",
            Self::SetBatchCalls => "map/set-batch-calls",
            Self::SetEach => "map/set-each",
            Self::Get => "map/get",
            Self::GetShuffled => "map/get-shuffled",
            Self::Snapshot => "map/snapshot",
            Self::SnapshotSmall => "map/snapshot-small",
            Self::Update => "map/update",
            Self::Overwrite => "map/overwrite",
            Self::OverwriteMixed => "map/overwrite-mixed",
            Self::Delete => "map/delete",
            Self::Conflict => "map/conflict",
            Self::Clients => "map/clients",
        }
    }

    /// How many operations its figures are for.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Update | Self::Conflict => 10_000,
            Self::Clients => 1_000,
            _ => 100_000,
        }
    }

    /// Whether what it leaves on the heap is a figure of its own.
    pub(crate) fn has_heap(self) -> bool {
        matches!(self, Self::SetBatch | Self::Delete) || self.writes().is_some()
    }

    /// The writes of `n` operations, where the task is to overwrite.
    fn writes(self) -> Option<fn(usize, usize) -> Vec<Entry>> {
        match self {
            Self::Overwrite => Some(overwrites),
            Self::OverwriteMixed => Some(mixed_overwrites),
            _ => None,
        }
    }
}

/// Does `n` operations of the task and tells times and sizes.
pub(crate) fn figures<E: Engine>(
    task: MapTask,
    n: usize,
    watch: &mut Stopwatch,
) -> anyhow::Result<Vec<Measure>> {
    match task {
        MapTask::SetBatch => set::<E>(n, watch, E::set_batch),
        MapTask::SetBatchCalls => set::<E>(n, watch, E::set_batch_calls),
        MapTask::SetEach => set::<E>(n, watch, E::set_each),
        MapTask::Get => get::<E>(&entries(n), watch),
        MapTask::GetShuffled => get::<E>(&entries_with(n, 2), watch),
        MapTask::Snapshot => snapshot::<E>(n, watch, E::snapshot, E::open),
        MapTask::SnapshotSmall => snapshot::<E>(n, watch, E::small_snapshot, E::open_small),
        MapTask::Update => update::<E>(n, watch),
        MapTask::Overwrite => overwrite::<E>(n, watch, overwrites),
        MapTask::OverwriteMixed => overwrite::<E>(n, watch, mixed_overwrites),
        MapTask::Delete => delete::<E>(n, watch),
        MapTask::Conflict => conflict::<E>(n, watch),
        MapTask::Clients => clients::<E>(n, watch),
    }
}

/// The heap that the task's document holds at its full size.
pub(crate) fn heap<E: Engine>(task: MapTask, probe: HeapProbe) -> anyhow::Result<Vec<Measure>> {
    let held = |n: usize| -> anyhow::Result<f64> {
        let writes = task.writes();
        let entries = writes.map_or_else(|| entries(n), |writes| writes(OVERWRITTEN_KEYS, n));
        let gone = keys(&entries);
        let before = probe();
        let mut map = E::new(1)?;
        if writes.is_some() {
            map.set_each(&entries)?;
        } else {
            map.set_batch(&entries)?;
        }
        if task == MapTask::Delete {
            map.unset_batch(&gone)?;
        }
        let held = probe() - before;
        // Read after the count, so that nothing can be dropped before it.
        map.contents()?;
        Ok(held as f64)
    };
    let full = held(task.size())?;
    let mut measures = vec![Measure::new("heap_bytes", full, "bytes")];
    if task.writes().is_some() {
        let growth = full / held(task.size() / 100)?;
        measures.push(Measure::new("heap_growth", growth, "ratio"));
    }
    Ok(measures)
}

fn set<E: Engine>(
    n: usize,
    watch: &mut Stopwatch,
    write: impl FnOnce(&mut E, &[Entry]) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(n);
    let mut map = E::new(1)?;
    let (time, ()) = watch.time(|| write(&mut map, &entries))?;
    same(&map.contents()?, &Contents::of(&entries))?;
    Ok(vec![ms("time_ms", time)])
}

fn get<E: Engine>(asked: &[Entry], watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(asked.len());
    let mut map = E::new(1)?;
    map.set_batch(&entries)?;
    let asked = keys(asked);
    let (time, sum) = watch.time(|| map.sum(&asked))?;
    same(&sum, &Contents::of(&entries).sum)?;
    Ok(vec![ms("time_ms", time)])
}

fn snapshot<E: Engine>(
    n: usize,
    watch: &mut Stopwatch,
    encode: fn(&mut E) -> anyhow::Result<Vec<u8>>,
    decode: fn(u64, &[u8]) -> anyhow::Result<E>,
) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(n);
    let mut map = E::new(1)?;
    map.set_batch(&entries)?;
    let (encode_ms, bytes) = watch.time(|| encode(&mut map))?;
    let (decode_ms, (_copy, contents)) = watch.time(|| {
        let copy = decode(2, &bytes)?;
        let contents = copy.contents()?;
        Ok((copy, contents))
    })?;
    same(&contents, &Contents::of(&entries))?;
    Ok(vec![
        ms("encode_ms", encode_ms),
        ms("decode_ms", decode_ms),
        size(bytes.len()),
    ])
}

fn update<E: Engine>(n: usize, watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(n);
    let (export, updates) = watch.time(|| E::new(1)?.updates(&entries))?;
    same(&updates.len(), &n)?;
    let mut map = E::new(2)?;
    let (apply, ()) = watch.time(|| updates.iter().try_for_each(|update| map.apply(update)))?;
    same(&map.contents()?, &Contents::of(&entries))?;
    let bytes: usize = updates.iter().map(Vec::len).sum();
    Ok(vec![
        Measure::new("bytes_per_op", bytes as f64 / n as f64, "bytes"),
        ms("apply_ms", apply),
        ms("export_ms", export),
    ])
}

fn overwrite<E: Engine>(
    n: usize,
    watch: &mut Stopwatch,
    writes: fn(usize, usize) -> Vec<Entry>,
) -> anyhow::Result<Vec<Measure>> {
    let mut written = |n: usize| -> anyhow::Result<(f64, usize)> {
        let writes = writes(OVERWRITTEN_KEYS, n);
        let mut map = E::new(1)?;
        let (time, ()) = watch.time(|| map.set_each(&writes))?;
        let last: HashMap<&str, &Entry> = writes.iter().map(|w| (w.key.as_str(), w)).collect();
        same(&map.contents()?, &Contents::of(last.into_values()))?;
        Ok((time, map.snapshot()?.len()))
    };
    let (time, bytes) = written(n)?;
    let (_, fewer) = written((n / 100).max(OVERWRITTEN_KEYS))?;
    Ok(vec![
        ms("time_ms", time),
        size(bytes),
        Measure::new("bytes_growth", bytes as f64 / fewer as f64, "ratio"),
    ])
}

fn delete<E: Engine>(n: usize, watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(n);
    let mut map = E::new(1)?;
    map.set_batch(&entries)?;
    let gone = keys(&entries_with(n, 2));
    let (time, ()) = watch.time(|| map.unset_batch(&gone))?;
    same(&map.contents()?, &Contents::default())?;
    Ok(vec![ms("time_ms", time), size(map.snapshot()?.len())])
}

fn conflict<E: Engine>(n: usize, watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let mut left = E::new(1)?;
    left.set_batch(&entries_with(n, 1))?;
    let mut right = E::new(2)?;
    right.set_batch(&entries_with(n, 2))?;
    let (time, bytes) = watch.time(|| {
        let from_left = left.export()?;
        let from_right = right.export()?;
        left.import(&from_right)?;
        right.import(&from_left)?;
        Ok(from_left.len() + from_right.len())
    })?;
    let contents = left.contents()?;
    same(&contents.keys, &n)?;
    same(&contents, &right.contents()?)?;
    Ok(vec![ms("time_ms", time), size(bytes)])
}

fn clients<E: Engine>(n: usize, watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let entries = entries(n);
    let mut updates = Vec::with_capacity(n);
    for (client, entry) in (1..).zip(&entries) {
        updates.append(&mut E::new(client)?.updates(std::slice::from_ref(entry))?);
    }
    let mut map = E::new(0)?;
    let (time, ()) = watch.time(|| updates.iter().try_for_each(|update| map.apply(update)))?;
    same(&map.contents()?, &Contents::of(&entries))?;
    Ok(vec![ms("time_ms", time)])
}

fn keys(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.key.clone()).collect()
}
