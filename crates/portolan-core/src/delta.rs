//! A piece of state with a piece of context.

use crate::clock::Timestamp;
use crate::dots::DotSet;
use crate::error::DecodeError;

/// What a replica needs to catch up: a piece of state with a piece of causal context.
///
/// It names every operation it stands for, gives the values of those that are live, and names
/// the dots that they removed. Applying it twice, late or out of order does no harm.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Delta {}

impl Delta {
    /// The operations that it stands for; once applied, a replica's version covers them.
    pub fn applied(&self) -> &DotSet {
        todo!()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// How many live values it carries.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// The latest timestamp in it.
    pub fn latest(&self) -> Timestamp {
        todo!()
    }

    /// Its bytes, with a format version and a checksum; equal deltas have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(_bytes: &[u8]) -> Result<Self, DecodeError> {
        todo!()
    }
}
