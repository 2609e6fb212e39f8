//! What a server on a bus does, in the place of the task that keeps a map on it.

use std::collections::VecDeque;

use bytes::Bytes;
use portolan_core::ReplicaId;

use super::log::Log;
use super::world::World;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Off,
    /// Its name is in the log.
    Named {
        epoch: u64,
        upto: u64,
        number: u64,
    },
    /// It has read this entry last, of whom.
    On {
        epoch: u64,
        place: u64,
        tag: (usize, u64),
    },
}

pub(super) struct Server {
    pub(super) node: usize,
    pub(super) stage: Stage,
    /// Entries given to append so far, and the one that was not read back.
    pub(super) number: u64,
    pub(super) sent: Option<(u64, Bytes)>,
    /// The log that it followed last.
    pub(super) followed: Option<u64>,
    /// Messages on their way to it.
    pub(super) heard: VecDeque<Bytes>,
    pub(super) alive: bool,
    pub(super) durable: bool,
}

impl World {
    /// Gives the log what a server has to append: at once, or later.
    pub(super) fn append(&mut self, at: usize, late: bool) {
        let now = self.net.now;
        let server = &mut self.servers[at];
        let Stage::On { epoch, .. } = server.stage else {
            return;
        };
        if server.sent.is_some() {
            return;
        }
        let Some(entry) = self.net.nodes[server.node].replica.poll_entry(now) else {
            return;
        };
        server.number += 1;
        server.sent = Some((server.number, entry.clone()));
        let number = server.number;
        if late {
            self.late.push((epoch, at, number, entry));
        } else if let Some(log) = self.log.as_mut().filter(|log| log.epoch == epoch) {
            log.append(at, number, entry);
        }
    }

    /// What is late arrives; some of it twice.
    pub(super) fn arrive(&mut self, twice: bool) {
        for (epoch, at, number, entry) in std::mem::take(&mut self.late) {
            if let Some(log) = self.log.as_mut().filter(|log| log.epoch == epoch) {
                log.append(at, number, entry.clone());
                if twice {
                    log.append(at, number, entry);
                }
            }
        }
    }

    /// The connection of a server to the log breaks: it does not know what became of its entry.
    pub(super) fn disturb(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let replica = &mut self.net.nodes[server.node].replica;
        replica.leave_bus();
        server.sent = None;
        if matches!(server.stage, Stage::On { .. }) {
            // It reads on from where it was.
            replica.resume_bus();
        }
    }

    pub(super) fn renew(&mut self, at: usize, old: Option<u64>, read: u64) {
        let now = self.net.now;
        let server = &mut self.servers[at];
        let (entry, gate) = self.net.nodes[server.node].replica.whole_entry(now);
        self.net.nodes[server.node].stores = true;
        self.net.collect();
        assert!(self.net.nodes[server.node].replica.is_told(gate));
        assert_eq!(self.log.as_ref().map(|log| log.epoch), old);
        self.epochs += 1;
        if old.or(server.followed.replace(self.epochs)).is_some() {
            self.net.nodes[server.node].replica.distrust_bus(now);
        }
        server.number += 1;
        let tag = (at, server.number);
        let mut log = Log {
            epoch: self.epochs,
            first: 1,
            entries: vec![(tag.0, tag.1, entry.clone())],
            snapshot: None,
        };
        if let Some(old) = &self.log {
            for place in read + 1..=old.last() {
                log.entries.extend(old.entry(place).cloned());
            }
        }
        self.log = Some(log);
        (server.sent, server.stage) = (
            None,
            Stage::On {
                epoch: self.epochs,
                place: 1,
                tag,
            },
        );
        let replica = &mut self.net.nodes[server.node].replica;
        replica.join_bus(now, None, &[entry]).unwrap();
    }

    /// One step of a server towards the end of the log.
    pub(super) fn read(&mut self, at: usize, count: usize) {
        let now = self.net.now;
        let node = self.servers[at].node;
        let Some(log) = self.log.clone() else {
            let replica = &self.net.nodes[node].replica;
            if !replica.version().is_empty() || replica.wants_bus() {
                self.net.nodes[node].replica.leave_bus();
                self.renew(at, None, 0);
            } else {
                self.net.nodes[node].replica.bus_is_read();
            }
            return;
        };
        match self.servers[at].stage {
            Stage::Off => self.name(at),
            Stage::Named { epoch, .. } if epoch != log.epoch => self.name(at),
            Stage::Named { upto, number, .. } => {
                let named = log.entry(upto).map(|(who, number, _)| (*who, *number));
                // One that was trimmed away is in the snapshot.
                let trimmed = upto < log.first;
                self.join(at, &log, !trimmed && named != Some((at, number)));
            }
            Stage::On { epoch, place, tag } => {
                let known = log.entry(place).map(|(who, number, _)| (*who, *number));
                let fits = epoch == log.epoch && known == Some(tag);
                if !fits || !self.net.nodes[node].replica.is_on_bus() {
                    self.net.nodes[node].replica.leave_bus();
                    let trimmed = place < log.first;
                    self.servers[at].sent = None;
                    self.name(at);
                    if epoch == log.epoch && !fits && !trimmed {
                        let log = self.log.clone().expect("it is there");
                        self.join(at, &log, true);
                    }
                    return;
                }
                for place in (place + 1..=log.last()).take(count) {
                    let (who, number, entry) = log.entry(place).expect("it is there");
                    let server = &mut self.servers[at];
                    server.stage = Stage::On {
                        epoch,
                        place,
                        tag: (*who, *number),
                    };
                    let replica = &mut self.net.nodes[node].replica;
                    if *who == at && server.sent.as_ref().is_some_and(|(sent, _)| sent == number) {
                        server.sent = None;
                        replica.entry_read(now);
                        continue;
                    }
                    let taken = replica.receive_entry(now, entry);
                    // Nobody waits for visitors that move, nor for whom they bring it to.
                    assert!(
                        self.is_excused() || self.borrow || taken.is_ok(),
                        "everybody was waited for: {taken:?}"
                    );
                }
                self.miss(at, log.last());
            }
        }
    }

