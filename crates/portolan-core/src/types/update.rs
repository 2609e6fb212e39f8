//! What one replica of a shared thing sends to the others, and its bytes.
//!
//! `docs/format.md` gives them.

use alloc::vec::Vec;

use super::instance::{DataType, InstanceId};
use crate::codec::{Reader, check_checksum, put_checksum};
use crate::delta::Delta;
use crate::dots::DotSet;
use crate::error::DecodeError;

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A delta, and which shared thing it is of. Applying it twice, late or out of order does no harm.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub(super) instance: InstanceId,
    pub(super) data_type: DataType,
    pub(super) delta: Delta,
}

impl Update {
    /// The id of what it belongs to.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// What kind of data it is of.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The delta in it, as of a document.
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// The operations that it stands for.
    pub fn applied(&self) -> &DotSet {
        self.delta.applied()
    }

    /// Whether it says nothing, and need not be sent.
    pub fn is_empty(&self) -> bool {
        self.delta.is_empty()
    }

    /// Its bytes, with a format version and a checksum; equal updates have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let delta = self.delta.encode();
        let mut out = Vec::with_capacity(18 + delta.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.instance.get().to_le_bytes());
        out.push(self.data_type as u8);
        // One checksum, over all, in place of the delta's own.
        out.extend_from_slice(&delta[..delta.len() - CHECKSUM_BYTES]);
        put_checksum(&mut out);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, with the bounds of [`Delta::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(check_checksum(bytes)?);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(DecodeError::UnknownVersion(format));
        }
        let (low, high) = (reader.u64_le()?, reader.u64_le()?);
        let instance = InstanceId::new(u128::from(high) << 64 | u128::from(low));
        let data_type = DataType::from_code(reader.byte()?);
        let data_type = data_type.ok_or_else(|| reader.malformed("an unknown data type"))?;
        Ok(Self {
            instance,
            data_type,
            delta: Delta::read(reader)?,
        })
    }
}

/// Why an update was not applied. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It belongs to something else.
    #[error("the update is of instance {theirs}, this is {ours}: give it to the one it belongs to")]
    OtherInstance {
        /// The id of this instance.
        ours: InstanceId,
        /// The id in the update.
        theirs: InstanceId,
    },
    /// The id is the same, the type is not.
    #[error("the update is of type {theirs}, this is {ours}: two things were given one id")]
    OtherType {
        /// The type of this instance.
        ours: DataType,
        /// The type in the update.
        theirs: DataType,
    },
}
