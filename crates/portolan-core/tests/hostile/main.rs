//! Deltas that are well-formed and meant to hurt. They are refused with the rule that they break,
//! or do no harm: nothing panics, loops for ever or takes memory out of proportion.

#![cfg(all(feature = "digest", feature = "packing"))]

mod nested;
#[path = "../raw/mod.rs"]
mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use portolan_core::{
    DecodeError, Delta, Document, Dot, DotSet, Key, ReplicaId, SmolStr, Value, Version,
};
use proptest::prelude::*;

use crate::raw::{Entry, Raw, seal};

const NOW: u64 = 1_767_225_600_000;
const TIME: u64 = NOW << 16;
/// The last number that the format has.
const LAST: u64 = u64::MAX - 1;

fn decode(raw: &Raw) -> Delta {
    Delta::decode(&raw.bytes()).expect("it is well-formed")
}

/// Whether a refusal says by which rule, where it says any.
fn names(error: &DecodeError, rule: &str) -> bool {
    cfg!(feature = "small") || error.to_string().contains(rule)
}

fn refused(raw: &Raw, rule: &str) {
    match Delta::decode(&raw.bytes()) {
        Err(error @ DecodeError::Malformed { .. }) => {
            assert!(names(&error, rule), "{error}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Its bytes, plain and packed.
fn forms(delta: &Delta) -> [Vec<u8>; 2] {
    [delta.encode(), delta.encode_packed()]
}

/// Whether a delta that was read of these bytes is written so, in the form that they have.
fn has_one_encoding(delta: &Delta, bytes: &[u8]) -> bool {
    forms(delta).iter().any(|form| form == bytes)
}

fn assert_packs(delta: &Delta) {
    let packed = delta.encode_packed();
    assert_eq!(Delta::decode(&packed).as_ref(), Ok(delta));
}

/// Everything that a document tells of itself agrees.
fn assert_consistent(document: &Document) {
    let version = document.version();
    let mut dots = BTreeSet::new();
    let mut last: Option<Key> = None;
    let mut keys = 0;
    for (key, siblings) in document {
        assert!(last.as_ref() < Some(key), "{last:?} before {key:?}");
        last = Some(key.clone());
        keys += 1;
        let siblings: Vec<_> = siblings.collect();
        let ranks = siblings
            .iter()
            .map(|s| (s.timestamp, s.dot.replica, s.dot.seq));
        assert!(ranks.clone().is_sorted_by(|a, b| a > b), "{key:?}");
        assert_eq!(document.get(key), siblings.first().map(|s| s.value));
        assert_eq!(document.get_all(key).count(), siblings.len());
        for sibling in siblings {
            assert!(version.contains(sibling.dot), "{} is applied", sibling.dot);
            assert!(dots.insert(sibling.dot), "{} is there once", sibling.dot);
        }
    }
    assert_eq!(document.len(), keys);
    let bytes = document.encode();
    let snapshot = Delta::decode(&bytes).expect("own bytes decode");
    assert_eq!(snapshot, document.snapshot());
    assert_eq!(snapshot.len(), dots.len());
    let mut again = Document::new(ReplicaId::new(0x000a_9a11));
    again.apply(&snapshot);
    assert_eq!(again.digest(), document.digest());
    assert!(again.encode() == bytes);
    assert_eq!(
        document.delta_since(&Version::new()).applied(),
        document
            .version()
            .ranges()
            .iter()
            .copied()
            .fold(&mut DotSet::new(), |all, r| {
                all.insert_range(r.replica, r.first, r.last);
                all
            })
    );
}

/// A generous bound on what takes a second or less, and hours where it is quadratic.
fn soon<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = f();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{what} took {took:?}");
    done
}

#[test]
fn two_values_of_one_operation_are_refused() {
    let raw = |entries: &[Entry]| Raw {
        applied: vec![(7, vec![(1, 2)])],
        entries: entries.to_vec(),
        ..Raw::default()
    };
    let under_two_keys = [Entry::new("a", 0, 1, TIME), Entry::new("b", 0, 1, TIME)];
    refused(&raw(&under_two_keys), "two values of one operation");
    let at_two_times = [Entry::new("a", 0, 1, TIME), Entry::new("a", 0, 1, TIME - 1)];
    refused(&raw(&at_two_times), "two values of one operation");
    let apart = [
        Entry::new("a", 0, 1, TIME),
        Entry::new("b", 0, 2, TIME),
        Entry::new("c", 0, 1, TIME),
    ];
    refused(&raw(&apart), "two values of one operation");
    assert!(Delta::decode(&raw(&apart[..2]).bytes()).is_ok());
}

#[test]
fn a_few_bytes_never_stand_for_kilobytes_of_keys() {
    let key = |i: u16| format!("{}{i:04x}", "k".repeat(4000));
    let mut raw = Raw {
        applied: vec![(7, vec![(1, 1000)])],
        entries: (0..1000)
            .map(|i| Entry::new(&key(i), 0, u64::from(i) + 1, TIME))
            .collect(),
        share: 4096,
        ..Raw::default()
    };
    assert!(raw.bytes().len() < 20_000);
    refused(&raw, "shares more than it may");
    raw.share = 100;
    refused(&raw, "share less than they could");
    raw.share = 0;
    let delta = decode(&raw);
    assert_eq!(delta.encode(), raw.bytes());
    // Siblings are of one key, however long that is.
    let mut siblings = Raw {
        applied: (0..1000).map(|r| (r, vec![(1, 1)])).collect(),
        entries: (0..1000)
            .rev()
            .map(|r| Entry::new(&key(0), r, 1, TIME))
            .collect(),
        ..Raw::default()
    };
    assert_eq!(decode(&siblings).encode(), siblings.bytes());
    siblings.entries.insert(0, Entry::new(&key(1), 0, 1, TIME));
    refused(&siblings, "keys out of order");
}

/// Packed bytes that say of much that it is alike need ballast, and are refused without.
#[test]
fn a_few_packed_bytes_never_stand_for_much() {
    let mut texts = Document::new(ReplicaId::new(1));
    texts
        .set(NOW, "k", "a".repeat(1_000_000))
        .expect("within limits");
    let mut keys = Document::new(ReplicaId::new(1));
    let done = keys.transact(NOW, |tx| (0..50_000).try_for_each(|key| tx.set(key, true)));
    done.expect("within limits");
    for document in [texts, keys] {
        let bytes = document.encode_packed();
        let body = bytes.len() - 4;
        let zeros = bytes[..body].iter().rev().take_while(|byte| **byte == 0);
        let ballast = zeros.count();
        assert!(body > 25_000 && ballast > 20_000);
        assert_eq!(Delta::decode(&bytes), Ok(document.snapshot()));
        let less = seal(bytes[..body - ballast / 2].to_vec());
        assert!(matches!(
            Delta::decode(&less),
            Err(DecodeError::Limit { .. } | DecodeError::Truncated(_))
        ));
        let more = seal([&bytes[..body], &[0]].concat());
        assert!(Delta::decode(&more).is_err());
    }
}

#[test]
fn one_content_has_one_encoding() {
    let raw = Raw {
        applied: vec![(7, vec![(1, 2)])],
        entries: vec![Entry::new("a", 0, 1, 0), Entry::new("b", 0, 2, 0)],
        ..Raw::default()
    };
    let bytes = raw.bytes();
    let whole = &bytes[..bytes.len() - 4];
    // What follows the keys: a run of tags, bodies, a run of writers, numbers, a run of times.
    let end = [2, 3, 2, 2, 2, 0, 0, 2, 1, 2, 0];
    assert!(whole.ends_with(&end));
    let start = &whole[..whole.len() - end.len()];
    let changed = |end: &[u8]| Delta::decode(&seal([start, end].concat()));
    assert!(changed(&end).is_ok());
    for (other, rule) in [
        (&[1, 3, 1, 3, 2, 2, 2, 0, 0, 2, 1, 2, 0][..], "continues"),
        (&[2, 3, 2, 2, 1, 0, 1, 0, 0, 2, 1, 2, 0], "continues"),
        (&[2, 3, 2, 2, 2, 0, 0, 2, 1, 1, 0, 1, 0], "continues"),
        (&[2, 3, 2, 2, 2, 0, 0, 2, 0, 0, 0], "longer one"),
        (&[2, 3, 2, 2, 2, 0, 0, 2, 1, 1, 0, 1, 2], "longer one"),
    ] {
        let error = changed(other).expect_err("it has another encoding");
        assert!(names(&error, rule), "{error}");
    }
}

#[test]
fn many_siblings_cost_what_they_weigh() {
    const MANY: u64 = 60_000;
    let siblings = decode(&Raw {
        applied: (0..MANY).map(|r| (r + 10, vec![(1, 1)])).collect(),
        entries: (0..MANY)
            .rev()
            .map(|r| Entry::new("k", r, 1, TIME))
            .collect(),
        ..Raw::default()
    });
    let mut document = Document::new(ReplicaId::new(1));
    let mut other = Document::new(ReplicaId::new(2));
    soon("applying", || document.apply(&siblings));
    soon("applying", || other.apply(&siblings));
    assert_eq!(document.get_all("k").count(), MANY as usize);

    let before = document.encode();
    soon("rolling back", || {
        document.transact(NOW, |tx| {
            tx.set("k", 1).expect("within limits");
            Err::<(), ()>(())
        })
    })
    .expect_err("it failed");
    assert!(document.encode() == before);

    other.set(NOW, "k", 2).expect("within limits");
    let overwrite = other.own_since(0);
    soon("overwriting", || document.apply(&overwrite));
    assert_eq!(document.get_all("k").count(), 1);
    assert_eq!(document.digest(), other.digest());

    let mut damaged = Document::new(ReplicaId::new(3));
    damaged.apply(&decode(&Raw {
        applied: (0..MANY).map(|r| (r + 10, vec![(1, 1)])).collect(),
        entries: (0..MANY)
            .rev()
            .map(|r| Entry::new("k", r, 1, TIME - 1))
            .collect(),
        ..Raw::default()
    }));
    let repaired = soon("repairing", || damaged.repair(&siblings));
    assert_eq!(repaired, MANY as usize);
    assert!(damaged.encode() == before);
    assert_consistent(&damaged);
}

#[test]
fn one_removal_of_many_scattered_operations_costs_what_it_removes() {
    const MANY: u64 = 200_000;
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&decode(&Raw {
        applied: vec![(7, (1..=MANY).map(|i| (2 * i, 2 * i)).collect())],
        entries: (1..=MANY)
            .map(|i| Entry::new(&format!("{i:06}"), 0, 2 * i, TIME))
            .collect(),
        ..Raw::default()
    }));
    assert_eq!(document.len(), MANY as usize);
    let removal = decode(&Raw {
        applied: vec![(8, vec![(1, 1)])],
        dead: vec![(7, vec![(1, LAST)])],
        ..Raw::default()
    });
    soon("removing", || document.apply(&removal));
    assert!(document.is_empty());
    assert_eq!(document.digest(), 0);
}

#[test]
fn many_replicas_cost_what_they_weigh() {
    const MANY: u64 = 100_000;
    let raw = Raw {
        applied: (0..MANY).map(|r| (r + 10, vec![(1, 1)])).collect(),
        entries: (0..MANY)
            .map(|r| Entry::new(&format!("{r:06}"), r, 1, TIME))
            .collect(),
        ..Raw::default()
    };
    let mut document = Document::new(ReplicaId::new(1));
    soon("applying", || document.apply(&decode(&raw)));
    soon("reading", || assert_consistent(&document));
    let mut half = raw.clone();
    half.applied.retain(|(replica, _)| replica % 2 == 0);
    half.entries.clear();
    let half = decode(&half);
    let rest = soon("finding the difference", || {
        document.delta_since(half.applied())
    });
    assert_eq!(rest.len(), MANY as usize / 2);
}

#[test]
fn ranges_without_end_cost_nothing() {
    let mut document = Document::new(ReplicaId::new(1));
    document.observe(true);
    document.set(NOW, "mine", 1).expect("within limits");
    let huge = decode(&Raw {
        applied: vec![
            (7, vec![(1, 1 << 60), ((1 << 60) + 2, LAST)]),
            (8, vec![(LAST, LAST)]),
        ],
        dead: vec![
            (7, vec![((1 << 60) + 1, (1 << 60) + 1)]),
            (9, vec![(1, LAST)]),
        ],
        entries: vec![
            Entry::new("a", 0, 1 << 60, TIME),
            Entry::new("b", 0, LAST, TIME),
            Entry::new("c", 1, LAST, TIME),
        ],
        ..Raw::default()
    });
    soon("everything", || {
        assert_eq!(document.apply(&huge).len(), LAST);
        assert_eq!(document.len(), 4);
        assert_consistent(&document);
        document.set(NOW, "a", 2).expect("within limits");
        assert!(document.unset(NOW, "c"));
        assert_consistent(&document);
        let delta = document.delta_since(&Version::new());
        assert_eq!(Delta::decode(&delta.encode()), Ok(delta));
        document.prune_log(&document.version());
        assert_consistent(&document);
        document.change_replica(ReplicaId::new(2), 1);
        assert_consistent(&document);
    });
}

#[test]
fn a_new_id_for_operations_without_end_costs_nothing() {
    let mut document = Document::new(ReplicaId::new(7));
    document.set(NOW, "mine", 1).expect("within limits");
    document.apply(&decode(&Raw {
        applied: vec![(7, vec![(2, 1 << 60)])],
        entries: vec![Entry::new("a", 0, 1 << 50, TIME)],
        ..Raw::default()
    }));
    soon("taking a new id", || {
        document.change_replica(ReplicaId::new(8), 1);
    });
    assert_eq!(document.own_seq(), (1 << 60) - 1);
    assert_eq!(document.version().last_seq(ReplicaId::new(7)), 1);
    assert_eq!(document.len(), 2);
    assert_consistent(&document);
}

#[test]
fn a_timestamp_at_the_end_of_time_stops_nobody() {
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&decode(&Raw {
        applied: vec![(7, vec![(1, 1)])],
        entries: vec![Entry::new("a", 0, 1, u64::MAX)],
        ..Raw::default()
    }));
    for value in 0..3 {
        document.set(NOW, "a", value).expect("within limits");
        assert_eq!(document.get("a"), Some(&Value::from(value)));
        assert_eq!(document.get_all("a").count(), 1);
    }
    assert_consistent(&document);
}

#[test]
fn removals_of_what_was_not_written_yet_leave_readable_bytes() {
    let mut document = Document::new(ReplicaId::new(1));
    document.set(NOW, "a", 1).expect("within limits");
    document.apply(&decode(&Raw {
        applied: vec![(7, vec![(1, 1)])],
        dead: vec![(1, vec![(1, 10)])],
        ..Raw::default()
    }));
    assert!(document.is_empty());
    for i in 0..20 {
        document.set(NOW, "b", i).expect("within limits");
        assert_eq!(document.get("b"), Some(&Value::from(i)));
        assert_consistent(&document);
    }
}

#[test]
fn a_repair_brings_nothing_back_that_was_removed_meanwhile() {
    let mut writer = Document::new(ReplicaId::new(7));
    writer.set(NOW, "gone", 1).expect("within limits");
    writer.set(NOW, "lost", 2).expect("within limits");
    let mut here = Document::new(ReplicaId::new(1));
    here.apply(&decode(&Raw {
        applied: vec![(7, vec![(1, 2)])],
        entries: vec![Entry {
            value: 1,
            ..Entry::new("gone", 0, 1, NOW << 16)
        }],
        ..Raw::default()
    }));
    here.unset(NOW, "gone");
    assert_eq!(here.repair(&writer.snapshot()), 1);
    assert!(!here.contains_key("gone"), "nothing removed returns");
    assert!(here.contains_key("lost"));
    // Where it is not known any more what was removed, nothing is brought back.
    let mut pruned = Document::new(ReplicaId::new(2));
    pruned.apply(&here.snapshot());
    pruned.set(NOW, "more", 1).expect("within limits");
    pruned.unset(NOW, "lost");
    pruned.prune_log(&pruned.version());
    assert_eq!(pruned.repair(&writer.snapshot()), 0);
    assert_consistent(&here);
}

#[test]
fn a_transaction_whose_closure_panics_has_not_happened() {
    let mut document = Document::new(ReplicaId::new(1));
    document.observe(true);
    document.set(NOW, "a", 1).expect("within limits");
    document.take_changes();
    let before = document.encode();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        document.transact(NOW, |tx| -> Result<(), ()> {
            tx.set("a", 2).expect("within limits");
            tx.set("b", 2).expect("within limits");
            panic!("a bug in the program");
        })
    }));
    std::panic::set_hook(hook);
    assert!(outcome.is_err());
    assert!(document.encode() == before);
    assert!(document.take_changes().is_empty());
    document.set(NOW, "b", 3).expect("within limits");
    assert_consistent(&document);
}

