//! Replicas over a network that loses, doubles, reorders, corrupts and forges frames, with
//! strangers that say anything: nothing breaks, and in the end all hold the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portolan_core::sync::{Access, Config, Event, Frame, Replica, SessionId};
use portolan_core::{Document, ReplicaId};
use portolan_fuzz::{Script, assert_sound, sealed};

/// The network of the machine's own tests.
#[path = "../../crates/portolan-core/tests/sync/network.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod network;

use network::{NAME, Network};

/// The type of a compact update's frame.
const UPDATE: u8 = 48;
/// Longer scripts find nothing more, and take longer.
const MAX_STEPS: usize = 120;
const MAX_LINKS: usize = 5;
const MAX_STRANGERS: usize = 3;
/// The types of frames that carry operations. What is forged in them is told on as if it were
/// true, and who told it on may be refused by the replica that it is about.
const CARRIERS: [&str; 2] = ["delta", "part"];

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut world = World::new(&mut script);
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.heal();
    }
    world.finish();
});

struct World {
    net: Network,
    /// Sessions of peers that are no replicas.
    strangers: Vec<(usize, SessionId)>,
    next_id: u64,
    /// Frames were taken that no peer sent, or hellos of strangers.
    forged: bool,
    /// Operations were taken that no peer made.
    lied: bool,
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let config = Config {
            queue_bytes: 400,
            chunk_bytes: 120,
            staged_bytes: 1 << 16,
            max_want_delay: 1_000,
            digest_period: 3_000,
            presence_bytes: 1_000,
            ..Config::default()
        };
        let setup = script.byte();
        let mut net = Network::new();
        for node in 0..2 + (setup & 1) {
            net.add(setup & (2 << node) != 0, config.clone());
        }
        net.join(0, 1);
        net.settle();
        Self {
            net,
            strangers: Vec::new(),
            next_id: 100,
            forged: false,
            lied: false,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let node = script.below(self.net.nodes.len());
        let now = self.net.now;
        match script.byte() % 22 {
            0..3 => self.write(node, script),
            3..6 => {
                self.net.collect();
                let (link, from) = self.direction(script);
                for _ in 0..=script.below(8) {
                    self.net.deliver(link, from);
                }
            }
            6 => {
                let direction = self.direction(script);
                self.pick(direction, script);
            }
            7 => {
                let (link, from) = self.direction(script);
                if let Some(frame) = self.pick((link, from), script) {
                    let frames = &mut self.net.links[link].wires[from].frames;
                    frames.push_back(frame.clone());
                    frames.push_front(frame);
                }
            }
            8 => {
                let (link, from) = self.direction(script);
                if let Some(frame) = self.pick((link, from), script) {
                    self.net.links[link].wires[from].frames.push_back(frame);
                }
            }
            9 => {
                let (link, from) = self.direction(script);
                if let Some(frame) = self.pick((link, from), script) {
                    let mut bytes = frame.to_vec();
                    let at = script.below(bytes.len().min(256));
                    bytes[at] ^= script.byte().max(1);
                    // Updates are checked against what they presuppose.
                    let update = frame[0] == UPDATE || bytes[0] == UPDATE;
                    assert!(update || Frame::decode(bytes.clone().into()).is_err());
                    self.net.hand_over(link, from, bytes.into());
                }
            }
            10 => {
                let (link, from) = self.direction(script);
                let original = self.pick((link, from), script);
                let bytes = forged(script, original.as_deref());
                if let Ok(frame) = Frame::decode(bytes.clone()) {
                    self.note(&frame);
                    self.net.hand_over(link, from, bytes);
                }
            }
            11 => {
                self.net.now += u64::from(script.byte()) * 16;
                self.tick();
            }
            12 => {
                let (link, _) = self.direction(script);
                self.net.cut(link);
            }
            13 => {
                let other = script.below(self.net.nodes.len());
                self.net.links.retain(|link| link.up);
                if other != node && self.net.links.len() < MAX_LINKS {
                    self.net.join(node, other);
                }
            }
            14 => self.net.nodes[node].stores ^= true,
            15 if self.net.nodes[node].disk.is_some() => {
                self.strangers.retain(|(at, _)| *at != node);
                self.net.crash(node);
            }
            16 => {
                let state = script.flag();
                let state = state.then(|| Bytes::copy_from_slice(script.take(4)));
                let set = self.net.nodes[node].replica.set_presence(now, state);
                set.expect("a short state");
            }
            17 => {
                let granted = Access {
                    read: script.flag(),
                    write: script.flag(),
                };
                let hello = hello(900 + u64::from(script.byte()));
                let original = script.flag().then_some(hello.as_ref());
                let bytes = original.map_or(hello.clone(), |it| forged(script, Some(it)));
                let Ok(frame) = Frame::decode(bytes) else {
                    return;
                };
                let replica = &mut self.net.nodes[node].replica;
                if let Some(hello) = frame.hello()
                    && self.strangers.len() < MAX_STRANGERS
                    && let Ok(session) = replica.accept(now, hello, granted)
                {
                    self.strangers.push((node, session));
                }
                // Refused or not, it may claim to know operations of this replica.
                self.forged = true;
            }
            18 | 19 if !self.strangers.is_empty() => self.hear(script),
            20 => {
                let (link, from) = self.direction(script);
                let at = self.net.links[link].ends[from];
                if let Some(session) = self.net.links[link].sessions[from] {
                    self.net.nodes[at].replica.refresh(session, b"token");
                }
            }
            _ => self.net.settle(),
        }
    }

