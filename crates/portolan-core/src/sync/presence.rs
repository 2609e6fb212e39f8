//! Presence: small states that live as long as the connection they came through.
//!
//! Each replica keeps, for every other one, the newest state it has heard and through which
//! session. What is gone at that session is gone here, and the others are told so; one that still
//! has it by another way says so in turn. Counting the hops ends what would run in a circle.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::error::ProtocolError;
use super::event::Event;
use super::frame::{self, MAX_PRESENCE_BYTES, Presence};
use super::replica::Replica;
use super::session::SessionId;
use crate::replica::ReplicaId;

/// How far presence is passed on: longer than any sensible chain of servers.
const MAX_HOPS: u8 = 32;

/// Whose presence came through one session, or from one other server on a bus.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) replicas: BTreeSet<ReplicaId>,
    bytes: usize,
}

/// Who is present.
#[derive(Debug, Default)]
pub(super) struct Presences {
    own: Option<Bytes>,
    number: u64,
    others: BTreeMap<ReplicaId, Present>,
}

#[derive(Debug)]
struct Present {
    number: u64,
    hops: u8,
    state: Bytes,
    via: SessionId,
}

impl Presences {
    pub(super) fn set_own(&mut self, now: u64, state: Option<Bytes>) -> Result<(), ProtocolError> {
        if let Some(state) = &state
            && state.len() > MAX_PRESENCE_BYTES
        {
            return Err(ProtocolError::Presence(state.len()));
        }
        // Newer than what was said before a restart.
        self.number = now.max(self.number + 1);
        self.own = state;
        Ok(())
    }

    pub(super) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whose presence came by a way that is asked for.
    pub(super) fn carried_by(
        &self,
        wanted: impl Fn(SessionId) -> bool,
    ) -> impl Iterator<Item = ReplicaId> {
        let others = self.others.iter();
        let wanted = others.filter(move |(_, present)| wanted(present.via));
        wanted.map(|(id, _)| *id)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = (ReplicaId, &Bytes)> {
        self.others
            .iter()
            .map(|(id, present)| (*id, &present.state))
    }
}

impl Replica {
    pub(super) fn receive_presence(&mut self, id: SessionId, presence: Presence) {
        let Presence {
            replica,
            number,
            hops,
            state,
        } = presence;
        if replica == self.document.replica() {
            // It came round in a circle; if it was lost on the way, it is told again.
            if state.is_none() && self.presences.own.is_some() {
                self.owe_presence(id, replica);
            }
            return;
        }
        let known = self.presences.others.get(&replica);
        let Some(state) = state else {
            match known {
                Some(known) if known.via == id => {
                    self.forget_presence(id, replica);
                    self.tell_presence(replica, Some(id));
                }
                Some(_) => self.owe_presence(id, replica),
                None => {}
            }
            return;
        };
        // Newer, or the same by a shorter way.
        let better = |known: &Present| {
            number > known.number || (number == known.number && hops < known.hops)
        };
        if !known.is_none_or(better) {
            return;
        }
        let same = known.is_some_and(|known| known.state == state);
        let newer = known.is_none_or(|known| number > known.number);
        let via = known.map(|known| known.via);
        if let Some(via) = via {
            self.forget_via(via, replica);
        }
        let limit = self.config.presence_bytes;
        let Some(carried) = self.carried(id) else {
            return;
        };
        let state = (carried.bytes + footprint(&state) <= limit).then_some(state);
        if let Some(state) = &state {
            carried.bytes += footprint(state);
            carried.replicas.insert(replica);
            let present = Present {
                number,
                hops,
                state: state.clone(),
                via: id,
            };
            self.presences.others.insert(replica, present);
        }
        let gone = state.is_none();
        if gone && via.is_none() {
            return;
        }
        if gone || !same {
            self.events.push_back(Event::Presence { replica, state });
        }
        if gone || newer {
            self.tell_presence(replica, Some(id));
        }
    }

    /// What came through a session, or from another server on the bus.
    fn carried(&mut self, via: SessionId) -> Option<&mut Carried> {
        match self.sessions.get_mut(&via) {
            Some(session) => Some(&mut session.carried),
            None => self.bus.as_mut()?.neighbours.carried(via),
        }
    }

