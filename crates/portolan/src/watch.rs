//! Watching a map.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use portolan_core::{Batch, Key, ReplicaId, Timestamp, Value};

/// The changes of a map, exact: what it gives, applied to what its receiver had, is what the map
/// holds. Made by [`Map::watch`](crate::Map::watch).
///
/// Ends (`None`) when the node is closed and everything was given.
pub struct Watch {}

/// What a [`Watch`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One transaction, or one delta from outside: all of its changes that match, at once.
    Changed(Arc<Numbered>),
    /// The receiver fell behind, or asked for it: everything that matches now, in place of all
    /// that it had.
    Snapshot {
        /// Number of the latest batch in it.
        number: u64,
        /// How many batches were left out; 0 for the snapshot that was asked for.
        missed: u64,
        /// In the order of their keys.
        entries: Vec<Entry>,
    },
}

/// A batch with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// Grows by one with each batch of the map, those too that the pattern leaves out.
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

/// One key of a map at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The keys from the root.
    pub path: Vec<Key>,
    /// The winner.
    pub value: Value,
    /// The siblings beside it, in their order.
    pub siblings: Vec<Value>,
    /// Who wrote the winner.
    pub by: ReplicaId,
    /// When.
    pub timestamp: Timestamp,
}

impl Watch {
    /// The next event; `None` when the node is closed.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Watch {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Event>> {
        todo!()
    }
}
