//! Frames: what two replicas say to each other, and its bytes.

use bytes::Bytes;

use super::error::{ErrorCode, ProtocolError};
use crate::dots::Version;
use crate::replica::ReplicaId;

/// The version of the protocol that this release speaks.
pub const PROTOCOL: u16 = 1;
/// Most bytes of credentials: a token is far smaller, and they arrive before they are checked.
pub(super) const MAX_CREDENTIALS_BYTES: usize = 16 * 1024;
/// Most bytes of one presence state: it is relayed to everybody whenever it changes.
pub(super) const MAX_PRESENCE_BYTES: usize = 64 * 1024;

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
    pub fn decode(_bytes: Bytes) -> Result<Frame, ProtocolError> {
        todo!()
    }

    /// The sender's number for the document.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The hello, if it is one.
    pub fn hello(&self) -> Option<&Hello> {
        todo!()
    }

    /// The error, if it is one. It names its document, since the sender may have had no handle
    /// for it.
    pub fn error(&self) -> Option<&ErrorFrame> {
        todo!()
    }

    /// The kind of message in one word, for logs.
    pub fn kind(&self) -> &'static str {
        todo!()
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
    /// What the sender has (a sender with a store: has stored).
    pub version: Version,
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

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Hello(Hello),
}

pub(super) fn error(_handle: u32, _code: ErrorCode, _document: &str, _message: &str) -> Bytes {
    todo!()
}
