//! Hellos: who is there, what it has, and what it asks for.

use alloc::borrow::ToOwned;
use alloc::string::String;

use bytes::Bytes;

use super::{HELLO, PROTOCOL, frame, read_credentials};
use crate::codec::{Reader, put_bytes, put_dots, put_varint, read_dots};
use crate::dots::{DotSet, Version};
use crate::limits::MAX_NAME_BYTES;
use crate::replica::ReplicaId;
use crate::sync::error::ProtocolError;

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
    /// Whether the sender lacks what it should have: it has not read it from its bus so far.
    pub incomplete: bool,
    /// What the sender has (a sender with a store: has stored).
    pub version: Version,
    /// What everybody had when the sender last let go of positions: who has some of it and lacks
    /// some has to begin anew from the whole state.
    pub required: Version,
    /// Of members the last operation that they have told to be stored, where it is not in the
    /// version: who is none the wiser is an old backup.
    pub heard: DotSet,
    /// What shows that it may.
    pub credentials: Option<Bytes>,
}

const HELLO_REPLY: u8 = 1;
const HELLO_READ: u8 = 2;
const HELLO_WRITE: u8 = 4;
const HELLO_CREDENTIALS: u8 = 8;
const HELLO_VISITS: u8 = 16;
const HELLO_HEARD: u8 = 32;
const HELLO_INCOMPLETE: u8 = 64;
const HELLO_FLAGS: u8 = HELLO_REPLY
    | HELLO_READ
    | HELLO_WRITE
    | HELLO_CREDENTIALS
    | HELLO_VISITS
    | HELLO_HEARD
    | HELLO_INCOMPLETE;

pub(in crate::sync) fn hello(handle: u32, hello: &Hello) -> Bytes {
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
            (HELLO_HEARD, !hello.heard.is_empty()),
            (HELLO_INCOMPLETE, hello.incomplete),
        ] {
            flags |= if on { flag } else { 0 };
        }
        out.push(flags);
        put_bytes(out, hello.document.as_bytes());
        out.extend_from_slice(&hello.replica.get().to_le_bytes());
        put_dots(out, &hello.version);
        put_dots(out, &hello.required);
        if !hello.heard.is_empty() {
            put_dots(out, &hello.heard);
        }
        if let Some(credentials) = &hello.credentials {
            put_bytes(out, credentials);
        }
    })
}

pub(super) fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, ProtocolError> {
    let protocol = reader.bounded("the protocol's version", u64::from(u16::MAX))? as u16;
    if protocol != PROTOCOL {
        return Err(ProtocolError::Version {
            ours: PROTOCOL,
            theirs: protocol,
        });
    }
    let flags = reader.byte()?;
    if flags & !HELLO_FLAGS != 0 {
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
        incomplete: flags & HELLO_INCOMPLETE != 0,
        version: read_dots(reader)?,
        required: read_dots(reader)?,
        heard: match flags & HELLO_HEARD {
            0 => DotSet::new(),
            _ => read_heard(reader)?,
        },
        credentials: match flags & HELLO_CREDENTIALS {
            0 => None,
            _ => Some(read_credentials(reader)?),
        },
    })
}

fn read_heard(reader: &mut Reader<'_>) -> Result<DotSet, ProtocolError> {
    let heard = read_dots(reader)?;
    if heard.is_empty() {
        return Err(reader
            .malformed("a flag for what was heard of nobody")
            .into());
    }
    Ok(heard)
}
