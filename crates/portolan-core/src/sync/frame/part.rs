//! Deltas that are too large for one frame, in pieces.

use bytes::Bytes;

use super::{PART, frame};
use crate::codec::{Reader, put_varint};
use crate::error::DecodeError;

/// A piece of the bytes of a delta.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sync) struct Part {
    /// Numbers the deltas of a session that are sent in pieces, from 1.
    pub(in crate::sync) transfer: u64,
    pub(in crate::sync) purpose: Purpose,
    /// The length of the delta's bytes.
    pub(in crate::sync) total: u64,
    /// Where in them this piece belongs.
    pub(in crate::sync) offset: u64,
    pub(in crate::sync) bytes: Bytes,
}

/// What a delta in pieces is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Purpose {
    /// What the receiver lacks.
    CatchUp = 0,
    /// A state to repair with: what the sender holds where states differ.
    Repair = 1,
    /// The whole state, to go on from: the receiver holds what was let go of.
    Anew = 2,
}

pub(in crate::sync) fn part(handle: u32, part: &Part) -> Bytes {
    frame(PART, handle, part.bytes.len(), |out| {
        put_varint(out, part.transfer);
        out.push(part.purpose as u8);
        put_varint(out, part.total);
        put_varint(out, part.offset);
        out.extend_from_slice(&part.bytes);
    })
}

/// The piece reaches to the end of `content`, which is what `reader` reads.
pub(super) fn read_part(reader: &mut Reader<'_>, content: &Bytes) -> Result<Part, DecodeError> {
    let transfer = reader.varint()?;
    let purpose = match reader.byte()? {
        0 => Purpose::CatchUp,
        1 => Purpose::Repair,
        2 => Purpose::Anew,
        _ => return Err(reader.malformed("pieces of an unknown kind").into()),
    };
    let total = reader.varint()?;
    let offset = reader.varint()?;
    let bytes = content.slice(content.len() - reader.remaining()..);
    let end = offset.checked_add(bytes.len() as u64);
    if bytes.is_empty() || end.is_none_or(|end| end > total) {
        return Err(reader.malformed("a piece outside of its delta").into());
    }
    Ok(Part {
        transfer,
        purpose,
        total,
        offset,
        bytes,
    })
}