/// What becomes of the bytes of a delta, its checksum left aside.
#[derive(Clone, Debug)]
enum Edit {
    Flip(usize, u8),
    Cut(usize, usize),
    Insert(usize, Vec<u8>),
    /// Another integer, as long as it comes.
    Integer(usize, u64),
    Repeat(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let edge = prop_oneof![
        0..4u64,
        126..130u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| (1 << bit) - 1),
        u64::MAX - 3..=u64::MAX,
    ];
    prop_oneof![
        3 => (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => (any::<usize>(), 1..20usize).prop_map(|(at, len)| Edit::Cut(at, len)),
        1 => (any::<usize>(), prop::collection::vec(any::<u8>(), 1..6))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        3 => (any::<usize>(), edge).prop_map(|(at, n)| Edit::Integer(at, n)),
        1 => (any::<usize>(), 1..20usize).prop_map(|(at, len)| Edit::Repeat(at, len)),
    ]
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = bytes[..bytes.len() - 4].to_vec();
    for edit in edits {
        if out.is_empty() {
            break;
        }
        let len = out.len();
        match edit {
            Edit::Flip(at, bit) => out[at % len] ^= 1 << bit,
            Edit::Cut(at, n) => drop(out.drain(at % len..(at % len + n).min(len))),
            Edit::Insert(at, bytes) => {
                out.splice(at % len..at % len, bytes.iter().copied());
            }
            Edit::Integer(at, n) => {
                let mut integer = Vec::new();
                raw::varint(&mut integer, *n);
                let at = at % len;
                let old = out[at..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
                out.splice(at..(at + old).min(len), integer);
            }
            Edit::Repeat(at, n) => {
                let at = at % len;
                let again = out[at..(at + n).min(len)].to_vec();
                out.splice(at..at, again);
            }
        }
    }
    seal(out)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let map = prop::collection::btree_map("[a-c]{0,2}", inner.clone(), 0..4);
        let map = map.prop_map(|map| {
            let map = map
                .into_iter()
                .map(|(key, value)| (SmolStr::from(key), value));
            Value::from(map.collect::<BTreeMap<_, _>>())
        });
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            map
        ]
    })
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => "[ab]{0,3}".prop_map(Key::from),
        1 => (0..3i64).prop_map(Key::from),
        1 => any::<bool>().prop_map(Key::from),
        1 => prop::collection::vec(0..3u8, 0..3).prop_map(Key::from),
        1 => (120..140usize, 0..3u8).prop_map(|(n, end)| Key::from(format!("{}{end}", "k".repeat(n)))),
    ]
}

