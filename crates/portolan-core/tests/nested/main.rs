//! Nested documents on random runs against a naive reference: any order, loss, repetition, pruned
//! logs, failed transactions, restarts and restored backups.

#![cfg(all(feature = "digest", feature = "packing"))]

mod peer;
mod reference;
mod shadow;
mod shown;

use portolan_core::{Batch, Delta, Document, Kind, Origin, ReplicaId};
use proptest::prelude::*;

use crate::peer::{Operation, Peer};
use crate::reference::Reference;
use crate::shadow::Shadow;
use crate::shown::Shown;

const NOW: u64 = 1_767_225_600_000;

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        operations: Vec<Operation>,
        fails: bool,
    },
    /// The next delivery: which of the deltas under way, and whether it stays under way.
    Deliver { pick: usize, again: bool },
    /// What is under way is lost.
    Lose { pick: usize },
    /// One replica catches up with another.
    Sync { from: usize, to: usize },
    /// A replica forgets what its operations removed.
    Prune { at: usize },
    /// A replica starts anew from its bytes, under its id or another one.
    Restart { at: usize, renamed: bool },
    /// Another watcher starts, with what shows.
    Watch { at: usize },
    /// The bytes of a replica are put aside.
    Save { at: usize },
    /// A replica is restored from what was put aside, writes, and takes another id when it hears
    /// that it had been further.
    Restore {
        at: usize,
        operations: Vec<Operation>,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop::sample::select(vec![
        Kind::Map,
        Kind::Map,
        Kind::Array,
        Kind::Array,
        Kind::Array,
        Kind::Set,
        Kind::Counter,
    ]);
    let path = prop::collection::vec((any::<u8>(), kind), 0..4);
    (path, any::<u8>(), any::<(u8, u8)>()).prop_map(|(mut path, act, numbers)| {
        // Nothing is in sets and counters.
        let leaf = |(_, kind): &(u8, Kind)| matches!(kind, Kind::Set | Kind::Counter);
        if let Some(at) = path.iter().position(leaf) {
            path.truncate(at + 1);
        }
        Operation { path, act, numbers }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let operations = || prop::collection::vec(operation(), 1..4);
    prop_oneof![
        10 => (0..4usize, operations(), prop::bool::weighted(0.2))
            .prop_map(|(at, operations, fails)| Step::Write { at, operations, fails }),
        6 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(pick, again)| Step::Deliver { pick, again }),
        1 => any::<usize>().prop_map(|pick| Step::Lose { pick }),
        3 => (0..4usize, 0..4usize).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => (0..4usize).prop_map(|at| Step::Prune { at }),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, renamed)| Step::Restart { at, renamed }),
        1 => (0..4usize).prop_map(|at| Step::Watch { at }),
        1 => (0..4usize).prop_map(|at| Step::Save { at }),
        1 => (0..4usize, operations())
            .prop_map(|(at, operations)| Step::Restore { at, operations }),
    ]
}

struct World {
    peers: Vec<Peer>,
    saved: Vec<Option<Peer>>,
    reference: Reference,
    under_way: Vec<(usize, Delta)>,
    next_id: u64,
}

