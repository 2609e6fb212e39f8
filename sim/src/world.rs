//! One run: a cluster, what befalls it, and what must be true at the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use portolan_core::sync::{Access, Config, Event, Frame, Replica};
use portolan_core::{Dot, Error, Key, ReplicaId, Version};
use portolan_sim::{Dice, Shown, Tree, Truth, undo, write};

use crate::disk::Disk;
use crate::network::Link;
use crate::node::Node;

/// A moment of 2026, in milliseconds: the runs begin here.
const DAWN: u64 = 1_767_225_600_000;
/// How long things go wrong, at the least and at the most.
const TROUBLE: std::ops::Range<u64> = 10_000..60_000;
/// How long the healed cluster may take to agree.
const PATIENCE: u64 = 15 * 60_000;

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    nodes: usize,
    operations: usize,
    undone: usize,
    frames: usize,
    connections: usize,
    crashes: usize,
    backups: usize,
    new_ids: usize,
    /// How often a replica went on under an id that was lent to it.
    lent: usize,
    repaired: usize,
    /// Checks of replicas that had applied operations without all that these had seen.
    parted: usize,
    searches: usize,
    forgotten: usize,
    resynced: usize,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Outcome) {
        self.nodes += other.nodes;
        self.operations += other.operations;
        self.undone += other.undone;
        self.parted += other.parted;
        self.frames += other.frames;
        self.connections += other.connections;
        self.crashes += other.crashes;
        self.backups += other.backups;
        self.new_ids += other.new_ids;
        self.lent += other.lent;
        self.repaired += other.repaired;
        self.searches += other.searches;
        self.forgotten += other.forgotten;
        self.resynced += other.resynced;
    }
}

struct Arrival {
    link: usize,
    epoch: u64,
    /// Which end receives.
    to: usize,
    frame: Bytes,
}

pub(crate) struct World {
    seed: u64,
    loud: bool,
    rng: Rng,
    now: u64,
    config: Config,
    nodes: Vec<Node>,
    /// How many of them there are before the visitors.
    residents: usize,
    links: Vec<Link>,
    /// By time, then order of sending.
    arrivals: BTreeMap<(u64, u64), Arrival>,
    sent: u64,
    truth: Truth,
    next_id: u64,
    trouble_ends: u64,
    tree: Tree,
    /// Whether logs of removals are pruned of what others may still ask for.
    prunes: bool,
    /// Whether a memory was damaged, so that states differ at equal versions for a while.
    damaged: bool,
    outcome: Outcome,
}