/// Three replicas of one document, and the deltas that they exchanged or could have.
fn documents() -> impl Strategy<Value = (Vec<Document>, Vec<Delta>)> {
    let step = (
        0..3usize,
        key(),
        prop::option::weighted(0.8, value()),
        any::<usize>(),
    );
    prop::collection::vec(step, 1..25).prop_map(|steps| {
        let mut all: Vec<Document> = [1, 2, 1 << 40]
            .map(|id| Document::new(ReplicaId::new(id)))
            .into();
        let mut deltas = Vec::new();
        for (time, (at, key, value, pick)) in steps.into_iter().enumerate() {
            let base = all[at].own_seq();
            let now = NOW + time as u64 / 3;
            match value {
                Some(value) => all[at].set(now, key, value).expect("within limits"),
                None => drop(all[at].unset(now, &key)),
            }
            deltas.push(all[at].own_since(base));
            let to = pick % all.len();
            let delta = deltas[pick % deltas.len()].clone();
            all[to].apply(&delta);
            if pick % 7 == 0 {
                deltas.push(all[to].snapshot());
                deltas.push(all[at].delta_since(&all[to].version()));
            }
        }
        (all, deltas)
    })
}

/// What a delta takes in memory, about.
fn footprint(delta: &Delta) -> usize {
    fn deep(value: &Value) -> usize {
        24 + match value {
            Value::Str(s) if s.len() > 23 => 16 + s.len(),
            Value::Bytes(b) => 16 + b.len(),
            Value::List(list) => 16 + list.iter().map(deep).sum::<usize>(),
            // The nodes of a tree have room for eleven.
            Value::Map(map) => {
                let leaf = 11 * 48 + 16;
                40 + map.len().div_ceil(6) * leaf + map.values().map(deep).sum::<usize>()
            }
            _ => 0,
        }
    }
    let mut holder = Document::new(ReplicaId::new(0x000a_9a11));
    holder.apply(delta);
    let ranges = holder.version().ranges().len() + delta.applied().ranges().len();
    let mut bytes = ranges * 24;
    for (key, siblings) in &holder {
        // Siblings share what a key holds.
        bytes += key.byte_len() + 16;
        for sibling in siblings {
            bytes += 80 + deep(sibling.value);
        }
    }
    bytes
}

