//! A log as Redis keeps it, and what stands in it.

use bytes::Bytes;
use portolan_core::{Delta, Document, ReplicaId, Version};

/// The log, as Redis keeps it.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) epoch: u64,
    /// The number of the first entry that is left.
    pub(super) first: u64,
    /// Who appended it, his number for it, and its content.
    pub(super) entries: Vec<(usize, u64, Bytes)>,
    pub(super) snapshot: Option<(u64, Bytes)>,
}

impl Log {
    pub(super) fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub(super) fn append(&mut self, server: usize, number: u64, entry: Bytes) -> u64 {
        self.entries.push((server, number, entry));
        self.last()
    }

    pub(super) fn entry(&self, place: u64) -> Option<&(usize, u64, Bytes)> {
        let at = place.checked_sub(self.first)?;
        self.entries.get(at as usize)
    }
}

/// What an entry brings, in a document that lets go of nothing.
pub(super) fn apply(document: &mut Document, content: &[u8]) {
    // Its format, then sections: kind, length, bytes.
    let mut rest = &content[1..];
    while let Some((kind, after)) = rest.split_first() {
        let (len, at) = varint(after);
        let (section, after) = after[at..].split_at(len);
        if *kind < 3 {
            document.apply(&Delta::decode(section).unwrap());
        }
        rest = after;
    }
}

pub(super) fn varint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    panic!("a number without an end");
}

/// The last operation of a replica in a version.
pub(super) fn of(version: &Version, replica: ReplicaId) -> u64 {
    let ranges = version
        .ranges()
        .iter()
        .filter(|range| range.replica == replica);
    ranges.map(|range| range.last).max().unwrap_or(0)
}
