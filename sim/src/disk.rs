//! A store that loses what was not synced when its node crashes.

use bytes::Bytes;
use portolan_core::sync::Write;
use portolan_core::{Delta, Document, ReplicaId};

/// The writes of one node, in order.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    synced: Vec<Bytes>,
    members: Option<Bytes>,
    /// Written, and lost in a crash.
    unsynced: Vec<Write>,
}

impl Disk {
    pub(crate) fn write(&mut self, write: Write) {
        self.unsynced.push(write);
    }

    /// Makes everything written so far survive; the number of the last write, if there was one.
    pub(crate) fn sync(&mut self) -> Option<u64> {
        let last = self.unsynced.last().map(|write| write.number);
        for write in std::mem::take(&mut self.unsynced) {
            self.keep(write);
        }
        last
    }

    /// Loses what is not synced, but for the first `kept` writes: a disk may have had them.
    pub(crate) fn crash(&mut self, kept: usize) {
        let kept = kept.min(self.unsynced.len());
        for write in std::mem::take(&mut self.unsynced).into_iter().take(kept) {
            self.keep(write);
        }
    }

    /// A copy of what is safe.
    pub(crate) fn synced(&self) -> Self {
        Self {
            synced: self.synced.clone(),
            members: self.members.clone(),
            unsynced: Vec::new(),
        }
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn keep(&mut self, write: Write) {
        if let Some(members) = write.members {
            self.members = Some(members);
            return;
        }
        if write.replaces {
            self.synced.clear();
        }
        self.synced.push(write.delta);
    }

    /// What it keeps of the members.
    pub(crate) fn members(&self) -> Option<&Bytes> {
        self.members.as_ref()
    }

    /// What a node finds when it starts.
    pub(crate) fn load(&self, replica: ReplicaId) -> Document {
        let mut document = Document::new(replica);
        for bytes in &self.synced {
            let delta = Delta::decode(bytes).expect("what was stored decodes");
            document.apply(&delta);
        }
        document
    }
}