/// A delta that says something else than a replica would, in good form: numbers at both ends,
/// the ids of those who get it, one operation under several keys, what is dead and live at once.
fn well_formed() -> impl Strategy<Value = Raw> {
    let number = prop_oneof![8 => 1..12u64, 1 => LAST - 5..=LAST, 1 => Just(1 << 60)];
    let ranges = prop::collection::btree_set(number, 1..7).prop_map(|numbers| {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for pair in numbers.chunks(2) {
            let (first, last) = (pair[0], pair[pair.len() - 1]);
            match ranges.last_mut() {
                Some(before) if before.1 + 1 == first => before.1 = last,
                _ => ranges.push((first, last)),
            }
        }
        ranges
    });
    let ids = || prop::sample::select(vec![1, 2, 7, 1 << 40]);
    let applied = prop::collection::btree_map(ids(), ranges.clone(), 1..4);
    let dead = prop::collection::btree_map(ids(), ranges, 0..3);
    let entry = ("[ab]{0,2}", any::<usize>(), any::<usize>(), 0..3u64);
    let entries = prop::collection::vec(entry, 0..8);
    (applied, dead, entries, prop::bool::weighted(0.9)).prop_map(
        |(applied, dead, entries, unique)| {
            let applied: raw::Dots = applied.into_iter().collect();
            let mut entries: Vec<Entry> = entries
                .into_iter()
                .map(|(key, writer, seq, time)| {
                    let writer = writer % applied.len();
                    let ranges = &applied[writer].1;
                    let (first, last) = ranges[seq % ranges.len()];
                    let seq = first + (seq as u64 >> 32) % (last - first + 1);
                    let time = if time == 2 { u64::MAX } else { TIME + time };
                    Entry::new(&key, writer as u64, seq, time)
                })
                .collect();
            entries.sort_by(|a, b| {
                let order = a.key.cmp(&b.key);
                order.then((b.time, b.writer, b.seq).cmp(&(a.time, a.writer, a.seq)))
            });
            if unique {
                let mut seen = BTreeSet::new();
                entries.retain(|entry| seen.insert((entry.writer, entry.seq)));
            }
            let dead = dead
                .into_iter()
                .filter(|(id, _)| applied.iter().all(|(other, _)| other != id))
                .collect();
            Raw {
                applied,
                dead,
                entries,
                share: 0,
            }
        },
    )
}

