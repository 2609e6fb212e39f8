//! What changed: exact events.

use crate::clock::Timestamp;
use crate::key::Key;
use crate::replica::ReplicaId;
use crate::value::Value;

/// Whether a change was made by this replica or came from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by this replica.
    Local,
    /// Came from another.
    Remote,
}

/// What one transaction, or one delta from outside, changed: all of it, at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// From here or from elsewhere.
    pub origin: Origin,
    /// One change for each key whose siblings are not what they were, in the order of the keys.
    pub changes: Vec<Change>,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The keys from the root to the changed one.
    pub path: Vec<Key>,
    /// The winner before; `None` where the key did not exist.
    pub old: Option<Value>,
    /// The winner now; `None` where the key does not exist any more.
    pub new: Option<Value>,
    /// The siblings beside the winner now, in their order.
    pub siblings: Vec<Value>,
    /// Who did it; `None` where several replicas had a part in the removal of the key.
    pub by: Option<ReplicaId>,
    /// When it was done: the winner's timestamp; of a removal, the latest known.
    pub timestamp: Timestamp,
}
