//! Frames: what two replicas say to each other, and its bytes.

mod comparison;
mod hello;
mod part;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

pub(super) use self::comparison::{compare, compared};
use self::comparison::{read_compare, read_compared};
pub(super) use self::hello::hello;
use self::hello::read_hello;
pub use self::hello::{Access, Hello};
use self::part::read_part;
pub(super) use self::part::{Part, Purpose, part};
use super::error::{ErrorCode, ProtocolError};
use super::loans;
use super::news::News;
use super::search::{Compare, Compared};
use crate::codec::{
    Reader, check_checksum, put_bytes, put_checksum, put_dots, put_varint, read_dots,
};
use crate::compact::Context;
use crate::delta::Delta;
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;
use crate::limits::{MAX_CONTEXTS, MAX_FRAME_BYTES, MAX_NAME_BYTES};
use crate::replica::ReplicaId;

/// The version of the protocol that this release speaks.
pub const PROTOCOL: u16 = 4;
/// Most bytes of credentials: a token is far smaller, and they arrive before they are checked.
pub(super) const MAX_CREDENTIALS_BYTES: usize = 16 * 1024;
/// Most bytes of one presence state: it is relayed to everybody whenever it changes.
pub(super) const MAX_PRESENCE_BYTES: usize = 64 * 1024;
/// Most bytes of the words in an error frame: they go to a log.
const MAX_ERROR_BYTES: usize = 1024;
/// Longest version of a document, in bytes: a digest tells it and, in the worst case, as much
/// again. Some two hundred thousand replicas.
pub(super) const MAX_VERSION_BYTES: usize = MAX_FRAME_BYTES / 2 - 64 * 1024;
/// What one range of dots takes at the most: an id, three integers, its share of the counts.
pub(super) const MAX_RANGE_BYTES: usize = 8 + 3 * 10;
/// What a frame has around its content at most: type, handle, numbers of a part, checksum.
const MAX_OVERHEAD_BYTES: usize = 64;
/// The largest piece of a delta that a frame can carry.
pub(super) const MAX_CHUNK_BYTES: usize = MAX_FRAME_BYTES - MAX_OVERHEAD_BYTES;

/// A frame that was decoded and checked: a message about one document.
///
/// On a connection that carries several documents, each side numbers them as it likes, tells its
/// number (the handle) with its hello, and puts it on every frame after.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    handle: u32,
    pub(super) message: Message,
}

