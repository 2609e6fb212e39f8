//! The messages of the format: what a mutation publishes.
//!
//! The operation's name, `:`, and its body. A string in a body is its length, 32 bits with the
//! lowest byte first, and its bytes; a reset's body is the revision as text alone.

use bytes::Bytes;

use crate::error::{Error, Result, excerpt};
use crate::key::Key;

/// One mutation, as it was published: part of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) revision: u64,
    pub(crate) mutation: Published<'a>,
}

/// What a mutation does to a map, as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published<'a> {
    Set(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    Clear,
}

/// What a mutation does to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    Set(Key, Bytes),
    Delete(Key),
    /// `reset` and `destroy` both.
    Clear,
}

impl<'a> Message<'a> {
    /// Reads a payload.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self> {
        Self::parse(payload).ok_or_else(|| Error::Format {
            what: format!("the message {}", excerpt(payload)),
        })
    }

    fn parse(payload: &'a [u8]) -> Option<Self> {
        let colon = payload.iter().take(8).position(|&byte| byte == b':')?;
        let (kind, mut body) = (&payload[..colon], &payload[colon + 1..]);
        let (mutation, revision) = match kind {
            b"set" => {
                let (key, value) = (string(&mut body)?, string(&mut body)?);
                (Published::Set(key, value), string(&mut body)?)
            }
            b"del" => (Published::Delete(string(&mut body)?), string(&mut body)?),
            b"reset" | b"destroy" => (Published::Clear, std::mem::take(&mut body)),
            _ => return None,
        };
        let revision = number(revision)?;
        body.is_empty().then_some(Self { revision, mutation })
    }

    /// The mutation by itself.
    pub(crate) fn owned(&self) -> Mutation {
        match self.mutation {
            Published::Set(key, value) => {
                Mutation::Set(Key::copy(key), Bytes::copy_from_slice(value))
            }
            Published::Delete(key) => Mutation::Delete(Key::copy(key)),
            Published::Clear => Mutation::Clear,
        }
    }

    /// The memory that it takes, about.
    pub(crate) fn size(&self) -> usize {
        let strings = match self.mutation {
            Published::Set(key, value) => key.len() + value.len(),
            Published::Delete(key) => key.len(),
            Published::Clear => 0,
        };
        strings + size_of::<(u64, Mutation)>()
    }
}

fn string<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (string, rest) = rest.split_at_checked(length)?;
    *body = rest;
    Some(string)
}

/// A revision: decimal, as Redis writes it.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digit = |number: u64, byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        let number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        (digit < 10).then_some(number)
    };
    (!text.is_empty()).then(|| text.iter().try_fold(0, digit))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Result<(u64, Mutation)> {
        Message::read(payload).map(|message| (message.revision, message.owned()))
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let message = read(b"set:\x03\0\0\0foo\x03\0\0\0bar\x01\0\0\x001").unwrap();
        let expected = Mutation::Set(Key::from("foo"), Bytes::from_static(b"bar"));
        assert_eq!(message, (1, expected));
    }

    #[test]
    fn deletions_and_resets_are_read() {
        let message = read(b"del:\x03\0\0\0foo\x02\0\0\x0012").unwrap();
        assert_eq!(message, (12, Mutation::Delete(Key::from("foo"))));
        for payload in [&b"reset:7"[..], b"destroy:7"] {
            let message = read(payload).unwrap();
            assert_eq!(message, (7, Mutation::Clear));
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
        assert!(read(b"reset:+1").is_err());
        assert!(read(b"reset:18446744073709551616").is_err());
        assert!(read(b"swap:1").is_err());
    }
}
