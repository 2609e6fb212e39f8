//! What borrower and lender say to each other, and its bytes.

use alloc::vec::Vec;

use bytes::Bytes;

use super::super::frame;
use crate::clock::Timestamp;
use crate::codec::{Reader, put_varint};
use crate::error::DecodeError;
use crate::replica::ReplicaId;

/// An id under which nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Spare {
    pub(in crate::sync) replica: ReplicaId,
    /// The number of its last operation, at least 1.
    pub(in crate::sync) seq: u64,
    /// When that was done, at the latest: what follows is to be stamped later.
    pub(in crate::sync) latest: Timestamp,
}

/// What is said about loans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Message {
    /// Asks for an id whose last operation is older than `first`. The questions of a session are
    /// numbered from 1; the same one may be asked again.
    Ask { number: u64, first: Timestamp },
    /// The answer to a question: an id, or none.
    Offer { number: u64, spare: Option<Spare> },
    /// Whatever is offered for this question is not taken.
    Decline { number: u64 },
    /// The sender goes on under another id.
    Rename(Rename),
}

/// The sender goes on under another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Rename {
    /// Counts the changes of id, from 1: one that is late is of no interest.
    pub(in crate::sync) number: u64,
    pub(in crate::sync) old: ReplicaId,
    pub(in crate::sync) new: ReplicaId,
    /// The old id is given back to the receiver.
    pub(in crate::sync) back: Option<Back>,
}

/// How far an id that is given back was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Back {
    /// The number of its last operation, at least 1.
    pub(in crate::sync) seq: u64,
    /// When that was done.
    pub(in crate::sync) latest: Timestamp,
}

const ASK: u8 = 1;
const OFFER: u8 = 2;
const OFFER_NONE: u8 = 3;
const DECLINE: u8 = 4;
const RENAME: u8 = 5;
const RENAME_BACK: u8 = 6;

/// A frame that says it.
pub(in crate::sync) fn encode(handle: u32, message: &Message) -> Bytes {
    frame::frame(frame::LOAN, handle, 48, |out| match *message {
        Message::Ask { number, first } => {
            out.push(ASK);
            put_varint(out, number);
            put_time(out, first);
        }
        Message::Offer { number, spare } => {
            out.push(if spare.is_some() { OFFER } else { OFFER_NONE });
            put_varint(out, number);
            if let Some(spare) = spare {
                put_id(out, spare.replica);
                put_varint(out, spare.seq);
                put_time(out, spare.latest);
            }
        }
        Message::Decline { number } => {
            out.push(DECLINE);
            put_varint(out, number);
        }
        Message::Rename(rename) => {
            out.push(if rename.back.is_some() {
                RENAME_BACK
            } else {
                RENAME
            });
            put_varint(out, rename.number);
            put_id(out, rename.old);
            put_id(out, rename.new);
            if let Some(back) = rename.back {
                put_varint(out, back.seq);
                put_time(out, back.latest);
            }
        }
    })
}

/// The content of such a frame.
pub(in crate::sync) fn read(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let kind = reader.byte()?;
    if !(ASK..=RENAME_BACK).contains(&kind) {
        return Err(reader.malformed("an unknown message about loans").into());
    }
    let number = reader.varint()?;
    Ok(match kind {
        ASK => Message::Ask {
            number,
            first: read_time(reader)?,
        },
        OFFER => Message::Offer {
            number,
            spare: Some(Spare {
                replica: ReplicaId::new(reader.u64_le()?),
                seq: read_seq(reader)?,
                latest: read_time(reader)?,
            }),
        },
        OFFER_NONE => Message::Offer {
            number,
            spare: None,
        },
        DECLINE => Message::Decline { number },
        _ => Message::Rename(Rename {
            number,
            old: ReplicaId::new(reader.u64_le()?),
            new: ReplicaId::new(reader.u64_le()?),
            back: match kind {
                RENAME => None,
                _ => Some(Back {
                    seq: read_seq(reader)?,
                    latest: read_time(reader)?,
                }),
            },
        }),
    })
}

fn put_id(out: &mut Vec<u8>, id: ReplicaId) {
    out.extend_from_slice(&id.get().to_le_bytes());
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.bits().to_le_bytes());
}

fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
    Ok(Timestamp::from_bits(reader.u64_le()?))
}

fn read_seq(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.varint()? {
        0 => Err(reader.malformed("an id without operations").into()),
        seq => Ok(seq),
    }
}
