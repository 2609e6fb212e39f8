//! What servers on a bus say to each other beside the log: nothing of it is kept, and any of it
//! may be lost.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::codec::{Reader, check_checksum, put_checksum, put_dots, put_varint, read_dots};
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;
use crate::limits::MAX_FRAME_BYTES;
use crate::replica::ReplicaId;
use crate::sync::frame::{Presence, put_presence, read_flag, read_presence};

/// The format of messages.
const FORMAT: u8 = 1;
const DIGEST: u8 = 1;
const FRAME: u8 = 2;
const PRESENT: u8 = 3;
const BEAT: u8 = 4;
const ASK: u8 = 5;

/// Most replicas whose presence one message tells of.
const MAX_PRESENT: u64 = 1_000_000;

/// One message, and the address of who says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) from: u64,
    pub(super) word: Word,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Digest(Digest),
    Frame(Line, Bytes),
    Present(News),
    /// The revision of the presence that the sender tells of: it is alive.
    Beat(u64),
    /// The one of this address is to tell whose presence it knows, all of it.
    Ask(u64),
}

/// What the sender holds, having read a log up to a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Digest {
    /// The epoch of the log, and the number of the entry that was read last.
    pub(super) at: (u64, u64),
    /// The operations that the sender has and may tell of.
    pub(super) version: Version,
    /// Those among them that are not known to be on the log.
    pub(super) unpublished: DotSet,
    /// The fingerprint of its state; `None` while that holds more than the version tells.
    pub(super) fingerprint: Option<u128>,
}

/// A session between two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// To whom the frame goes.
    pub(super) to: u64,
    /// Whether from who opened the session.
    pub(super) opener: bool,
    /// The opener's number for it.
    pub(super) number: u64,
}

/// What is new of who is present at the sender, and did not come by the bus.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct News {
    /// The revision that it follows on, and its own.
    pub(super) revisions: (u64, u64),
    /// All who are present: nobody else is.
    pub(super) all: Option<BTreeSet<ReplicaId>>,
    /// Of some of them what is new.
    pub(super) present: Vec<Presence>,
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.push(FORMAT);
        let kind = match &self.word {
            Word::Digest(_) => DIGEST,
            Word::Frame(..) => FRAME,
            Word::Present(_) => PRESENT,
            Word::Beat(_) => BEAT,
            Word::Ask(_) => ASK,
        };
        out.push(kind);
        out.extend_from_slice(&self.from.to_le_bytes());
        match &self.word {
            Word::Digest(digest) => put_digest(&mut out, digest),
            Word::Frame(line, frame) => {
                out.extend_from_slice(&line.to.to_le_bytes());
                out.push(u8::from(line.opener));
                put_varint(&mut out, line.number);
                out.extend_from_slice(frame);
            }
            Word::Present(news) => put_news(&mut out, news),
            Word::Beat(revision) => put_varint(&mut out, *revision),
            Word::Ask(to) => out.extend_from_slice(&to.to_le_bytes()),
        }
        put_checksum(&mut out);
        Bytes::from(out)
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let content = check_checksum(bytes)?;
        let end = content.len();
        let mut reader = Reader::new(content);
        if reader.byte()? != FORMAT {
            return Err(reader
                .malformed("a message of the bus of an unknown format")
                .into());
        }
        let kind = reader.byte()?;
        let from = reader.u64_le()?;
        let word = match kind {
            DIGEST => Word::Digest(read_digest(&mut reader)?),
            FRAME => {
                let line = Line {
                    to: reader.u64_le()?,
                    opener: read_flag(&mut reader)?,
                    number: reader.varint()?,
                };
                let len = reader.remaining();
                if len > MAX_FRAME_BYTES {
                    return Err(reader.malformed("a frame that is too long").into());
                }
                reader.take(len)?;
                Word::Frame(line, bytes.slice(end - len..end))
            }
            PRESENT => Word::Present(read_news(&mut reader)?),
            BEAT => Word::Beat(reader.varint()?),
            ASK => Word::Ask(reader.u64_le()?),
            _ => return Err(reader.malformed("an unknown message of the bus").into()),
        };
        reader.finish()?;
        Ok(Self { from, word })
    }
}

fn put_digest(out: &mut Vec<u8>, digest: &Digest) {
    let (epoch, place) = digest.at;
    out.extend_from_slice(&epoch.to_le_bytes());
    put_varint(out, place);
    put_dots(out, &digest.version);
    put_dots(out, &digest.unpublished);
    out.push(u8::from(digest.fingerprint.is_some()));
    if let Some(fingerprint) = digest.fingerprint {
        out.extend_from_slice(&fingerprint.to_le_bytes());
    }
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    Ok(Digest {
        at: (reader.u64_le()?, reader.varint()?),
        version: read_dots(reader)?,
        unpublished: read_dots(reader)?,
        fingerprint: if read_flag(reader)? {
            let (low, high) = (reader.u64_le()?, reader.u64_le()?);
            Some(u128::from(low) | u128::from(high) << 64)
        } else {
            None
        },
    })
}

fn put_news(out: &mut Vec<u8>, news: &News) {
    let (from, to) = news.revisions;
    put_varint(out, from);
    put_varint(out, to);
    out.push(u8::from(news.all.is_some()));
    if let Some(all) = &news.all {
        put_varint(out, all.len() as u64);
        for replica in all {
            out.extend_from_slice(&replica.get().to_le_bytes());
        }
    }
    put_varint(out, news.present.len() as u64);
    for presence in &news.present {
        put_presence(out, presence);
    }
}

fn read_news(reader: &mut Reader<'_>) -> Result<News, DecodeError> {
    let revisions = (reader.varint()?, reader.varint()?);
    let all = if read_flag(reader)? {
        let count = reader.bounded("the number of those who are present", MAX_PRESENT)?;
        let mut all = BTreeSet::new();
        for _ in 0..count {
            all.insert(ReplicaId::new(reader.u64_le()?));
        }
        Some(all)
    } else {
        None
    };
    let count = reader.bounded("the number of those who are present", MAX_PRESENT)?;
    let mut present = Vec::new();
    for _ in 0..count {
        present.push(read_presence(reader)?);
    }
    Ok(News {
        revisions,
        all,
        present,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Message; 6] {
        let dots = DotSet::from_range(ReplicaId::new(7), 1, 300);
        let word = |word| Message { from: 9, word };
        let presence = |state| Presence {
            replica: ReplicaId::new(7),
            number: 300,
            hops: 1,
            state,
        };
        let line = Line {
            to: 8,
            opener: true,
            number: 200,
        };
        [
            word(Word::Digest(Digest {
                at: (1 << 60, 300),
                version: dots.clone(),
                unpublished: DotSet::from_range(ReplicaId::new(7), 300, 300),
                fingerprint: Some(1 << 100),
            })),
            word(Word::Frame(line, Bytes::from_static(b"frame"))),
            word(Word::Present(News {
                revisions: (0, 300),
                all: Some([7, 8].map(ReplicaId::new).into()),
                present: alloc::vec![presence(Some(Bytes::from_static(b"here")))],
            })),
            word(Word::Present(News {
                revisions: (300, 301),
                all: None,
                present: alloc::vec![presence(None)],
            })),
            word(Word::Beat(300)),
            word(Word::Ask(8)),
        ]
    }

    #[test]
    fn messages_are_read_as_they_were_written_or_not_at_all() {
        for message in all() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message));
            for len in 0..bytes.len() {
                assert!(Message::decode(&bytes.slice(..len)).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Message::decode(&damaged.into()).is_err(), "bit {bit}");
            }
        }
    }
}
