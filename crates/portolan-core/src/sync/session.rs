//! One peer, as a replica sees it.

use std::fmt;

use super::frame::Access;
use crate::replica::ReplicaId;

/// Names a session; never used twice by one [`Replica`](super::Replica).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

impl SessionId {
    /// The number behind it, for logs.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a session stands, for status pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which session.
    pub id: SessionId,
    /// The peer; `None` before its hello.
    pub peer: Option<ReplicaId>,
    /// What this side may do at the peer (opened) or the peer here (accepted).
    pub access: Access,
    /// Whether this side opened it.
    pub opened: bool,
    /// Whether all is here that the peer had when it said hello.
    pub ready: bool,
    /// Whether it is over and waits for [`Replica::close`](super::Replica::close).
    pub closed: bool,
    /// Bytes that wait to be sent: live frames and the rest of a catch-up.
    pub queued_bytes: usize,
    /// Bytes of a catch-up that have arrived, of how many in all.
    pub staged: Option<(u64, u64)>,
    /// Operations that were not sent yet, because the peer does not keep up or has just come.
    pub missing: u64,
    /// Operations that the peer has not acknowledged.
    pub unacknowledged: u64,
}
