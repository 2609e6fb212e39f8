//! Containers in containers.

use std::collections::BTreeSet;

use portolan_core::{ArrayMut, Document, Error, Held, Kind, MapMut, Transaction, Value, limits};

use crate::{NOW, copy, meet, read, replica, write};

/// What can be under a key, and how to write into each kind.
const KINDS: [Option<Kind>; 5] = [
    None,
    Some(Kind::Map),
    Some(Kind::Array),
    Some(Kind::Set),
    Some(Kind::Counter),
];

fn put(map: &mut MapMut<'_, '_>, key: &str, kind: Option<Kind>, n: i64) -> Result<(), Error> {
    match kind {
        None => map.set(key, n),
        Some(Kind::Map) => map.map(key).set(n, n),
        Some(Kind::Array) => map.array(key).append(n).map(drop),
        Some(Kind::Set) => map.or_set(key).insert(n),
        Some(Kind::Counter) => map.counter(key).add(n),
    }
}

/// What stands under a key of a kind, as the numbers that were put.
fn got(document: &Document, parent: &str, key: &str, kind: Option<Kind>) -> Vec<i64> {
    let map = document.map(parent);
    let ints = |value: &Value| value.as_int().expect("an integer");
    let all: Vec<i64> = match kind {
        None => map.get_all(key).map(|s| ints(s.value)).collect(),
        Some(Kind::Map) => map
            .map(key)
            .iter()
            .map(|(_, s)| s.map(|s| ints(s.value)).sum())
            .collect(),
        Some(Kind::Array) => map
            .array(key)
            .iter()
            .map(|(_, s)| s.map(|s| ints(s.value)).sum())
            .collect(),
        Some(Kind::Set) => map.or_set(key).iter().map(|m| ints(&m)).collect(),
        Some(Kind::Counter) => vec![map.counter(key)],
    };
    all
}

#[test]
fn unset_of_a_parent_spares_what_is_concurrently_written_inside_and_nothing_else() {
    for kind in KINDS {
        for (ids, skews) in [
            ([1, 2], [0, 0]),
            ([2, 1], [0, 0]),
            ([1, 2], [60_000, 0]),
            ([2, 1], [0, 60_000]),
        ] {
            for busy in [0, 50] {
                let mut writer = replica(ids[0]);
                write(&mut writer, NOW, |tx| {
                    for other in KINDS {
                        put(&mut tx.map("parent"), "k", other, 1)?;
                        put(&mut tx.map("parent"), "other", other, 1)?;
                        put(&mut tx.map("parent").map("deeper"), "k", other, 1)?;
                    }
                    Ok(())
                });
                let mut remover = copy(ids[1], &writer);
                for i in 0..busy {
                    remover
                        .set(NOW + skews[1], "busy", i)
                        .expect("within limits");
                }
                let version = writer.version();
                write(&mut writer, NOW + skews[0] + 1, |tx| {
                    put(&mut tx.map("parent"), "k", kind, 2)
                });
                assert!(remover.unset(NOW + skews[1] + 2, "parent"));
                let removed = remover.delta_since(&writer.version());
                let written = writer.delta_since(&version);
                let mut third = copy(9, &writer);
                third.apply(&read(&removed));
                let mut fourth = replica(8);
                fourth.apply(&read(&removed));
                fourth.apply(&read(&written));
                meet(&mut [&mut writer, &mut remover, &mut third, &mut fourth]);
                let map = writer.map("parent");
                assert_eq!(got(&writer, "parent", "k", kind), [2], "{kind:?}");
                assert_eq!(map.len(), 1, "{kind:?}: the rest goes");
                let held: Vec<_> = map.held("k").iter().map(Held::kind).collect();
                assert_eq!(held, [kind]);
                assert_eq!(map.map("deeper").len(), 0);
            }
        }
    }
}

#[test]
fn concurrent_creation_of_one_path_is_one_container() {
    let mut all = [replica(1), replica(2), replica(3)];
    for (n, document) in (1i64..).zip(&mut all) {
        write(document, NOW, |tx| {
            for kind in KINDS {
                put(&mut tx.map("a").map("b"), "k", kind, n)?;
            }
            Ok(())
        });
    }
    let [a, b, c] = &mut all;
    meet(&mut [a, b, c]);
    let inner = a.map("a").map("b");
    assert_eq!((a.len(), a.map("a").len(), inner.len()), (1, 1, 1));
    assert_eq!(inner.get_all("k").count(), 3);
    assert_eq!(inner.map("k").len(), 3);
    assert_eq!(inner.array("k").len(), 3);
    assert_eq!(inner.or_set("k").len(), 3);
    assert_eq!(inner.counter("k"), 6);
    let kinds: BTreeSet<Option<Kind>> = inner.held("k").iter().map(Held::kind).collect();
    assert_eq!(kinds.len(), 5);
}

#[test]
fn of_several_kinds_under_one_key_the_one_written_last_is_first() {
    for last in KINDS {
        let mut document = replica(1);
        write(&mut document, NOW, |tx| {
            for kind in KINDS.into_iter().filter(|kind| *kind != last) {
                put(&mut tx.root(), "k", kind, 1)?;
            }
            Ok(())
        });
        let mut other = replica(2);
        write(&mut other, NOW + 1, |tx| put(&mut tx.root(), "k", last, 2));
        meet(&mut [&mut document, &mut other]);
        let kinds: Vec<_> = document.held("k").iter().map(Held::kind).collect();
        assert_eq!((kinds[0], kinds.len()), (last, 5), "{last:?}");
        // Deeper down counts too.
        write(&mut other, NOW + 2, |tx| {
            tx.map("k").map("deep").or_set("s").insert(1)
        });
        assert_eq!(other.held("k")[0].kind(), Some(Kind::Map));
        assert!(other.unset(NOW + 3, "k"));
        assert!(other.is_empty() && other.held("k").is_empty());
    }
}

