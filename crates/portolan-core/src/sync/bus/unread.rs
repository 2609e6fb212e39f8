//! A log that was not read so far, at a server that held nothing when it came: what is there may be
//! anything between nothing and all. Its peers are told so, and are not ready before it is read.
//!
//! The answer to a hello says that the server is *incomplete*. Its first digest that does not say so
//! any more tells what there is: with that the peer is ready.

use alloc::vec::Vec;

use crate::dots::Version;
use crate::sync::event::Event;
use crate::sync::replica::Replica;
use crate::sync::session::SessionId;

impl Replica {
    /// What the log held is here, or there is no log: peers that came before are told what there
    /// is, and are ready with that.
    pub fn bus_is_read(&mut self) {
        match &mut self.bus {
            Some(bus) if bus.unread => bus.unread = false,
            _ => return,
        }
        self.digest_frame = None;
        let open: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in open {
            if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) {
                session.digest_due = true;
                self.wake(id);
            }
        }
    }

    /// Whether nothing was here at first, and what the log holds was not read so far: what is here
    /// may be anything between nothing and all.
    pub fn is_incomplete(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| bus.unread)
    }

    /// The peer lacks nothing that it should have, and has this: with it all is here.
    pub(in crate::sync) fn note_complete(&mut self, id: SessionId, version: &Version) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if core::mem::take(&mut session.incomplete) {
            session.promised = version.difference(&self.version);
            if session.is_ready_now() {
                self.events.push_back(Event::Ready(id));
            }
        }
    }
}
