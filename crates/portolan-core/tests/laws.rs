//! The laws of join, on random runs against a naive reference: any order, loss, duplication,
//! superseded operations, pruned logs, failed transactions.

#![cfg(all(feature = "digest", feature = "packing"))]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{
    Delta, Document, Dot, DotSet, Key, Origin, ReplicaId, Timestamp, Value, Version, limits,
};
use proptest::prelude::*;

const NOW: u64 = 1_767_225_600_000;

/// What is true of all operations ever made, known only to the test.
#[derive(Default)]
struct Truth {
    values: BTreeMap<Dot, (Key, Value, Timestamp)>,
    removed: BTreeSet<Dot>,
}

/// Everything a replica shows, with dots.
type State = BTreeMap<Key, Vec<(Timestamp, ReplicaId, u64, Value)>>;

fn state(document: &Document) -> State {
    let siblings = |(key, siblings): (&Key, portolan_core::Siblings<'_>)| {
        let all = siblings.map(|s| (s.timestamp, s.dot.replica, s.dot.seq, s.value.clone()));
        (key.clone(), all.collect())
    };
    document.iter().map(siblings).collect()
}

impl Truth {
    fn state_of(&self, applied: impl Fn(Dot) -> bool) -> State {
        let mut state = State::new();
        for (dot, (key, value, time)) in &self.values {
            if applied(*dot) && !self.removed.contains(dot) {
                let sibling = (*time, dot.replica, dot.seq, value.clone());
                state.entry(key.clone()).or_default().push(sibling);
            }
        }
        for siblings in state.values_mut() {
            siblings.sort_by_key(|sibling| Reverse((sibling.0, sibling.1, sibling.2)));
        }
        state
    }
}

/// A replica with a watcher that only ever sees its events, and one that nobody watches and that
/// gets the same operations.
struct Peer {
    document: Document,
    unwatched: Document,
    seen: BTreeMap<Vec<Key>, Vec<Value>>,
    skew: u64,
}

impl Peer {
    fn new(id: u64, skew: u64) -> Self {
        let mut document = Document::new(ReplicaId::new(id));
        document.observe(true);
        Self {
            document,
            unwatched: Document::new(ReplicaId::new(1000 + id)),
            seen: BTreeMap::new(),
            skew,
        }
    }

    /// Applies the events to what the watcher has; checks that each fits.
    fn watch(&mut self, origin: Origin) {
        for batch in self.document.take_changes() {
            assert_eq!(batch.origin, origin);
            for change in batch.changes {
                let before = self
                    .seen
                    .get(&change.path)
                    .and_then(|values| values.first());
                assert_eq!(before, change.old.as_ref(), "{:?}", change.path);
                if let Some(new) = change.new {
                    let siblings = std::iter::once(new).chain(change.siblings).collect();
                    self.seen.insert(change.path, siblings);
                } else {
                    assert!(change.siblings.is_empty());
                    self.seen.remove(&change.path);
                }
            }
        }
        let shown: BTreeMap<Vec<Key>, Vec<Value>> = self
            .document
            .iter()
            .map(|(key, siblings)| {
                (
                    vec![key.clone()],
                    siblings.map(|s| s.value.clone()).collect(),
                )
            })
            .collect();
        assert_eq!(self.seen, shown);
    }

