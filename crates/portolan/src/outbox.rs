//! What waits for a connection's task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use portolan_core::sync::{CloseReason, SessionId};
use tokio::sync::Notify;

use crate::limits::NOTICES;
use crate::shared::Shared;

/// What waits for a connection's task: maps with something to send, and notices. Small, for there
/// is one for each of thousands of connections; frames wait in the replicas.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Waiting>,
    wake: Notify,
    /// Notices have been seen to.
    room: Notify,
    /// Place of the server among the node's peers, counted from 1; 0 for a served connection.
    place: usize,
    /// Whether the peer wants to hear of maps that come into being.
    pub(crate) follows: AtomicBool,
    pub(crate) maps: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    ready: VecDeque<(Arc<Shared>, SessionId)>,
    notices: VecDeque<Notice>,
}

/// Something other than frames that a connection's task has to see to.
pub(crate) enum Notice {
    /// Open a session for this map.
    Open(Arc<Shared>),
    /// A session ended; send its last frame and forget it.
    Closed(Arc<Shared>, SessionId, CloseReason),
    /// The peer of a session presents new credentials.
    Credentials(Arc<Shared>, SessionId, Bytes),
    /// A map came into being.
    Named(Arc<str>),
    /// A frame about the connection itself.
    Frame(Bytes),
    /// Present the new token for everything.
    Renew,
    /// Ask the authorizer again about everything.
    Reauthorize,
    /// After what waits, end the connection: the peer broke a rule, or the peer is not wanted.
    Hang(crate::error::Error),
}

impl Outbox {
    pub(crate) fn new(place: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            place: place.map_or(0, |place| place + 1),
            ..Self::default()
        })
    }

    /// Place of the server among the node's peers; `None` for a served connection.
    pub(crate) fn place(&self) -> Option<usize> {
        self.place.checked_sub(1)
    }

    /// A session has something to send; whether the task must be woken for it.
    pub(crate) fn ready(&self, map: &Arc<Shared>, session: SessionId) -> bool {
        let mut waiting = self.queue.lock();
        waiting.ready.push_back((map.clone(), session));
        waiting.ready.len() == 1
    }

    pub(crate) fn notice(&self, notice: Notice) {
        self.queue.lock().notices.push_back(notice);
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn next_ready(&self) -> Option<(Arc<Shared>, SessionId)> {
        self.queue.lock().ready.pop_front()
    }

    /// Whether a session has something to send.
    pub(crate) fn is_ready(&self) -> bool {
        !self.queue.lock().ready.is_empty()
    }

    pub(crate) fn next_notice(&self) -> Option<Notice> {
        let mut waiting = self.queue.lock();
        let notice = waiting.notices.pop_front();
        if waiting.notices.len() == NOTICES / 2 {
            self.room.notify_one();
        }
        notice
    }

    /// Waits while too many notices wait.
    pub(crate) async fn room(&self) {
        while self.queue.lock().notices.len() > NOTICES {
            self.room.notified().await;
        }
    }

    /// Waits for something to be done. May return early.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// A session is over.
    pub(crate) fn not_ready(&self, session: SessionId, map: &Arc<Shared>) {
        let over =
            |entry: &(Arc<Shared>, SessionId)| entry.1 == session && Arc::ptr_eq(&entry.0, map);
        self.queue.lock().ready.retain(|entry| !over(entry));
    }

    /// Drops what waits, and with it the maps that it holds.
    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.queue.lock());
        drop(waiting);
    }

    pub(crate) fn count(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