impl Frame {
    /// Checks and reads one frame. Costs the decoding of the delta in it.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept, in slices")]
    pub fn decode(bytes: Bytes) -> Result<Frame, ProtocolError> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(ProtocolError::FrameTooLong(bytes.len()));
        }
        if bytes.first() == Some(&UPDATE) {
            return Self::decode_update(&bytes);
        }
        let content = check_checksum(&bytes)?;
        let end = content.len();
        let mut reader = Reader::new(content);
        let kind = reader.byte()?;
        let handle = read_handle(&mut reader)?;
        let message = match kind {
            HELLO => Message::Hello(read_hello(&mut reader)?),
            DELTA => {
                let bytes = bytes.slice(end - reader.remaining()..end);
                let delta = Delta::decode(&bytes)?;
                let message = Message::Delta { delta, bytes };
                return Ok(Frame { handle, message });
            }
            PART => {
                let message = Message::Part(read_part(&mut reader, &bytes.slice(..end))?);
                return Ok(Frame { handle, message });
            }
            ACK => Message::Ack(read_dots(&mut reader)?),
            WANT => Message::Want(read_dots(&mut reader)?),
            DIGEST => Message::Digest(read_digest(&mut reader)?),
            REPAIR => Message::Repair(read_dots(&mut reader)?),
            COMPARE => Message::Compare(read_compare(&mut reader)?),
            COMPARED => Message::Compared(read_compared(&mut reader)?),
            CONTEXTS => Message::Contexts(read_contexts(&mut reader)?),
            PRESENCE => Message::Presence(read_presence(&mut reader)?),
            MEMBERS => Message::Members(News::read(&mut reader)?),
            MISSED => Message::Missed,
            ANEW => Message::Anew,
            CREDENTIALS => Message::Credentials(read_credentials(&mut reader)?),
            ERROR => Message::Error(read_error(&mut reader)?),
            LOAN => Message::Loan(loans::read(&mut reader)?),
            unknown => return Err(ProtocolError::UnknownType(unknown)),
        };
        reader.finish()?;
        Ok(Frame { handle, message })
    }

    /// An update has a checksum of its own, that of what comes out: it is compared there.
    fn decode_update(bytes: &Bytes) -> Result<Frame, ProtocolError> {
        let mut reader = Reader::new(bytes);
        reader.byte()?;
        let handle = read_handle(&mut reader)?;
        let message = Message::Update(bytes.slice(bytes.len() - reader.remaining()..));
        Ok(Frame { handle, message })
    }

    /// The sender's number for the document.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The hello, if it is one.
    pub fn hello(&self) -> Option<&Hello> {
        match &self.message {
            Message::Hello(hello) => Some(hello),
            _ => None,
        }
    }

    /// The error, if it is one. It names its document, since the sender may have had no handle
    /// for it.
    pub fn error(&self) -> Option<&ErrorFrame> {
        match &self.message {
            Message::Error(error) => Some(error),
            _ => None,
        }
    }

    /// The kind of message in one word, for logs.
    pub fn kind(&self) -> &'static str {
        match &self.message {
            Message::Hello(_) => "hello",
            Message::Delta { .. } => "delta",
            Message::Part(_) => "part",
            Message::Ack(_) => "ack",
            Message::Want(_) => "want",
            Message::Digest(_) => "digest",
            Message::Repair(_) => "repair",
            Message::Compare(_) => "compare",
            Message::Compared(_) => "compared",
            Message::Update(_) => "update",
            Message::Contexts(_) => "contexts",
            Message::Presence(_) => "presence",
            Message::Members(_) => "members",
            Message::Missed => "missed",
            Message::Anew => "anew",
            Message::Credentials(_) => "credentials",
            Message::Error(_) => "error",
            Message::Loan(_) => "loan",
        }
    }

    /// The very bytes that were decoded, written again: what tests and fuzz targets check.
    #[doc(hidden)]
    pub fn encode(&self) -> Bytes {
        let handle = self.handle;
        match &self.message {
            Message::Hello(it) => hello(handle, it),
            Message::Delta { delta: it, .. } => delta(handle, &it.encode()),
            Message::Part(it) => part(handle, it),
            Message::Ack(dots) => ack(handle, dots),
            Message::Want(version) => want(handle, version),
            Message::Digest(it) => digest(handle, it),
            Message::Repair(dots) => repair(handle, dots),
            Message::Compare(it) => compare(handle, it),
            Message::Compared(it) => compared(handle, it),
            Message::Update(it) => update(handle, it),
            Message::Contexts(it) => contexts(handle, it),
            Message::Presence(it) => presence(handle, it),
            Message::Members(it) => members(handle, it),
            Message::Missed => missed(handle),
            Message::Anew => anew(handle),
            Message::Credentials(it) => credentials(handle, it),
            Message::Error(it) => error(handle, it.code, &it.document, &it.message),
            Message::Loan(it) => loans::encode(handle, it),
        }
    }
}

/// The last frame of a session, or the refusal of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFrame {
    /// What kind of end.
    pub code: ErrorCode,
    /// The document; empty where the whole connection is meant.
    pub document: String,
    /// In words.
    pub message: String,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Hello(Hello),
    /// A whole delta, and its bytes as they came, to be stored and passed on.
    Delta {
        delta: Delta,
        bytes: Bytes,
    },
    /// A transaction told by the difference: what it is only the receiver's state tells.
    Update(Bytes),
    /// What updates that follow are told against, where the document does not show it.
    Contexts(Vec<(ReplicaId, Context)>),
    /// A piece of a delta that is too large for one frame.
    Part(Part),
    /// The sender has stored these operations.
    Ack(DotSet),
    /// The sender has only these operations, and asks for the others.
    Want(Version),
    Digest(Digest),
    /// The states differ where they should not, and in no others than these operations: send
    /// what is live of them, as I do.
    Repair(DotSet),
    Compare(Compare),
    Compared(Compared),
    Presence(Presence),
    /// What is new of who holds the document.
    Members(News),
    /// Some of that was lost: tell all of it.
    Missed,
    /// The sender holds what was let go of, or the other way round: send the whole state.
    Anew,
    Credentials(Bytes),
    Error(ErrorFrame),
    Loan(loans::Message),
}

