//! The messages of the format: what a mutation publishes.
//!
//! The operation's name, `:`, and its body. A string in a body is its length, 32 bits with the
//! lowest byte first, and its bytes; a reset's body is the revision as text alone.

use bytes::{Buf as _, Bytes};

use crate::error::{Error, Result, excerpt};
use crate::key::Key;

/// One mutation, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) revision: u64,
    pub(crate) mutation: Mutation,
}

/// What a mutation does to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    Set(Key, Bytes),
    Delete(Key),
    /// `reset` and `destroy` both.
    Clear,
}

impl Message {
    /// Reads a payload. The value shares its memory; the key does not, since it may stay for long
    /// after the value was replaced.
    pub(crate) fn read(payload: &Bytes) -> Result<Self> {
        let broken = || Error::Format {
            what: format!("the message {}", excerpt(payload)),
        };
        let colon = payload.iter().take(8).position(|&byte| byte == b':');
        let colon = colon.ok_or_else(broken)?;
        let mut body = payload.slice(colon + 1..);
        let message = match &payload[..colon] {
            b"set" => {
                let key = string(&mut body).ok_or_else(broken)?;
                let value = string(&mut body).ok_or_else(broken)?;
                let revision = string(&mut body).ok_or_else(broken)?;
                Self {
                    revision: number(&revision).ok_or_else(broken)?,
                    mutation: Mutation::Set(Key::copy(&key), value),
                }
            }
            b"del" => {
                let key = string(&mut body).ok_or_else(broken)?;
                let revision = string(&mut body).ok_or_else(broken)?;
                Self {
                    revision: number(&revision).ok_or_else(broken)?,
                    mutation: Mutation::Delete(Key::copy(&key)),
                }
            }
            b"reset" | b"destroy" => Self {
                revision: number(&body.split_off(0)).ok_or_else(broken)?,
                mutation: Mutation::Clear,
            },
            _ => return Err(broken()),
        };
        if body.is_empty() {
            Ok(message)
        } else {
            Err(broken())
        }
    }

    /// The memory that it takes, about.
    pub(crate) fn size(&self) -> usize {
        let strings = match &self.mutation {
            Mutation::Set(key, value) => key.as_bytes().len() + value.len(),
            Mutation::Delete(key) => key.as_bytes().len(),
            Mutation::Clear => 0,
        };
        strings + size_of::<Self>()
    }
}

fn string(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()?;
    let length = usize::try_from(length).ok()?;
    (length <= body.len()).then(|| body.split_to(length))
}

/// A revision: decimal, as Redis writes it.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Result<Message> {
        Message::read(&Bytes::copy_from_slice(payload))
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let message = read(b"set:\x03\0\0\0foo\x03\0\0\0bar\x01\0\0\x001").unwrap();
        assert_eq!(message.revision, 1);
        let expected = Mutation::Set(Key::from("foo"), Bytes::from_static(b"bar"));
        assert_eq!(message.mutation, expected);
    }

    #[test]
    fn deletions_and_resets_are_read() {
        let message = read(b"del:\x03\0\0\0foo\x02\0\0\x0012").unwrap();
        assert_eq!(message.revision, 12);
        assert_eq!(message.mutation, Mutation::Delete(Key::from("foo")));
        for payload in [&b"reset:7"[..], b"destroy:7"] {
            let message = read(payload).unwrap();
            assert_eq!((message.revision, message.mutation), (7, Mutation::Clear));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        let whole = b"set:\x03\0\0\0foo\x03\0\0\0bar\x01\0\0\x001";
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        assert!(read(&[whole, &b"x"[..]].concat()).is_err());
        assert!(read(b"set:\xff\xff\xff\xfffoo").is_err());
        assert!(read(b"reset:").is_err());
        assert!(read(b"reset:1x").is_err());
        assert!(read(b"reset:18446744073709551616").is_err());
        assert!(read(b"swap:1").is_err());
    }
}
