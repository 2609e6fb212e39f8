//! Entries and snapshots: sections, each with its own checksum.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::codec::{Reader, check_checksum, put_varint, read_dots};
use crate::delta::Delta;
use crate::dots::DotSet;
use crate::error::DecodeError;
use crate::sync::members::{Table, read_table};

/// The format of entries and snapshots.
const FORMAT: u8 = 1;
/// The delta of one transaction: for everybody.
pub(super) const LIVE: u8 = 1;
/// A delta for those who have read all that precedes it.
pub(super) const CATCH_UP: u8 = 2;
/// A table of members.
pub(super) const MEMBERS: u8 = 3;
/// Operations in a snapshot that no entry brings so far: who follows the entries lacks them.
pub(super) const AHEAD: u8 = 4;

/// What an entry or a snapshot says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) deltas: Vec<(Delta, Bytes, bool)>,
    pub(super) tables: Vec<Table>,
    pub(super) ahead: DotSet,
}

impl Content {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(reader
                .malformed("an entry of the bus of an unknown format")
                .into());
        }
        let mut content = Self::default();
        while reader.remaining() > 0 {
            let kind = reader.byte()?;
            let len = reader.bounded("the length of a section", bytes.len() as u64)?;
            let section = reader.take(len)?;
            match kind {
                LIVE | CATCH_UP => {
                    let delta = Delta::decode(section)?;
                    let bytes = Bytes::copy_from_slice(section);
                    content.deltas.push((delta, bytes, kind == LIVE));
                }
                MEMBERS => {
                    let mut table = Reader::new(check_checksum(section)?);
                    content.tables.push(read_table(&mut table)?.0);
                    table.finish()?;
                }
                AHEAD => {
                    let mut dots = Reader::new(check_checksum(section)?);
                    content.ahead = read_dots(&mut dots)?;
                    dots.finish()?;
                }
                _ => {
                    return Err(reader
                        .malformed("an unknown section of an entry of the bus")
                        .into());
                }
            }
        }
        Ok(content)
    }
}

/// Appends a section: its kind, its length, its bytes, which end in a checksum.
pub(super) fn put_section(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    if out.is_empty() {
        out.push(FORMAT);
    }
    out.push(kind);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
