//! The return of a replica that was not waited for.

use bytes::Bytes;

use crate::delta::Delta;
use crate::dots::Version;
use crate::sync::event::{CloseReason, Event};
use crate::sync::replica::Replica;
use crate::sync::session::SessionId;

impl Replica {
    /// The others have not waited for this replica: whether it can go on from what it has, the
    /// next hellos tell.
    pub(super) fn return_to_peers(&mut self) {
        let reason = CloseReason::Forgotten;
        self.members.pending = None;
        self.forsake_bus();
        self.end_all(&reason);
    }

    /// Goes on from a peer's whole state.
    pub(in crate::sync) fn begin_anew(&mut self, id: SessionId, now: u64, whole: &Delta) {
        let required = self
            .sessions
            .get(&id)
            .map(|session| session.required.clone());
        self.note_source(id);
        self.begin_anew_from(now, whole, required.unwrap_or_default());
    }

    /// Goes on from another's whole state, who asks for what is `required`.
    pub(in crate::sync) fn begin_anew_from(&mut self, now: u64, whole: &Delta, required: Version) {
        let before = core::mem::take(&mut self.version);
        let again = self.document.begin_anew(whole, now);
        self.version = self.document.version();
        let own_seq = self.document.own_seq();
        let mut dots = self.unstored_dots();
        dots.union_with(&self.version.difference(&before));
        self.members.table.required = required;
        self.members.revisions.required = self.members.revisions.last + 1;
        (self.members.pending, self.members.sealing) = (None, None);
        self.members.changed();
        self.forsake_writes();
        if self.durable {
            let state = Bytes::from(self.document.encode());
            let images = again.iter().map(|(_, image)| *image).collect();
            self.write_anew(state, dots, own_seq, &images);
        } else if self.is_settled() {
            self.own_stored = own_seq;
        }
        self.forsake_bus();
        self.changed();
        self.events.push_back(Event::Resynced { again });
        self.end_all(&CloseReason::Resynced);
        self.tend(now);
    }
}
