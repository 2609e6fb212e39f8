//! Looking back: states as of a version, history between versions, undo.

#![cfg(all(feature = "digest", feature = "packing"))]

use portolan_core::{
    Document, Dot, Error, Key, Place, ReplicaId, Timestamp, Transaction, Value, Version,
};
use proptest::prelude::*;

const NOW: u64 = 1_767_225_600_000;

fn document(id: u64) -> Document {
    Document::new(ReplicaId::new(id))
}

fn list(document: &Document, key: &str) -> Vec<Value> {
    let all = document.array(key);
    let values = all.iter().map(|(_, mut siblings)| siblings.next());
    values
        .map(|winner| winner.map_or(Value::Null, |winner| winner.value.clone()))
        .collect()
}

fn ints(values: &[i64]) -> Vec<Value> {
    values.iter().map(|n| Value::from(*n)).collect()
}

fn write<T>(
    document: &mut Document,
    f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
) -> std::ops::RangeInclusive<u64> {
    let before = document.own_seq();
    document.transact(NOW, f).unwrap();
    before + 1..=document.own_seq()
}

#[test]
fn a_past_state_is_told_as_it_was() {
    let mut map = document(1);
    write(&mut map, |tx| {
        tx.set("a", 1)?;
        tx.map("m").set("x", "old")?;
        tx.array("l").append_all(ints(&[1, 2, 3]))?;
        tx.or_set("s").insert("member")?;
        tx.counter("c").add(5)
    });
    let then = map.version();
    let bytes = map.encode();
    write(&mut map, |tx| {
        tx.set("a", 2)?;
        tx.unset("m");
        tx.array("l").delete(1)?;
        tx.array("l").set(0, 10)?;
        tx.array("l").move_to(1, 0)?;
        tx.or_set("s").remove("member")?;
        tx.counter("c").add(2)
    });
    assert_eq!(list(&map, "l"), ints(&[3, 10]));
    let past = map.as_of(&then).expect("it is kept");
    assert!(past.encode() == bytes);
    assert_eq!(past.digest(), {
        let mut again = document(9);
        again.apply(&portolan_core::Delta::decode(&bytes).unwrap());
        again.digest()
    });
    assert_eq!(map.as_of(&map.version()).unwrap().encode(), map.encode());
}