#[test]
fn paths_of_sixty_four_containers_work_and_longer_ones_are_refused() {
    fn deep<'t, 'd>(tx: &'t mut Transaction<'d>, depth: usize) -> MapMut<'t, 'd> {
        (0..depth).fold(tx.root(), |map, _| map.into_map("k"))
    }
    let mut document = replica(1);
    assert_eq!(limits::MAX_DEPTH, 64);
    write(&mut document, NOW, |tx| deep(tx, 64).set("leaf", 1));
    write(&mut document, NOW, |tx| deep(tx, 63).counter("leaf").add(1));
    let before = document.encode();
    for depth in [65, 66, 200] {
        let set = document.transact(NOW, |tx| deep(tx, depth).set("leaf", 1));
        assert_eq!(set, Err(Error::PathTooDeep));
    }
    let inner = document.transact(NOW, |tx| {
        let refused = deep(tx, 64).array("leaf").append(1);
        assert_eq!(refused.map(drop), Err(Error::PathTooDeep));
        let refused = deep(tx, 64)
            .into_map("leaf")
            .into_array("x")
            .into_map(3)
            .unset("y");
        assert_eq!(refused, Err(Error::PathTooDeep));
        Ok::<(), ()>(())
    });
    assert_eq!(inner, Ok(()));
    assert_eq!(document.encode(), before);
    let mut other = copy(2, &document);
    let map = (0..64).fold(other.root(), |map, _| map.map("k"));
    assert_eq!(map.get("leaf"), Some(&Value::from(1)));
    assert!(other.unset(NOW, "k"));
    meet(&mut [&mut document, &mut other]);
    assert!(document.is_empty());
}

#[test]
fn deep_arrays_come_and_go() {
    fn deep<'t, 'd>(tx: &'t mut Transaction<'d>, depth: usize) -> ArrayMut<'t, 'd> {
        (1..depth).fold(tx.array("k"), |array, _| array.into_array(0))
    }
    let mut document = replica(1);
    for depth in 1..=64 {
        write(&mut document, NOW, |tx| {
            deep(tx, depth).append(depth as i64)
        });
    }
    let refused = document.transact(NOW, |tx| deep(tx, 65).append(0));
    assert_eq!(refused, Err(Error::PathTooDeep));
    let mut other = copy(2, &document);
    // Each element goes, and shows by what is in it all the same, until the innermost goes.
    for depth in 1..64 {
        let mut editor = copy(100 + depth, &other);
        write(&mut editor, NOW, |tx| deep(tx, 64).set(0, depth as i64));
        write(&mut other, NOW, |tx| tx.array("k").delete(0));
        assert!(other.is_empty());
        meet(&mut [&mut other, &mut editor]);
        assert_eq!(other.array("k").len(), 1);
    }
    assert!(other.unset(NOW, "k"));
    meet(&mut [&mut document, &mut other]);
    assert!(document.is_empty());
}

#[test]
fn what_was_unset_leaves_no_container_behind() {
    let mut document = replica(1);
    let mut sizes = Vec::new();
    for round in 0..200u64 {
        write(&mut document, NOW + round, |tx| {
            for kind in KINDS.into_iter().filter(|kind| *kind != Some(Kind::Array)) {
                put(&mut tx.map("m").map(round as i64), "k", kind, 1)?;
            }
            tx.or_set("s").insert(round as i64)
        });
        assert!(document.unset(NOW + round, "m"));
        assert!(document.unset(NOW + round, "s"));
        sizes.push(document.encode().len());
    }
    assert!(document.is_empty());
    assert_eq!(document.digest(), 0);
    assert!(sizes.iter().all(|size| *size < 60), "{sizes:?}");
    assert_eq!(document.snapshot().len(), 0);
    assert_eq!(document.encode()[0], 1, "the format without containers");
}

#[test]
fn values_can_go_alone_and_containers_stay() {
    let mut document = replica(1);
    write(&mut document, NOW, |tx| {
        tx.array("a").append_all([Value::Null, Value::Null])?;
        tx.array("a").map(0).set("x", 1)?;
        tx.set("k", 1)?;
        tx.map("k").set("x", 1)
    });
    let before = copy(2, &document);
    write(&mut document, NOW, |tx| {
        assert_eq!(tx.root().unset_values("k"), Ok(true));
        assert_eq!(tx.root().unset_values("k"), Ok(false));
        assert_eq!(tx.array("a").unset_values(0), Ok(true));
        assert_eq!(tx.array("a").unset_values(0), Ok(false));
        // The one that holds nothing else goes.
        assert_eq!(tx.array("a").unset_values(1), Ok(true));
        Ok(())
    });
    let mut other = before;
    meet(&mut [&mut document, &mut other]);
    for document in [&document, &other] {
        assert_eq!(document.get("k"), None);
        assert_eq!(document.map("k").len(), 1);
        assert_eq!(document.array("a").len(), 1);
        let [Held::Map(_)] = document.array("a").held(0).as_slice() else {
            panic!("a map alone");
        };
    }
}
