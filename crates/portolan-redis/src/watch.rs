//! Changes, as they are told to those who watch.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use portolan::Pattern;
use tokio::sync::Notify;

use crate::key::Key;
use crate::map::Shared;
use crate::snapshot::Snapshot;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something changed.
    Changed(Arc<Batch>),
    /// The watcher was too slow. So many changes were not told; this is what the map holds now,
    /// and what is told next follows on it.
    Lagged {
        /// Changes that were not told.
        missed: u64,
        /// The entries that match the watcher's pattern.
        snapshot: Snapshot,
    },
}

/// Changes that came together: of one operation, or found when the map was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision of the map after them.
    pub revision: u64,
    /// Who wrote.
    pub origin: Origin,
    /// At least one; no key twice.
    pub changes: Vec<Change>,
}

/// A change of one key. The old value is what the last event left under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// What it held.
    pub old: Option<Bytes>,
    /// What it holds now.
    pub new: Option<Bytes>,
    /// How it came about.
    pub kind: Kind,
}

/// How a change came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The key was written.
    Set,
    /// The key was deleted.
    Delete,
    /// All keys were: the map was reset or destroyed.
    Reset,
    /// The whole map was gone when it was looked at: it expired, or somebody deleted it or flushed
    /// the database, or its server lost it.
    Expired,
}

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This node.
    Here,
    /// Another one, or this one in a write whose answer was lost; and whatever was found when the
    /// map was read again.
    Elsewhere,
}

/// Tells the changes of a map from the moment it was made. Ends when the node leaves the map.
#[derive(Debug)]
pub struct Watch {
    pub(crate) queue: Arc<Queue>,
    pub(crate) map: Weak<Shared>,
}

impl Watch {
    /// Waits for the next event; none follows once the node has left the map.
    ///
    /// Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let more = self.queue.more.notified();
            match self.queue.pop() {
                Next::Batch(batch) => return Some(Event::Changed(batch)),
                Next::Lagged => return Some(self.map.upgrade()?.catch_up(&self.queue)),
                Next::End => return None,
                Next::Nothing => more.await,
            }
        }
    }
}

/// What waits for one watcher.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) pattern: Pattern,
    capacity: usize,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arc<Batch>>,
    /// Changes in them.
    changes: usize,
    missed: u64,
    /// The place in the order of events after which it is told any.
    after: u64,
    ended: bool,
}

enum Next {
    Batch(Arc<Batch>),
    Lagged,
    Nothing,
    End,
}

impl Queue {
    pub(crate) fn new(pattern: Pattern, capacity: usize, after: u64) -> Self {
        let waiting = Waiting {
            after,
            ..Waiting::default()
        };
        Self {
            pattern,
            capacity,
            waiting: Mutex::new(waiting),
            more: Notify::new(),
        }
    }

    /// Adds a batch, whose place in the order of events is given.
    pub(crate) fn push(&self, place: u64, batch: &Arc<Batch>) {
        let Some(batch) = self.matching(batch) else {
            return;
        };
        let mut waiting = self.waiting.lock();
        if place <= waiting.after {
            return;
        }
        let count = batch.changes.len();
        if waiting.missed > 0 {
            waiting.missed += count as u64;
        } else if waiting.changes + count > self.capacity {
            // A snapshot follows, so what waits is of no use either.
            waiting.missed = (waiting.changes + count) as u64;
            waiting.batches.clear();
            waiting.changes = 0;
        } else {
            waiting.changes += count;
            waiting.batches.push_back(batch);
        }
        drop(waiting);
        self.more.notify_one();
    }

    pub(crate) fn end(&self) {
        self.waiting.lock().ended = true;
        self.more.notify_one();
    }

    /// Goes on after this place; returns how many changes were not told.
    pub(crate) fn go_on_after(&self, place: u64) -> u64 {
        let mut waiting = self.waiting.lock();
        waiting.after = place;
        std::mem::take(&mut waiting.missed)
    }

    fn pop(&self) -> Next {
        let mut waiting = self.waiting.lock();
        if let Some(batch) = waiting.batches.pop_front() {
            waiting.changes -= batch.changes.len();
            return Next::Batch(batch);
        }
        match (waiting.missed, waiting.ended) {
            (_, true) => Next::End,
            (0, false) => Next::Nothing,
            (_, false) => Next::Lagged,
        }
    }

    /// The next batch, if one waits.
    #[cfg(test)]
    pub(crate) fn try_next(&self) -> Option<Event> {
        match self.pop() {
            Next::Batch(batch) => Some(Event::Changed(batch)),
            Next::Lagged | Next::Nothing | Next::End => None,
        }
    }

    fn matching(&self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        if self.pattern.is_all() {
            return Some(Arc::clone(batch));
        }
        let matches = |change: &&Change| self.pattern.matches(&change.key.to_string());
        let changes: Vec<Change> = batch.changes.iter().filter(matches).cloned().collect();
        (!changes.is_empty()).then(|| {
            Arc::new(Batch {
                revision: batch.revision,
                origin: batch.origin,
                changes,
            })
        })
    }
}
