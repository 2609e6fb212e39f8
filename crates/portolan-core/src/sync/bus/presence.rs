//! Presence on a bus: each server tells the others who is present at it.
//!
//! What is new is told when it happens, in a row of *revisions*; now and then the latest revision
//! is told alone, as a sign of life. Who misses one asks, and is told all. A server that says
//! nothing for three periods is taken to be gone, with all who were present there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::message::{News, Word};
use crate::replica::ReplicaId;
use crate::sync::frame::Presence;
use crate::sync::presence::Carried;
use crate::sync::replica::Replica;
use crate::sync::session::SessionId;

/// Bytes of presence after which a message takes no more.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Periods of silence after which a server is taken to be gone.
const SILENCE: u64 = 3;
/// Most other servers of whose presence is heard.
const MAX_NEIGHBOURS: usize = 4_096;

/// Who is present at other servers, and what is to be told of here.
#[derive(Debug, Default)]
pub(in crate::sync) struct Neighbours {
    all: BTreeMap<u64, Neighbour>,
    /// Of what is told from here; 0 before anything is.
    revision: u64,
    /// Whose presence is to be told, and whether everybody's is.
    due: BTreeSet<ReplicaId>,
    all_due: bool,
    /// When the next sign of life is due, and whether it is.
    beat_at: Option<u64>,
    beat_due: bool,
    /// Whom to ask for all that he tells.
    asks: BTreeSet<u64>,
}

/// Another server.
#[derive(Debug)]
struct Neighbour {
    /// Stands for it where a session would.
    via: SessionId,
    heard: u64,
    /// The latest revision of which nothing is missing.
    revision: Option<u64>,
    asked_at: Option<u64>,
    carried: Carried,
}

impl Neighbours {
    pub(in crate::sync) fn has(&self, via: SessionId) -> bool {
        self.all.values().any(|neighbour| neighbour.via == via)
    }

    pub(in crate::sync) fn carried(&mut self, via: SessionId) -> Option<&mut Carried> {
        let mut all = self.all.values_mut();
        let neighbour = all.find(|neighbour| neighbour.via == via)?;
        Some(&mut neighbour.carried)
    }

    pub(in crate::sync) fn owe(&mut self, replica: ReplicaId) {
        self.due.insert(replica);
    }

    pub(super) fn is_due(&self) -> bool {
        self.all_due || self.beat_due || !self.due.is_empty() || !self.asks.is_empty()
    }
}

impl Replica {
    /// What is to be said of who is present.
    pub(super) fn presence_word(&mut self, now: u64) -> Option<Word> {
        let neighbours = &mut self.bus.as_mut()?.neighbours;
        if let Some(address) = neighbours.asks.pop_first() {
            return Some(Word::Ask(address));
        }
        let all = core::mem::take(&mut neighbours.all_due).then(|| self.present_here());
        let neighbours = &mut self.bus.as_mut()?.neighbours;
        if let Some(all) = &all {
            neighbours.due.extend(all);
        }
        let (mut present, mut bytes) = (Vec::new(), 0);
        while bytes < MESSAGE_BYTES
            && let Some(replica) = self.bus.as_mut()?.neighbours.due.pop_first()
        {
            if let Some(presence) = self.presence_for_bus(replica) {
                bytes += presence.state.as_ref().map_or(0, Bytes::len) + 32;
                present.push(presence);
            }
        }
        let period = self.config.presence_period.max(1);
        let neighbours = &mut self.bus.as_mut()?.neighbours;
        if all.is_some() || !present.is_empty() {
            let from = neighbours.revision;
            // Another one than before a restart.
            neighbours.revision = if from == 0 { now.max(1) } else { from + 1 };
            let revisions = (from, neighbours.revision);
            if neighbours.beat_at.is_none() {
                neighbours.beat_at = Some(now + period);
                self.arm_bus(now + period);
            }
            return Some(Word::Present(News {
                revisions,
                all,
                present,
            }));
        }
        let beat = core::mem::take(&mut neighbours.beat_due);
        beat.then_some(Word::Beat(neighbours.revision))
    }

