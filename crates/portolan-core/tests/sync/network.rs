//! Replicas joined by links in memory.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use portolan_core::sync::{
    Access, CloseReason, Config, Event, Frame, ProtocolError, Replica, SessionId, Write,
};
use portolan_core::{Delta, Document, ReplicaId, Value};

/// An ordinary day.
pub(crate) const START: u64 = 1_767_225_600_000;
pub(crate) const NAME: &str = "fleet/config";

/// What a crash leaves: writes that were stored.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) stored: Vec<Write>,
    pub(crate) members: Option<Bytes>,
}

pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) disk: Option<Disk>,
    /// Whether writes are stored as soon as they are made.
    pub(crate) stores: bool,
    pub(crate) config: Config,
    pub(crate) id: ReplicaId,
    pub(crate) events: Vec<Event>,
    /// Keys and winners, followed by events alone.
    pub(crate) watched: BTreeMap<String, Value>,
}

/// One direction of a link.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) frames: VecDeque<Bytes>,
}

pub(crate) struct Link {
    pub(crate) ends: [usize; 2],
    pub(crate) sessions: [Option<SessionId>; 2],
    /// From the first end, from the second.
    pub(crate) wires: [Wire; 2],
    pub(crate) up: bool,
    pub(crate) granted: Access,
}