#[test]
fn history_leads_from_one_version_to_another() {
    let mut map = document(1);
    write(&mut map, |tx| tx.set("a", 1));
    let first = map.version();
    write(&mut map, |tx| tx.set("a", 2));
    write(&mut map, |tx| tx.set("a", 3));
    let second = map.version();
    write(&mut map, |tx| {
        tx.unset("a");
        Ok(())
    });
    let told = |since, until| {
        let changes = map.history(since, until).expect("it is kept");
        let told = changes.into_iter();
        told.map(|c| {
            (
                c.old.and_then(|v| v.as_int()),
                c.new.and_then(|v| v.as_int()),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(told(Some(&first), Some(&second)), [(Some(1), Some(3))]);
    assert_eq!(told(None, Some(&first)), [(None, Some(1))]);
    assert_eq!(told(Some(&second), None), [(Some(3), None)]);
    assert_eq!(told(None, None), []);
}

#[test]
fn history_is_told_by_time_too() {
    let mut map = document(1);
    map.set(NOW, "a", 1).unwrap();
    map.set(NOW + 10, "a", 2).unwrap();
    map.set(NOW + 20, "b", 1).unwrap();
    let at = |millis: u64| {
        map.version_at(Timestamp::from_bits((millis << 16) | 0xffff))
            .unwrap()
    };
    let then = map.as_of(&at(NOW + 5)).unwrap();
    assert_eq!((then.get("a").unwrap().as_int(), then.len()), (Some(1), 1));
    let changes = map
        .history(Some(&at(NOW + 5)), Some(&at(NOW + 15)))
        .unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].new, Some(Value::from(2)));
}

#[test]
fn what_is_forgotten_is_not_made_up() {
    let mut map = document(1);
    map.keep_past(2);
    map.set(NOW, "a", 0).unwrap();
    let mut versions = vec![map.version()];
    for n in 1..=4 {
        map.set(NOW, "a", n).unwrap();
        versions.push(map.version());
    }
    let kept = versions.iter().map(|version| map.as_of(version).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [false, false, true, true, true]);
    assert!(map.history(Some(&versions[0]), None).is_none());
    let last = map.own_seq();
    assert_eq!(map.undo(NOW, 1..=1), Err(Error::PastForgotten));
    assert!(map.undo(NOW, last..=last).is_ok());
    assert_eq!(map.get("a"), Some(&Value::from(3)));
    map.keep_past(0);
    assert!(map.as_of(&versions[3]).is_none());
    assert!(
        map.as_of(&Version::from_range(ReplicaId::new(2), 1, 1))
            .is_none()
    );
}

#[test]
fn what_was_never_here_is_not_made_up() {
    let mut here = document(1);
    here.set(NOW, "a", 1).unwrap();
    let first = here.version();
    here.set(NOW, "a", 2).unwrap();
    // As after a restart, and as another that hears of it later.
    for id in [1, 2] {
        let mut again = document(id);
        again.apply(&here.snapshot());
        assert!(again.as_of(&first).is_none());
        assert!(again.history(Some(&first), None).is_none());
        assert_eq!(
            again.as_of(&again.version()).unwrap().encode(),
            here.encode()
        );
        if id == 1 {
            assert_eq!(again.undo(NOW, 2..=2), Err(Error::PastForgotten));
        }
    }
}

#[test]
fn a_transaction_is_taken_back_whole() {
    let mut map = document(1);
    write(&mut map, |tx| {
        tx.set("a", 1)?;
        tx.map("m").set("x", "old")?;
        tx.map("m").map("n").set("deep", true)?;
        tx.array("l").append_all(ints(&[1, 2, 3, 4]))?;
        tx.or_set("s").insert("old")?;
        tx.counter("c").add(5)
    });
    let shown = |map: &Document| {
        (
            map.get("a").cloned(),
            map.map("m").get("x").cloned(),
            map.map("m").map("n").get("deep").cloned(),
            list(map, "l"),
            map.or_set("s").iter().collect::<Vec<_>>(),
            map.counter("c"),
            map.get("new").cloned(),
        )
    };
    let before = shown(&map);
    let done = write(&mut map, |tx| {
        tx.set("a", 2)?;
        tx.set("new", 1)?;
        tx.unset("m");
        let mut l = tx.array("l");
        l.delete(1)?;
        l.set(0, 10)?;
        l.insert(1, 99)?;
        l.move_to(3, 0)?;
        tx.or_set("s").remove("old")?;
        tx.or_set("s").insert("new")?;
        tx.counter("c").add(2)
    });
    assert_ne!(shown(&map), before);
    map.undo(NOW, done.clone()).unwrap();
    assert_eq!(shown(&map), before);
    // Undo is a transaction like any other, and can be taken back itself.
    let mut there = document(2);
    there.apply(&map.snapshot());
    assert_eq!(shown(&there), before);
    assert_eq!(there.digest(), map.digest());
}

#[test]
fn undo_leaves_what_others_have_written_since() {
    let (mut here, mut there) = (document(1), document(2));
    write(&mut here, |tx| tx.set("a", 1));
    let done = write(&mut here, |tx| {
        tx.set("a", 2)?;
        tx.counter("c").add(3)
    });
    there.apply(&here.snapshot());
    write(&mut there, |tx| {
        tx.set("a", 7)?;
        tx.counter("c").add(4)
    });
    here.apply(&there.delta_since(&here.version()));
    here.undo(NOW, done).unwrap();
    assert_eq!(here.get("a"), Some(&Value::from(7)));
    assert_eq!(here.get_all("a").count(), 1);
    assert_eq!(here.counter("c"), 4);
}

#[test]
fn changes_of_an_array_name_element_and_index() {
    let mut map = document(1);
    write(&mut map, |tx| tx.array("l").append_all(ints(&[1, 2])));
    map.observe(true);
    write(&mut map, |tx| tx.array("l").insert(1, 9));
    let batches = map.take_changes();
    let change = &batches[0].changes[0];
    assert_eq!(change.path, [Key::from("l")]);
    let id = Dot::new(ReplicaId::new(1), 3);
    assert_eq!(change.place, Place::Element { id, index: 1 });
    assert_eq!((&change.old, &change.new), (&None, &Some(Value::from(9))));
}

#[test]
fn a_timeline_tells_each_transaction_who_did_it_and_when() {
    let (mut here, mut there) = (document(1), document(2));
    here.set(NOW, "a", 1).unwrap();
    here.set(NOW + 10, "a", 2).unwrap();
    let first = there.apply(&here.snapshot());
    assert!(!first.is_empty());
    there.set(NOW + 20, "a", 3).unwrap();
    here.apply_at(NOW + 21, &there.delta_since(&here.version()));
    there.unset(NOW + 30, "a");
    // A removal carries no time: it is dated by when it came.
    here.apply_at(NOW + 32, &there.delta_since(&here.version()));
    assert_eq!(here.known_since(), None);
    let timeline = here.timeline(None, None).unwrap();
    let steps = timeline.steps().into_iter().map(|step| {
        let [change] = step.changes.as_slice() else {
            panic!("each did one thing");
        };
        assert_eq!((change.by, change.timestamp), (step.by, step.timestamp));
        let int = |value: &Option<Value>| value.as_ref().and_then(Value::as_int);
        let by = step.by.unwrap().get();
        (
            by,
            step.timestamp.millis() - NOW,
            int(&change.old),
            int(&change.new),
        )
    });
    let told = [
        (1, 0, None, Some(1)),
        (1, 10, Some(1), Some(2)),
        (2, 20, Some(2), Some(3)),
        (2, 32, Some(3), None),
    ];
    assert_eq!(steps.collect::<Vec<_>>(), told);
    assert!(timeline.changes().is_empty(), "nothing is there in the end");
    let then = here.version_at(Timestamp::from_millis(NOW + 15)).unwrap();
    let changes = here.timeline(Some(&then), None).unwrap().changes();
    assert_eq!(
        (changes.len(), changes[0].old.clone()),
        (1, Some(Value::from(2)))
    );
    assert_eq!(changes[0].by, Some(ReplicaId::new(2)));
    assert_eq!(changes[0].timestamp.millis(), NOW + 32);
}

#[test]
fn what_is_forgotten_is_said_to_be() {
    let mut map = document(1);
    map.keep_past(2);
    for n in 0..5 {
        map.set(NOW + n, "a", n as i64).unwrap();
    }
    // Two of the four values that were replaced are known.
    let known = map.known_since().unwrap();
    assert_eq!(known.millis(), NOW + 2);
    assert!(map.version_at(Timestamp::from_millis(NOW + 1)).is_none());
    let steps = map.timeline(None, None).unwrap().steps();
    let old = steps.iter().map(|step| step.changes[0].old.clone());
    assert_eq!(old.flatten().collect::<Vec<_>>(), ints(&[2, 3]));
    // What was not noted is not made up either.
    map.keep_past(0);
    map.set(NOW + 9, "a", 9).unwrap();
    let before = map.version();
    map.set(NOW + 10, "a", 10).unwrap();
    assert!(map.as_of(&before).is_none());
    map.keep_past(10);
    assert!(map.as_of(&before).is_none());
    assert_eq!(map.known_since().unwrap().millis(), NOW + 10);
}

#[test]
fn a_copy_knows_nothing_of_what_came_before_it() {
    let mut here = document(1);
    here.set(NOW, "a", 1).unwrap();
    here.set(NOW + 10, "a", 2).unwrap();
    let mut there = document(2);
    there.apply_at(NOW + 20, &here.snapshot());
    assert!(there.version_at(Timestamp::from_millis(NOW + 5)).is_none());
    assert_eq!(there.known_since().unwrap().millis(), NOW + 10);
    assert_eq!(there.timeline(None, None).unwrap().changes().len(), 1);
    assert!(there.timeline(None, None).unwrap().steps().is_empty());
}

#[test]
fn elements_that_are_gone_for_good_are_not_left_out_of_the_past() {
    let mut map = document(1);
    write(&mut map, |tx| tx.array("l").append_all(ints(&[1, 2])));
    let before = map.version();
    write(&mut map, |tx| tx.array("l").delete(0));
    assert_eq!(list(&map.as_of(&before).unwrap(), "l"), ints(&[1, 2]));
    let now = map.version();
    map.forget_stable(&now, &now);
    map.forget_stable(&now, &now);
    assert_eq!(map.tombstones(), 0);
    assert!(map.as_of(&before).is_none());
    assert!(map.as_of(&now).is_some());
}

#[test]
fn a_watcher_hears_of_what_is_in_an_element_when_the_element_shows() {
    let mut writer = document(1);
    write(&mut writer, |tx| tx.array("l").append(0));
    let birth = writer.snapshot();
    let before = writer.version();
    write(&mut writer, |tx| tx.array("l").map(0).set("x", 1));
    let inside = writer.delta_since(&before);
    let mut reader = document(2);
    reader.observe(true);
    reader.apply(&inside);
    assert!(reader.take_changes().is_empty(), "it does not show");
    reader.observe(false);
    reader.observe(true);
    reader.apply(&birth);
    let batches = reader.take_changes();
    let changes = &batches[0].changes;
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0].path, [Key::from("l")]);
    let id = Dot::new(ReplicaId::new(1), 1);
    let path = [Key::from("l"), Key::Element(id), Key::from("x")];
    assert_eq!(
        (changes[1].path.as_slice(), &changes[1].new),
        (&path[..], &Some(Value::from(1)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_state_kept_is_told_as_it_was(
        steps in prop::collection::vec((0..9u8, 0..4u8, 0..6i64), 1..40),
    ) {
        let mut map = document(1);
        let mut states = vec![(map.version(), map.encode())];
        for (kind, at, n) in steps {
            let key = ["a", "b", "c", "d"][usize::from(at)];
            map.transact(NOW, |tx| {
                let len = tx.array(key).len()?;
                let index = n as usize % len.max(1);
                match kind {
                    0 => tx.set(key, n)?,
                    1 => drop(tx.unset(key)),
                    2 => tx.map(key).set(n, key)?,
                    3 => tx.or_set(key).insert(n)?,
                    4 => drop(tx.or_set(key).remove(n)?),
                    5 => tx.counter(key).add(n)?,
                    6 => drop(tx.array(key).insert(index, n)?),
                    7 if len > 0 => tx.array(key).delete(index)?,
                    8 if len > 0 => tx.array(key).move_to(index, 0)?,
                    _ => {}
                }
                Ok::<_, Error>(())
            }).unwrap();
            states.push((map.version(), map.encode()));
        }
        for (version, bytes) in states {
            let then = map.as_of(&version).expect("few values are removed");
            prop_assert_eq!(map.digest_at(&version), Some(then.digest()));
            prop_assert_eq!(then.encode(), bytes);
        }
    }

    #[test]
    fn undo_takes_each_transaction_back(
        steps in prop::collection::vec((0..9u8, 0..3u8, 0..6i64), 1..25),
    ) {
        let mut map = document(1);
        let mut done = Vec::new();
        let mut shown = vec![map.as_of(&map.version()).unwrap()];
        for (kind, at, n) in steps {
            let key = ["a", "b", "c"][usize::from(at)];
            let range = write(&mut map, |tx| {
                let len = tx.array(key).len()?;
                let index = n as usize % len.max(1);
                match kind {
                    0 => tx.set(key, n),
                    1 => { tx.unset(key); Ok(()) }
                    2 => tx.map(key).set(n, key),
                    3 => tx.or_set(key).insert(n),
                    4 => tx.or_set(key).remove(n).map(drop),
                    5 => tx.counter(key).add(n),
                    6 => tx.array(key).insert(index, n).map(drop),
                    7 if len > 0 => tx.array(key).delete(index),
                    8 if len > 0 => tx.array(key).set(index, n),
                    _ => Ok(()),
                }
            });
            if range.is_empty() { continue; }
            done.push(range);
            shown.push(map.as_of(&map.version()).unwrap());
        }
        shown.pop();
        while let (Some(range), Some(then)) = (done.pop(), shown.pop()) {
            map.undo(NOW, range).unwrap();
            for key in ["a", "b", "c"] {
                prop_assert_eq!(map.get(key), then.get(key));
                prop_assert_eq!(map.counter(key), then.counter(key));
                prop_assert_eq!(list(&map, key), list(&then, key));
                let members = |map: &Document| map.or_set(key).iter().collect::<Vec<_>>();
                prop_assert_eq!(members(&map), members(&then));
                let inner = |map: &Document| {
                    let entries = map.map(key).iter();
                    entries.map(|(key, mut all)| (key.clone(), all.next().unwrap().value.clone())).collect::<Vec<_>>()
                };
                prop_assert_eq!(inner(&map), inner(&then));
            }
        }
    }
}
