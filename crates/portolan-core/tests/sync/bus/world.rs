//! A log as Redis keeps it, the servers that read it and write to it, and their clients.

use std::collections::VecDeque;

use bytes::Bytes;
use portolan_core::sync::Config;
use portolan_core::{Delta, Document, Error, ReplicaId, Version};

use crate::network::Network;

/// The log, as Redis keeps it.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) epoch: u64,
    /// The number of the first entry that is left.
    pub(super) first: u64,
    /// Who appended it, his number for it, and its content.
    pub(super) entries: Vec<(usize, u64, Bytes)>,
    pub(super) snapshot: Option<(u64, Bytes)>,
}

impl Log {
    pub(super) fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub(super) fn append(&mut self, server: usize, number: u64, entry: Bytes) -> u64 {
        self.entries.push((server, number, entry));
        self.last()
    }

    pub(super) fn entry(&self, place: u64) -> Option<&(usize, u64, Bytes)> {
        let at = place.checked_sub(self.first)?;
        self.entries.get(at as usize)
    }
}

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

pub(super) struct World {
    pub(super) net: Network,
    pub(super) log: Option<Log>,
    pub(super) epochs: u64,
    /// A copy of the log from some time ago.
    pub(super) backup: Option<Log>,
    pub(super) servers: Vec<Server>,
    /// The node of each client, its link, and the server that it leads to.
    pub(super) clients: Vec<(usize, usize, usize)>,
    /// Entries that reach the log later.
    pub(super) late: Vec<(u64, usize, u64, Bytes)>,
    /// Whether anything that was on the log can be missing there.
    pub(super) lost: bool,
    /// Whether somebody was away when a server left, and may wait for it for ever.
    pub(super) unheard: bool,
    /// Whether clients borrow their ids, and visit until they write.
    pub(super) borrow: bool,
    pub(super) next_id: u64,
}

impl World {
    pub(super) fn new(servers: usize, durable: &[bool], borrow: bool) -> Self {
        let mut world = Self {
            net: Network::new(),
            log: None,
            epochs: 0,
            backup: None,
            servers: Vec::new(),
            clients: Vec::new(),
            late: Vec::new(),
            lost: false,
            unheard: false,
            borrow,
            next_id: 0,
        };
        for durable in &durable[..servers] {
            world.start(*durable);
        }
        for n in 0..servers {
            world.attend(n);
        }
        world
    }