    fn write(&mut self, node: usize, script: &mut Script<'_>) {
        let now = self.net.now;
        let count = script.below(6) + 1;
        let replica = &mut self.net.nodes[node].replica;
        let done = replica.transact(now, |tx| {
            for _ in 0..count {
                // The network's watcher knows keys by their text.
                let key = script.below(12).to_string();
                if script.below(3) > 0 {
                    tx.set(key, script.value())?;
                } else {
                    tx.unset(&key);
                }
            }
            Ok::<_, portolan_core::Error>(())
        });
        done.expect("values of scripts are within limits");
    }

    /// A link and one of its ends.
    fn direction(&mut self, script: &mut Script<'_>) -> (usize, usize) {
        if self.net.links.is_empty() {
            self.net.join(0, 1);
        }
        (script.below(self.net.links.len()), script.below(2))
    }

    /// Takes a frame from somewhere on a wire. Hellos are a session's first frames on any
    /// transport, so a wire that has one is left as it is.
    fn pick(&mut self, (link, from): (usize, usize), script: &mut Script<'_>) -> Option<Bytes> {
        self.net.collect();
        let frames = &mut self.net.links[link].wires[from].frames;
        if frames.is_empty() || frames.iter().any(is_hello) {
            return None;
        }
        let at = script.below(frames.len().min(256));
        frames.remove(at)
    }

    /// A stranger says something.
    fn hear(&mut self, script: &mut Script<'_>) {
        let at = script.below(self.strangers.len());
        let (node, session) = self.strangers[at];
        let direction = self.direction(script);
        let original = self.pick(direction, script);
        let Ok(frame) = Frame::decode(forged(script, original.as_deref())) else {
            return;
        };
        let carrier = CARRIERS.contains(&frame.kind());
        let replica = &mut self.net.nodes[node].replica;
        let before = replica.document().encode();
        if replica.receive(session, self.net.now, frame).is_ok() {
            self.lied |= carrier;
            return;
        }
        assert_eq!(replica.document().encode(), before);
        while replica.poll_frame(session, self.net.now).is_some() {}
        replica.close(session);
        self.strangers.swap_remove(at);
    }

    fn note(&mut self, frame: &Frame) {
        self.forged = true;
        self.lied |= CARRIERS.contains(&frame.kind());
    }

    fn tick(&mut self) {
        let now = self.net.now;
        for node in &mut self.net.nodes {
            node.replica.handle_timeout(now);
        }
    }

