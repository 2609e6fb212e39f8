//! Watching a map.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use parking_lot::Mutex;
use portolan_core::{Batch, Key};

use crate::entry::Entry;
use crate::map::Map;
use crate::pattern::Scope;

/// The changes of a map, exact: what it gives, applied to what its receiver had, is what the map
/// holds. Made by [`Map::watch`](crate::Map::watch).
///
/// Ends (`None`) when the node is closed and everything was given.
pub struct Watch {
    map: Map,
    queue: Arc<Queue>,
}

/// What a [`Watch`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One transaction, or one delta from outside: all of its changes that match, at once.
    Changed(Arc<Numbered>),
    /// The receiver fell behind, or asked for it, or the map went on from another replica's state
    /// (see [`Map::members`](crate::Map::members)): everything that matches now, in place of all
    /// that it had.
    Snapshot {
        /// Number of the latest batch in it.
        number: u64,
        /// How many batches were left out; 0 for the snapshot that was asked for.
        missed: u64,
        /// In the order of their keys; what is in a container after what stands beside it.
        entries: Vec<Entry>,
    },
}

/// A batch with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// Grows with each batch of the map, those too that the pattern leaves out.
    pub number: u64,
    /// What changed.
    pub batch: Batch,
}

impl std::ops::Deref for Numbered {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

/// What waits for one watcher.
pub(crate) struct Queue {
    scope: Scope,
    /// Most changes that wait.
    limit: usize,
    state: Mutex<Waiting>,
}

struct Waiting {
    batches: VecDeque<Arc<Numbered>>,
    changes: usize,
    /// A snapshot is due, and stands for so many batches.
    behind: Option<u64>,
    ended: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// Takes the part of a batch that matches; who is to be woken for it. Called in the order of
    /// the batches, under the lock of the map.
    pub(crate) fn push(&self, batch: &Arc<Numbered>) -> Option<Waker> {
        let matches = |path: &[Key]| self.scope.matches(path);
        let matching = if self.scope.is_all() {
            batch.changes.len()
        } else {
            let changes = batch.changes.iter();
            changes.filter(|change| matches(&change.path)).count()
        };
        if matching == 0 {
            return None;
        }
        let mut waiting = self.state.lock();
        if let Some(missed) = &mut waiting.behind {
            *missed += 1;
            return None;
        }
        // A batch that alone exceeds the limit is taken if nothing else waits.
        if waiting.changes > 0 && waiting.changes + matching > self.limit {
            waiting.behind = Some(waiting.batches.len() as u64 + 1);
            waiting.batches = VecDeque::new();
            waiting.changes = 0;
        } else {
            let part = if matching == batch.changes.len() {
                batch.clone()
            } else {
                let changes = batch.changes.iter();
                let changes = changes.filter(|change| matches(&change.path));
                Arc::new(Numbered {
                    number: batch.number,
                    batch: Batch {
                        origin: batch.origin,
                        changes: changes.cloned().collect(),
                    },
                })
            };
            waiting.batches.push_back(part);
            waiting.changes += matching;
        }
        waiting.waker.take()
    }

    /// What comes next does not follow from what came: a snapshot takes the place of all.
    pub(crate) fn overtake(&self) -> Option<Waker> {
        let mut waiting = self.state.lock();
        let missed = waiting.behind.unwrap_or(waiting.batches.len() as u64);
        waiting.behind = Some(missed + 1);
        (waiting.batches, waiting.changes) = (VecDeque::new(), 0);
        waiting.waker.take()
    }

    /// No more will come.
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut waiting = self.state.lock();
        waiting.ended = true;
        waiting.waker.take()
    }
}

impl Watch {
    pub(crate) fn new(map: Map, scope: Scope, limit: usize, snapshot: bool) -> Self {
        let queue = Arc::new(Queue {
            scope,
            limit,
            state: Mutex::new(Waiting {
                batches: VecDeque::new(),
                changes: 0,
                behind: snapshot.then_some(0),
                ended: false,
                waker: None,
            }),
        });
        map.shared().watch(queue.clone());
        if map.shared().core().is_err() {
            let _ = queue.end();
        }
        Self { map, queue }
    }

    /// The next event; `None` when the node is closed.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        if let Some(snapshot) = self.snapshot_if_due() {
            return Some(snapshot);
        }
        self.queue.state.lock().pop()
    }

    /// What stands for everything that was left out.
    fn snapshot_if_due(&self) -> Option<Event> {
        self.queue.state.lock().behind?;
        // With the map's lock no batch comes in between the state and the mark. The map's lock is
        // always taken before the queue's.
        self.map.shared().read(|state| {
            let missed = self.queue.state.lock().behind.take()?;
            Some(Event::Snapshot {
                number: state.number,
                missed,
                entries: Entry::within(state.replica.document(), &self.queue.scope),
            })
        })
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Event> {
        let batch = self.batches.pop_front()?;
        // No batch without changes is queued; the sum is exact when the queue is empty.
        self.changes = self.changes.saturating_sub(batch.changes.len());
        Some(Event::Changed(batch))
    }
}

impl Stream for Watch {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(snapshot) = self.snapshot_if_due() {
                return Poll::Ready(Some(snapshot));
            }
            let mut waiting = self.queue.state.lock();
            if waiting.behind.is_some() {
                continue;
            }
            if let Some(event) = waiting.pop() {
                return Poll::Ready(Some(event));
            }
            if waiting.ended {
                return Poll::Ready(None);
            }
            match &mut waiting.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.map.shared().unwatch(&self.queue);
    }
}