impl World {
    pub(crate) fn new(seed: u64, forgets: bool, loud: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..=6);
        let (durable, all_durable) = (rng.u8(..), rng.bool());
        let mut world = Self {
            seed,
            loud,
            now: DAWN,
            config: Config {
                queue_bytes: if rng.bool() {
                    8 << 20
                } else {
                    rng.usize(200..5_000)
                },
                chunk_bytes: if rng.bool() {
                    256 << 10
                } else {
                    rng.usize(50..2_000)
                },
                gossip_interval: rng.u64(100..5_000),
                gossip_rate: rng.u64(100..500),
                // Where anybody is: those that are cut off or crash for long, or for good, in half
                // of the clusters.
                forget_after: if rng.bool() && forgets {
                    rng.u64(3_000..40_000)
                } else {
                    u64::MAX
                },
                brief_ranges: if rng.bool() { 2_048 } else { rng.usize(0..20) },
                borrows: rng.bool(),
                id_idle: rng.u64(500..30_000),
                ..Config::default()
            },
            nodes: Vec::new(),
            residents: count,
            links: Vec::new(),
            arrivals: BTreeMap::new(),
            sent: 0,
            truth: Truth::default(),
            next_id: 0,
            trouble_ends: 0,
            tree: Tree {
                keys: if rng.u8(0..4) == 0 {
                    rng.usize(30..1_000)
                } else {
                    rng.usize(1..30)
                },
                // A quarter of the clusters hold the root alone.
                depth: rng.usize(0..4),
                text: if rng.u8(..) < 40 { 256 } else { 20 },
            },
            prunes: rng.bool(),
            damaged: false,
            outcome: Outcome {
                nodes: count,
                ..Outcome::default()
            },
            rng,
        };
        world.trouble_ends = DAWN + world.rng.u64(TROUBLE);
        for _ in 0..count {
            let id = world.fresh_id();
            let skewed = world.rng.bool();
            let skew = if skewed {
                world.rng.u64(0..30 * 60_000)
            } else {
                0
            };
            let durable = all_durable || world.rng.u8(..) <= durable;
            world.nodes.push(Node::new(id, durable, skew));
        }
        world.connect_cluster();
        if world.config.borrows && world.rng.bool() {
            world.invite_visitors();
        }
        world
    }

    /// Nodes that keep nothing, and come to one of the others to write a little and go.
    fn invite_visitors(&mut self) {
        for _ in 0..self.rng.usize(2..8) {
            let id = self.fresh_id();
            let host = self.rng.usize(0..self.residents);
            self.nodes.push(Node::new(id, false, 0));
            let ends = [self.nodes.len() - 1, host];
            self.links.push(Link::new(ends, false, &mut self.rng));
        }
    }

    /// What a visitor does: most leave in good order.
    fn visit(&mut self, at: usize) {
        match self.rng.u8(..) {
            0..120 => self.write(at),
            120..220 => self.give_back(at),
            _ => drop(self.crash(at)),
        }
    }

    fn give_back(&mut self, at: usize) {
        if let Some(replica) = &mut self.nodes[at].replica {
            replica.give_back();
        }
        self.settle(at);
    }

    fn fresh_id(&mut self) -> ReplicaId {
        self.next_id += 1;
        // Ids do not come in the order of their making.
        ReplicaId::new(self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed)
    }

    /// A star, a chain, a ring, or everybody with everybody.
    fn connect_cluster(&mut self) {
        let count = self.nodes.len();
        let pairs: Vec<[usize; 2]> = match self.rng.u8(0..4) {
            0 => (1..count).map(|i| [i, 0]).collect(),
            1 => (1..count).map(|i| [i, i - 1]).collect(),
            2 => (0..count)
                .map(|i| [i, (i + 1) % count])
                .filter(|[a, b]| a != b)
                .collect(),
            _ => (0..count)
                .flat_map(|a| (0..a).map(move |b| [a, b]))
                .collect(),
        };
        // What is lost between nodes without disks can be lost for ever, and what it removed with it.
        let durable = self.nodes.iter().all(|node| node.disk.is_some());
        let lossy = durable && self.rng.bool();
        for ends in pairs {
            let link = Link::new(ends, lossy, &mut self.rng);
            self.links.push(link);
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>7} {}", self.now - DAWN, what());
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        while self.now < self.trouble_ends {
            self.trouble();
            let step = self.rng.u64(1..200);
            self.advance(self.now + step);
        }
        self.heal();
        let deadline = self.now + PATIENCE;
        while !self.agrees() {
            assert!(self.now < deadline, "{}", self.disagreement());
            self.advance(self.now + 500);
        }
        // What is under way or due later changes nothing any more.
        self.advance(self.now + 120_000);
        // Signs of life are stored for ever: a moment in which nothing waits for a disk.
        for _ in 0..100 {
            if self.agrees() {
                break;
            }
            self.advance(self.now + 7);
        }
        self.check();
        if self.rng.bool() {
            self.damage();
        }
        self.outcome.operations = self.truth.operations() as usize;
        self.outcome
    }

    /// Some of the nodes lose values, each others. All come back, to everybody.
    fn damage(&mut self) {
        self.damaged = true;
        let shown = Shown::of(self.nodes[0].document().expect("all run"));
        let root = shown.values.into_keys();
        let all: Vec<Key> = root
            .filter(|(path, _)| path.is_empty())
            .map(|(_, key)| key)
            .collect();
        let mut lost: Vec<Vec<Key>> = vec![Vec::new(); self.nodes.len()];
        for key in all {
            if self.rng.u8(..) < 40 {
                let at = self.rng.usize(0..self.nodes.len());
                lost[at].push(key);
            }
        }
        for (at, lost) in lost
            .into_iter()
            .enumerate()
            .filter(|(_, lost)| !lost.is_empty())
        {
            self.say(|| format!("node {at} loses {} values", lost.len()));
            for link in 0..self.links.len() {
                if self.links[link].ends.contains(&at) {
                    self.cut(link);
                }
            }
            let id = match self.nodes[at].disk {
                Some(_) => self.nodes[at].id,
                None => self.fresh_id(),
            };
            let config = self.config.clone();
            self.nodes[at].damage(id, &lost, &config);
        }
        let deadline = self.now + PATIENCE;
        while !(self.agrees() && self.is_sound()) {
            assert!(self.now < deadline, "damage stays: {}", self.disagreement());
            self.advance(self.now + 500);
        }
        // The digests that say so are still to be exchanged.
        self.advance(self.now + 120_000);
        for _ in 0..100 {
            if self.agrees() {
                break;
            }
            self.advance(self.now + 7);
        }
        self.damaged = false;
        self.check();
    }

    /// Whether all have one digest.
    fn is_sound(&self) -> bool {
        let mut digests = self
            .nodes
            .iter()
            .map(|n| n.document().map(portolan_core::Document::digest));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }

    fn trouble(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        let link = self.rng.usize(0..self.links.len());
        if at >= self.residents {
            return self.visit(at);
        }
        match self.rng.u8(..) {
            0..140 => self.write(at),
            140..150 => self.undo(at),
            150..165 => {
                self.links[link].up = !self.links[link].up;
                self.say(|| {
                    format!(
                        "link {:?} up: {}",
                        self.links[link].ends, self.links[link].up
                    )
                });
                self.cut(link);
            }
            165..175 => self.cut(link),
            175..185 => drop(self.crash(at)),
            185..190 => {
                let node = &mut self.nodes[at];
                if !node.restored {
                    node.backup = node.disk.as_ref().map(Disk::synced);
                }
            }
            190..193 => self.restore(at),
            193..205 => self.compact(at),
            205..210 => {
                // Everybody on one side of a line.
                let side = self.rng.u64(..);
                self.say(|| "partition".to_owned());
                for link in 0..self.links.len() {
                    let [a, b] = self.links[link].ends;
                    self.links[link].up = (side >> a) & 1 == (side >> b) & 1;
                    if !self.links[link].up {
                        self.cut(link);
                    }
                }
            }
            210..215 => {
                for link in &mut self.links {
                    link.up = true;
                }
            }
            215..235 if self.prunes => {
                if let Some(replica) = &mut self.nodes[at].replica {
                    let all = replica.version().clone();
                    replica.prune_log(&all);
                }
            }
            235..245 => self.give_back(at),
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.say(|| "all is well again".to_owned());
        for link in &mut self.links {
            (link.up, link.lossy) = (true, false);
            link.dial_at = link.dial_at.min(self.now);
        }
        for node in &mut self.nodes {
            node.start_at = node.start_at.min(self.now);
        }
    }

    /// A transaction of a few operations, on a few keys, sometimes failing.
    fn write(&mut self, at: usize) {
        let burst = if self.rng.u8(..) < 20 {
            self.rng.usize(5..60)
        } else {
            1
        };
        for _ in 0..burst {
            self.write_once(at);
        }
    }

    fn write_once(&mut self, at: usize) {
        let (node, rng, tree) = (&mut self.nodes[at], &mut self.rng, self.tree);
        let Some(seen) = node.applied() else {
            return;
        };
        let now = self.now + node.skew;
        let Some(replica) = &mut node.replica else {
            return;
        };
        let document = replica.document();
        let (own, before) = (document.own_seq(), (document.encode(), document.digest()));
        let mut draft = self.truth.begin(document.replica(), own, seen);
        let fails = rng.u8(..) < 10;
        let outcome = replica.transact(now, |tx| {
            let mut dice = Choices(rng);
            for _ in 0..=dice.below(3) {
                write(tx, &mut dice, tree, &mut self.truth, &mut draft);
            }
            if fails { Err(()) } else { Ok(()) }
        });
        let document = replica.document();
        if outcome.is_ok() {
            let done = self.truth.commit(draft, document.own_seq());
            node.since.extend(done);
            if let Some(done) = done {
                self.say(|| format!("node {at} writes {}", self.truth.tell(done)));
            }
        } else {
            self.truth.cancel(&draft);
            let after = (document.encode(), document.digest());
            assert_eq!(after, before, "a transaction that failed leaves nothing");
        }
        self.settle(at);
    }

    /// Takes an own transaction back.
    fn undo(&mut self, at: usize) {
        let (node, rng) = (&mut self.nodes[at], &mut self.rng);
        let (Some(seen), false) = (node.applied(), node.since.is_empty()) else {
            return;
        };
        let latest = node.since.len().saturating_sub(5);
        let undone = node.since[rng.usize(latest..node.since.len())];
        let now = self.now + node.skew;
        let Some(replica) = &mut node.replica else {
            return;
        };
        let document = replica.document();
        let (id, first, last) = self.truth.operations_of(undone);
        if self.truth.is_undone(undone) || id != document.replica() {
            return;
        }
        let before = Shown::of(document);
        let mut draft = self.truth.begin(id, document.own_seq(), seen);
        if replica.undo(now, first..=last) == Err(Error::PastForgotten) {
            return;
        }
        let document = replica.document();
        let after = Shown::of(document);
        let what = (undone, node.since.as_slice());
        undo(&mut self.truth, &mut draft, what, (&before, &after));
        // Undoing it again is not for the reference to follow.
        let done = self.truth.commit(draft, document.own_seq());
        node.since.extend(done);
        if let Some(done) = done {
            self.truth.keep(done);
            self.say(|| format!("node {at} undoes {undone} by {}", self.truth.tell(done)));
        }
        self.outcome.undone += 1;
        self.settle(at);
    }

    /// False where there is nothing to crash, or somebody must first learn that it is a backup from
    /// those who know.
    fn crash(&mut self, at: usize) -> bool {
        if self.nodes[at].replica.is_none() || self.nodes.iter().any(|node| node.restored) {
            return false;
        }
        self.check_acknowledged();
        self.say(|| format!("node {at} crashes"));
        self.outcome.crashes += 1;
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&at) {
                self.cut(link);
            }
        }
        let kept = self.rng.usize(0..4);
        let start_at = self.now + self.rng.u64(1..5_000);
        let node = &mut self.nodes[at];
        node.replica = None;
        node.start_at = start_at;
        let (old, restored) = (node.id, node.restored);
        if let Some(disk) = &mut node.disk {
            disk.crash(kept);
            let last = disk.load(old).own_seq();
            // Persist before publish: nobody knows what was lost.
            for other in self.nodes.iter().filter_map(Node::document) {
                let known = other.version().last_seq(old);
                let told = known <= last || restored;
                assert!(told, "{old} told of {known} and stored {last}");
            }
        } else {
            self.nodes[at].id = self.fresh_id();
        }
        let known = self.everything_known();
        self.truth.retain_known(&known);
        true
    }

    /// What a peer has acknowledged is on its disk, or in its memory where it has none.
    fn check_acknowledged(&self) {
        for link in &self.links {
            for (end, session) in link.sessions.iter().enumerate() {
                let [here, there] = [link.ends[end], link.ends[1 - end]].map(|at| &self.nodes[at]);
                let (Some(replica), Some(session)) = (&here.replica, session) else {
                    continue;
                };
                let Some(peer) = &there.replica else { continue };
                let mut all = replica.acknowledged();
                let Some((.., version)) = all.find(|(id, ..)| id == session) else {
                    continue;
                };
                let kept = match &there.disk {
                    Some(disk) => disk.load(there.id).version(),
                    None => peer.version().clone(),
                };
                // What the peer passed on itself it may not have stored so far.
                let own = Version::from_range(here.id, 1, u64::MAX - 1);
                let lost = version.intersection(&own).difference(&kept);
                assert!(
                    lost.is_empty(),
                    "{lost:?} was acknowledged to {} by {} and is not stored",
                    here.id,
                    there.id
                );
            }
        }
    }

    /// What any running node or any disk has.
    fn everything_known(&self) -> Version {
        let mut known = Version::new();
        for node in &self.nodes {
            if let Some(document) = node.document() {
                known.union_with(&document.version());
            }
            if let Some(disk) = &node.disk {
                known.union_with(&disk.load(node.id).version());
            }
        }
        known
    }

    /// The disk burns, and an old backup takes its place. Only where all others know the same of
    /// it: two replicas that meet after each has believed another half cannot be told apart.
    fn restore(&mut self, at: usize) {
        let Some(backup) = self.nodes[at].backup.clone() else {
            return;
        };
        let id = self.nodes[at].id;
        let own = Version::from_range(id, 1, u64::MAX - 1);
        let others = || {
            self.nodes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
        };
        let mut known =
            others().map(|(_, node)| Some(node.document()?.version().intersection(&own)));
        let first: Option<Version> = known.next().flatten();
        let stored =
            others().all(|(_, node)| node.replica.as_ref().is_some_and(|r| r.unstored() == 0));
        // What the burnt disk alone has is lost, and what others have built upon it.
        let whole = |known: &Version| match known.ranges() {
            [] => true,
            [only] => only.first == 1,
            _ => false,
        };
        if !first.as_ref().is_some_and(whole) || !stored || known.any(|version| version != first) {
            return;
        }
        drop(known);
        let others_know = first;
        if self.crash(at) {
            self.say(|| format!("node {at} is restored from a backup"));
            self.outcome.backups += 1;
            let others = others_know.map_or(0, |version| version.last_seq(id));
            self.nodes[at].restored = others > backup.load(id).own_seq();
            self.nodes[at].disk = Some(backup);
            let known = self.everything_known();
            self.truth.retain_known(&known);
        }
    }

    fn compact(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let (Some(disk), Some(replica)) = (&mut node.disk, &node.replica)
            && disk.unsynced() == 0
            && replica.unstored() == 0
        {
            disk.write(replica.snapshot());
            disk.sync();
        }
    }

    fn cut(&mut self, link: usize) {
        let sessions = self.links[link].cut(self.now, &mut self.rng);
        for (end, session) in sessions.into_iter().enumerate() {
            let at = self.links[link].ends[end];
            if let (Some(session), Some(replica)) = (session, &mut self.nodes[at].replica) {
                replica.close(session);
            }
        }
    }

    /// Lets time pass, doing all that is due on the way.
    fn advance(&mut self, until: u64) {
        loop {
            for at in 0..self.nodes.len() {
                self.start_if_due(at);
            }
            for link in 0..self.links.len() {
                self.dial_if_due(link);
            }
            for at in 0..self.nodes.len() {
                self.settle(at);
            }
            let next = self.next_event().max(self.now + 1);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            while let Some(entry) = self.arrivals.first_entry()
                && entry.key().0 <= self.now
            {
                let arrival = entry.remove();
                self.arrive(arrival);
            }
            for at in 0..self.nodes.len() {
                self.sync_if_due(at);
                let node = &mut self.nodes[at];
                let now = self.now + node.skew;
                if let Some(replica) = &mut node.replica
                    && replica.timeout().is_some_and(|due| due <= now)
                {
                    replica.handle_timeout(now);
                }
            }
        }
    }

    /// When the next thing happens by itself.
    fn next_event(&self) -> u64 {
        let arrivals = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        let nodes = self.nodes.iter().flat_map(|node| {
            let timeout = node.replica.as_ref().and_then(Replica::timeout);
            let starts = node.replica.is_none().then_some(node.start_at);
            [
                timeout.map(|at| at.saturating_sub(node.skew)),
                node.sync_at,
                starts,
            ]
        });
        let links = self.links.iter().flat_map(|link| {
            let dials = (link.up && link.sessions[0].is_none()).then_some(link.dial_at);
            let free = [0, 1].map(|end| Some(link.free_at(end)).filter(|at| *at > self.now));
            [dials, free[0], free[1]]
        });
        let all = nodes.chain(links).flatten().chain(arrivals);
        all.filter(|at| *at > self.now).min().unwrap_or(u64::MAX)
    }

    fn start_if_due(&mut self, at: usize) {
        if self.nodes[at].replica.is_none() && self.nodes[at].start_at <= self.now {
            self.nodes[at].start(&self.config);
            self.say(|| format!("node {at} starts as {}", self.nodes[at].id));
        }
    }

    fn sync_if_due(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.sync_at.is_some_and(|due| due <= self.now) {
            node.sync_at = None;
            if let (Some(disk), Some(replica)) = (&mut node.disk, &mut node.replica)
                && let Some(last) = disk.sync()
            {
                replica.stored(last, self.now + node.skew);
                // The new id and the state that goes with it are stored.
                if node.renamed && replica.unstored() == 0 {
                    (node.restored, node.renamed) = (false, false);
                }
            }
        }
    }

    fn dial_if_due(&mut self, number: usize) {
        let link = &mut self.links[number];
        let [from, to] = link.ends;
        let dead = self.nodes[to].replica.is_none();
        let now = self.now + self.nodes[from].skew;
        let Some(replica) = &mut self.nodes[from].replica else {
            return;
        };
        if !link.up || link.sessions[0].is_some() || link.dial_at > self.now || dead {
            return;
        }
        link.sessions[0] = Some(replica.connect(now, Access::ALL, None));
        self.outcome.connections += 1;
    }

    /// Does what follows from anything that was done at a node: stores, answers, sends.
    fn settle(&mut self, at: usize) {
        let (wrote, events) = self.nodes[at].drain();
        if wrote && self.nodes[at].sync_at.is_none() {
            self.nodes[at].sync_at = Some(self.now + self.rng.u64(0..30));
        }
        for event in events {
            self.answer(at, event);
        }
        for number in 0..self.links.len() {
            if let Some(end) = self.links[number].ends.iter().position(|node| *node == at) {
                self.send(number, end);
            }
        }
        if self.rng.u8(..) < 4 {
            self.nodes[at].check_watcher();
            self.check_meanwhile(at);
        }
    }

    /// At any time a replica shows what the operations that it has applied amount to, of a
    /// transaction all or nothing, and elements in the order in which others have them.
    fn check_meanwhile(&mut self, at: usize) {
        if self.damaged || self.nodes.iter().any(|n| n.restored) {
            return;
        }
        let node = &self.nodes[at];
        let (Some(document), Some(seen)) = (node.document(), node.applied()) else {
            return;
        };
        let shown = Shown::of(document);
        self.truth.check_transactions(&seen.version);
        self.outcome.parted += usize::from(self.truth.assert_shown(&seen, &shown));
        let other = self.rng.usize(0..self.nodes.len());
        if let Some(document) = self.nodes[other].document() {
            self.truth.assert_one_order(&shown, &Shown::of(document));
        }
    }

    fn answer(&mut self, at: usize, event: Event) {
        match event {
            Event::Closed { session, reason } => {
                self.say(|| format!("node {at}: {session} closed: {reason}"));
                let link = self.links.iter().position(|link| {
                    (0..2).any(|end| link.ends[end] == at && link.sessions[end] == Some(session))
                });
                if let Some(link) = link {
                    // Its last words, then the end of the connection.
                    let end = usize::from(self.links[link].ends[1] == at);
                    self.send(link, end);
                    self.cut(link);
                }
            }
            Event::ReplicaReused => {
                self.outcome.new_ids += 1;
                let id = self.fresh_id();
                self.say(|| format!("node {at} learns that its id was reused, becomes {id}"));
                let node = &mut self.nodes[at];
                let (old, loaded) = (node.id, node.loaded);
                let Some(replica) = &mut node.replica else {
                    return;
                };
                replica.change_replica(id);
                let since = std::mem::take(&mut node.since);
                let last = replica.document().own_seq();
                self.truth.rename(&since, (old, loaded), (id, 0, last));
                node.found = last;
                let shown = Shown::of(replica.document());
                (node.id, node.loaded, node.backup, node.renamed) = (id, 0, None, true);
                let seen = node.applied().expect("it runs");
                self.truth.assert_shown(&seen, &shown);
                self.settle(at);
            }
            Event::Renamed { old, new, base } => {
                let node = &mut self.nodes[at];
                let Some(replica) = &node.replica else {
                    return;
                };
                let last = replica.document().own_seq();
                let since = std::mem::take(&mut node.since);
                if last > base {
                    self.truth.rename(&since, (old, 0), (new, base, last));
                    self.outcome.lent += 1;
                }
                (node.id, node.loaded, node.found) = (new, base, last);
                self.say(|| format!("node {at} was {old} and is {new} from {base} on"));
            }
            Event::Diverged { .. } => assert!(self.damaged, "equal versions, unequal digests"),
            Event::Repaired { .. } => self.outcome.repaired += 1,
            Event::Forgotten(id) => {
                self.outcome.forgotten += 1;
                self.say(|| format!("node {at} forgets {id}"));
            }
            Event::Resynced { again } => {
                self.say(|| {
                    format!(
                        "node {at} begins anew, and does {} operations again",
                        again.len()
                    )
                });
                self.outcome.resynced += 1;
                let node = &mut self.nodes[at];
                let document = node.document().expect("it runs");
                let (own, shown) = (document.replica(), Shown::of(document));
                let first = again.iter().map(|(_, dot)| dot.seq).min();
                node.found = first.map_or(document.own_seq(), |first| first - 1);
                let done: BTreeSet<Dot> = again.iter().map(|(_, dot)| *dot).collect();
                let values = shown.values.into_values().flatten();
                let stamp = values.filter(|(_, dot, _)| done.contains(dot));
                let stamp = stamp.map(|(time, ..)| time).max().unwrap_or_default();
                let seen = node.applied().expect("it runs");
                let done = self.truth.redo(own, seen, &again, stamp);
                node.since.extend(done);
                if let Some(done) = done {
                    self.say(|| format!("node {at} does again {}", self.truth.tell(done)));
                }
                let node = &mut self.nodes[at];
                node.watch_anew();
                self.settle(at);
            }
            _ => {}
        }
    }

    /// Sends what a session has, as far as the link takes it.
    fn send(&mut self, number: usize, end: usize) {
        let link = &mut self.links[number];
        let at = link.ends[end];
        let now = self.now + self.nodes[at].skew;
        let (Some(session), Some(replica)) = (link.sessions[end], &mut self.nodes[at].replica)
        else {
            return;
        };
        while link.is_free(end, self.now) {
            let Some(frame) = replica.poll_frame(session, now) else {
                break;
            };
            self.outcome.frames += 1;
            for arrival in link.send(end, &frame, self.now, &mut self.rng) {
                self.sent += 1;
                let (epoch, to, frame) = (link.epoch, 1 - end, frame.clone());
                self.arrivals.insert(
                    (arrival, self.sent),
                    Arrival {
                        link: number,
                        epoch,
                        to,
                        frame,
                    },
                );
            }
        }
        if let Some(status) = replica.session(session) {
            let limit = self.config.queue_bytes + (1 << 20);
            assert!(
                status.queued_bytes <= limit,
                "{} bytes are queued",
                status.queued_bytes
            );
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let link = &mut self.links[arrival.link];
        let at = link.ends[arrival.to];
        let now = self.now + self.nodes[at].skew;
        let Some(replica) = &mut self.nodes[at].replica else {
            return;
        };
        if link.epoch != arrival.epoch || !link.up {
            return;
        }
        let frame = Frame::decode(arrival.frame).expect("frames arrive undamaged");
        self.outcome.searches += usize::from(frame.kind() == "compare");
        if let Some(session) = link.sessions[arrival.to] {
            // Where it fails, the event `Closed` says what to do.
            let _ = replica.receive(session, now, frame);
        } else if let Some(hello) = frame.hello().filter(|hello| !hello.reply) {
            match replica.accept(now, hello, Access::ALL) {
                Ok(session) => link.sessions[arrival.to] = Some(session),
                Err(error) => {
                    let refusal = Arrival {
                        link: arrival.link,
                        epoch: arrival.epoch,
                        to: 1 - arrival.to,
                        frame: error.to_frame("doc"),
                    };
                    self.sent += 1;
                    self.arrivals.insert((self.now + 10, self.sent), refusal);
                }
            }
        }
        self.settle(at);
    }

    fn agrees(&self) -> bool {
        let mut documents = self.nodes.iter().map(Node::document);
        let Some(Some(first)) = documents.next() else {
            return false;
        };
        let version = first.version();
        documents.all(|document| document.is_some_and(|d| d.version() == version))
            && self.nodes.iter().all(|node| {
                node.replica
                    .as_ref()
                    .is_some_and(|r| r.unstored() == 0 || node.disk.is_none())
            })
    }

    fn disagreement(&self) -> String {
        let versions = self.nodes.iter().map(|node| {
            let sessions: Vec<_> = node.replica.iter().flat_map(Replica::sessions).collect();
            format!(
                "{:?} {sessions:#?}",
                node.document().map(portolan_core::Document::version)
            )
        });
        format!("no agreement: {}", versions.collect::<Vec<_>>().join("\n"))
    }

    fn check(&self) {
        assert!(self.agrees(), "agreement was lost: {}", self.disagreement());
        let first = self.nodes[0].document().expect("all run");
        let version = first.version();
        self.truth.check_version(&version);
        let want = Shown::of(first);
        let seen = self.nodes[0].applied().expect("all run");
        let missing = self.truth.missing(&seen);
        assert!(missing.is_empty(), "{missing:?} was seen and is missing");
        self.truth.assert_shown(&seen, &want);
        // What waits for somebody who does not come back waits here and there.
        let waits = self.nodes.iter().any(|node| {
            let document = node.document();
            document.is_some_and(|document| document.tombstones() > 0)
        });
        for (at, node) in self.nodes.iter().enumerate() {
            let document = node.document().expect("all run");
            node.check_watcher();
            // Nobody waits for those that do not come back where these are forgotten.
            let tombstones = document.tombstones();
            let stay = tombstones > 0 && self.config.forget_after < u64::MAX;
            if stay && self.loud {
                for node in &self.nodes {
                    println!("{:#?}", node.replica);
                }
            }
            assert!(!stay, "{tombstones} tombstones stay at node {at}");
            assert_eq!(
                Shown::of(document),
                want,
                "node {at} does not show what others do"
            );
            // What was searched for by ranges leaves moves and resets behind that others have
            // let go of: these change nothing that shows. So do resets that are kept for those who
            // are forgotten, and may have added to what was reset.
            let kept = waits || self.outcome.searches > 0 || self.outcome.forgotten > 0;
            let bytes = document.encode();
            assert!(
                bytes == first.encode() || kept,
                "node {at} differs in its bytes: {} and {}, {document:?}",
                bytes.len(),
                first.encode().len(),
            );
            assert_eq!(
                document.digest(),
                first.digest(),
                "node {at} differs in its digest"
            );
            if let Some(disk) = &node.disk {
                let stored = disk.load(node.id);
                // The disk has what memory has let go of.
                assert_eq!(stored.version(), version, "the disk of node {at}");
                assert_eq!(stored.digest(), first.digest(), "the disk of node {at}");
                assert_eq!(Shown::of(&stored), want, "the disk of node {at}");
            }
        }
        // Nothing acknowledged is lost: every operation that still counts has been applied.
        let operations = self.truth.operations();
        assert_eq!(version.len(), operations, "operations are missing");
    }
}

/// Decisions of the run.
struct Choices<'a>(&'a mut Rng);

impl Dice for Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.usize(0..limit)
    }
}
