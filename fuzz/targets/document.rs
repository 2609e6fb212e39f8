//! Documents against a naive reference: transactions, lost and late deltas, pruned logs, restarts.

#![no_main]

use std::collections::BTreeMap;
use std::ops::Bound;

use libfuzzer_sys::fuzz_target;
use portolan_core::{Delta, Document, Dot, Key, Origin, ReplicaId, Value, Version};
use portolan_fuzz::{Operation, Script, Truth, assert_sound};

const NOW: u64 = 1_767_225_600_000;
const PEERS: usize = 3;
/// Longer scripts find nothing more, and take longer.
const MAX_STEPS: usize = 80;

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut script = Script::new(bytes);
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.finish();
});

struct World {
    truth: Truth,
    peers: Vec<Peer>,
    next_id: u64,
    now: u64,
    under_way: Vec<Delta>,
    /// Versions that somebody had once.
    versions: Vec<Version>,
}

impl World {
    fn new() -> Self {
        Self {
            truth: Truth::default(),
            peers: (1..=PEERS as u64).map(Peer::new).collect(),
            next_id: 100,
            now: NOW,
            under_way: Vec::new(),
            versions: vec![Version::new()],
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let at = script.below(PEERS);
        match script.byte() % 12 {
            0..4 => self.write(at, script),
            4 | 5 if !self.under_way.is_empty() => {
                let pick = script.below(self.under_way.len().min(256));
                let delta = self.under_way[pick].clone();
                if script.flag() {
                    self.under_way.swap_remove(pick);
                }
                self.peers[at].apply(&delta);
            }
            6 => {
                let from = &self.peers[script.below(PEERS)].document;
                let delta = from.delta_since(&self.peers[at].document.version());
                self.peers[at].apply(&delta);
            }
            7 => {
                let since = &self.versions[script.below(self.versions.len().min(256))];
                self.under_way
                    .push(self.peers[at].document.delta_since(since));
            }
            8 => self.versions.push(self.peers[at].document.version()),
            9 => {
                let version = self.peers[at].document.version();
                self.peers[at].document.prune_log(&version);
            }
            10 => {
                self.next_id += 1;
                let mut fresh = Peer::new(self.next_id);
                fresh.apply(&self.peers[at].document.snapshot());
                assert_eq!(fresh.document.encode(), self.peers[at].document.encode());
                self.peers[at] = fresh;
            }
            11 => self.peers[at].read(&script.key(), &script.key()),
            _ => {}
        }
        self.truth.assert_shown(&self.peers[at].document);
    }

    /// A transaction, which now and then fails.
    fn write(&mut self, at: usize, script: &mut Script<'_>) {
        // Clocks go back, too.
        self.now = self.now.wrapping_add_signed(i64::from(script.byte() as i8));
        let (fails, count) = (script.below(8) == 7, script.below(4) + 1);
        let document = &mut self.peers[at].document;
        let before = (document.encode(), document.digest());
        let (replica, base) = (document.replica(), document.own_seq());
        let mut made: Vec<Operation> = Vec::new();
        let outcome = document.transact(self.now, |tx| {
            for _ in 0..count {
                let key = script.key();
                let removed: Vec<Dot> = tx.document().get_all(&key).map(|s| s.dot).collect();
                let written = if script.below(3) > 0 {
                    let value = script.value();
                    let set = tx.set(key.clone(), value.clone());
                    set.expect("keys and values of scripts are within limits");
                    let winner = tx.document().get_all(&key).next();
                    let winner = winner.expect("the key was just written");
                    assert_eq!(winner.value, &value);
                    Some((key, value, winner.timestamp))
                } else {
                    assert_eq!(tx.unset(&key), !removed.is_empty());
                    assert!(!tx.document().contains_key(&key));
                    if removed.is_empty() {
                        continue;
                    }
                    None
                };
                made.push(Operation { written, removed });
            }
            if fails { Err(()) } else { Ok(()) }
        });
        if outcome.is_err() {
            assert_eq!((document.encode(), document.digest()), before);
            assert_eq!(document.own_seq(), base);
        } else {
            assert_eq!(document.own_seq(), base + made.len() as u64);
            for (operation, seq) in made.into_iter().zip(base + 1..) {
                self.truth.note(Dot::new(replica, seq), operation);
            }
            let delta = document.own_since(base);
            if !delta.is_empty() {
                self.under_way.push(delta);
            }
        }
        self.peers[at].watch(Origin::Local);
    }

    /// Everybody hears of everything.
    fn finish(mut self) {
        for _ in 0..2 {
            for (from, to) in (0..PEERS).flat_map(|a| (0..PEERS).map(move |b| (a, b))) {
                let since = self.peers[to].document.version();
                let delta = self.peers[from].document.delta_since(&since);
                self.peers[to].apply(&delta);
            }
        }
        // What only a replica that started anew had is in what it told before.
        for delta in &self.under_way {
            for peer in &mut self.peers {
                peer.apply(delta);
            }
        }
        let first = &self.peers[0].document;
        self.truth.assert_whole(first);
        for peer in &self.peers {
            assert_eq!(peer.document.version(), first.version());
            assert_eq!(peer.document.digest(), first.digest());
            assert_eq!(peer.document.encode(), first.encode());
            assert_sound(&peer.document);
        }
    }
}

/// A replica with a watcher that only ever sees its events.
struct Peer {
    document: Document,
    seen: BTreeMap<Vec<Key>, Vec<Value>>,
}

impl Peer {
    fn new(id: u64) -> Self {
        let mut document = Document::new(ReplicaId::new(id));
        document.observe(true);
        Self {
            document,
            seen: BTreeMap::new(),
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
        self.watch(Origin::Remote);
    }

    /// Applies the events to what the watcher has; each must fit, and they must tell all.
    fn watch(&mut self, origin: Origin) {
        for batch in self.document.take_changes() {
            assert_eq!(batch.origin, origin);
            for change in batch.changes {
                let before = self.seen.get(&change.path).and_then(|all| all.first());
                assert_eq!(before, change.old.as_ref(), "{:?}", change.path);
                if let Some(new) = change.new {
                    let siblings = std::iter::once(new).chain(change.siblings);
                    self.seen.insert(change.path, siblings.collect());
                } else {
                    assert!(change.siblings.is_empty());
                    self.seen.remove(&change.path);
                }
            }
        }
        let shown = self.document.iter().map(|(key, siblings)| {
            let values = siblings.map(|s| s.value.clone());
            (vec![key.clone()], values.collect::<Vec<_>>())
        });
        assert_eq!(self.seen, shown.collect());
    }

    /// Ranges and prefixes are what one finds by looking at every key.
    fn read(&self, from: &Key, to: &Key) {
        let keys: Vec<&Key> = self.document.iter().map(|(key, _)| key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        let inside = keys.iter().copied().filter(|key| from <= key && *key < to);
        let range = (Bound::Included(from.clone()), Bound::Excluded(to.clone()));
        assert!(self.document.range(range).map(|(key, _)| key).eq(inside));
        if let Some(prefix) = from.as_str() {
            let starts = |key: &&Key| key.as_str().is_some_and(|key| key.starts_with(prefix));
            let starting = keys.iter().copied().filter(starts);
            assert!(
                self.document
                    .prefix(prefix)
                    .map(|(key, _)| key)
                    .eq(starting)
            );
        }
    }
}
