//! What a store says of itself and of each map, and its bytes.
//!
//! The store's file is one redb database with four tables:
//!
//! | table | key | value |
//! |---|---|---|
//! | `portolan` | `"header"` | [`Header`] |
//! | `documents` | document number | [`Record`] |
//! | `snapshots` | (document number, piece) | a piece of the whole state, as a delta's bytes |
//! | `logs` | (document number, piece) | deltas of one commit, each a length (4 bytes) and its bytes |
//!
//! Integers are little-endian. Every value ends in the XXH3 hash of what precedes it, seeded by
//! its table and key, so that a piece cannot stand in for another; a record says which pieces
//! there must be, and the header how many records.

use portolan_core::ReplicaId;
use portolan_core::limits::MAX_NAME_BYTES;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The format that this release writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
const MAGIC: &[u8; 4] = b"PTLN";
const CHECKSUM_BYTES: usize = 8;

/// Tables whose rows carry a checksum, as part of its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Header = 1,
    Documents = 2,
    Snapshots = 3,
    Logs = 4,
    Members = 5,
}

/// The one row about the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The id under which the node writes in maps that have no record yet.
    pub(super) replica: ReplicaId,
    /// How many records there are; they are numbered from 0.
    pub(super) documents: u64,
}

/// Why a header could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged,
    Newer(u32),
}

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.replica.get().to_le_bytes());
        out.extend_from_slice(&self.documents.to_le_bytes());
        seal(&mut out, Table::Header, (0, 0));
        out
    }

    /// The magic and the format stand first in every format, and are read before anything else.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut at = Cursor(bytes);
        let magic = at.take(4).ok_or(HeaderFault::Damaged)?;
        let format = at.u32().ok_or(HeaderFault::Damaged)?;
        if magic != MAGIC || format == 0 {
            return Err(HeaderFault::Damaged);
        }
        if format > FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        let body = open(bytes, Table::Header, (0, 0)).ok_or(HeaderFault::Damaged)?;
        let mut at = Cursor(&body[8..]);
        let fields = at.u64().zip(at.u64()).filter(|_| at.0.is_empty());
        let (replica, documents) = fields.ok_or(HeaderFault::Damaged)?;
        Ok(Self {
            replica: ReplicaId::new(replica),
            documents,
        })
    }
}

/// Pieces numbered from `first` up to, but without, `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) next: u64,
    /// Bytes of deltas in them.
    pub(super) bytes: u64,
}

/// What the store has of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    /// The id under which the node writes in this map.
    pub(super) replica: ReplicaId,
    pub(super) snapshot: Run,
    /// Deltas since the snapshot.
    pub(super) log: Run,
}

impl Record {
    pub(super) fn new(name: &str, replica: ReplicaId) -> Self {
        Self {
            name: name.to_owned(),
            replica,
            snapshot: Run::default(),
            log: Run::default(),
        }
    }

    pub(super) fn encode(&self, document: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.name.len() + 72);
        // Names have at most 512 bytes.
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.replica.get().to_le_bytes());
        for run in [self.snapshot, self.log] {
            for number in [run.first, run.next, run.bytes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        seal(&mut out, Table::Documents, (document, 0));
        out
    }

    pub(super) fn decode(bytes: &[u8], document: u64) -> Option<Self> {
        let mut at = Cursor(open(bytes, Table::Documents, (document, 0))?);
        let name_bytes = usize::from(at.u16()?);
        if !(1..=MAX_NAME_BYTES).contains(&name_bytes) {
            return None;
        }
        let name = std::str::from_utf8(at.take(name_bytes)?).ok()?.to_owned();
        let replica = ReplicaId::new(at.u64()?);
        let mut run = || {
            let (first, next, bytes) = (at.u64()?, at.u64()?, at.u64()?);
            (first <= next).then_some(Run { first, next, bytes })
        };
        let (snapshot, log) = (run()?, run()?);
        at.0.is_empty().then_some(Self {
            name,
            replica,
            snapshot,
            log,
        })
    }
}

/// Appends the checksum of a row.
pub(super) fn seal(row: &mut Vec<u8>, table: Table, key: (u64, u64)) {
    let checksum = checksum(row, table, key);
    row.extend_from_slice(&checksum.to_le_bytes());
}

