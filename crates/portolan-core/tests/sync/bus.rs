//! Servers that share a document through a log, each with clients, while entries are late, doubled
//! or lost, the log is trimmed, rolled back or lost, and servers come, go and crash.

use bytes::Bytes;
use portolan_core::sync::{BusFault, Config, Event};
use portolan_core::{Delta, Document, Error, ReplicaId, Version};
use proptest::prelude::*;

use crate::network::Network;

/// The log, as Redis keeps it.
#[derive(Clone, Default)]
struct Log {
    epoch: u64,
    /// The number of the first entry that is left.
    first: u64,
    /// Who appended it, his number for it, and its content.
    entries: Vec<(usize, u64, Bytes)>,
    snapshot: Option<(u64, Bytes)>,
}

impl Log {
    fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn append(&mut self, server: usize, number: u64, entry: Bytes) -> u64 {
        self.entries.push((server, number, entry));
        self.last()
    }

    fn entry(&self, place: u64) -> Option<&(usize, u64, Bytes)> {
        let at = place.checked_sub(self.first)?;
        self.entries.get(at as usize)
    }
}

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
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

struct Server {
    node: usize,
    stage: Stage,
    /// Entries given to append so far, and the one that was not read back.
    number: u64,
    sent: Option<(u64, Bytes)>,
    /// The log that it followed last.
    followed: Option<u64>,
    alive: bool,
    durable: bool,
}

struct World {
    net: Network,
    log: Option<Log>,
    epochs: u64,
    /// A copy of the log from some time ago.
    backup: Option<Log>,
    servers: Vec<Server>,
    /// The node of each client, its link, and the server that it leads to.
    clients: Vec<(usize, usize, usize)>,
    /// Entries that reach the log later.
    late: Vec<(u64, usize, u64, Bytes)>,
    /// Whether anything that was on the log can be missing there.
    lost: bool,
    next_id: u64,
}