    pub(super) fn add(&mut self, durable: bool, borrows: bool) -> usize {
        self.next_id += 1;
        let id = ReplicaId::new(self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.add_document(Document::new(id), durable, borrows)
    }

    fn add_document(&mut self, document: Document, durable: bool, borrows: bool) -> usize {
        let config = Config {
            gossip_interval: 50,
            gossip_rate: u64::MAX,
            digest_period: 500,
            presence_period: 500,
            forget_after: u64::MAX,
            id_idle: 300,
            borrows,
            ..Config::default()
        };
        let node = self.net.add_document(document, durable, config);
        self.net.nodes[node].replica.observe(false);
        node
    }

    pub(super) fn start(&mut self, durable: bool) {
        let node = self.add(durable, false);
        self.attach(node, durable);
    }

    /// A server that holds something already.
    pub(super) fn start_with(&mut self, document: Document) {
        let node = self.add_document(document, false, false);
        self.attach(node, false);
    }

    fn attach(&mut self, node: usize, durable: bool) {
        self.net.nodes[node].replica.attach_bus(node as u64);
        self.servers.push(Server {
            node,
            stage: Stage::Off,
            number: 0,
            sent: None,
            followed: None,
            heard: VecDeque::new(),
            alive: true,
            durable,
        });
    }

    /// A client comes to a server.
    pub(super) fn attend(&mut self, server: usize) {
        let node = self.add(false, self.borrow);
        let link = self.net.join(node, self.servers[server].node);
        self.clients.push((node, link, server));
    }

    /// The clients of a server go to another one, or come back.
    pub(super) fn reconnect(&mut self, server: usize) {
        let to = (server..self.servers.len()).chain(0..server);
        let to = to.into_iter().find(|to| self.servers[*to].alive);
        let to = to.expect("one is alive");
        for client in &mut self.clients {
            if client.2 == server {
                self.net.cut(client.1);
                client.1 = self.net.join(client.0, self.servers[to].node);
                client.2 = to;
            }
        }
    }

    /// A client is cut off.
    pub(super) fn leave(&mut self, client: usize) {
        self.net.cut(self.clients[client].1);
    }

    /// A client that was cut off, or moves, comes to a server.
    pub(super) fn come(&mut self, client: usize, server: usize) {
        if self.servers[server].alive {
            self.net.cut(self.clients[client].1);
            let node = self.clients[client].0;
            self.clients[client].1 = self.net.join(node, self.servers[server].node);
            self.clients[client].2 = server;
        }
    }

    pub(super) fn write(&mut self, node: usize, what: u8, at: u16) {
        let now = self.net.now;
        let written = self.net.nodes[node].replica.transact(now, |tx| {
            let mut list = tx.array("list");
            let len = list.len()?;
            let index = usize::from(at) % len.max(1);
            match what % 8 {
                0 => tx.set(format!("{}", at % 7).as_str(), i64::from(at))?,
                1 => {
                    tx.unset(format!("{}", at % 7).as_str());
                }
                2 | 3 if len > 0 => list.delete(index)?,
                4 if len > 1 => list.move_to(index, usize::from(what) % len)?,
                5 if len > 0 => list.set(index, i64::from(at))?,
                _ => {
                    list.insert(index, i64::from(at))?;
                }
            }
            Ok::<_, Error>(())
        });
        written.expect("it may be written");
    }

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
                    assert!(
                        self.lost || self.unheard || taken.is_ok(),
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

    /// A server hears what was said.
    pub(super) fn hear(&mut self, at: usize) {
        let now = self.net.now;
        let server = &mut self.servers[at];
        let Stage::On { epoch, place, .. } = server.stage else {
            return server.heard.clear();
        };
        let replica = &mut self.net.nodes[server.node].replica;
        for message in server.heard.drain(..) {
            replica
                .receive_message(now, (epoch, place), &message)
                .unwrap();
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
        assert!(joined.unreadable == 0 && (self.lost || !joined.is_behind));
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

    /// A server dies. One with a store starts again, another never.
    pub(super) fn crash(&mut self, at: usize) {
        if self.servers.iter().filter(|server| server.alive).count() < 2 {
            return;
        }
        let node = self.servers[at].node;
        if self.servers[at].durable {
            self.servers[at].sent = None;
            self.servers[at].heard.clear();
            self.net.crash(node);
            let replica = &mut self.net.nodes[node].replica;
            replica.observe(false);
            self.next_id += 1;
            replica.attach_bus(1_000 + self.next_id);
            self.servers[at].stage = Stage::Off;
            return self.reconnect(at);
        }
        // In good order, or everybody would wait for it.
        let mut links = self.clients.iter().map(|client| client.1);
        self.unheard |= !links.all(|link| self.net.is_open(link));
        self.arrive(false);
        self.net.settle();
        for _ in 0..20 {
            self.append(at, false);
            self.read(at, usize::MAX);
            self.net.collect();
        }
        self.net.settle();
        let now = self.net.now;
        self.net.nodes[node].replica.leave(now);
        self.net.settle();
        self.append(at, false);
        self.servers[at].alive = false;
        self.reconnect(at);
    }

    /// What a server has acknowledged to its clients is on the log.
    pub(super) fn check_acknowledged(&self) {
        let Some(log) = self.log.as_ref().filter(|_| !self.lost) else {
            return;
        };
        let mut held = Document::new(ReplicaId::new(1));
        for content in log.snapshot.iter().map(|(_, bytes)| bytes) {
            apply(&mut held, content);
        }
        for (_, _, entry) in &log.entries {
            apply(&mut held, entry);
        }
        let held = held.version();
        for (node, ..) in &self.clients {
            let replica = self.net.replica(*node);
            let own = replica.document().replica();
            for (_, _, acknowledged) in replica.acknowledged() {
                let acknowledged = of(&acknowledged, own);
                assert!(
                    acknowledged <= of(&held, own),
                    "what was acknowledged is on the log"
                );
            }
        }
    }

    pub(super) fn step(&mut self, (what, a, b): (u8, u8, u16)) {
        let at = usize::from(a) % self.servers.len();
        let alive = self.servers[at].alive;
        let client = usize::from(a) % self.clients.len();
        match what {
            0..50 => self.write(self.clients[client].0, a ^ what, b),
            50..65 if alive => self.write(self.servers[at].node, a ^ what, b),
            65..105 => {
                self.net.collect();
                for from in 0..2 {
                    for _ in 0..b % 5 {
                        self.net.deliver(self.clients[client].1, from);
                    }
                }
            }
            105..135 if alive => self.append(at, false),
            135..140 if alive => self.append(at, true),
            140..150 => self.arrive(b % 4 == 0),
            150..190 if alive => self.read(at, usize::from(b % 6) + 1),
            190..195 if alive => self.hear(at),
            195..200 if alive => self.say(at),
            200..205 if alive => self.disturb(at),
            205..212 if alive => self.save(at, u64::from(b % 3)),
            212..214 if alive => self.crash(at),
            214..217 if self.servers.len() < 6 => {
                self.start(b % 2 == 0);
                self.attend(self.servers.len() - 1);
            }
            217..219 => {
                self.log = None;
                self.lost = true;
            }
            219..221 => self.backup = self.log.clone(),
            221..222 => {
                self.lost |= self.backup.is_some();
                self.log = self.backup.clone().or(self.log.take());
            }
            222..226 if alive => self.net.nodes[self.servers[at].node].stores = b % 2 == 0,
            226..230 if alive => self.reconnect(at),
            248..252 => self.leave(client),
            252.. => self.come(client, usize::from(b) % self.servers.len()),
            _ => {
                for _ in 0..2 {
                    self.net.settle();
                }
                self.net.pass(u64::from(b % 120));
            }
        }
        self.check_acknowledged();
    }

    /// Whether there is nothing left to do.
    pub(super) fn rests(&self) -> bool {
        let last = self.log.as_ref().map(|log| (log.epoch, log.last()));
        self.servers
            .iter()
            .filter(|server| server.alive)
            .all(|server| {
                let replica = self.net.replica(server.node);
                let read = match server.stage {
                    Stage::On { epoch, place, .. } => last == Some((epoch, place)),
                    _ => last.is_none() && replica.version().is_empty(),
                };
                let quiet = server.heard.is_empty() && !replica.has_messages();
                read && quiet && replica.rests_on_bus()
            })
    }

    /// What ended is opened again, as a node does.
    pub(super) fn reopen(&mut self) {
        for at in 0..self.clients.len() {
            let (node, link, server) = self.clients[at];
            self.net.settle();
            if !self.net.is_open(link) {
                self.net.cut(link);
                self.clients[at].1 = self.net.join(node, self.servers[server].node);
            }
        }
    }

    /// Everybody does what there is to do.
    pub(super) fn act(&mut self) {
        for _ in 0..500 {
            self.net.settle();
            if self.rests() {
                return;
            }
            for at in 0..self.servers.len() {
                if self.servers[at].alive {
                    self.append(at, false);
                    self.read(at, usize::MAX);
                    self.hear(at);
                    self.say(at);
                }
            }
        }
        panic!("the servers never fall silent");
    }

    pub(super) fn calm(&mut self) {
        for node in &mut self.net.nodes {
            node.stores = true;
        }
        self.arrive(false);
        for _ in 0..60 {
            self.reopen();
            self.act();
            self.net.pass(100);
        }
    }
}

/// What an entry brings, in a document that lets go of nothing.
pub(super) fn apply(document: &mut Document, content: &[u8]) {
    // Its format, then sections: kind, length, bytes.
    let mut rest = &content[1..];
    while let Some((kind, after)) = rest.split_first() {
        let (len, at) = varint(after);
        let (section, after) = after[at..].split_at(len);
        if *kind < 3 {
            document.apply(&Delta::decode(section).unwrap());
        }
        rest = after;
    }
}

pub(super) fn varint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    panic!("a number without an end");
}

/// The last operation of a replica in a version.
pub(super) fn of(version: &Version, replica: ReplicaId) -> u64 {
    let ranges = version
        .ranges()
        .iter()
        .filter(|range| range.replica == replica);
    ranges.map(|range| range.last).max().unwrap_or(0)
}
