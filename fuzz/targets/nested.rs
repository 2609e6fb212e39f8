//! Trees of maps, arrays, sets and counters against the naive reference of the simulator:
//! transactions, undoing them, lost and repeated deltas, pruned logs, restarts, damage.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_core::{Delta, Document, Error, Key, ReplicaId};
use portolan_fuzz::{Script, assert_sound};
use portolan_sim::{Seen, Shown, Tree, Truth, Watched, undo, write};

const NOW: u64 = 1_767_225_600_000;
const PEERS: usize = 3;
/// The reference costs the square of what was written.
const MAX_STEPS: usize = 60;
const TREE: Tree = Tree {
    keys: 3,
    depth: 3,
    text: 40,
};

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut script = Script::new(bytes);
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.finish(&mut script);
});

struct World {
    truth: Truth,
    peers: Vec<Peer>,
    next_id: u64,
    now: u64,
    under_way: Vec<Delta>,
}

impl World {
    fn new() -> Self {
        Self {
            truth: Truth::default(),
            peers: (1..=PEERS as u64).map(Peer::new).collect(),
            next_id: 100,
            now: NOW,
            under_way: Vec::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let at = script.below(PEERS);
        match script.byte() % 12 {
            0..5 => self.write(at, script),
            5 | 6 if !self.under_way.is_empty() => {
                let pick = script.below(self.under_way.len().min(256));
                let delta = self.under_way[pick].clone();
                if script.flag() {
                    self.under_way.swap_remove(pick);
                }
                self.peers[at].apply(&delta);
            }
            7 => self.sync(script.below(PEERS), at),
            8 => {
                let document = &mut self.peers[at].document;
                document.prune_log(&document.version());
            }
            9 => self.restart(at, script.flag()),
            10 | 11 => self.undo(at, script),
            _ => {}
        }
        self.check(at);
    }

    /// A transaction, which now and then fails.
    fn write(&mut self, at: usize, script: &mut Script<'_>) {
        // Clocks go back, too.
        self.now = self.now.wrapping_add_signed(i64::from(script.byte() as i8));
        let (fails, count) = (script.below(8) == 7, script.below(3) + 1);
        let peer = &mut self.peers[at];
        let seen = peer.seen();
        let document = &mut peer.document;
        let (before, base) = ((document.encode(), document.digest()), document.own_seq());
        let mut draft = self.truth.begin(document.replica(), base, seen);
        let outcome = document.transact(self.now, |tx| {
            for _ in 0..count {
                write(tx, script, TREE, &mut self.truth, &mut draft);
            }
            if fails { Err(()) } else { Ok(()) }
        });
        if outcome.is_err() {
            self.truth.cancel(&draft);
            assert_eq!((document.encode(), document.digest()), before);
            assert_eq!(document.own_seq(), base);
        } else {
            let done = self.truth.commit(draft, document.own_seq());
            peer.since.extend(done);
            self.send(at, base);
        }
        self.peers[at].watch();
    }

    /// Takes one of the latest own transactions back.
    fn undo(&mut self, at: usize, script: &mut Script<'_>) {
        let peer = &mut self.peers[at];
        let latest = script.below(5).min(peer.since.len().saturating_sub(1));
        let Some(undone) = peer.since.iter().rev().nth(latest).copied() else {
            return;
        };
        if self.truth.is_undone(undone) {
            return;
        }
        let (id, first, last) = self.truth.operations_of(undone);
        let (seen, before) = (peer.seen(), Shown::of(&peer.document));
        let base = peer.document.own_seq();
        let mut draft = self.truth.begin(id, base, seen);
        match peer.document.undo(self.now, first..=last) {
            Err(Error::PastForgotten) => return,
            done => done.expect("undoing is within limits"),
        }
        let after = Shown::of(&peer.document);
        let what = (undone, peer.since.as_slice());
        undo(&mut self.truth, &mut draft, what, (&before, &after));
        let done = self.truth.commit(draft, peer.document.own_seq());
        peer.since.extend(done);
        if let Some(done) = done {
            // The reference cannot follow what undoing an undo does.
            self.truth.keep(done);
        }
        self.send(at, base);
        self.peers[at].watch();
    }

    fn send(&mut self, at: usize, base: u64) {
        let delta = self.peers[at].document.own_since(base);
        if !delta.is_empty() {
            self.under_way.push(delta);
        }
    }

    fn sync(&mut self, from: usize, to: usize) {
        let version = self.peers[to].document.version();
        let delta = self.peers[from].document.delta_since(&version);
        self.peers[to].apply(&delta);
    }

    /// From its bytes, under its id or a new one.
    fn restart(&mut self, at: usize, renamed: bool) {
        let old = &self.peers[at].document;
        let mut id = old.replica();
        if renamed {
            self.next_id += 1;
            id = ReplicaId::new(self.next_id);
        }
        let mut peer = Peer::new(id.get());
        let state = Delta::decode(&old.encode()).expect("a document's bytes decode");
        peer.document.apply(&state);
        peer.document.take_changes();
        assert_eq!(peer.document.encode(), old.encode());
        peer.loaded = peer.document.own_seq();
        peer.watched = Watched::of(&Shown::of(&peer.document));
        // Of what is in elements that wait for their position nobody tells it.
        peer.blind = !self.truth.missing(&peer.seen()).is_empty();
        self.peers[at] = peer;
    }

    /// At any time a replica shows what the operations that it has applied amount to.
    fn check(&self, at: usize) {
        let peer = &self.peers[at];
        let version = peer.document.version();
        let shown = Shown::of(&peer.document);
        self.truth.check_transactions(&version);
        self.truth.assert_shown(&peer.seen(), &shown);
        for other in &self.peers {
            let theirs = Shown::of(&other.document);
            self.truth.assert_one_order(&shown, &theirs);
            if other.document.version() == version {
                assert_eq!(theirs, shown);
                assert_eq!(other.document.digest(), peer.document.digest());
                assert_eq!(other.document.encode(), peer.document.encode());
            }
        }
    }

    /// Everybody hears of everything; then one loses values, and gets them back.
    fn finish(mut self, script: &mut Script<'_>) {
        for _ in 0..2 {
            for (from, to) in (0..PEERS).flat_map(|a| (0..PEERS).map(move |b| (a, b))) {
                self.sync(from, to);
            }
        }
        for at in 0..PEERS {
            self.check(at);
            assert_sound(&self.peers[at].document);
        }
        let first = &self.peers[0];
        let (version, shown) = (first.document.version(), Shown::of(&first.document));
        self.truth.check_version(&version);
        assert_eq!(version.len(), self.truth.operations());
        let missing = self.truth.missing(&first.seen());
        assert!(missing.is_empty(), "{missing:?} was seen and is missing");

        let (state, digest) = (first.document.snapshot(), first.document.digest());
        let damaged = &mut self.peers[1];
        let root = shown.values.keys().filter(|(path, _)| path.is_empty());
        let lost: Vec<&Key> = root.map(|(_, key)| key).filter(|_| script.flag()).collect();
        for key in &lost {
            assert!(damaged.document.damage(*key), "there is something to lose");
        }
        assert_eq!(damaged.document.digest() == digest, lost.is_empty());
        assert_eq!(damaged.document.repair(&state), lost.len());
        assert_eq!(damaged.document.digest(), digest);
        assert_eq!(Shown::of(&damaged.document), shown);
    }
}

/// A replica with a watcher that only ever sees its events.
struct Peer {
    document: Document,
    /// Own operations that were there when it started, and own transactions since.
    loaded: u64,
    since: Vec<usize>,
    watched: Watched,
    blind: bool,
}

impl Peer {
    fn new(id: u64) -> Self {
        let mut document = Document::new(ReplicaId::new(id));
        document.observe(true);
        Self {
            document,
            loaded: 0,
            since: Vec::new(),
            watched: Watched::default(),
            blind: false,
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            version: self.document.version(),
            loaded: self.loaded,
            backup: None,
        }
    }

    fn apply(&mut self, delta: &Delta) {
        let bytes = delta.encode();
        let delta = Delta::decode(&bytes).expect("a document's deltas decode");
        assert_eq!(delta.encode(), bytes);
        let before = self.document.version();
        let new = self.document.apply(&delta);
        assert_eq!(new, delta.applied().difference(&before));
        assert_eq!(self.document.version(), before.union(delta.applied()));
        self.watch();
    }

    /// Applies the events to what the watcher has; they must tell all.
    fn watch(&mut self) {
        let batches = self.document.take_changes();
        if !self.blind {
            for batch in batches {
                self.watched.follow(batch);
            }
            self.watched.assert_shows(&Shown::of(&self.document));
        }
    }
}
