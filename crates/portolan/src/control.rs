//! Messages about the connection itself, beside the frames about maps.
//!
//! A frame of the engine starts with its type, a small number. The types from 240 up belong to the
//! connection. All end in four bytes of checksum, the low half of the XXH3 hash of what precedes;
//! lengths are two bytes, little-endian.
//!
//! | type | message | content | sent by |
//! |---|---|---|---|
//! | 240 | ping | nothing | who has heard nothing for a while |
//! | 241 | pong | nothing | the answer |
//! | 242 | follow | pattern; credentials, empty for none | a client that mirrors a server's maps |
//! | 243 | maps | names, up to the end | the server: names that match and that the client may read, at once and whenever there are more |
//!
//! A second follow takes the place of the first: with a new token. The names are told again.
//!
//! Why: a client opens the maps that it wants, and it cannot want what it has not heard of. With
//! follow and maps it can, and the server still opens nothing at the client by itself. Ping and
//! pong are here, and not left to WebSocket, so that they work in browsers and on every transport.

use bytes::{BufMut as _, Bytes, BytesMut};
use portolan_core::limits::{MAX_FRAME_BYTES, MAX_NAME_BYTES};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

const FIRST: u8 = 240;
const PING: u8 = 240;
const PONG: u8 = 241;
const FOLLOW: u8 = 242;
const MAPS: u8 = 243;
const CHECKSUM_BYTES: usize = 4;

/// A message about the connection itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Ping,
    Pong,
    Follow {
        pattern: String,
        credentials: Option<Bytes>,
    },
    Maps(Vec<String>),
}

impl Control {
    /// Whether a frame is one of these, and none of the engine's.
    pub(crate) fn is(frame: &[u8]) -> bool {
        frame.first().is_some_and(|kind| *kind >= FIRST)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Control::Ping => out.put_u8(PING),
            Control::Pong => out.put_u8(PONG),
            Control::Follow {
                pattern,
                credentials,
            } => {
                out.put_u8(FOLLOW);
                put_text(&mut out, pattern.as_bytes());
                put_text(&mut out, credentials.as_deref().unwrap_or_default());
            }
            Control::Maps(names) => {
                out.put_u8(MAPS);
                for name in names {
                    put_text(&mut out, name.as_bytes());
                }
            }
        }
        let checksum = xxh3_64(&out) as u32;
        out.put_u32_le(checksum);
        out.freeze()
    }

    pub(crate) fn decode(frame: &Bytes) -> Result<Self> {
        let malformed = |what: &str| Error::Protocol(format!("a control message {what}"));
        if frame.len() > MAX_FRAME_BYTES {
            return Err(malformed("is too long"));
        }
        let split = frame.split_last_chunk::<CHECKSUM_BYTES>();
        let (content, checksum) = split.ok_or_else(|| malformed("is cut off"))?;
        if xxh3_64(content) as u32 != u32::from_le_bytes(*checksum) {
            return Err(malformed("has a wrong checksum"));
        }
        let (kind, mut rest) = content.split_first().ok_or_else(|| malformed("is empty"))?;
        let cut = || malformed("is cut off");
        let message = match *kind {
            PING => Control::Ping,
            PONG => Control::Pong,
            FOLLOW => {
                let pattern = take_text(&mut rest).ok_or_else(cut)?;
                let pattern = std::str::from_utf8(pattern);
                let pattern = pattern.map_err(|_| malformed("has a pattern that is no UTF-8"))?;
                let credentials = take_text(&mut rest).ok_or_else(cut)?;
                let credentials = (!credentials.is_empty()).then(|| frame.slice_ref(credentials));
                Control::Follow {
                    pattern: pattern.to_owned(),
                    credentials,
                }
            }
            MAPS => {
                let mut names = Vec::new();
                while !rest.is_empty() {
                    let name = take_text(&mut rest).ok_or_else(cut)?;
                    let name = std::str::from_utf8(name).ok();
                    let name = name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
                    names.push(name.ok_or_else(|| malformed("names no map"))?.to_owned());
                }
                Control::Maps(names)
            }
            other => return Err(malformed(&format!("has the unknown type {other}"))),
        };
        if !rest.is_empty() {
            return Err(malformed("is too long"));
        }
        Ok(message)
    }
}

/// Callers have bounded the length: names, patterns and tokens are shorter than 64 KiB.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.put_u16_le(text.len() as u16);
    out.put_slice(text);
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *rest = after;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Control> {
        vec![
            Control::Ping,
            Control::Pong,
            Control::Follow {
                pattern: "fleet/**".into(),
                credentials: Some(Bytes::from_static(b"token")),
            },
            Control::Follow {
                pattern: "**".into(),
                credentials: None,
            },
            Control::Maps(vec!["a".into(), "é/b".into()]),
            Control::Maps(Vec::new()),
        ]
    }

    #[test]
    fn messages_return_as_they_went() {
        for message in all() {
            let bytes = message.encode();
            assert!(Control::is(&bytes));
            assert_eq!(Control::decode(&bytes).unwrap(), message);
        }
    }

    /// The bytes of protocol version 4.
    #[test]
    fn messages_keep_their_bytes() {
        let all: Vec<_> = all()
            .iter()
            .map(|message| format!("{:x}", message.encode()))
            .collect();
        let golden = [
            "f01a514e88",
            "f154a53b98",
            "f20800666c6565742f2a2a0500746f6b656ec08757f4",
            "f202002a2a0000e8b36211",
            "f30100610400c3a92f621f9af883",
            "f34da3a607",
        ];
        assert_eq!(all, golden);
    }

    #[test]
    fn damage_is_refused() {
        for message in all() {
            let bytes = message.encode();
            for len in 0..bytes.len() {
                assert!(Control::decode(&bytes.slice(..len)).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Control::decode(&Bytes::from(damaged)).is_err());
            }
        }
    }

    #[test]
    fn names_are_names_of_maps() {
        let nameless = Control::Maps(vec![String::new()]).encode();
        assert!(Control::decode(&nameless).is_err());
        let long = Control::Maps(vec!["a".repeat(MAX_NAME_BYTES + 1)]).encode();
        assert!(Control::decode(&long).is_err());
    }
}
