//! What was heard of a log and not looked at.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Listener;

/// Bytes of entries and messages that wait; beyond, the entries are read from the log.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// An entry that was appended; its bytes, unless they are to be read.
pub(super) struct Heard {
    pub(super) epoch: u64,
    pub(super) number: u64,
    pub(super) entry: Option<Bytes>,
}

/// What was heard of a log and not looked at.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) heard: Vec<Heard>,
    /// What others have said beside the log.
    pub(super) messages: Vec<Bytes>,
    /// Something may be missing.
    pub(super) disturbed: bool,
    bytes: usize,
}

impl Waiting {
    fn bound(&mut self) {
        if self.bytes > MAX_BYTES {
            self.heard.clear();
            self.messages.clear();
            (self.bytes, self.disturbed) = (0, true);
        }
    }
}

impl Inbox {
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Waits until there is something. May return early.
    pub(super) async fn wait(&self) {
        self.arrived.notified().await;
    }
}

impl Listener for Inbox {
    fn heard(&self, epoch: u64, number: u64, entry: Option<Bytes>) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += entry.as_ref().map_or(0, Bytes::len);
        let heard = Heard {
            epoch,
            number,
            entry,
        };
        waiting.heard.push(heard);
        waiting.bound();
        drop(waiting);
        self.arrived.notify_one();
    }

    fn told(&self, message: Bytes) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += message.len();
        waiting.messages.push(message);
        waiting.bound();
        drop(waiting);
        self.arrived.notify_one();
    }

    fn disturbed(&self) {
        self.waiting.lock().disturbed = true;
        self.arrived.notify_one();
    }
}