impl World {
    fn new(servers: usize, durable: &[bool]) -> Self {
        let mut world = Self {
            net: Network::new(),
            log: None,
            epochs: 0,
            backup: None,
            servers: Vec::new(),
            clients: Vec::new(),
            late: Vec::new(),
            lost: false,
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

    fn add(&mut self, durable: bool) -> usize {
        self.next_id += 1;
        let id = ReplicaId::new(self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let config = Config {
            gossip_interval: 50,
            gossip_rate: u64::MAX,
            digest_period: 500,
            forget_after: u64::MAX,
            ..Config::default()
        };
        let node = self.net.add_document(Document::new(id), durable, config);
        self.net.nodes[node].replica.observe(false);
        node
    }

    fn start(&mut self, durable: bool) {
        let node = self.add(durable);
        self.net.nodes[node].replica.attach_bus();
        self.servers.push(Server {
            node,
            stage: Stage::Off,
            number: 0,
            sent: None,
            followed: None,
            alive: true,
            durable,
        });
    }

    /// A client comes to a server.
    fn attend(&mut self, server: usize) {
        let node = self.add(false);
        let link = self.net.join(node, self.servers[server].node);
        self.clients.push((node, link, server));
    }

    /// The clients of a server go to another one, or come back.
    fn reconnect(&mut self, server: usize) {
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

    fn write(&mut self, node: usize, what: u8, at: u16) {
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
    fn append(&mut self, at: usize, late: bool) {
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
    fn arrive(&mut self, twice: bool) {
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
    fn disturb(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let replica = &mut self.net.nodes[server.node].replica;
        replica.leave_bus();
        server.sent = None;
        if matches!(server.stage, Stage::On { .. }) {
            // It reads on from where it was.
            replica.resume_bus();
        }
    }

    fn renew(&mut self, at: usize, old: Option<u64>, read: u64) {
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
    fn read(&mut self, at: usize, count: usize) {
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
                        self.lost || taken.is_ok(),
                        "everybody was waited for: {taken:?}"
                    );
                }
                self.miss(at, log.last());
            }
        }
    }

    /// What the log had taken and does not have at its end is appended again.
    fn miss(&mut self, at: usize, last: u64) {
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

    fn name(&mut self, at: usize) {
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

    fn join(&mut self, at: usize, log: &Log, suspect: bool) {
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

    fn save(&mut self, at: usize, kept: u64) {
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
    fn crash(&mut self, at: usize) {
        if self.servers.iter().filter(|server| server.alive).count() < 2 {
            return;
        }
        let node = self.servers[at].node;
        if self.servers[at].durable {
            self.servers[at].sent = None;
            self.net.crash(node);
            let replica = &mut self.net.nodes[node].replica;
            replica.observe(false);
            replica.attach_bus();
            self.servers[at].stage = Stage::Off;
            return self.reconnect(at);
        }
        // In good order, or everybody would wait for it.
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
    fn check_acknowledged(&self) {
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

    fn step(&mut self, (what, a, b): (u8, u8, u16)) {
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
            150..200 if alive => self.read(at, usize::from(b % 6) + 1),
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
    fn rests(&self) -> bool {
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
                read && replica.rests_on_bus()
            })
    }

    /// What ended is opened again, as a node does.
    fn reopen(&mut self) {
        for at in 0..self.clients.len() {
            let (node, link, server) = self.clients[at];
            self.net.settle();
            if !self.net.is_open(link) {
                self.net.cut(link);
                self.clients[at].1 = self.net.join(node, self.servers[server].node);
            }
        }
    }

    fn calm(&mut self) {
        for node in &mut self.net.nodes {
            node.stores = true;
        }
        self.arrive(false);
        for _ in 0..60 {
            self.reopen();
            for _ in 0..500 {
                self.net.settle();
                if self.rests() {
                    break;
                }
                for at in 0..self.servers.len() {
                    if self.servers[at].alive {
                        self.append(at, false);
                        self.read(at, usize::MAX);
                    }
                }
            }
            assert!(self.rests(), "the servers never fall silent");
            self.net.pass(100);
        }
    }
}

/// What an entry brings, in a document that lets go of nothing.
fn apply(document: &mut Document, content: &[u8]) {
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

fn varint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    panic!("a number without an end");
}

/// The elements in their order, and what stands under each key.
fn shown(document: &Document) -> Vec<String> {
    let list = document.array("list");
    let elements = (0..list.len()).map(|at| {
        let values = list.get_all(at).map(|sibling| sibling.value);
        format!("{:?}", values.collect::<Vec<_>>())
    });
    let keys = document.iter().map(|(key, siblings)| {
        let values = siblings.map(|sibling| sibling.value);
        format!("{key:?}: {:?}", values.collect::<Vec<_>>())
    });
    elements.chain(keys).collect()
}

/// The last operation of a replica in a version.
fn of(version: &Version, replica: ReplicaId) -> u64 {
    let ranges = version
        .ranges()
        .iter()
        .filter(|range| range.replica == replica);
    ranges.map(|range| range.last).max().unwrap_or(0)
}

fn run(servers: usize, durable: &[bool], steps: &[(u8, u8, u16)]) {
    let mut world = World::new(servers, durable);
    for step in steps {
        world.step(*step);
    }
    world.calm();
    let alive = world.servers.iter().filter(|server| server.alive);
    let alive = alive.map(|server| server.node);
    let nodes: Vec<usize> = alive
        .chain(world.clients.iter().map(|client| client.0))
        .collect();
    let first = world.net.replica(nodes[0]).document();
    for node in &nodes {
        let document = world.net.replica(*node).document();
        assert_eq!(document.version(), first.version(), "version of {node}");
        assert_eq!(document.digest(), first.digest(), "digest of {node}");
        let tombstones = document.tombstones();
        assert!(
            world.lost || tombstones == 0,
            "{tombstones} tombstones of {node}"
        );
        let resynced = |event: &Event| matches!(event, Event::Resynced { .. });
        // Who had named himself in what was lost, and nowhere else, was not waited for.
        let anew = world.net.has_event(*node, resynced);
        assert!(world.lost || !anew, "{node} began anew");
    }
    for node in &nodes {
        let document = world.net.replica(*node).document();
        assert_eq!(shown(document), shown(first), "what {node} shows");
        // After a loss some have let go of what others still hold.
        let same = document.encode() == first.encode();
        assert!(world.lost || same, "bytes of {node}");
    }
    assert!(world.net.errors.is_empty(), "{:?}", world.net.errors);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn servers_on_a_bus_converge_whatever_becomes_of_the_log(
        servers in 1..4usize,
        durable in prop::collection::vec(any::<bool>(), 3),
        steps in prop::collection::vec(any::<(u8, u8, u16)>(), 1..300),
    ) {
        run(servers, &durable, &steps);
    }
}

#[test]
fn an_entry_that_makes_no_sense_changes_nothing() {
    let mut replica = portolan_core::sync::Replica::new(
        "doc",
        1,
        Document::new(ReplicaId::new(1)),
        false,
        Config::default(),
    );
    replica.attach_bus();
    let entry = replica.join_entry(1);
    replica.join_bus(1, None, &[entry]).unwrap();
    replica.transact(1, |tx| tx.set("k", 1)).unwrap();
    let entry = replica.poll_entry(1).unwrap();
    let mut other = portolan_core::sync::Replica::new(
        "doc",
        1,
        Document::new(ReplicaId::new(2)),
        false,
        Config::default(),
    );
    other.attach_bus();
    // The delta alone is an entry too.
    let whole = |len: usize| len == 1 || len == 3 + usize::from(entry[2]);
    for len in (0..entry.len()).filter(|len| !whole(*len)) {
        let cut = other.receive_entry(1, &entry[..len]);
        assert!(matches!(cut, Err(BusFault::Unreadable(_))), "{len}");
        assert!(other.version().is_empty());
    }
    for bit in 0..entry.len() * 8 {
        let mut damaged = entry.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(other.receive_entry(1, &damaged).is_err(), "bit {bit}");
        assert!(other.version().is_empty());
    }
    other.receive_entry(1, &entry).unwrap();
    assert_eq!(other.version().len(), 1);
}

#[test]
fn what_only_a_snapshot_holds_reaches_those_who_follow_the_entries() {
    // A second server loads a snapshot and saves another, which the first joins from.
    let steps = [
        (7, 2, 0),
        (230, 0, 0),
        (150, 2, 0),
        (150, 108, 0),
        (214, 0, 0),
        (150, 84, 0),
        (150, 133, 0),
        (0, 116, 0),
        (150, 90, 205),
        (230, 0, 0),
        (205, 20, 0),
        (0, 0, 0),
        (150, 27, 0),
        (214, 0, 0),
        (150, 131, 0),
        (205, 226, 8239),
        (150, 180, 0),
    ];
    run(3, &[false; 3], &steps);
}

#[test]
fn who_had_named_himself_in_a_lost_log_is_met_before_anything_is_let_go_of() {
    // A server reads the log, and another lets its list become empty. The log is lost, and the
    // client of the first writes to what was deleted.
    let steps = [
        (0, 22, 0),
        (214, 0, 0),
        (230, 0, 6),
        (150, 133, 0),
        (150, 31, 0),
        (230, 0, 26579),
        (214, 0, 0),
        (150, 113, 0),
        (44, 6, 0),
        (230, 0, 37983),
        (217, 0, 0),
        (150, 16, 0),
        (230, 0, 17724),
        (150, 198, 0),
        (20, 73, 0),
        (150, 233, 0),
    ];
    run(3, &[false; 3], &steps);
}