    /// Does what a host does for replicas whose id was further than they remember; whether there
    /// were any.
    fn heal(&mut self) -> bool {
        self.net.collect();
        let mut healed = false;
        for at in 0..self.net.nodes.len() {
            let events = std::mem::take(&mut self.net.nodes[at].events);
            if !events.contains(&Event::ReplicaReused) {
                continue;
            }
            assert!(
                self.forged,
                "nobody claimed to know more of a replica than it does"
            );
            healed = true;
            self.next_id += 1;
            let fresh = ReplicaId::new(self.next_id);
            let node = &mut self.net.nodes[at];
            node.id = fresh;
            node.replica.change_replica(fresh);
            self.net.collect();
            for link in 0..self.net.links.len() {
                if self.net.links[link].ends.contains(&at) {
                    self.net.cut(link);
                }
            }
        }
        healed
    }

    /// Calm weather: stores work, nobody lies, and all are joined.
    fn finish(mut self) {
        for (node, session) in self.strangers.clone() {
            self.net.nodes[node].replica.close(session);
        }
        for node in &mut self.net.nodes {
            node.stores = true;
        }
        self.net.settle();
        // Sessions that went through it all find themselves what is missing; where frames were
        // forged they may be at odds for good, and hellos find it.
        let fresh = self.forged || self.lied;
        let mut rounds = 0;
        loop {
            self.join(fresh);
            self.net.errors.clear();
            self.net.pass(15_000);
            if !self.heal() {
                break;
            }
            rounds += 1;
            assert!(rounds < 5, "ids are reused for ever");
        }
        for node in &self.net.nodes {
            let replica = &node.replica;
            assert_eq!(replica.version(), &replica.document().version());
            assert_sound(replica.document());
        }
        if self.lied {
            // An operation that was told in two ways may name two sets of what it removed: what
            // is known of dots that never came may differ for good. What is shown may not.
            let first = self.net.replica(0).document();
            for node in &self.net.nodes {
                let document = node.replica.document();
                assert_eq!(document.version(), first.version());
                assert_eq!(document.digest(), first.digest());
            }
        } else {
            assert_eq!(self.net.errors, []);
            self.net.assert_converged();
        }
    }

    /// Joins all nodes to the first, over new links or over what is there.
    fn join(&mut self, fresh: bool) {
        for link in 0..self.net.links.len() {
            if fresh || !self.net.is_open(link) {
                self.net.cut(link);
            }
        }
        self.net.settle();
        self.net.links.retain(|link| link.up);
        for node in 1..self.net.nodes.len() {
            let joined = |link: &network::Link| link.ends == [0, node] || link.ends == [node, 0];
            if !self.net.links.iter().any(joined) {
                self.net.join(node, 0);
            }
        }
    }
}

fn is_hello(bytes: &Bytes) -> bool {
    Frame::decode(bytes.clone()).is_ok_and(|frame| frame.hello().is_some())
}

/// The hello of some replica that has nothing.
fn hello(id: u64) -> Bytes {
    let document = Document::new(ReplicaId::new(id));
    let mut replica = Replica::new(NAME, 3, document, false, Config::default());
    let session = replica.connect(network::START, Access::ALL, None);
    let hello = replica.poll_frame(session, network::START);
    hello.expect("a hello is ready")
}

/// A frame with good checksums, outside and inside: one that was changed here and there, or one
/// from nothing.
fn forged(script: &mut Script<'_>, original: Option<&[u8]>) -> Bytes {
    let Some(original) = original else {
        let len = usize::from(script.byte());
        return resealed(script.take(len));
    };
    let mut bytes = original[..original.len() - 4].to_vec();
    if bytes[0] == 2 {
        bytes.truncate(bytes.len() - 4);
    }
    for _ in 0..script.below(4) {
        let at = script.below(bytes.len().min(256));
        match script.byte() % 3 {
            0 => bytes[at] = script.byte(),
            1 => bytes.insert(at, script.byte()),
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
    resealed(&bytes)
}

/// Deltas have a checksum of their own, behind a handle of one byte.
fn resealed(bytes: &[u8]) -> Bytes {
    match bytes {
        [2, handle @ ..128, delta @ ..] => {
            sealed(&[&[2, *handle], sealed(delta).as_slice()].concat()).into()
        }
        other => sealed(other).into(),
    }
}
