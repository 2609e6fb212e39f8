//! Why a session ends: the rules that a peer can break, and the words for it on the wire.

use alloc::string::String;
use alloc::string::ToString;

use bytes::Bytes;

use super::frame::{self, MAX_CREDENTIALS_BYTES, MAX_PRESENCE_BYTES};
use crate::error::{DecodeError, Fault};
use crate::limits::{MAX_FRAME_BYTES, MAX_NAME_BYTES};
use crate::replica::ReplicaId;

/// The rule that a peer broke. The document was not touched; the session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes of a frame, or of a delta in it, are not what a correct peer writes.
    #[error("a frame was refused: {0}")]
    Frame(#[from] DecodeError),
    /// A frame above the limit.
    #[error("a frame of {0} bytes was refused; the limit is {MAX_FRAME_BYTES}")]
    FrameTooLong(usize),
    /// A type of frame that this release does not know.
    #[error("a frame of unknown type {0} was refused")]
    UnknownType(u8),
    /// A peer of another release.
    #[error(
        "the peer speaks version {theirs} of the protocol, this side version {ours}: upgrade the older one"
    )]
    Version {
        /// What this side speaks.
        ours: u16,
        /// What the peer speaks.
        theirs: u16,
    },
    /// The name of a document is empty or too long.
    #[error("a document's name has {0} bytes; it must have 1 to {MAX_NAME_BYTES}")]
    Name(usize),
    /// The answer to a hello is about another document.
    #[error("the peer answered for document {theirs:?}, asked was {ours:?}")]
    WrongDocument {
        /// The document of this session.
        ours: String,
        /// The one the peer named.
        theirs: String,
    },
    /// Something other than a hello came first.
    #[error("the peer sent data before its hello")]
    DataBeforeHello,
    /// A second hello in one session.
    #[error("the peer said hello twice")]
    DuplicateHello,
    /// A hello where its answer should be, or the other way round.
    #[error("the peer confuses a hello and the answer to one")]
    HelloDirection,
    /// No answer in time.
    #[error("the peer did not answer the hello within {0} ms")]
    HelloTimeout(u64),
    /// The peer has this replica's id.
    #[error(
        "the peer has the replica id {0} too: it is this very process, or its store is a copy of this one; give one of them a store of its own"
    )]
    SameReplica(ReplicaId),
    /// The peer knows more operations of this replica than it remembers itself.
    #[error(
        "the peer knows operation {theirs} of replica {replica}, which itself remembers only {ours}: it was restored from an old backup, and continues under a new id"
    )]
    ReplicaReused {
        /// The id that must not be used again.
        replica: ReplicaId,
        /// The last operation that it remembers.
        ours: u64,
        /// The last one that the peer knows.
        theirs: u64,
    },
    /// A peer without the right to write sent operations.
    #[error("the peer sent operations without write access to this document")]
    NotWritable,
    /// A peer without the right to read asked for operations.
    #[error("the peer asked for operations without read access to this document")]
    NotReadable,
    /// An operation from the future.
    #[error(
        "an operation is stamped {ahead} ms ahead of this clock; the limit is {limit} ms: set the peer's clock"
    )]
    ClockAhead {
        /// How far.
        ahead: u64,
        /// How far it may be.
        limit: u64,
    },
    /// A delta in pieces that is larger than may be staged.
    #[error("a delta of {found} bytes cannot be staged; {limit} bytes are left for it")]
    Staged {
        /// Its length.
        found: u64,
        /// What is left.
        limit: u64,
    },
    /// A document whose version no frame could tell any more.
    #[error(
        "the document's version would take {found} bytes; the limit is {limit}: too many replicas have written to it"
    )]
    VersionTooLong {
        /// What it would take.
        found: usize,
        /// What it may take.
        limit: usize,
    },
    /// A presence state above the limit.
    #[error("a presence of {0} bytes; the limit is {MAX_PRESENCE_BYTES}")]
    Presence(usize),
    /// Credentials above the limit.
    #[error("credentials of {0} bytes; the limit is {MAX_CREDENTIALS_BYTES}")]
    Credentials(usize),
    /// The host does not let the peer in.
    #[error("access refused: {0}")]
    Refused(String),
    /// The peer would have to begin anew from the whole state, and may not read it.
    #[error(
        "this replica refers to elements that the others have let go of, and may not read what \
         they have: ask for read access"
    )]
    LeftBehind,
    /// The session is over, or never was.
    #[error("the session is closed")]
    Closed,
}

impl From<Fault> for ProtocolError {
    fn from(fault: Fault) -> Self {
        Self::Frame(fault.into())
    }
}

impl ProtocolError {
    /// The code that tells the peer what kind of error it is.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Version { .. } => ErrorCode::Version,
            Self::Refused(_) | Self::NotWritable | Self::NotReadable | Self::LeftBehind => {
                ErrorCode::Refused
            }
            Self::HelloTimeout(_) => ErrorCode::Timeout,
            Self::ReplicaReused { .. } => ErrorCode::Restart,
            Self::Closed => ErrorCode::Closing,
            _ => ErrorCode::Protocol,
        }
    }

    /// An error frame about a document, for a peer that has no session (its hello was refused) or
    /// none that is known (`document` is empty: the whole connection is meant).
    pub fn to_frame(&self, document: &str) -> Bytes {
        frame::error(0, self.code(), document, &self.to_string())
    }
}

/// What kind of end an error frame announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A rule of the protocol was broken.
    Protocol,
    /// The two sides speak different versions of it.
    Version,
    /// No access, or not any more.
    Refused,
    /// The other side continues under another replica id: connect again.
    Restart,
    /// The other side leaves in good order.
    Closing,
    /// The other side waited too long for something.
    Timeout,
    /// A code of a later release.
    Other(u8),
}

impl ErrorCode {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Protocol => 1,
            Self::Version => 2,
            Self::Refused => 3,
            Self::Restart => 4,
            Self::Closing => 5,
            Self::Timeout => 6,
            Self::Other(byte) => byte,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Protocol,
            2 => Self::Version,
            3 => Self::Refused,
            4 => Self::Restart,
            5 => Self::Closing,
            6 => Self::Timeout,
            other => Self::Other(other),
        }
    }
}