    fn apply(&mut self, delta: &Delta) {
        let bytes = delta.encode();
        let decoded = Delta::decode(&bytes).expect("own bytes decode");
        assert_eq!(&decoded, delta);
        assert_eq!(decoded.encode(), bytes);
        let before = self.document.version();
        let new = self.document.apply(&decoded);
        assert_eq!(new, delta.applied().difference(&before));
        assert_eq!(self.unwatched.apply(&decoded), new);
        assert_eq!(self.document.version(), before.union(delta.applied()));
        assert!(self.document.covers(delta.applied()));
        self.watch(Origin::Remote);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A transaction of sets and unsets; it fails at the end where `fails`.
    Write {
        at: usize,
        ops: Vec<(u8, Option<u8>)>,
        fails: bool,
    },
    /// The next delivery: which of the deltas under way, and whether it stays under way.
    Deliver { pick: usize, again: bool },
    /// One replica catches up with another.
    Sync { from: usize, to: usize },
    /// A replica forgets what its operations removed.
    Prune { at: usize },
    /// A replica starts anew under another id from its encoded state.
    Restart { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let op = (0..5u8, prop::option::weighted(0.75, 0..10u8));
    prop_oneof![
        6 => (0..5usize, prop::collection::vec(op, 1..4), prop::bool::weighted(0.1))
            .prop_map(|(at, ops, fails)| Step::Write { at, ops, fails }),
        4 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(pick, again)| Step::Deliver { pick, again }),
        2 => (0..5usize, 0..5usize).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => (0..5usize).prop_map(|at| Step::Prune { at }),
        1 => (0..5usize).prop_map(|at| Step::Restart { at }),
    ]
}

fn key(number: u8) -> Key {
    match number {
        0 => Key::from(""),
        1 => Key::from("a"),
        2 => Key::from(1i64),
        3 => Key::from("1"),
        _ => Key::from(true),
    }
}

fn write(peer: &mut Peer, truth: &mut Truth, now: u64, ops: &[(u8, Option<u8>)], fails: bool) {
    let before = (peer.document.encode(), peer.document.digest());
    let base = peer.document.own_seq();
    let mut seq = base;
    let mut made = Vec::new();
    let outcome = peer.document.transact(now + peer.skew, |tx| {
        for (k, value) in ops {
            let k = key(*k);
            let seen: Vec<Dot> = tx.document().get_all(&k).map(|s| s.dot).collect();
            match value {
                Some(value) => tx.set(k.clone(), i64::from(*value)).expect("within limits"),
                None => assert_eq!(tx.unset(&k), !seen.is_empty()),
            }
            if value.is_some() || !seen.is_empty() {
                seq += 1;
                made.push((seq, k, value.map(|v| Value::from(i64::from(v))), seen));
            }
        }
        if fails { Err(()) } else { Ok(()) }
    });
    if outcome.is_err() {
        assert_eq!((peer.document.encode(), peer.document.digest()), before);
        assert_eq!(peer.document.own_seq(), base);
        peer.watch(Origin::Local);
        return;
    }
    assert_eq!(peer.document.own_seq(), seq);
    peer.unwatched.apply(&peer.document.own_since(base));
    for (seq, key, value, seen) in made {
        let dot = Dot::new(peer.document.replica(), seq);
        truth.removed.extend(seen);
        if let Some(value) = value {
            let time = peer.document.latest();
            truth.values.insert(dot, (key, value, time));
        }
    }
    peer.watch(Origin::Local);
}

fn run(peers: usize, steps: Vec<Step>) {
    let mut truth = Truth::default();
    let mut next_id = 100;
    let mut all: Vec<Peer> = (0..peers as u64)
        .map(|i| Peer::new(i + 1, i * 977 % 5))
        .collect();
    let mut under_way: Vec<(usize, Delta)> = Vec::new();
    for (time, step) in steps.into_iter().enumerate() {
        let now = NOW + time as u64 / 2;
        match step {
            Step::Write { at, ops, fails } => {
                let at = at % peers;
                let base = all[at].document.own_seq();
                write(&mut all[at], &mut truth, now, &ops, fails);
                let delta = all[at].document.own_since(base);
                let others = (0..peers).filter(|other| *other != at);
                under_way.extend(others.map(|other| (other, delta.clone())));
            }
            Step::Deliver { pick, again } if !under_way.is_empty() => {
                let pick = pick % under_way.len();
                let (to, delta) = under_way[pick].clone();
                if !again {
                    under_way.swap_remove(pick);
                }
                all[to].apply(&delta);
            }
            Step::Sync { from, to } if from % peers != to % peers => {
                let delta = all[from % peers]
                    .document
                    .delta_since(&all[to % peers].document.version());
                all[to % peers].apply(&delta);
            }
            Step::Prune { at } => {
                let version = all[at % peers].document.version();
                all[at % peers].document.prune_log(&version);
            }
            Step::Restart { at } => {
                let old = &mut all[at % peers];
                next_id += 1;
                let mut new = Peer::new(next_id, old.skew);
                new.apply(&old.document.snapshot());
                assert_eq!(new.document.encode(), old.document.encode());
                assert_eq!(new.document.digest(), old.document.digest());
                *old = new;
            }
            _ => {}
        }
    }
    for _ in 0..2 {
        for from in 0..peers {
            for to in (0..peers).filter(|to| *to != from) {
                let delta = all[from].document.delta_since(&all[to].document.version());
                all[to].apply(&delta);
            }
        }
    }
    let version = all[0].document.version();
    let want = truth.state_of(|dot| version.contains(dot));
    for peer in &all {
        assert_eq!(state(&peer.document), want);
        assert_eq!(peer.document.version(), version);
        assert_eq!(peer.document.digest(), all[0].document.digest());
        assert_eq!(peer.document.encode(), all[0].document.encode());
        assert_eq!(peer.document.snapshot().encode(), peer.document.encode());
        for (key, siblings) in &want {
            assert_eq!(peer.document.get(key), Some(&siblings[0].3));
            assert!(
                peer.document
                    .get_all(key)
                    .map(|s| s.value)
                    .eq(siblings.iter().map(|s| &s.3))
            );
        }
        assert_eq!(peer.document.len(), want.len());
        assert_eq!(state(&peer.unwatched), want);
        assert_eq!(peer.unwatched.version(), version);
        assert_eq!(peer.unwatched.digest(), peer.document.digest());
        assert_eq!(peer.unwatched.encode(), peer.document.encode());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn replicas_converge_to_the_reference(
        peers in 2..6usize,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        run(peers, steps);
    }
}

/// Deltas of all shapes from one random run: single transactions, intervals, whole states.
fn some_deltas() -> impl Strategy<Value = Vec<Delta>> {
    prop::collection::vec(step(), 5..60).prop_map(|steps| {
        let mut peers: Vec<Peer> = (1..=3).map(|id| Peer::new(id, id)).collect();
        let (mut truth, mut deltas) = (Truth::default(), Vec::new());
        let mut versions = vec![Version::default()];
        for (time, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { at, ops, .. } => {
                    let peer = &mut peers[at % 3];
                    let base = peer.document.own_seq();
                    write(peer, &mut truth, NOW + time as u64, &ops, false);
                    deltas.push(peer.document.own_since(base));
                }
                Step::Sync { from, to } if from % 3 != to % 3 => {
                    let since = versions[(from + to) % versions.len()].clone();
                    let delta = peers[from % 3].document.delta_since(&since);
                    peers[to % 3].apply(&delta);
                    versions.push(peers[to % 3].document.version());
                    deltas.push(delta);
                }
                Step::Prune { at } => {
                    let version = peers[at % 3].document.version();
                    peers[at % 3].document.prune_log(&version);
                }
                _ => {}
            }
        }
        deltas
    })
}

fn join(deltas: &[&Delta]) -> (State, Version, u128, Vec<u8>) {
    let mut document = Document::new(ReplicaId::new(99));
    for delta in deltas {
        document.apply(delta);
    }
    (
        state(&document),
        document.version(),
        document.digest(),
        document.encode(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn join_is_commutative_and_idempotent(
        deltas in some_deltas(),
        order in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let straight: Vec<&Delta> = deltas.iter().collect();
        let mut shuffled = straight.clone();
        // A few more for good measure, then a permutation drawn from the seed.
        if !straight.is_empty() {
            shuffled.push(straight[order.index(straight.len())]);
        }
        let mut random = seed;
        for i in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(i, (random >> 33) as usize % (i + 1));
        }
        prop_assert_eq!(join(&straight), join(&shuffled));
    }

    #[test]
    fn join_is_associative(deltas in some_deltas(), at in any::<prop::sample::Index>()) {
        let middle = if deltas.is_empty() { 0 } else { at.index(deltas.len()) };
        let (left, right) = deltas.split_at(middle);
        // The join of joins: what each half amounts to, sent as one delta.
        let halves = [left, right].map(|half| {
            let mut document = Document::new(ReplicaId::new(98));
            for delta in half {
                document.apply(delta);
            }
            document.delta_since(&Version::default())
        });
        let all: Vec<&Delta> = deltas.iter().collect();
        let joined = join(&halves.iter().collect::<Vec<_>>());
        prop_assert_eq!(join(&all), joined);
    }

    #[test]
    fn the_delta_for_an_interval_does_what_the_whole_state_does(deltas in some_deltas()) {
        let mut source = Document::new(ReplicaId::new(98));
        let mut followers = vec![];
        for (i, delta) in deltas.iter().enumerate() {
            source.apply(delta);
            if i % 4 == 0 {
                let mut follower = Document::new(ReplicaId::new(97));
                follower.apply(&source.snapshot());
                followers.push(follower);
            }
        }
        for mut follower in followers {
            let interval = source.delta_since(&follower.version());
            prop_assert!(follower.version().intersection(interval.applied()).is_empty());
            follower.apply(&interval);
            prop_assert_eq!(state(&follower), state(&source));
            prop_assert_eq!(follower.encode(), source.encode());
        }
    }

    #[test]
    fn damaged_bytes_are_refused(deltas in some_deltas(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        for delta in deltas {
            let mut bytes = delta.encode();
            let cut = at.index(bytes.len());
            prop_assert!(Delta::decode(&bytes[..cut]).is_err());
            bytes[cut] ^= 1 << bit;
            prop_assert!(Delta::decode(&bytes).is_err());
        }
    }
}

/// All that can be otherwise around a `set` and an `unset` of one key that know nothing of each
/// other: ids, clocks, which side is busy and when, which of the two is done first.
fn around_set_and_unset() -> impl Iterator<Item = ([u64; 2], [u64; 2], [i64; 2], bool)> {
    let ids = [[1, 2], [2, 1]];
    let skews = [[0, 0], [0, 60_000], [60_000, 0]];
    let busy = [[0, 0], [50, 0], [0, 50]];
    let orders = [true, false];
    ids.into_iter().flat_map(move |ids| {
        skews.into_iter().flat_map(move |skews| {
            busy.into_iter().flat_map(move |busy| {
                let orders = orders.into_iter();
                orders.map(move |set_first| (ids, skews, busy, set_first))
            })
        })
    })
}

#[test]
fn concurrent_set_survives_unset_whatever_the_ids_and_clocks() {
    for (ids, skews, busy, set_first) in around_set_and_unset() {
        let [mut setter, mut remover] = ids.map(|id| Document::new(ReplicaId::new(id)));
        let now = |side: usize, later: u64| NOW + skews[side] + later;
        setter.set(now(0, 0), "k", 0).expect("within limits");
        remover.apply(&setter.snapshot());
        for (side, document) in [&mut setter, &mut remover].into_iter().enumerate() {
            for i in 0..busy[side] {
                let key = format!("busy {side} {}", i % 5);
                document.set(now(side, 1), key, i).expect("within limits");
            }
        }
        let before = [setter.version(), remover.version()];
        let (set, unset) = if set_first { (2, 3) } else { (3, 2) };
        setter.set(now(0, set), "k", 1).expect("within limits");
        assert!(remover.unset(now(1, unset), "k"));
        let [of_set, of_unset] = [
            setter.delta_since(&before[0]),
            remover.delta_since(&before[1]),
        ];
        // Who hears of the two alone, and who is given what both did from the first operation on,
        // whichever comes first.
        let histories = [&setter, &remover].map(|document| document.delta_since(&Version::new()));
        let mut others: Vec<Document> =
            (3..7).map(|id| Document::new(ReplicaId::new(id))).collect();
        let heard = [[&of_set, &of_unset], [&histories[0], &histories[1]]];
        for (at, [first, second]) in heard.into_iter().enumerate() {
            others[2 * at].apply(first);
            others[2 * at].apply(second);
            others[2 * at + 1].apply(second);
            others[2 * at + 1].apply(first);
        }
        remover.apply(&setter.delta_since(&remover.version()));
        setter.apply(&remover.delta_since(&setter.version()));
        others.extend([setter, remover]);
        for document in &others {
            let all: Vec<&Value> = document.get_all("k").map(|sibling| sibling.value).collect();
            assert_eq!(
                all,
                [&Value::from(1)],
                "{ids:?} {skews:?} {busy:?} {set_first}"
            );
        }
        for document in &others[3..] {
            assert_eq!(document.encode(), others[2].encode());
        }
    }
}

#[test]
fn six_alike_looking_keys_are_six() {
    let mut document = Document::new(ReplicaId::new(1));
    let keys = ["__proto__", "toString", "", "0"].map(Key::from);
    let all: Vec<Key> = keys
        .into_iter()
        .chain([Key::from(0i64), Key::from(false)])
        .collect();
    for (i, key) in all.iter().enumerate() {
        document.set(NOW, key, i as i64).expect("within limits");
    }
    let copy = Delta::decode(&document.encode()).expect("own bytes decode");
    let mut other = Document::new(ReplicaId::new(2));
    other.apply(&copy);
    assert_eq!(other.len(), 6);
    for (i, key) in all.iter().enumerate() {
        assert_eq!(other.get(key), Some(&Value::from(i as i64)));
    }
}

#[test]
fn ranges_and_prefixes_come_in_order() {
    let mut document = Document::new(ReplicaId::new(1));
    let mut model = BTreeMap::new();
    for i in 0..3000i64 {
        let key = Key::from(format!("k/{}", i * 7919 % 3000));
        document.set(NOW, &key, i).expect("within limits");
        model.insert(key, i);
        if i % 500 == 0 {
            assert_eq!(document.iter().count(), model.len());
        }
        if i % 3 == 0 {
            let gone = Key::from(format!("k/{}", i * 31 % 3000));
            assert_eq!(document.unset(NOW, &gone), model.remove(&gone).is_some());
        }
    }
    document.set(NOW, "k0", 0).expect("within limits");
    document.set(NOW, 5i64, 0).expect("within limits");
    let keys = |entries: portolan_core::Entries<'_>| -> Vec<Key> {
        entries.map(|(k, _)| k.clone()).collect()
    };
    let under = |prefix: &str| -> Vec<Key> {
        model
            .keys()
            .filter(|k| k.as_str().is_some_and(|k| k.starts_with(prefix)))
            .cloned()
            .collect()
    };
    assert_eq!(keys(document.prefix("k/")), under("k/"));
    assert_eq!(keys(document.prefix("k/12")), under("k/12"));
    assert_eq!(document.prefix("").count(), model.len() + 1);
    assert_eq!(document.iter().count(), model.len() + 2);
    let (from, to) = (Key::from("k/2"), Key::from("k/4"));
    let want: Vec<Key> = model
        .range(from.clone()..to.clone())
        .map(|(k, _)| k.clone())
        .collect();
    assert_eq!(keys(document.range(from..to)), want);
    assert!(document.prefix("nothing").next().is_none());
}

#[test]
fn a_prefix_that_ends_in_the_last_character_has_an_end() {
    let mut document = Document::new(ReplicaId::new(1));
    for key in ["a\u{d7ff}", "a\u{e000}", "a\u{10ffff}b", "b"] {
        document.set(NOW, key, 0).expect("within limits");
    }
    assert_eq!(document.prefix("a\u{d7ff}").count(), 1);
    assert_eq!(document.prefix("a\u{10ffff}").count(), 1);
    assert_eq!(document.prefix("a").count(), 3);
}

#[test]
fn overwriting_leaves_nothing_behind() {
    for scattered in [false, true] {
        let sizes: Vec<usize> = [100u64, 1000]
            .map(|rounds| {
                let mut document = Document::new(ReplicaId::new(1));
                let mut random = 1u64;
                for i in 0..rounds * 100 {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let key = if scattered {
                        (random >> 40) % 100
                    } else {
                        i % 100
                    };
                    document
                        .set(NOW, format!("key-{key:06}"), i as i64)
                        .expect("within limits");
                }
                document.encode().len()
            })
            .to_vec();
        assert!(sizes[1] < sizes[0] + 200 && sizes[1] <= 2048, "{sizes:?}");
    }
}

#[test]
fn removing_everything_leaves_a_version() {
    let mut document = Document::new(ReplicaId::new(1));
    for i in 0..10_000i64 {
        document
            .set(NOW, format!("key-{i:06}"), i)
            .expect("within limits");
    }
    for i in 0..10_000i64 {
        assert!(document.unset(NOW, format!("key-{i:06}").as_str()));
    }
    assert!(document.is_empty());
    assert_eq!(document.digest(), Document::new(ReplicaId::new(2)).digest());
    assert!(document.encode().len() < 50);
}

/// Keys that are there, and that come twice, among so many that they are read in several blocks.
#[test]
fn setting_all_does_what_as_many_sets_do() {
    let entries: Vec<(String, i64)> = (0..500i64)
        .map(|i| (format!("key-{}", i % 400), i))
        .collect();
    let begun = || {
        let mut document = Document::new(ReplicaId::new(1));
        document.set(NOW, "key-7", "before").expect("within limits");
        document
    };
    let (mut at_once, mut singly) = (begun(), begun());
    at_once
        .transact(NOW, |tx| tx.set_all(entries.clone()))
        .expect("within limits");
    singly
        .transact(NOW, |tx| {
            entries
                .iter()
                .try_for_each(|(key, value)| tx.set(key.as_str(), *value))
        })
        .expect("within limits");
    assert_eq!(at_once.encode(), singly.encode());
    assert_eq!(at_once.digest(), singly.digest());
    let before = at_once.encode();
    let too_long = entries
        .into_iter()
        .chain([("k".repeat(limits::MAX_KEY_BYTES + 1), 0)]);
    assert!(at_once.transact(NOW, |tx| tx.set_all(too_long)).is_err());
    assert_eq!(at_once.encode(), before);
}

#[test]
fn a_pruned_log_costs_the_gaps_among_what_is_live_and_the_answer_is_right() {
    let mut document = Document::new(ReplicaId::new(1));
    for i in 0..1000i64 {
        document.set(NOW, i, i).expect("within limits");
    }
    let version = document.version();
    let mut behind = Document::new(ReplicaId::new(2));
    behind.apply(&document.snapshot());
    document.set(NOW, 7i64, 0).expect("within limits");
    document.unset(NOW, 8i64);
    let kept = document.delta_since(&version);
    document.prune_log(&document.version());
    let pruned = document.delta_since(&version);
    assert_eq!((kept.len(), pruned.len()), (1, 1));
    assert!(pruned.encode().len() <= kept.encode().len() + 10);
    behind.apply(&pruned);
    assert_eq!(behind.encode(), document.encode());
    assert_eq!(document.delta_since(&document.version()).len(), 0);
}

#[test]
fn a_replica_from_an_old_backup_gives_way_under_a_new_id() {
    let id = ReplicaId::new(1);
    let mut first = Document::new(id);
    first.set(NOW, "kept", "backup").expect("within limits");
    first.set(NOW, "replaced", "backup").expect("within limits");
    first.set(NOW, "gone", "backup").expect("within limits");
    let backup = first.snapshot();
    // The world learns of operations 4 to 6, then the disk burns.
    first.set(NOW + 1, "world", 4).expect("within limits");
    first.set(NOW + 1, "replaced", 5).expect("within limits");
    first.set(NOW + 1, "kept", 6).expect("within limits");
    let mut world = Document::new(ReplicaId::new(2));
    world.apply(&first.snapshot());
    // The backup comes back and writes the same numbers again.
    let mut restored = Document::new(id);
    restored.apply(&backup);
    restored.set(NOW + 2, "own", 4).expect("within limits");
    assert!(restored.unset(NOW + 2, "gone"));
    restored.set(NOW + 2, "own", 6).expect("within limits");
    restored.change_replica(ReplicaId::new(3), 3);
    assert_eq!(restored.version().last_seq(id), 3);
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        let pair = [&mut restored, &mut world];
        let delta = pair[from].delta_since(&pair[to].version());
        pair[to].apply(&delta);
    }
    assert_eq!(restored.encode(), world.encode());
    assert_eq!(restored.digest(), world.digest());
    let shown: Vec<(String, Vec<Value>)> = world
        .iter()
        .map(|(key, siblings)| (key.to_string(), siblings.map(|s| s.value.clone()).collect()))
        .collect();
    // Its log does not say of the world's operations what it knew of its own: one who knows some
    // of them and asks for the rest is not told that they are dead.
    let mut late = Document::new(ReplicaId::new(4));
    late.apply(&world.delta_of(&DotSet::from_range(id, 1, 4)));
    late.apply(&restored.delta_of(&DotSet::from_range(id, 6, 6)));
    assert!(late.contains_key("world"));
    let want = [("kept", 6), ("own", 6), ("replaced", 5), ("world", 4)];
    let want: Vec<_> = want
        .map(|(k, v)| (k.to_owned(), vec![Value::from(v)]))
        .to_vec();
    assert_eq!(shown, want);
}

#[test]
fn a_write_after_hearing_of_a_later_one_wins() {
    let mut fast = Document::new(ReplicaId::new(1));
    fast.set(NOW + 60_000, "k", "fast").expect("within limits");
    let mut slow = Document::new(ReplicaId::new(2));
    slow.apply(&fast.snapshot());
    slow.set(NOW, "other", 1).expect("within limits");
    let [fast_time, slow_time] =
        ["k", "other"].map(|key| slow.get_all(key).map(|s| s.timestamp).max());
    assert!(slow_time > fast_time);
}

#[test]
fn damage_is_repaired_to_the_same_state_on_both_sides() {
    let mut a = Document::new(ReplicaId::new(1));
    for i in 0..10i64 {
        a.set(NOW, i, i).expect("within limits");
    }
    let mut b = Document::new(ReplicaId::new(2));
    // `b` believes to have applied everything, yet has lost some values and garbled one.
    let other: DotSet = a.version();
    let mut garbled = Document::new(ReplicaId::new(1));
    for i in 0..10i64 {
        garbled
            .set(NOW, i, if i == 3 { 99 } else { i })
            .expect("within limits");
    }
    for i in 5..10i64 {
        garbled.unset(NOW, i);
    }
    let shorter = garbled.delta_of(&other);
    b.apply(&shorter);
    assert_eq!((a.len(), b.len()), (10, 5));
    assert_eq!(b.version(), other);
    assert_ne!(a.digest(), b.digest());
    let (from_a, from_b) = (a.snapshot(), b.snapshot());
    a.repair(&from_b);
    assert!(b.repair(&from_a) >= 5);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.encode(), b.encode());
}