pub(crate) struct Network {
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    /// Every frame that was delivered: from, to, kind, length.
    pub(crate) log: Vec<(usize, usize, &'static str, usize)>,
    pub(crate) errors: Vec<(usize, ProtocolError)>,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            now: START,
            nodes: Vec::new(),
            links: Vec::new(),
            log: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// So many replicas without a store.
    pub(crate) fn of(count: usize) -> Self {
        let mut network = Self::new();
        for _ in 0..count {
            network.add(false, Config::default());
        }
        network
    }

    pub(crate) fn add(&mut self, durable: bool, config: Config) -> usize {
        let index = self.nodes.len();
        let id = ReplicaId::new(index as u64 + 1);
        self.add_document(Document::new(id), durable, config)
    }

    pub(crate) fn add_document(
        &mut self,
        document: Document,
        durable: bool,
        config: Config,
    ) -> usize {
        let index = self.nodes.len();
        let id = document.replica();
        let watched = document
            .iter()
            .filter_map(|(key, mut siblings)| {
                Some((key.to_string(), siblings.next()?.value.clone()))
            })
            .collect();
        let mut replica = Replica::new(NAME, index as u32 + 70, document, durable, config.clone());
        replica.observe(true);
        self.nodes.push(Node {
            replica,
            disk: durable.then(Disk::default),
            stores: true,
            config,
            id,
            events: Vec::new(),
            watched,
        });
        index
    }

    pub(crate) fn replica(&self, node: usize) -> &Replica {
        &self.nodes[node].replica
    }

    pub(crate) fn set(&mut self, node: usize, key: &str, value: impl Into<Value>) {
        let (now, value) = (self.now, value.into());
        let replica = &mut self.nodes[node].replica;
        replica.transact(now, |tx| tx.set(key, value)).unwrap();
    }

    pub(crate) fn unset(&mut self, node: usize, key: &str) {
        let now = self.now;
        let replica = &mut self.nodes[node].replica;
        replica
            .transact(now, |tx| Ok::<_, ()>(tx.unset(key)))
            .unwrap();
    }

    pub(crate) fn get(&self, node: usize, key: &str) -> Option<Value> {
        self.replica(node).document().get(key).cloned()
    }

    /// Opens a link with all rights; the first end says hello.
    pub(crate) fn join(&mut self, a: usize, b: usize) -> usize {
        self.join_with(a, b, Access::ALL, Access::ALL)
    }

    pub(crate) fn join_with(
        &mut self,
        a: usize,
        b: usize,
        asked: Access,
        granted: Access,
    ) -> usize {
        let session = self.nodes[a].replica.connect(self.now, asked, None);
        self.links.push(Link {
            ends: [a, b],
            sessions: [Some(session), None],
            wires: Default::default(),
            up: true,
            granted,
        });
        self.links.len() - 1
    }

    pub(crate) fn session(&self, link: usize, end: usize) -> SessionId {
        self.links[link].sessions[end].expect("the session was opened")
    }

    /// Cuts a link: what is on it is lost.
    pub(crate) fn cut(&mut self, link: usize) {
        let link = &mut self.links[link];
        link.up = false;
        link.wires = Default::default();
        for end in 0..2 {
            if let Some(session) = link.sessions[end].take() {
                self.nodes[link.ends[end]].replica.close(session);
            }
        }
    }

    /// Moves what the replicas have to send onto the wires, and lets their disks write.
    pub(crate) fn collect(&mut self) {
        for index in 0..self.nodes.len() {
            self.store(index);
            let replica = &mut self.nodes[index].replica;
            while let Some(session) = replica.poll_ready() {
                let on = |link: &&mut Link| {
                    (0..2).any(|end| link.ends[end] == index && link.sessions[end] == Some(session))
                };
                let Some(link) = self.links.iter_mut().find(on) else {
                    while replica.poll_frame(session, self.now).is_some() {}
                    continue;
                };
                let end = usize::from(link.sessions[0] != Some(session) || link.ends[0] != index);
                while let Some(frame) = replica.poll_frame(session, self.now) {
                    if link.up {
                        link.wires[end].frames.push_back(frame);
                    }
                }
            }
            self.drain_events(index);
        }
    }

    fn store(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if let Some(disk) = node.disk.as_mut().filter(|_| node.stores) {
            while let Some(write) = node.replica.poll_write() {
                let number = write.number;
                if write.replaces {
                    disk.stored.clear();
                }
                match write.members {
                    Some(members) => disk.members = Some(members),
                    None => disk.stored.push(write),
                }
                node.replica.stored(number, self.now);
            }
        }
    }

    fn drain_events(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(event) = node.replica.poll_event() {
            if let Event::Changed(batch) = &event {
                for change in &batch.changes {
                    let key = change.path[0].to_string();
                    assert_eq!(node.watched.get(&key), change.old.as_ref());
                    match &change.new {
                        Some(value) => node.watched.insert(key, value.clone()),
                        None => node.watched.remove(&key),
                    };
                }
            }
            node.events.push(event);
        }
    }

    /// Delivers the next frame of a link in one direction; false where there is none.
    pub(crate) fn deliver(&mut self, link: usize, from: usize) -> bool {
        let Some(bytes) = self.links[link].wires[from].frames.pop_front() else {
            return false;
        };
        self.hand_over(link, from, bytes);
        true
    }

    /// As if `bytes` had come over the link.
    pub(crate) fn hand_over(&mut self, link: usize, from: usize, bytes: Bytes) {
        let to = 1 - from;
        let (a, b) = (self.links[link].ends[from], self.links[link].ends[to]);
        let length = bytes.len();
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.errors.push((b, error));
                return self.cut(link);
            }
        };
        self.log.push((a, b, frame.kind(), length));
        let granted = self.links[link].granted;
        let replica = &mut self.nodes[b].replica;
        let session = self.links[link].sessions[to];
        let result = match (session, frame.hello()) {
            (None, Some(hello)) => replica
                .accept(self.now, hello, granted)
                .map(|session| self.links[link].sessions[to] = Some(session)),
            (None, None) => Err(ProtocolError::DataBeforeHello),
            (Some(session), _) => replica.receive(session, self.now, frame),
        };
        if let Err(error) = result {
            self.errors.push((b, error.clone()));
            // The error frame still arrives, then the link goes down.
            let last = match session {
                Some(session) => self.nodes[b].replica.poll_frame(session, self.now),
                None => Some(error.to_frame(NAME)),
            };
            let other = self.links[link].sessions[from];
            if let (Some(last), Some(other)) = (last, other) {
                let last = Frame::decode(last).expect("an error frame is well-formed");
                assert_eq!(last.error().map(|e| e.code), Some(error.code()));
                let _ = self.nodes[a].replica.receive(other, self.now, last);
            }
            self.drain_events(a);
            self.drain_events(b);
            self.cut(link);
        }
    }

    /// Delivers everything, and what comes of it, until all is quiet. Time stands still.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.collect();
            let mut moved = false;
            for link in 0..self.links.len() {
                for from in 0..2 {
                    while self.deliver(link, from) {
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the replicas never fall silent");
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        self.settle();
        loop {
            let next = self.nodes.iter().filter_map(|n| n.replica.timeout()).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            let now = self.now;
            for node in &mut self.nodes {
                node.replica.handle_timeout(now);
            }
            self.settle();
        }
        self.now = end;
    }

    /// What a crash and a restart make of a replica with a store.
    pub(crate) fn crash(&mut self, index: usize) {
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&index) {
                self.cut(link);
            }
        }
        let node = &mut self.nodes[index];
        let disk = node.disk.as_ref().expect("it has a store");
        let mut document = Document::new(node.id);
        for write in &disk.stored {
            document.apply(&Delta::decode(&write.delta).unwrap());
        }
        node.watched = document
            .iter()
            .filter_map(|(key, mut siblings)| {
                Some((key.to_string(), siblings.next()?.value.clone()))
            })
            .collect();
        let handle = node.replica.handle();
        node.replica = Replica::new(NAME, handle, document, true, node.config.clone());
        if let Some(members) = &disk.members {
            node.replica.restore_members(members).unwrap();
        }
        node.replica.observe(true);
    }

    pub(crate) fn has_event(&self, node: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.nodes[node].events.iter().any(wanted)
    }

    /// Whether both sides have said hello, and neither has ended it.
    pub(crate) fn is_open(&self, link: usize) -> bool {
        (0..2).all(|end| {
            let replica = self.replica(self.links[link].ends[end]);
            let status = self.links[link].sessions[end].and_then(|s| replica.session(s));
            status.is_some_and(|status| status.peer.is_some() && !status.closed)
        })
    }

    pub(crate) fn is_ready(&self, link: usize, end: usize) -> bool {
        let session = self.session(link, end);
        self.has_event(self.links[link].ends[end], |event| {
            *event == Event::Ready(session)
        })
    }

    pub(crate) fn closed(&self, node: usize) -> Option<&CloseReason> {
        self.nodes[node]
            .events
            .iter()
            .find_map(|event| match event {
                Event::Closed { reason, .. } => Some(reason),
                _ => None,
            })
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.log.iter().filter(|(_, _, k, _)| *k == kind).count()
    }

    /// How often a transaction was told of as it happened, in either form.
    pub(crate) fn count_told(&self) -> usize {
        self.count("delta") + self.count("update")
    }

    /// All replicas hold the same, to the byte, and their events told so.
    pub(crate) fn assert_converged(&self) {
        let first = self.replica(0).document();
        for (index, node) in self.nodes.iter().enumerate() {
            let document = node.replica.document();
            assert_eq!(document.version(), first.version(), "version of {index}");
            assert_eq!(node.replica.version(), &document.version());
            assert_eq!(document.digest(), first.digest(), "digest of {index}");
            assert!(document.encode() == first.encode(), "bytes of {index}");
            let held: BTreeMap<String, Value> = document
                .iter()
                .filter_map(|(key, mut siblings)| {
                    Some((key.to_string(), siblings.next()?.value.clone()))
                })
                .collect();
            assert_eq!(held, node.watched, "events of {index}");
        }
    }
}
