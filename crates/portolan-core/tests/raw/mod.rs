//! Deltas by hand, byte by byte as `docs/format.md` says, whatever they mean.

use xxhash_rust::xxh3::xxh3_64;

/// Ranges of one replica's operations.
pub(crate) type Dots = Vec<(u64, Vec<(u64, u64)>)>;

/// A value under a string key: an integer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: i64,
    /// Index among the replicas of `applied`.
    pub(crate) writer: u64,
    pub(crate) seq: u64,
    pub(crate) time: u64,
}

impl Entry {
    pub(crate) fn new(key: &str, writer: u64, seq: u64, time: u64) -> Self {
        let (key, value) = (key.as_bytes().to_vec(), 1);
        Self {
            key,
            value,
            writer,
            seq,
            time,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Raw {
    pub(crate) applied: Dots,
    pub(crate) dead: Dots,
    pub(crate) entries: Vec<Entry>,
    /// Most sort bytes that a key shares with the one before; 0 for what the format says.
    pub(crate) share: usize,
}

pub(crate) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn zigzag(out: &mut Vec<u8>, n: u64) {
    let n = n as i64;
    varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

fn dots(out: &mut Vec<u8>, dots: &Dots) {
    varint(out, dots.len() as u64);
    for (replica, ranges) in dots {
        out.extend_from_slice(&replica.to_le_bytes());
        varint(out, ranges.len() as u64);
        let mut next = 1;
        for (first, last) in ranges {
            varint(out, first - next);
            varint(out, last - first);
            next = last.wrapping_add(1);
        }
    }
}

fn runs(out: &mut Vec<u8>, items: &[u64]) {
    for run in items.chunk_by(|a, b| a == b) {
        varint(out, run.len() as u64);
        varint(out, run[0]);
    }
}

impl Raw {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        dots(&mut out, &self.applied);
        dots(&mut out, &self.dead);
        varint(&mut out, 0);
        varint(&mut out, self.entries.len() as u64);
        let most = if self.share > 0 { self.share } else { 128 };
        let mut before: Vec<u8> = Vec::new();
        for entry in &self.entries {
            let key = [&[5], entry.key.as_slice()].concat();
            let common = before.iter().zip(&key).take_while(|(a, b)| a == b).count();
            let shared = if key == before {
                common
            } else {
                common.min(most)
            };
            let own = key.len() - shared;
            out.push((shared.min(15) << 4 | own.min(15)) as u8);
            for length in [shared, own] {
                if length >= 15 {
                    varint(&mut out, length as u64 - 15);
                }
            }
            out.extend_from_slice(&key[shared..]);
            before = key;
        }
        runs(&mut out, &vec![3; self.entries.len()]);
        for entry in &self.entries {
            zigzag(&mut out, entry.value as u64);
        }
        let writers: Vec<u64> = self.entries.iter().map(|entry| entry.writer).collect();
        runs(&mut out, &writers);
        let first = self.entries.first();
        let mut seq = first.map_or(0, |entry| self.applied[entry.writer as usize].1[0].0);
        for entry in &self.entries {
            zigzag(&mut out, entry.seq.wrapping_sub(seq));
            seq = entry.seq;
        }
        let times: Vec<u64> = self.entries.iter().map(|entry| entry.time).collect();
        let changes = times.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mut time = 0;
        if changes * 2 < times.len() {
            out.push(1);
            for run in times.chunk_by(|a, b| a == b) {
                varint(&mut out, run.len() as u64);
                zigzag(&mut out, run[0].wrapping_sub(time));
                time = run[0];
            }
        } else {
            out.push(0);
            for now in times {
                zigzag(&mut out, now.wrapping_sub(time));
                time = now;
            }
        }
        seal(out)
    }
}

/// Appends the checksum.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64(&bytes) as u32;
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}