/// What the sender has, for comparison. Nothing that it has sent before comes after it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Digest {
    /// The operations that it has and may tell of.
    pub(super) version: Version,
    /// Those among them that it has not stored yet.
    pub(super) unstored: DotSet,
    /// The fingerprint of its state; `None` while that holds more than the version tells.
    pub(super) fingerprint: Option<u128>,
    /// Whether it lacks what it should have.
    pub(super) incomplete: bool,
    /// The revision of its table of members that everybody has been told.
    pub(super) members: u64,
}

/// The presence of one replica.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Presence {
    pub(super) replica: ReplicaId,
    /// Grows with each state that the replica takes.
    pub(super) number: u64,
    /// How many replicas have passed it on.
    pub(super) hops: u8,
    /// `None`: gone.
    pub(super) state: Option<Bytes>,
}

const DIGEST_FINGERPRINT: u8 = 1;
const DIGEST_INCOMPLETE: u8 = 2;

const HELLO: u8 = 1;
const DELTA: u8 = 2;
const PART: u8 = 3;
const ACK: u8 = 4;
const WANT: u8 = 5;
const DIGEST: u8 = 6;
const REPAIR: u8 = 7;
const PRESENCE: u8 = 8;
const CREDENTIALS: u8 = 9;
const ERROR: u8 = 10;
const COMPARE: u8 = 11;
const COMPARED: u8 = 12;
const MEMBERS: u8 = 20;
const ANEW: u8 = 22;
const MISSED: u8 = 23;
const CONTEXTS: u8 = 13;
/// At least two bits away from every other: no single flipped one makes an update of anything
/// else, which has another checksum.
const UPDATE: u8 = 48;
pub(super) const LOAN: u8 = 21;

pub(super) fn delta(handle: u32, delta: &[u8]) -> Bytes {
    frame(DELTA, handle, delta.len(), |out| {
        out.extend_from_slice(delta);
    })
}

pub(super) fn update(handle: u32, update: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(update.len() + 6);
    out.push(UPDATE);
    put_varint(&mut out, u64::from(handle));
    out.extend_from_slice(update);
    Bytes::from(out)
}

pub(super) fn contexts(handle: u32, contexts: &[(ReplicaId, Context)]) -> Bytes {
    frame(CONTEXTS, handle, contexts.len() * 40, |out| {
        put_varint(out, contexts.len() as u64);
        for (writer, context) in contexts {
            out.extend_from_slice(&writer.get().to_le_bytes());
            context.put(out);
        }
    })
}

fn read_contexts(reader: &mut Reader<'_>) -> Result<Vec<(ReplicaId, Context)>, DecodeError> {
    let count = reader.bounded("the number of contexts", MAX_CONTEXTS as u64)?;
    let mut contexts = Vec::new();
    for _ in 0..count {
        let writer = ReplicaId::new(reader.u64_le()?);
        contexts.push((writer, Context::read(reader)?));
    }
    if !contexts.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(reader.malformed("replicas out of order").into());
    }
    Ok(contexts)
}

fn read_handle(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(reader.bounded("a handle", u64::from(u32::MAX))? as u32)
}

pub(super) fn ack(handle: u32, dots: &DotSet) -> Bytes {
    frame(ACK, handle, 32, |out| put_dots(out, dots))
}

pub(super) fn want(handle: u32, version: &Version) -> Bytes {
    frame(WANT, handle, 32, |out| put_dots(out, version))
}