/// Applies a delta, goes on writing, and repairs with it.
fn assert_harmless(document: &mut Document, delta: &Delta) {
    document.observe(true);
    let before = document.version();
    let new = document.apply(delta);
    assert_eq!(new, delta.applied().difference(&before));
    assert_eq!(document.version(), before.union(delta.applied()));
    for range in delta.applied().ranges() {
        assert!(
            document
                .version()
                .contains(Dot::new(range.replica, range.first))
        );
    }
    assert_consistent(document);
    let own = document.own_seq();
    if own < LAST - 3 {
        document.set(NOW, "after", 1).expect("within limits");
        assert_eq!(document.own_seq(), own + 1);
        assert_eq!(document.get("after"), Some(&Value::from(1)));
        assert_consistent(document);
        assert!(document.unset(NOW, "after"));
    }
    document.repair(delta);
    assert_consistent(document);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000)
    ))]

    #[test]
    fn what_damage_or_malice_makes_of_a_delta_is_refused_or_harmless(
        (mut all, deltas) in documents(),
        pick in any::<usize>(),
        edits in prop::collection::vec(edit(), 1..4),
    ) {
        let sent = forms(&deltas[pick % deltas.len()]);
        let bytes = edited(&sent[pick / 7 % 2], &edits);
        if let Ok(delta) = Delta::decode(&bytes) {
            prop_assert!(has_one_encoding(&delta, &bytes));
            prop_assert!(footprint(&delta) <= 300 * bytes.len() + 1000);
            for document in &mut all {
                assert_harmless(document, &delta);
                assert_packs(&document.snapshot());
                assert!(document.encode_packed() == document.snapshot().encode_packed());
            }
        }
    }

    #[test]
    fn what_no_replica_would_say_is_refused_or_harmless(
        (mut all, _) in documents(),
        raws in prop::collection::vec(well_formed(), 1..4),
    ) {
        for raw in raws {
            let bytes = raw.bytes();
            if let Ok(delta) = Delta::decode(&bytes) {
                prop_assert!(has_one_encoding(&delta, &bytes));
                for document in &mut all {
                assert_harmless(document, &delta);
            }
            }
        }
    }
}