    /// Has a sign of life told in time; notices who has given none.
    pub(super) fn presence_timeout(&mut self, now: u64) -> Option<u64> {
        let period = self.config.presence_period.max(1);
        let silence = period.saturating_mul(SILENCE);
        let some = !self.present_here().is_empty();
        let neighbours = &mut self.bus.as_mut()?.neighbours;
        if neighbours.beat_at.is_some_and(|at| at <= now) {
            neighbours.beat_due = some;
            neighbours.beat_at = some.then_some(now + period);
        }
        let silent = |_: &u64, neighbour: &mut Neighbour| neighbour.heard + silence <= now;
        let gone: Vec<_> = neighbours.all.extract_if(.., silent).collect();
        for (_, neighbour) in gone {
            self.lose_presences(neighbour.via, &neighbour.carried.replicas);
        }
        let neighbours = &self.bus.as_ref()?.neighbours;
        let ends = neighbours.all.values().map(|known| known.heard + silence);
        ends.chain(neighbours.beat_at).min()
    }

    pub(super) fn receive_present(&mut self, now: u64, from: u64, news: News) {
        let Some(neighbour) = self.neighbour(now, from) else {
            return;
        };
        let via = neighbour.via;
        let (before, to) = news.revisions;
        let mut gone = BTreeSet::new();
        let follows = neighbour.revision == Some(before);
        if follows || news.all.is_some() {
            neighbour.revision = Some(to);
        }
        if let Some(all) = &news.all {
            gone = neighbour
                .carried
                .replicas
                .difference(all)
                .copied()
                .collect();
        } else if !follows && neighbour.revision.is_none_or(|known| known < to) {
            self.ask_neighbour(now, from);
        }
        let gone = gone.into_iter().map(|replica| Presence {
            replica,
            number: 0,
            hops: 0,
            state: None,
        });
        for presence in gone.chain(news.present) {
            self.receive_presence(via, presence);
        }
    }

    pub(super) fn receive_beat(&mut self, now: u64, from: u64, revision: u64) {
        let Some(neighbour) = self.neighbour(now, from) else {
            return;
        };
        if neighbour.revision != Some(revision) {
            self.ask_neighbour(now, from);
        }
    }

    /// Somebody has missed something: all is told, to everybody.
    pub(super) fn receive_presence_ask(&mut self, to: u64) {
        if let Some(bus) = self.bus.as_mut().filter(|bus| bus.address == to) {
            bus.neighbours.all_due = true;
        }
    }

    fn ask_neighbour(&mut self, now: u64, address: u64) {
        let period = self.config.presence_period.max(1);
        let Some(bus) = &mut self.bus else {
            return;
        };
        // The answer may be under way.
        if let Some(neighbour) = bus.neighbours.all.get_mut(&address)
            && neighbour
                .asked_at
                .is_none_or(|at| at.saturating_add(period / 2) <= now)
        {
            neighbour.asked_at = Some(now);
            bus.neighbours.asks.insert(address);
        }
    }

    /// The server of this address, of which there is a sign of life.
    fn neighbour(&mut self, now: u64, address: u64) -> Option<&mut Neighbour> {
        let silence = self.config.presence_period.max(1).saturating_mul(SILENCE);
        let known = &self.bus.as_ref()?.neighbours.all;
        if !known.contains_key(&address) {
            if known.len() >= MAX_NEIGHBOURS {
                return None;
            }
            let neighbour = Neighbour {
                via: self.next_session(),
                heard: now,
                revision: None,
                asked_at: None,
                carried: Carried::default(),
            };
            let bus = self.bus.as_mut()?;
            bus.neighbours.all.insert(address, neighbour);
            self.arm_bus(now + silence);
        }
        let known = self.bus.as_mut()?.neighbours.all.get_mut(&address)?;
        known.heard = now;
        Some(known)
    }

    /// Who is present, and not by the bus.
    fn present_here(&self) -> BTreeSet<ReplicaId> {
        let Some(bus) = &self.bus else {
            return BTreeSet::new();
        };
        let others = self.presences.carried_by(|via| !bus.neighbours.has(via));
        let own = self.presences.has_own().then(|| self.document.replica());
        others.chain(own).collect()
    }
}
