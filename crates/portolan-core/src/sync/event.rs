//! What the owner of a replica is told.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::error::{ErrorCode, ProtocolError};
use super::frame::Access;
use super::session::SessionId;
use crate::change::Batch;
use crate::replica::{Dot, ReplicaId};

/// What happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The document changed; only where [`Replica::observe`](super::Replica::observe) is on.
    Changed(Batch),
    /// Both sides have said hello.
    Connected {
        /// Which session.
        session: SessionId,
        /// The peer's id.
        replica: ReplicaId,
        /// What this side may do at the peer (a session that was opened), or the peer here (one
        /// that was accepted).
        access: Access,
    },
    /// All that the peer had when it said hello is here; where it lacked then what it should have
    /// had, all that it had once it did. Once a session.
    Ready(SessionId),
    /// The peer has stored own operations of this replica: a flush may be complete.
    Acknowledged(SessionId),
    /// A peer's presence is new, changed, or gone (`None`).
    Presence {
        /// Whose.
        replica: ReplicaId,
        /// Its state.
        state: Option<Bytes>,
    },
    /// The peer presents new credentials: check them, and [`end`](super::Replica::end) the session
    /// if they do not do.
    Credentials {
        /// Which session.
        session: SessionId,
        /// What it presents.
        credentials: Bytes,
    },
    /// Versions are equal and states are not, or this replica lacks what it must have read on the
    /// bus: an error in one of the two, which is being repaired.
    Diverged {
        /// The session that showed it.
        session: SessionId,
    },
    /// After [`Diverged`](Self::Diverged): the states are equal again.
    Repaired {
        /// The session that showed it.
        session: SessionId,
        /// How many values were damaged or missing here, and taken from the peer.
        values: u64,
    },
    /// A peer knows more of this replica's operations than it does itself: the store is an old
    /// backup. Pass a fresh id to [`Replica::change_replica`](super::Replica::change_replica).
    ReplicaReused,
    /// A replica was not heard of for [`Config::forget_after`](super::Config::forget_after), and is
    /// not waited for any more.
    Forgotten(ReplicaId),
    /// The others had let go of what this replica still referred to: it has taken over their state
    /// and done again what they did not have. What [`Changed`](Self::Changed) told before does not
    /// lead to what the document holds now: read it anew. All sessions end, to be opened again.
    Resynced {
        /// The elements, values and moves that were done again because they had no place any more:
        /// the dot of each, and its new one. That of a value or element is the same for whoever
        /// does it again, and may have been here already.
        again: Vec<(Dot, Dot)>,
    },
    /// This replica writes under another id now: one that was lent to it, or a fresh one after it
    /// gave that back. What it had done under `old` and told to nobody has the numbers from `base`
    /// + 1 on under `new`.
    Renamed {
        /// The id until now.
        old: ReplicaId,
        /// The id from now on.
        new: ReplicaId,
        /// The last operation of the new id that others have done.
        base: u64,
    },
    /// A session ended otherwise than by [`Replica::close`](super::Replica::close). Send what
    /// [`poll_frame`](super::Replica::poll_frame) still gives, then call `close`.
    Closed {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer broke a rule.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer ended it.
    #[error("the peer ended the session: {message}")]
    Peer {
        /// What kind of end.
        code: ErrorCode,
        /// In the peer's words.
        message: String,
    },
    /// The others have forgotten this replica: connect again, and go on from what they have.
    #[error("this replica was forgotten by the others, and begins again")]
    Forgotten,
    /// This replica has begun anew from the state of the peer: connect again.
    #[error("this replica has begun anew from the state of another")]
    Resynced,
    /// This replica took a new id: connect again.
    #[error("this replica continues under a new id")]
    ReplicaChanged,
}
