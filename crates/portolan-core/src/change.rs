//! What changed: exact events.

use alloc::vec::Vec;

use crate::clock::Timestamp;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
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
    /// First what happened in arrays, one after the other; then one change for each key whose
    /// siblings are not what they were, in the order of the keys; then the counters.
    pub changes: Vec<Change>,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The value of a key, or of an element that holds a map: the last key of the path.
    Key,
    /// An element of the array at the path. It came to show at the index (`old` is none), went
    /// from there (`new` is none), or changed there. A move is a going and a coming.
    Element {
        /// Which element: it keeps its id when others come and go.
        id: Dot,
        /// Where it stands, all changes before this one done.
        index: usize,
    },
    /// A member of the set at the path: it came (`new`) or went (`old`).
    Member,
    /// What the counter at the path shows.
    Count,
}

/// What became of one key, element, member or counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The keys from the root to the changed one, or to the array, set or counter.
    pub path: Vec<Key>,
    /// What of it changed.
    pub place: Place,
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