#[test]
fn a_winner_that_changes_with_the_id_is_told() {
    let [mut ada, mut ben] = [1, 2].map(|id| Document::new(ReplicaId::new(id)));
    ben.set(NOW, "k", "ben").expect("within limits");
    ada.set(NOW, "k", "ada").expect("within limits");
    ada.apply(&ben.snapshot());
    assert_eq!(ada.get("k"), Some(&Value::from("ben")));
    ada.observe(true);
    ada.change_replica(ReplicaId::new(3), 0);
    assert_eq!(ada.get("k"), Some(&Value::from("ada")));
    let [batch] = &ada.take_changes()[..] else {
        panic!("one batch tells of it");
    };
    assert_eq!(batch.changes[0].old, Some(Value::from("ben")));
    assert_eq!(batch.changes[0].new, Some(Value::from("ada")));
}

/// An operation travels with what it removed, though others had removed that before where it
/// came with a whole state.
#[test]
fn a_removal_learned_from_a_whole_state_travels_on() {
    let [mut a, mut b, mut c] = [1, 2, 3].map(|id| Document::new(ReplicaId::new(id)));
    a.set(NOW, "k", 1).expect("within limits");
    b.apply(&a.snapshot());
    c.apply(&a.snapshot());
    a.unset(NOW, "k");
    let before = a.version();
    b.unset(NOW, "k");
    let (of_a, of_b) = (a.snapshot(), b.snapshot());
    a.apply(&of_b);
    b.apply(&of_a);
    c.apply(&a.delta_since(&before));
    c.apply(&b.delta_since(&c.version()));
    assert_eq!(c.version(), b.version());
    assert_eq!((c.get("k"), b.get("k")), (None, None));
    assert_eq!(c.encode(), b.encode());
}
