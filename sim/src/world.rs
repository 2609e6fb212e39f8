//! One run: a cluster, what befalls it, and what must be true at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use portolan_core::ReplicaId;
use portolan_core::sync::Config;
use portolan_sim::{Tree, Truth};

use crate::network::Link;
use crate::node::Node;

mod checks;
mod time;
mod trouble;

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
}