    /// What a server has to say reaches those that follow the log.
    pub(super) fn say(&mut self, at: usize) {
        let now = self.net.now;
        let Stage::On { epoch, place, .. } = self.servers[at].stage else {
            return;
        };
        let node = self.servers[at].node;
        let replica = &mut self.net.nodes[node].replica;
        while let Some(message) = replica.poll_message(now, (epoch, place)) {
            for server in &mut self.servers {
                if server.alive && matches!(server.stage, Stage::On { .. }) {
                    server.heard.push_back(message.clone());
                }
            }
        }
        assert!(!replica.is_on_bus() || !replica.has_messages());
    }

    /// A server is told to wait for somebody no longer, who may be there.
    pub(super) fn forget(&mut self, at: usize, whom: usize) {
        let now = self.net.now;
        let replica = &mut self.net.nodes[self.servers[at].node].replica;
        let members: Vec<ReplicaId> = replica.members(now).map(|known| known.replica).collect();
        if let Some(id) = members.get(whom % members.len().max(1)) {
            self.wronged |= replica.forget(now, *id);
        }
    }

    /// A server takes the next entry for read, as a mistake would have it.
    pub(super) fn skip(&mut self, at: usize) {
        let Stage::On { epoch, place, .. } = self.servers[at].stage else {
            return;
        };
        let log = self.log.as_ref().filter(|log| log.epoch == epoch);
        let next = log.and_then(|log| log.entry(place + 1));
        if let Some((who, number, _)) = next.filter(|(who, ..)| *who != at) {
            let tag = (*who, *number);
            self.servers[at].stage = Stage::On {
                epoch,
                place: place + 1,
                tag,
            };
            self.wronged = true;
        }
    }

    /// A server hears what was said.
    pub(super) fn hear(&mut self, at: usize) {
        let now = self.net.now;
        let server = &mut self.servers[at];
        let Stage::On { epoch, place, .. } = server.stage else {
            return server.heard.clear();
        };
        let replica = &mut self.net.nodes[server.node].replica;
        for message in server.heard.drain(..) {
            let heard = replica.receive_message(now, (epoch, place), &message);
            assert!(self.wronged || heard.is_ok(), "{heard:?}");
        }
    }

    /// What the log had taken and does not have at its end is appended again.
    pub(super) fn miss(&mut self, at: usize, last: u64) {
        let server = &mut self.servers[at];
        let Some((sent, _)) = &server.sent else {
            return;
        };
        let under_way = self
            .late
            .iter()
            .any(|(_, who, number, _)| (*who, number) == (at, sent));
        let at_end = matches!(server.stage, Stage::On { place, .. } if place == last);
        if at_end && !under_way {
            server.sent = None;
            self.net.nodes[server.node].replica.entry_lost();
        }
    }

    pub(super) fn name(&mut self, at: usize) {
        let now = self.net.now;
        let log = self.log.as_mut().expect("it is there");
        let server = &mut self.servers[at];
        let entry = self.net.nodes[server.node].replica.join_entry(now);
        server.number += 1;
        let upto = log.append(at, server.number, entry);
        server.stage = Stage::Named {
            epoch: log.epoch,
            upto,
            number: server.number,
        };
    }

    pub(super) fn join(&mut self, at: usize, log: &Log, suspect: bool) {
        let now = self.net.now;
        let excused = self.is_excused();
        let node = self.servers[at].node;
        let (from, snapshot) = match &log.snapshot {
            Some((place, bytes)) => (*place, Some(&**bytes)),
            None => (0, None),
        };
        // More than its own entry, as it happens.
        let places = from + 1..=log.last();
        let entries: Vec<Bytes> = places.map(|p| log.entry(p).unwrap().2.clone()).collect();
        let replica = &mut self.net.nodes[node].replica;
        let joined = replica.join_bus(now, snapshot, &entries).unwrap();
        assert!(self.wronged || joined.unreadable == 0);
        assert!(excused || !joined.is_behind);
        let followed = &mut self.servers[at].followed;
        if followed.is_some_and(|epoch| epoch != log.epoch) {
            replica.distrust_bus(now);
        }
        if suspect || joined.is_behind {
            return self.renew(at, Some(log.epoch), log.last());
        }
        *followed = Some(log.epoch);
        let (who, number, _) = log.entry(log.last()).unwrap();
        self.servers[at].stage = Stage::On {
            epoch: log.epoch,
            place: log.last(),
            tag: (*who, *number),
        };
    }

    pub(super) fn save(&mut self, at: usize, kept: u64) {
        let now = self.net.now;
        let Stage::On { epoch, place, .. } = self.servers[at].stage else {
            return;
        };
        let node = self.servers[at].node;
        let Some(log) = self.log.as_mut().filter(|log| log.epoch == epoch) else {
            return;
        };
        if log
            .snapshot
            .as_ref()
            .is_some_and(|(known, _)| *known >= place)
            || place > log.last()
        {
            return;
        }
        let replica = &mut self.net.nodes[node].replica;
        if !replica.is_on_bus() {
            return;
        }
        let (content, gate) = replica.bus_snapshot(now);
        if !replica.is_told(gate) {
            return;
        }
        log.snapshot = Some((place, content));
        let keep = place.saturating_sub(kept).max(log.first);
        log.entries.drain(..(keep - log.first) as usize);
        log.first = keep;
    }
}