pub(super) fn digest(handle: u32, digest: &Digest) -> Bytes {
    frame(DIGEST, handle, 64, |out| {
        put_dots(out, &digest.version);
        put_dots(out, &digest.unstored);
        let fingerprint = u8::from(digest.fingerprint.is_some()) * DIGEST_FINGERPRINT;
        out.push(fingerprint | (u8::from(digest.incomplete) * DIGEST_INCOMPLETE));
        if let Some(fingerprint) = digest.fingerprint {
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        put_varint(out, digest.members);
    })
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    let (version, unstored, flags) = (read_dots(reader)?, read_dots(reader)?, reader.byte()?);
    if flags > DIGEST_FINGERPRINT | DIGEST_INCOMPLETE {
        return Err(reader.malformed("an unknown flag in a digest").into());
    }
    Ok(Digest {
        version,
        unstored,
        fingerprint: if flags & DIGEST_FINGERPRINT != 0 {
            let (low, high) = (reader.u64_le()?, reader.u64_le()?);
            Some(u128::from(low) | u128::from(high) << 64)
        } else {
            None
        },
        incomplete: flags & DIGEST_INCOMPLETE != 0,
        members: reader.varint()?,
    })
}

pub(super) fn members(handle: u32, news: &News) -> Bytes {
    frame(MEMBERS, handle, 256, |out| news.put(out))
}

pub(super) fn missed(handle: u32) -> Bytes {
    frame(MISSED, handle, 0, |_| {})
}

pub(super) fn anew(handle: u32) -> Bytes {
    frame(ANEW, handle, 0, |_| {})
}

pub(super) fn repair(handle: u32, dots: &DotSet) -> Bytes {
    frame(REPAIR, handle, 32, |out| put_dots(out, dots))
}

pub(super) fn presence(handle: u32, presence: &Presence) -> Bytes {
    let len = presence.state.as_ref().map_or(0, Bytes::len);
    frame(PRESENCE, handle, len + 32, |out| {
        put_presence(out, presence);
    })
}

pub(in crate::sync) fn put_presence(out: &mut Vec<u8>, presence: &Presence) {
    out.extend_from_slice(&presence.replica.get().to_le_bytes());
    put_varint(out, presence.number);
    out.push(presence.hops);
    out.push(u8::from(presence.state.is_some()));
    if let Some(state) = &presence.state {
        put_bytes(out, state);
    }
}

pub(in crate::sync) fn read_presence(reader: &mut Reader<'_>) -> Result<Presence, DecodeError> {
    Ok(Presence {
        replica: ReplicaId::new(reader.u64_le()?),
        number: reader.varint()?,
        hops: reader.byte()?,
        state: if read_flag(reader)? {
            let state = reader.bytes("the length of a presence", MAX_PRESENCE_BYTES)?;
            Some(Bytes::copy_from_slice(state))
        } else {
            None
        },
    })
}

pub(super) fn credentials(handle: u32, credentials: &[u8]) -> Bytes {
    frame(CREDENTIALS, handle, credentials.len() + 8, |out| {
        put_bytes(out, credentials);
    })
}

fn read_credentials(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let credentials = reader.bytes("the length of credentials", MAX_CREDENTIALS_BYTES)?;
    Ok(Bytes::copy_from_slice(credentials))
}

pub(super) fn error(handle: u32, code: ErrorCode, document: &str, message: &str) -> Bytes {
    let clip = |text: &str, limit: usize| text[..text.floor_char_boundary(limit)].to_owned();
    frame(ERROR, handle, message.len() + document.len(), |out| {
        out.push(code.to_byte());
        put_bytes(out, clip(document, MAX_NAME_BYTES).as_bytes());
        put_bytes(out, clip(message, MAX_ERROR_BYTES).as_bytes());
    })
}

fn read_error(reader: &mut Reader<'_>) -> Result<ErrorFrame, DecodeError> {
    Ok(ErrorFrame {
        code: ErrorCode::from_byte(reader.byte()?),
        document: reader
            .text("the length of a document's name", MAX_NAME_BYTES)?
            .to_owned(),
        message: reader
            .text("the length of an error", MAX_ERROR_BYTES)?
            .to_owned(),
    })
}

pub(super) fn read_flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.malformed("a flag that is neither 0 nor 1").into()),
    }
}

/// Type, handle, content of about `len` bytes, checksum.
pub(super) fn frame(
    kind: u8,
    handle: u32,
    len: usize,
    content: impl FnOnce(&mut Vec<u8>),
) -> Bytes {
    let mut out = Vec::with_capacity(len + MAX_OVERHEAD_BYTES);
    out.push(kind);
    put_varint(&mut out, u64::from(handle));
    content(&mut out);
    put_checksum(&mut out);
    Bytes::from(out)
}

#[cfg(test)]
mod tests;
