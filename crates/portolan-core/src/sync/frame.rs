//! Frames: what two replicas say to each other, and its bytes.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

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
use crate::reconcile::{self, MAX_SPANS, Span};
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

/// What a peer may do with a document, or asks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Access {
    /// Be sent its operations.
    pub read: bool,
    /// Send operations.
    pub write: bool,
}

impl Access {
    /// Read and write.
    pub const ALL: Access = Access {
        read: true,
        write: true,
    };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Access) -> Access {
        Access {
            read: self.read && other.read,
            write: self.write && other.write,
        }
    }
}

/// The first frame in either direction for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol's version; always [`PROTOCOL`] in one that was decoded.
    pub protocol: u16,
    /// Whether it answers one.
    pub reply: bool,
    /// The document's name.
    pub document: String,
    /// The sender's id.
    pub replica: ReplicaId,
    /// What is asked for; in an answer, what is granted of it.
    pub access: Access,
    /// Whether the sender has not written under its id, and will take another one before it does:
    /// nobody need wait for it.
    pub visits: bool,
    /// What the sender has (a sender with a store: has stored).
    pub version: Version,
    /// What everybody had when the sender last let go of positions: who has some of it and lacks
    /// some has to begin anew from the whole state.
    pub required: Version,
    /// What shows that it may.
    pub credentials: Option<Bytes>,
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

/// A piece of the bytes of a delta.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Numbers the deltas of a session that are sent in pieces, from 1.
    pub(super) transfer: u64,
    pub(super) purpose: Purpose,
    /// The length of the delta's bytes.
    pub(super) total: u64,
    /// Where in them this piece belongs.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// What a delta in pieces is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What the receiver lacks.
    CatchUp = 0,
    /// A state to repair with: what the sender holds where states differ.
    Repair = 1,
    /// The whole state, to go on from: the receiver holds what was let go of.
    Anew = 2,
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

const HELLO_REPLY: u8 = 1;
const HELLO_READ: u8 = 2;
const HELLO_WRITE: u8 = 4;
const HELLO_CREDENTIALS: u8 = 8;
const HELLO_VISITS: u8 = 16;