    /// A new session is told who is here; one by the bus hears of it there.
    pub(super) fn greet_presence(&mut self, id: SessionId) {
        let mut present: BTreeSet<ReplicaId> = self.presences.others.keys().copied().collect();
        if self.presences.own.is_some() {
            present.insert(self.document.replica());
        }
        let known = self.sessions.get_mut(&id);
        if let Some(session) = known.filter(|session| !session.on_bus) {
            session.presence_due = present;
        }
    }

    /// All sessions but one, and the bus, are to be told how a replica's presence stands.
    pub(super) fn tell_presence(&mut self, replica: ReplicaId, but: Option<SessionId>) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            if Some(id) != but {
                self.owe_presence(id, replica);
            }
        }
        if let Some(bus) = &mut self.bus
            && !but.is_some_and(|but| bus.neighbours.has(but))
        {
            bus.neighbours.owe(replica);
        }
    }

    fn owe_presence(&mut self, id: SessionId, replica: ReplicaId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            if session.is_open() && !session.on_bus {
                session.presence_due.insert(replica);
                self.wake(id);
            }
        } else if let Some(bus) = self.bus.as_mut().filter(|bus| bus.neighbours.has(id)) {
            bus.neighbours.owe(replica);
        }
    }

    /// This replica has another id: its presence goes under the old one and comes under the new.
    pub(super) fn rename_presence(&mut self, old: ReplicaId) {
        if self.presences.own.is_some() {
            self.tell_presence(old, None);
            self.tell_presence(self.document.replica(), None);
        }
    }

    /// What came through a session that is over is gone.
    pub(super) fn lose_presences(&mut self, id: SessionId, replicas: &BTreeSet<ReplicaId>) {
        for replica in replicas {
            self.forget_presence(id, *replica);
            self.tell_presence(*replica, Some(id));
        }
    }

    fn forget_presence(&mut self, id: SessionId, replica: ReplicaId) {
        self.forget_via(id, replica);
        let state = None;
        self.events.push_back(Event::Presence { replica, state });
    }

    fn forget_via(&mut self, id: SessionId, replica: ReplicaId) {
        let gone = self.presences.others.remove(&replica);
        if let (Some(carried), Some(gone)) = (self.carried(id), gone) {
            carried.replicas.remove(&replica);
            carried.bytes = carried.bytes.saturating_sub(footprint(&gone.state));
        }
    }

    /// What is told of a replica on the bus; nothing where it is not for this one to tell.
    pub(super) fn presence_for_bus(&self, replica: ReplicaId) -> Option<Presence> {
        let bus = self.bus.as_ref()?;
        self.presence_without(replica, |via| bus.neighbours.has(via))
    }

    /// How a replica's presence stands; nothing where it came by some of these ways.
    fn presence_without(
        &self,
        replica: ReplicaId,
        left_out: impl Fn(SessionId) -> bool,
    ) -> Option<Presence> {
        if replica == self.document.replica() {
            return Some(Presence {
                replica,
                number: self.presences.number,
                hops: 0,
                state: self.presences.own.clone(),
            });
        }
        match self.presences.others.get(&replica) {
            Some(present) if left_out(present.via) || present.hops >= MAX_HOPS => None,
            Some(present) => Some(Presence {
                replica,
                number: present.number,
                hops: present.hops + 1,
                state: Some(present.state.clone()),
            }),
            None => Some(Presence {
                replica,
                number: 0,
                hops: 0,
                state: None,
            }),
        }
    }

    /// The next presence that a session is to be told of.
    pub(super) fn presence_frame(&mut self, id: SessionId) -> Option<Bytes> {
        loop {
            let session = self.sessions.get_mut(&id)?;
            // Who may only write is not told who is here.
            let tells = session.opened || session.access.read;
            let replica = session.presence_due.pop_first()?;
            if !tells {
                continue;
            }
            let Some(presence) = self.presence_without(replica, |via| via == id) else {
                continue;
            };
            return Some(frame::presence(self.handle, &presence));
        }
    }
}

/// What a state is counted as: an empty one takes memory too.
fn footprint(state: &Bytes) -> usize {
    state.len() + 128
}
