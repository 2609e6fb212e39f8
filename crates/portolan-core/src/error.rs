//! What can go wrong in the engine.

use alloc::boxed::Box;

use crate::limits::{MAX_DEPTH, MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH};

/// Why an operation was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key is too long.
    #[error("the key has {0} bytes; the limit is {MAX_KEY_BYTES}: shorten it")]
    KeyTooLong(usize),
    /// The value is too large.
    #[error(
        "the value takes {0} bytes; the limit is {MAX_VALUE_BYTES}: split it over several keys"
    )]
    ValueTooLarge(usize),
    /// The value is nested too deep.
    #[error("the value is nested more than {MAX_VALUE_DEPTH} levels deep: flatten it")]
    ValueTooDeep,
    /// The path leads through too many containers.
    #[error("the path leads through more than {MAX_DEPTH} containers: flatten it")]
    PathTooDeep,
    /// An element's id, used as the key of a map.
    #[error("an element's id is no key of a map: use a string, an integer, a boolean or bytes")]
    ElementAsKey,
    /// There is no such index in the array.
    #[error("the index is {index}, but the array has {len} elements")]
    IndexOutOfBounds {
        /// The index asked for.
        index: usize,
        /// How many elements there are.
        len: usize,
    },
    /// The array does not know the element, or not any more.
    #[error("the array knows no such element, or has forgotten what it held: insert it anew")]
    NoSuchElement,
    /// What was replaced or removed is not known any more.
    #[error("what the operations replaced is not known any more: keep more of the past")]
    PastForgotten,
    /// What one replica has added to a counter does not fit 64 bits.
    #[error("the counter would exceed 64 bits: reset it first")]
    CounterOverflow,
}

/// A [`DecodeError`] on its way out of a decoder, nearly every step of which may fail: one word, so
/// that handing it on takes next to nothing.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault(Box<DecodeError>);

impl Fault {
    /// More of something than allowed; in wasm it is not told of what.
    #[cold]
    #[inline(never)]
    pub(crate) fn limit(what: &'static str, found: u64, limit: u64) -> Self {
        let what = if crate::SMALL { "a count" } else { what };
        DecodeError::Limit { what, found, limit }.into()
    }
}

impl From<DecodeError> for Fault {
    #[cold]
    fn from(error: DecodeError) -> Self {
        Self(Box::new(error))
    }
}

impl From<Fault> for DecodeError {
    #[cold]
    fn from(fault: Fault) -> Self {
        *fault.0
    }
}

/// Why bytes from outside were refused. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the data ends too early, at byte {0}: it was cut off")]
    Truncated(usize),
    /// They do not have the checksum that they carry.
    #[error("the checksum does not match: the data was damaged on the way or on disk")]
    Checksum,
    /// A newer format.
    #[error("the data has format version {0}, which this release does not know: upgrade it")]
    UnknownVersion(u8),
    /// More of something than allowed.
    #[error("{what} is {found}, above the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// Anything else that no correct peer would write.
    #[error("malformed data at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What rule it breaks.
        what: &'static str,
    },
}