/// A row without its checksum, if that is right.
pub(super) fn open(row: &[u8], table: Table, key: (u64, u64)) -> Option<&[u8]> {
    let (content, sum) = row.split_last_chunk::<CHECKSUM_BYTES>()?;
    (checksum(content, table, key) == u64::from_le_bytes(*sum)).then_some(content)
}

fn checksum(content: &[u8], table: Table, (document, piece): (u64, u64)) -> u64 {
    let mut place = [0; 17];
    place[0] = table as u8;
    place[1..9].copy_from_slice(&document.to_le_bytes());
    place[9..].copy_from_slice(&piece.to_le_bytes());
    xxh3_64_with_seed(content, xxh3_64_with_seed(&place, 0))
}

/// Appends a delta to a piece of a log.
pub(super) fn put_delta(piece: &mut Vec<u8>, delta: &[u8]) {
    // A delta of 4 GiB does not fit the store, which refuses it before.
    piece.extend_from_slice(&(delta.len() as u32).to_le_bytes());
    piece.extend_from_slice(delta);
}

/// The deltas of a piece of a log; `None` stands for damage and is the last.
pub(super) fn deltas(piece: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut at = Cursor(piece);
    std::iter::from_fn(move || {
        if at.0.is_empty() {
            return None;
        }
        let delta = at.u32().and_then(|len| at.take(len as usize));
        if delta.is_none() {
            at = Cursor(&[]);
        }
        Some(delta)
    })
}

/// Reads from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            name: "fleet/é".into(),
            replica: ReplicaId::new(7),
            snapshot: Run {
                first: 3,
                next: 5,
                bytes: 1_000,
            },
            log: Run {
                first: 9,
                next: 9,
                bytes: 0,
            },
        }
    }

    #[test]
    fn rows_return_as_they_went_and_in_their_place_only() {
        let header = Header {
            replica: ReplicaId::new(u64::MAX),
            documents: 4,
        };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert_eq!(Record::decode(&record().encode(2), 2), Some(record()));
        assert_eq!(Record::decode(&record().encode(2), 3), None);
    }

    /// The bytes of version 1. Where one of these must change, so must [`FORMAT`].
    #[test]
    fn rows_keep_their_bytes() {
        let header = Header {
            replica: ReplicaId::new(0x0102_0304_0506_0708),
            documents: 4,
        };
        let mut piece = Vec::new();
        put_delta(&mut piece, b"one");
        seal(&mut piece, Table::Logs, (2, 9));
        let rows = [header.encode(), record().encode(2), piece];
        let rows = rows.map(|row| format!("{:x}", bytes::Bytes::from(row)));
        let golden = [
            "50544c4e01000000080706050403020104000000000000009d2bd7d1fd927fbb",
            "0800666c6565742fc3a90700000000000000030000000000000005000000\
             00000000e803000000000000090000000000000009000000000000000000\
             0000000000009fdefbdd3af0e3e8",
            "030000006f6e65bc3f09c26566bf39",
        ];
        assert_eq!(rows, golden);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = record().encode(2);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&damaged, 2), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..len], 2), None, "{len} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let header = Header {
            replica: ReplicaId::new(1),
            documents: 0,
        };
        let mut bytes = header.encode();
        bytes[4] = 9;
        assert_eq!(Header::decode(&bytes), Err(HeaderFault::Newer(9)));
        bytes[0] = 0;
        assert_eq!(Header::decode(&bytes), Err(HeaderFault::Damaged));
        assert_eq!(Header::decode(&[]), Err(HeaderFault::Damaged));
    }

    #[test]
    fn a_piece_gives_its_deltas_and_its_damage() {
        let mut piece = Vec::new();
        put_delta(&mut piece, b"one");
        put_delta(&mut piece, b"");
        let all: Vec<_> = deltas(&piece).collect();
        assert_eq!(all, [Some(&b"one"[..]), Some(&b""[..])]);
        let all: Vec<_> = deltas(&piece[..5]).collect();
        assert_eq!(all, [None]);
    }
}