impl World {
    fn new(peers: usize) -> Self {
        // High ids too: they tie-break timestamps.
        let id = |i: u64| {
            if i.is_multiple_of(2) {
                i + 1
            } else {
                (1 << 60) - i
            }
        };
        Self {
            peers: (0..peers as u64)
                .map(|i| Peer::new(id(i), i * 977 % 5))
                .collect(),
            saved: (0..peers).map(|_| None).collect(),
            reference: Reference::default(),
            under_way: Vec::new(),
            next_id: 100,
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&mut self, at: usize, delta: &Delta) {
        if !delta.is_empty() {
            let others = (0..self.peers.len()).filter(|other| *other != at);
            self.under_way
                .extend(others.map(|other| (other, delta.clone())));
        }
    }

    /// Everything that has to hold of a replica now.
    fn check(&self, at: usize, shown: &Shown) {
        let document = &self.peers[at].document;
        let version = document.version();
        self.reference.agree(&version, shown);
        assert!(document.snapshot().encode() == document.encode());
        for other in &self.peers {
            if other.document.version() == version {
                assert_eq!(other.document.digest(), document.digest());
                assert_eq!(&Shown::of(&other.document), shown);
                assert_eq!(other.document.snapshot(), document.snapshot());
                assert!(other.document.encode() == document.encode());
            }
        }
    }

    fn apply(&mut self, at: usize, delta: &Delta) {
        let shown = self.peers[at].apply(delta);
        self.check(at, &shown);
    }

    fn sync(&mut self, from: usize, to: usize) {
        let version = self.peers[to].document.version();
        let delta = self.peers[from].document.delta_since(&version);
        self.apply(to, &delta);
    }

    fn step(&mut self, time: u64, step: Step) {
        let peers = self.peers.len();
        let now = NOW + time / 2;
        match step {
            Step::Write {
                at,
                operations,
                fails,
            } => {
                let at = at % peers;
                let base = self.peers[at].document.own_seq();
                self.peers[at].transact(&mut self.reference, now, &operations, fails);
                let delta = self.peers[at].document.own_since(base);
                self.send(at, &delta);
                self.check(at, &Shown::of(&self.peers[at].document));
            }
            Step::Deliver { pick, again } if !self.under_way.is_empty() => {
                let pick = pick % self.under_way.len();
                let (to, delta) = self.under_way[pick].clone();
                if !again {
                    self.under_way.swap_remove(pick);
                }
                self.apply(to, &delta);
            }
            Step::Lose { pick } if !self.under_way.is_empty() => {
                self.under_way.swap_remove(pick % self.under_way.len());
            }
            Step::Sync { from, to } if from % peers != to % peers => {
                self.sync(from % peers, to % peers);
            }
            Step::Prune { at } => {
                let document = &mut self.peers[at % peers].document;
                document.prune_log(&document.version());
            }
            Step::Restart { at, renamed } => {
                let at = at % peers;
                // Who adds again under its id begins a new sum, and whoever has got that without
                // the one before it has seen less than the reference takes it to have seen.
                let counted = !Shown::of(&self.peers[at].document).counters.is_empty();
                let id = if renamed || counted {
                    self.fresh_id()
                } else {
                    self.peers[at].document.replica().get()
                };
                self.peers[at] = self.peers[at].restarted(id);
                self.saved[at] = None;
            }
            Step::Watch { at } => {
                let peer = &mut self.peers[at % peers];
                peer.shadow = Shadow::of(&Shown::of(&peer.document));
            }
            Step::Save { at } => {
                let at = at % peers;
                let id = self.peers[at].document.replica().get();
                self.saved[at] = Some(self.peers[at].restarted(id));
            }
            Step::Restore { at, operations } => {
                let at = at % peers;
                if let Some(saved) = self.saved[at].take() {
                    self.restore(at, saved, now, &operations);
                }
            }
            _ => {}
        }
    }

    fn restore(&mut self, at: usize, mut saved: Peer, now: u64, operations: &[Operation]) {
        let (old, after) = (saved.document.replica(), saved.document.own_seq());
        // The world may know other operations by the numbers that it gives now.
        let from = self.reference.transactions();
        let forked = self.reference.mark();
        let mut alone = forked.clone();
        alone.forget_above(old, after);
        // Not yet right: what a counter showed in the backup goes on in what the world holds, and
        // neither counts nor resets apart from it.
        let counts = |o: &&Operation| o.path.iter().any(|(_, kind)| *kind == Kind::Counter);
        let counted = !Shown::of(&saved.document).counters.is_empty();
        for operation in operations.iter().filter(|o| !counted && !counts(o)) {
            let operation = std::slice::from_ref(operation);
            saved.transact(&mut alone, now, operation, false);
        }
        self.reference = forked;
        let id = ReplicaId::new(self.fresh_id());
        alone.rename(from, old, after, id);
        self.reference.take_from(&alone, from);
        saved.document.change_replica(id, after);
        assert_eq!(saved.document.replica(), id);
        self.peers[at] = saved;
        // All sessions start anew: others hear of it when they ask for what they lack.
        let shown = self.peers[at].watch(Origin::Local);
        self.check(at, &shown);
    }
}

fn run(peers: usize, steps: Vec<Step>) {
    let mut world = World::new(peers);
    for (time, step) in steps.into_iter().enumerate() {
        world.step(time as u64, step);
    }
    for _ in 0..2 {
        for from in 0..peers {
            for to in (0..peers).filter(|to| *to != from) {
                world.sync(from, to);
            }
        }
    }
    let version = world.peers[0].document.version();
    for peer in &mut world.peers {
        assert_eq!(peer.document.version(), version);
        look_back(peer);
    }
}

/// What a replica tells of its past leads from each of its states to the present one.
fn look_back(peer: &mut Peer) {
    let document = &peer.document;
    let now = Shadow::of(&Shown::of(document));
    // The latest ones, and some that are forgotten.
    for version in peer.versions.iter().rev().step_by(3).take(5) {
        let then = document.as_of(version);
        let timeline = document.timeline(Some(version), None);
        assert_eq!(then.is_some(), timeline.is_some());
        let digest = then.as_ref().map(Document::digest);
        assert_eq!(document.digest_at(version), digest);
        let (Some(then), Some(timeline)) = (then, timeline) else {
            continue;
        };
        let batch = |changes| Batch {
            origin: Origin::Remote,
            changes,
        };
        let start = Shadow::of(&Shown::of(&then));
        let mut concise = start.clone();
        let changes = timeline.changes();
        if !changes.is_empty() {
            concise.follow(batch(changes));
        }
        assert_eq!(concise, now);
        let mut steps = start;
        for step in timeline.steps() {
            steps.follow(batch(step.changes));
        }
        assert_eq!(steps, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(250),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn replicas_converge_to_the_reference(
        peers in 2..5usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(peers, steps);
    }
}