pub(super) fn hello(handle: u32, hello: &Hello) -> Bytes {
    frame(HELLO, handle, hello.document.len() + 64, |out| {
        // The protocol's version stays first in every version of the protocol.
        put_varint(out, u64::from(hello.protocol));
        let mut flags = 0;
        for (flag, on) in [
            (HELLO_REPLY, hello.reply),
            (HELLO_READ, hello.access.read),
            (HELLO_WRITE, hello.access.write),
            (HELLO_CREDENTIALS, hello.credentials.is_some()),
            (HELLO_VISITS, hello.visits),
        ] {
            flags |= if on { flag } else { 0 };
        }
        out.push(flags);
        put_bytes(out, hello.document.as_bytes());
        out.extend_from_slice(&hello.replica.get().to_le_bytes());
        put_dots(out, &hello.version);
        put_dots(out, &hello.required);
        if let Some(credentials) = &hello.credentials {
            put_bytes(out, credentials);
        }
    })
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, ProtocolError> {
    let protocol = reader.bounded("the protocol's version", u64::from(u16::MAX))? as u16;
    if protocol != PROTOCOL {
        return Err(ProtocolError::Version {
            ours: PROTOCOL,
            theirs: protocol,
        });
    }
    let flags = reader.byte()?;
    if flags > (HELLO_REPLY | HELLO_READ | HELLO_WRITE | HELLO_CREDENTIALS | HELLO_VISITS) {
        return Err(reader.malformed("an unknown flag in a hello").into());
    }
    let document = reader.text("the length of a document's name", MAX_NAME_BYTES)?;
    if document.is_empty() {
        return Err(ProtocolError::Name(0));
    }
    Ok(Hello {
        protocol,
        reply: flags & HELLO_REPLY != 0,
        document: document.to_owned(),
        replica: ReplicaId::new(reader.u64_le()?),
        access: Access {
            read: flags & HELLO_READ != 0,
            write: flags & HELLO_WRITE != 0,
        },
        visits: flags & HELLO_VISITS != 0,
        version: read_dots(reader)?,
        required: read_dots(reader)?,
        credentials: match flags & HELLO_CREDENTIALS {
            0 => None,
            _ => Some(read_credentials(reader)?),
        },
    })
}

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

pub(super) fn part(handle: u32, part: &Part) -> Bytes {
    frame(PART, handle, part.bytes.len(), |out| {
        put_varint(out, part.transfer);
        out.push(part.purpose as u8);
        put_varint(out, part.total);
        put_varint(out, part.offset);
        out.extend_from_slice(&part.bytes);
    })
}

/// The piece reaches to the end of `content`, which is what `reader` reads.
fn read_part(reader: &mut Reader<'_>, content: &Bytes) -> Result<Part, DecodeError> {
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
        out.push(u8::from(digest.fingerprint.is_some()));
        if let Some(fingerprint) = digest.fingerprint {
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        put_varint(out, digest.members);
    })
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    Ok(Digest {
        version: read_dots(reader)?,
        unstored: read_dots(reader)?,
        fingerprint: if read_flag(reader)? {
            let (low, high) = (reader.u64_le()?, reader.u64_le()?);
            Some(u128::from(low) | u128::from(high) << 64)
        } else {
            None
        },
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

pub(super) fn compare(handle: u32, question: &Compare) -> Bytes {
    frame(COMPARE, handle, question.parts.len() * 12, |out| {
        put_varint(out, question.search);
        put_varint(out, u64::from(question.round));
        out.push(u8::from(question.domain.is_some()));
        if let Some(domain) = &question.domain {
            put_dots(out, domain);
        }
        put_varint(out, question.parts.len() as u64);
        let mut end = 0;
        for part in &question.parts {
            put_varint(out, part.span.first - end);
            put_varint(out, part.span.end - part.span.first - 1);
            out.extend_from_slice(&part.print.to_le_bytes());
            end = part.span.end;
        }
    })
}

fn read_compare(reader: &mut Reader<'_>) -> Result<Compare, DecodeError> {
    let search = reader.varint()?;
    let round = reader.bounded("the number of a question", u64::from(u32::MAX))? as u32;
    let domain = if read_flag(reader)? {
        Some(read_dots(reader)?)
    } else {
        None
    };
    let count = reader.bounded("the number of spans", MAX_SPANS as u64)?;
    let (mut parts, mut end) = (Vec::new(), 0u64);
    for _ in 0..count {
        let (gap, more) = (reader.varint()?, reader.varint()?);
        let first = end.checked_add(gap);
        let behind = first.and_then(|first| first.checked_add(more)?.checked_add(1));
        let (Some(first), Some(behind)) = (first, behind) else {
            return Err(reader.malformed("a span of more than 64 bits").into());
        };
        end = behind;
        parts.push(reconcile::Part {
            span: Span { first, end },
            print: reader.u64_le()?,
        });
    }
    Ok(Compare {
        search,
        round,
        domain,
        parts,
    })
}

pub(super) fn compared(handle: u32, answer: &Compared) -> Bytes {
    frame(COMPARED, handle, answer.unequal.len() * 2 + 8, |out| {
        put_varint(out, answer.search);
        put_varint(out, u64::from(answer.round));
        put_varint(out, answer.unequal.len() as u64);
        let mut next = 0;
        for number in &answer.unequal {
            put_varint(out, u64::from(number - next));
            next = number + 1;
        }
    })
}

fn read_compared(reader: &mut Reader<'_>) -> Result<Compared, DecodeError> {
    let search = reader.varint()?;
    let round = reader.bounded("the number of a question", u64::from(u32::MAX))? as u32;
    let count = reader.bounded("the number of spans", MAX_SPANS as u64)?;
    let (mut unequal, mut next) = (Vec::new(), 0u32);
    for _ in 0..count {
        let number = next + reader.bounded("the number of a span", MAX_SPANS as u64)? as u32;
        if number as usize >= MAX_SPANS {
            return Err(reader.malformed("a span beyond those of a question").into());
        }
        unequal.push(number);
        next = number + 1;
    }
    Ok(Compared {
        search,
        round,
        unequal,
    })
}

pub(super) fn presence(handle: u32, presence: &Presence) -> Bytes {
    let len = presence.state.as_ref().map_or(0, Bytes::len);
    frame(PRESENCE, handle, len + 32, |out| {
        out.extend_from_slice(&presence.replica.get().to_le_bytes());
        put_varint(out, presence.number);
        out.push(presence.hops);
        out.push(u8::from(presence.state.is_some()));
        if let Some(state) = &presence.state {
            put_bytes(out, state);
        }
    })
}

fn read_presence(reader: &mut Reader<'_>) -> Result<Presence, DecodeError> {
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

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
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
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::document::Document;
    use crate::sync::members::{Member, Standing};

    fn dots() -> DotSet {
        let mut dots = DotSet::from_range(ReplicaId::new(0x0102), 1, 300);
        dots.insert_range(ReplicaId::new(0x0102), 305, 305);
        dots
    }

    /// One of each kind, but for deltas.
    fn frames() -> [Bytes; 22] {
        let greeting = Hello {
            protocol: PROTOCOL,
            reply: false,
            document: "fleet".to_owned(),
            replica: ReplicaId::new(7),
            access: Access::ALL,
            visits: false,
            version: dots(),
            required: DotSet::from_range(ReplicaId::new(0x0102), 1, 2),
            credentials: Some(Bytes::from_static(b"token")),
        };
        let piece = Part {
            transfer: 1,
            purpose: Purpose::CatchUp,
            total: 300,
            offset: 256,
            bytes: Bytes::from_static(b"piece"),
        };
        let comparison = Digest {
            version: dots(),
            unstored: DotSet::new(),
            fingerprint: Some(0x0102_0304),
            members: 0x0506,
        };
        let span = |first, end| reconcile::Part {
            span: Span { first, end },
            print: end << 40,
        };
        let question = Compare {
            search: 3,
            round: 1,
            domain: Some(dots()),
            parts: vec![span(0, 200), span(200, 201), span(300, 301)],
        };
        let answer = Compared {
            search: 3,
            round: 1,
            unequal: vec![0, 2],
        };
        let state = Presence {
            replica: ReplicaId::new(7),
            number: 300,
            hops: 2,
            state: Some(Bytes::from_static(b"here")),
        };
        let left = Member {
            generation: 2,
            standing: Standing::Gone,
            beat: 300,
            acknowledged: Version::new(),
            sealed: Version::new(),
        };
        let member = Member {
            generation: 0,
            standing: Standing::Member,
            beat: 1,
            acknowledged: DotSet::from_range(ReplicaId::new(0x0102), 1, 310),
            sealed: DotSet::from_range(ReplicaId::new(0x0102), 1, 300),
        };
        let required = DotSet::from_range(ReplicaId::new(0x0102), 1, 2);
        let table = [(ReplicaId::new(7), &member), (ReplicaId::new(9), &left)];
        let before = (3, &required);
        let news = News::new(before, (5, &dots()), Some(&required), table.into_iter());
        let time = Timestamp::from_millis(0x0102_0304);
        let spare = loans::Spare {
            replica: ReplicaId::new(9),
            seq: 300,
            latest: time,
        };
        let offer = |spare| loans::Message::Offer { number: 1, spare };
        let back = loans::Back {
            seq: 300,
            latest: time,
        };
        let rename = |back| {
            loans::Message::Rename(loans::Rename {
                number: 2,
                old: ReplicaId::new(7),
                new: ReplicaId::new(9),
                back,
            })
        };
        let steps = [("a".into(), crate::containers::Form::Map)];
        let key = Some("b".into());
        let context = Context::new(300, Timestamp::from_bits(9), steps.into(), key);
        [
            hello(200, &greeting),
            part(200, &piece),
            ack(200, &dots()),
            want(200, &dots()),
            digest(200, &comparison),
            repair(200, &dots()),
            presence(200, &state),
            credentials(200, b"token"),
            error(200, ErrorCode::Refused, "fleet", "no"),
            compare(200, &question),
            compared(200, &answer),
            members(200, &news),
            missed(200),
            anew(200),
            update(200, &[0xd9, 1, 2, 3, 4, 2, 0x54, b'b', 2, 5, 6, 7, 8]),
            contexts(200, &[(ReplicaId::new(7), context)]),
            loan(loans::Message::Ask {
                number: 1,
                first: time,
            }),
            loan(offer(Some(spare))),
            loan(offer(None)),
            loan(loans::Message::Decline { number: 1 }),
            loan(rename(None)),
            loan(rename(Some(back))),
        ]
    }

    fn loan(message: loans::Message) -> Bytes {
        loans::encode(200, &message)
    }

    /// The bytes of protocol version 4. Where one of these must change, so must [`PROTOCOL`].
    #[test]
    fn frames_keep_their_bytes() {
        let frames = frames();
        let golden = include_str!("golden.txt");
        let mut written = String::new();
        for bytes in &frames {
            let frame = Frame::decode(bytes.clone()).expect("it was just written");
            assert_eq!(frame.handle(), 200);
            write!(written, "{} ", frame.kind()).expect("a string takes all");
            for byte in bytes {
                write!(written, "{byte:02x}").expect("a string takes all");
            }
            written.push('\n');
        }
        assert_eq!(written, golden);
    }

    fn small_delta() -> Bytes {
        let mut document = Document::new(ReplicaId::new(7));
        document.set(1, "a", 1).expect("within limits");
        document.set(2, "ab", "text").expect("within limits");
        delta(3, &document.encode())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn what_is_not_refused_has_one_encoding(
            pick in 0..23usize,
            edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0..3u8), 1..4),
        ) {
            let whole = frames().get(pick).cloned().unwrap_or_else(small_delta);
            let mut bytes = whole[..whole.len() - 4].to_vec();
            let inner = bytes[0] == DELTA;
            if inner {
                bytes.truncate(bytes.len() - 4);
            }
            for (at, byte, how) in edits {
                let at = at % bytes.len().max(1);
                match how {
                    _ if bytes.is_empty() => {}
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            if inner && bytes.len() > 2 {
                let mut content = bytes.split_off(2);
                put_checksum(&mut content);
                bytes.append(&mut content);
            }
            put_checksum(&mut bytes);
            let bytes = Bytes::from(bytes);
            if let Ok(frame) = Frame::decode(bytes.clone()) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
