//! Servers that follow a log, their clients, and what becomes of them.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use portolan_core::sync::Config;
use portolan_core::{Document, Error, ReplicaId};

use super::log::{Log, apply, of};
use super::server::{Server, Stage};
use crate::network::Network;

#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
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
    /// Whether somebody was forgotten who may still be there, or has not read what it should have:
    /// then some let go of what others use.
    pub(super) wronged: bool,
    /// Whether somebody was away when a server left, and may wait for it for ever.
    pub(super) unheard: bool,
    /// Which clients have come to which servers.
    pub(super) met: BTreeSet<(usize, usize)>,
    /// Whether such things happen.
    pub(super) wrongs: bool,
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
            wronged: false,
            unheard: false,
            met: BTreeSet::new(),
            wrongs: false,
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
        self.met.insert((node, server));
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
                self.met.insert((client.0, to));
            }
        }
    }

    /// A client is cut off.
    pub(super) fn leave(&mut self, client: usize) {
        // Whom nobody has met, nobody waits for.
        let link = self.clients[client].1;
        self.unheard |= self.net.links[link].up && !self.net.is_open(link);
        self.net.cut(self.clients[client].1);
    }

    /// A client that was cut off, or moves, comes to a server.
    pub(super) fn come(&mut self, client: usize, server: usize) {
        if self.servers[server].alive {
            self.net.cut(self.clients[client].1);
            let node = self.clients[client].0;
            self.clients[client].1 = self.net.join(node, self.servers[server].node);
            self.clients[client].2 = server;
            self.met.insert((node, server));
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

    /// Whether it is not known that everybody was waited for.
    pub(super) fn is_excused(&self) -> bool {
        self.lost || self.unheard || self.wronged
    }

    /// A server with a store dies and starts again.
    pub(super) fn restart(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.sent = None;
        server.heard.clear();
        server.stage = Stage::Off;
        self.net.crash(server.node);
        let replica = &mut self.net.nodes[server.node].replica;
        replica.observe(false);
        self.next_id += 1;
        replica.attach_bus(1_000 + self.next_id);
        self.reconnect(at);
    }

    /// A server dies. One with a store starts again, another never.
    pub(super) fn crash(&mut self, at: usize) {
        if self.servers.iter().filter(|server| server.alive).count() < 2 {
            return;
        }
        let node = self.servers[at].node;
        if self.servers[at].durable {
            return self.restart(at);
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
        // Who was never on the log tells only those who are there.
        let on = matches!(self.servers[at].stage, Stage::On { .. });
        let mut elsewhere = self.clients.iter().filter(|client| client.2 != at);
        self.unheard |= !on && elsewhere.any(|client| self.met.contains(&(client.0, at)));
        let now = self.net.now;
        self.net.nodes[node].replica.leave(now);
        self.net.settle();
        self.append(at, false);
        self.servers[at].alive = false;
        self.reconnect(at);
    }

    /// What a server has acknowledged to its clients is on the log.
    pub(super) fn check_acknowledged(&self) {
        // Who has missed an entry saves snapshots without it.
        let kept = !self.lost && !self.wronged;
        let Some(log) = self.log.as_ref().filter(|_| kept) else {
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

    /// No client was told to be ready by a server that had not read the log.
    fn check_ready(&self) {
        for (node, link, server) in &self.clients {
            let session = self.net.links[*link].sessions[0];
            let status = session.and_then(|session| self.net.replica(*node).session(session));
            let server = self.net.replica(self.servers[*server].node);
            assert!(
                !server.is_incomplete() || status.is_none_or(|status| !status.ready),
                "a client is ready before its server"
            );
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
            182..186 if alive && self.wrongs => self.skip(at),
            186..188 if alive && self.wrongs => self.forget(at, usize::from(b)),
            188..190 if alive && self.wrongs => self.servers[at].heard.clear(),
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
        self.check_ready();
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
                    _ => last.is_none() && replica.version().is_empty() && !replica.is_incomplete(),
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
        // A session by the bus that leads nowhere is given up after ten seconds.
        for _ in 0..if self.wronged { 300 } else { 60 } {
            self.reopen();
            self.act();
            self.net.pass(100);
        }
    }
}

/// The elements in their order, and what stands under each key.
pub(super) fn shown(document: &Document) -> Vec<String> {
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
