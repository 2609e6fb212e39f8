//! The cases that must hold, by name.

use std::collections::BTreeSet;

use portolan_core::{
    ArrayMut, Delta, Document, Dot, Error, Held, Key, Kind, MapMut, Place, ReplicaId, Transaction,
    Value, Version, limits,
};

const NOW: u64 = 1_767_225_600_000;

fn replica(id: u64) -> Document {
    Document::new(ReplicaId::new(id))
}

/// One that has what `other` has.
fn copy(id: u64, other: &Document) -> Document {
    let mut copy = replica(id);
    copy.apply(&read(&other.snapshot()));
    copy
}

fn read(delta: &Delta) -> Delta {
    let read = Delta::decode(&delta.encode()).expect("own bytes decode");
    assert_eq!(&read, delta);
    read
}

fn write<T>(
    document: &mut Document,
    now: u64,
    f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
) -> T {
    document.transact(now, f).expect("within limits")
}

/// Lets all know what any of them knows; they agree to the byte.
fn meet(documents: &mut [&mut Document]) {
    for _ in 0..2 {
        for from in 0..documents.len() {
            for to in 0..documents.len() {
                let delta = documents[from].delta_since(&documents[to].version());
                documents[to].apply(&read(&delta));
            }
        }
    }
    let (first, others) = documents.split_first().expect("there are some");
    for other in others {
        assert_eq!(other.version(), first.version());
        assert_eq!(other.digest(), first.digest());
        assert_eq!(other.encode(), first.encode());
    }
}

/// Every order in which three deltas can come, one of them twice.
fn orders<T: Clone>(deltas: &[T; 3]) -> Vec<Vec<T>> {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let orders = orders.iter().map(|order| order.iter().chain(&order[..1]));
    orders
        .map(|order| order.map(|at| deltas[*at].clone()).collect())
        .collect()
}

fn array(document: &Document, key: &str) -> Vec<Value> {
    let elements = document.array(key);
    let elements = elements.iter();
    elements
        .map(|(_, mut siblings)| siblings.next().map_or(Value::Null, |s| s.value.clone()))
        .collect()
}

fn ints(values: impl IntoIterator<Item = i64>) -> Vec<Value> {
    values.into_iter().map(Value::from).collect()
}

#[test]
fn three_equal_appends_are_three_elements() {
    let (mut a, mut b) = (replica(1), replica(2));
    write(&mut a, NOW, |tx| {
        tx.array("k").append("x")?;
        tx.array("k").append("x")
    });
    write(&mut b, NOW, |tx| tx.array("k").append("x"));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(array(&a, "k"), vec![Value::from("x"); 3]);
    let ids: BTreeSet<Dot> = a.array("k").iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_third_replica_gets_all_siblings_and_in_the_same_order() {
    for ids in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut all = ids.map(replica);
        for (i, document) in all.iter_mut().enumerate() {
            // The second and the third at the same time.
            let now = NOW + (i as u64).min(1);
            write(document, now, |tx| {
                tx.map("m").set("k", i as i64)?;
                tx.set("k", i as i64)
            });
        }
        let [a, b, c] = &mut all;
        meet(&mut [a, b, c]);
        let mut third = replica(9);
        third.apply(&read(&all[0].delta_since(&Version::new())));
        let winner = if ids[1] > ids[2] { 1 } else { 2 };
        let want = ints([winner, 3 - winner, 0]);
        for document in all.iter().chain([&third]) {
            let inner = document.map("m");
            for siblings in [document.get_all("k"), inner.get_all("k")] {
                let values: Vec<Value> = siblings.map(|s| s.value.clone()).collect();
                assert_eq!(values, want);
            }
            assert_eq!(inner.get("k"), Some(&want[0]));
        }
    }
}

#[test]
fn six_alike_looking_keys_are_six_at_every_level() {
    let keys = [
        Key::from("__proto__"),
        Key::from("toString"),
        Key::from(""),
        Key::from("0"),
        Key::from(0),
        Key::from(false),
    ];
    let mut document = replica(1);
    write(&mut document, NOW, |tx| {
        for (i, key) in (0i64..).zip(&keys) {
            tx.map("m").set(key, i)?;
            tx.map(key).set("inner", i)?;
            tx.counter(key).add(i + 1)?;
        }
        Ok(())
    });
    let document = copy(2, &document);
    assert_eq!((document.len(), document.map("m").len()), (7, 6));
    for (i, key) in (0i64..).zip(&keys) {
        assert_eq!(document.map("m").get(key), Some(&Value::from(i)));
        assert_eq!(document.map(key).get("inner"), Some(&Value::from(i)));
        assert_eq!(document.counter(key), i + 1);
    }
}

#[test]
fn alike_looking_members_are_several() {
    let members = [
        Value::from(1),
        Value::from(1.0),
        Value::from(true),
        Value::from("1"),
        Value::from(vec![1u8]),
        Value::from(vec![Value::from(1)]),
        Value::Null,
    ];
    let mut document = replica(1);
    for member in &members {
        write(&mut document, NOW, |tx| {
            tx.or_set("s").insert(member.clone())
        });
    }
    let mut document = copy(2, &document);
    assert_eq!(document.or_set("s").len(), members.len());
    for (left, member) in (0..members.len()).rev().zip(&members) {
        assert!(document.or_set("s").contains(member.clone()));
        let removed = write(&mut document, NOW, |tx| {
            tx.or_set("s").remove(member.clone())
        });
        assert!(removed && !document.or_set("s").contains(member.clone()));
        assert_eq!(document.or_set("s").len(), left);
    }
    assert!(document.is_empty());
}

#[test]
fn a_hundred_and_fifty_inserts_between_the_same_neighbours() {
    for at_the_left in [true, false] {
        let mut document = replica(1);
        write(&mut document, NOW, |tx| {
            tx.array("k").append_all(ints([-1, 1000]))
        });
        let mut other = copy(2, &document);
        for i in 0..150 {
            let index = if at_the_left { 1 } else { i as usize + 1 };
            let base = document.own_seq();
            write(&mut document, NOW, |tx| tx.array("k").insert(index, i));
            other.apply(&read(&document.own_since(base)));
        }
        let mut want: Vec<i64> = (0..150).collect();
        if at_the_left {
            want.reverse();
        }
        let want = ints([-1].into_iter().chain(want).chain([1000]));
        assert_eq!(array(&document, "k"), want);
        assert_eq!(array(&other, "k"), want);
        assert_eq!(array(&copy(3, &document), "k"), want);
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_works() {
    const LONG: i64 = 100_000;
    let mut document = replica(1);
    write(&mut document, NOW, |tx| {
        let mut array = tx.array("k");
        for i in 0..LONG {
            array.insert(i as usize, i)?;
        }
        Ok(())
    });
    let mut other = copy(2, &document);
    let all = array(&other, "k");
    assert!(all.iter().cloned().eq((0..LONG).map(Value::from)));
    // And one that leans to the left.
    write(&mut other, NOW, |tx| {
        let mut array = tx.array("left");
        for i in 0..LONG / 10 {
            array.insert(0, i)?;
        }
        Ok(())
    });
    let third = copy(3, &other);
    let all = array(&third, "left");
    assert!(
        all.iter()
            .cloned()
            .eq((0..LONG / 10).rev().map(Value::from))
    );
    assert!(other.unset(NOW + 1, "k"));
    meet(&mut [&mut document, &mut other]);
    assert!(!document.contains_key("k"));
}

#[test]
fn concurrent_runs_at_one_place_do_not_interleave() {
    for ids in [[1, 2], [2, 1]] {
        for backwards in [false, true] {
            let mut a = replica(ids[0]);
            write(&mut a, NOW, |tx| tx.array("k").append_all(ints([0, 99])));
            let mut b = copy(ids[1], &a);
            for i in 0..10i64 {
                // In turns, so that neither ids nor clocks keep them apart.
                for (document, tens) in [(&mut a, 10), (&mut b, 20)] {
                    let index = if backwards { 1 } else { i as usize + 1 };
                    write(document, NOW + i as u64, |tx| {
                        tx.array("k").insert(index, tens + i)
                    });
                }
            }
            meet(&mut [&mut a, &mut b]);
            let tens: Vec<i64> = array(&a, "k")
                .iter()
                .filter_map(|value| Some(value.as_int()? / 10))
                .filter(|tens| [1, 2].contains(tens))
                .collect();
            let changes = tens.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert_eq!((tens.len(), changes), (20, 1), "{tens:?}");
        }
    }
}

#[test]
fn appended_elements_stand_by_timestamp_then_replica() {
    let (mut a, mut b, mut c) = (replica(3), replica(1), replica(2));
    write(&mut a, NOW + 5, |tx| tx.array("k").append("late"));
    write(&mut b, NOW + 1, |tx| tx.array("k").append("early"));
    write(&mut c, NOW + 5, |tx| {
        tx.array("k").append("as late, lower id")
    });
    meet(&mut [&mut a, &mut b, &mut c]);
    let want = ["early", "as late, lower id", "late"].map(Value::from);
    assert_eq!(array(&b, "k"), want);
}

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
fn concurrent_additions_sum_up() {
    let (mut a, mut b) = (replica(1), replica(2));
    write(&mut a, NOW, |tx| tx.counter("n").add(5));
    write(&mut b, NOW, |tx| tx.counter("n").add(3));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(a.counter("n"), 8);
    write(&mut a, NOW, |tx| tx.counter("n").add(-10));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(b.counter("n"), -2);
}

#[test]
fn an_addition_survives_a_concurrent_reset_and_nothing_else_does() {
    for ids in [[1, 2], [2, 1]] {
        let mut adder = replica(ids[0]);
        write(&mut adder, NOW, |tx| tx.counter("n").add(5));
        let mut resetter = copy(ids[1], &adder);
        write(&mut resetter, NOW, |tx| tx.counter("n").add(20));
        let base = adder.version();
        write(&mut adder, NOW, |tx| tx.counter("n").add(3));
        assert!(write(&mut resetter, NOW, |tx| tx.counter("n").reset()));
        assert_eq!(resetter.counter("n"), 0);
        let (added, reset) = (adder.delta_since(&base), resetter.delta_since(&base));
        let first = adder.delta_of(&base);
        for order in orders(&[first, added, reset]) {
            let mut third = replica(9);
            for delta in &order {
                third.apply(&read(delta));
            }
            assert_eq!(third.counter("n"), 3);
        }
        meet(&mut [&mut adder, &mut resetter]);
        assert_eq!(adder.counter("n"), 3);
        // What it adds next goes on from there.
        write(&mut adder, NOW, |tx| tx.counter("n").add(4));
        meet(&mut [&mut adder, &mut resetter]);
        assert_eq!(resetter.counter("n"), 7);
    }
}

#[test]
fn two_resets_take_back_each_addition_once() {
    let mut adder = replica(1);
    write(&mut adder, NOW, |tx| tx.counter("n").add(5));
    let mut early = copy(2, &adder);
    write(&mut adder, NOW, |tx| tx.counter("n").add(3));
    let mut late = copy(3, &adder);
    let base = adder.version();
    write(&mut early, NOW, |tx| tx.counter("n").reset());
    write(&mut late, NOW, |tx| tx.counter("n").reset());
    write(&mut adder, NOW, |tx| tx.counter("n").add(100));
    let deltas = [
        early.delta_since(&base),
        late.delta_since(&base),
        adder.delta_since(&base),
    ];
    for order in orders(&deltas) {
        let mut third = replica(9);
        third.apply(&read(&adder.delta_of(&base)));
        for delta in &order {
            third.apply(&read(delta));
        }
        assert_eq!(third.counter("n"), 100);
    }
    meet(&mut [&mut adder, &mut early, &mut late]);
    assert_eq!(adder.counter("n"), 100);
    // The one who adds resets too, while another does.
    write(&mut adder, NOW, |tx| tx.counter("n").reset());
    write(&mut early, NOW, |tx| tx.counter("n").reset());
    write(&mut adder, NOW, |tx| tx.counter("n").add(7));
    meet(&mut [&mut adder, &mut early, &mut late]);
    assert_eq!(late.counter("n"), 7);
}

#[test]
fn an_addition_after_a_reset_counts_alone() {
    let (mut a, mut b) = (replica(1), replica(2));
    for round in 1..20i64 {
        write(&mut a, NOW, |tx| tx.counter("n").add(round));
        meet(&mut [&mut a, &mut b]);
        assert_eq!(b.counter("n"), round);
        assert_eq!(write(&mut b, NOW, |tx| tx.counter("n").reset()), round != 0);
        meet(&mut [&mut a, &mut b]);
        assert_eq!((a.counter("n"), b.counter("n")), (0, 0));
        assert!(!a.contains_key("n"));
        assert!(!write(&mut b, NOW, |tx| tx.counter("n").reset()));
    }
    assert!(a.encode().len() < 200, "rounds leave nothing behind");
}

#[test]
fn an_addition_survives_the_unset_of_the_map_around_it() {
    let mut adder = replica(1);
    write(&mut adder, NOW, |tx| {
        tx.map("m").counter("n").add(5)?;
        tx.map("m").set("gone", 1)
    });
    let mut remover = copy(2, &adder);
    write(&mut adder, NOW, |tx| tx.map("m").counter("n").add(3));
    assert!(remover.unset(NOW, "m"));
    assert!(remover.is_empty());
    meet(&mut [&mut adder, &mut remover]);
    assert_eq!(adder.map("m").counter("n"), 3);
    assert_eq!(adder.map("m").len(), 1);
}

#[test]
fn a_sum_older_than_a_reset_that_came_before_it_counts_nothing() {
    let mut adder = replica(1);
    write(&mut adder, NOW, |tx| tx.counter("n").add(5));
    let first = adder.own_since(0);
    write(&mut adder, NOW, |tx| tx.counter("n").add(3));
    let mut resetter = copy(2, &adder);
    write(&mut resetter, NOW, |tx| tx.counter("n").reset());
    let mut third = replica(3);
    third.apply(&read(&resetter.own_since(0)));
    third.apply(&read(&first));
    assert_eq!(third.counter("n"), 0);
    meet(&mut [&mut adder, &mut resetter, &mut third]);
    assert_eq!(third.counter("n"), 0);
}

#[test]
fn a_new_sum_does_not_revive_the_one_that_a_reset_took() {
    let mut adder = replica(1);
    write(&mut adder, NOW, |tx| tx.counter("n").add(5));
    let mut early = copy(2, &adder);
    write(&mut adder, NOW, |tx| tx.counter("n").add(3));
    let mut late = copy(3, &adder);
    let mut third = copy(4, &adder);
    write(&mut early, NOW, |tx| tx.counter("n").reset());
    third.apply(&read(&early.own_since(0)));
    assert_eq!(third.counter("n"), 3);
    write(&mut late, NOW, |tx| tx.counter("n").reset());
    adder.apply(&read(&early.own_since(0)));
    adder.apply(&read(&late.own_since(0)));
    let base = adder.own_seq();
    write(&mut adder, NOW, |tx| tx.counter("n").add(1));
    // It has not heard of the later reset.
    third.apply(&read(&adder.own_since(base)));
    assert!(
        [1, 4].contains(&third.counter("n")),
        "{}",
        third.counter("n")
    );
    meet(&mut [&mut adder, &mut early, &mut late, &mut third]);
    assert_eq!(third.counter("n"), 1);
}

#[test]
fn a_counter_restored_from_a_backup_counts_each_addition_once() {
    let mut first = replica(1);
    write(&mut first, NOW, |tx| tx.counter("n").add(5));
    let backup = first.snapshot();
    write(&mut first, NOW, |tx| tx.counter("n").add(10));
    let mut world = copy(2, &first);
    let mut restored = replica(1);
    restored.apply(&backup);
    write(&mut restored, NOW, |tx| tx.counter("n").add(100));
    restored.change_replica(ReplicaId::new(3), 1);
    meet(&mut [&mut world, &mut restored]);
    assert_eq!(world.counter("n"), 115);
}

#[test]
fn a_counter_beyond_its_range_is_an_error_that_changes_nothing() {
    let mut document = replica(1);
    write(&mut document, NOW, |tx| tx.counter("n").add(i64::MAX));
    let before = document.encode();
    let outcome = document.transact(NOW, |tx| tx.counter("n").add(1));
    assert_eq!(outcome, Err(Error::CounterOverflow));
    assert_eq!(document.encode(), before);
    // Of several replicas the sum is held to the range.
    let mut other = replica(2);
    write(&mut other, NOW, |tx| tx.counter("n").add(i64::MAX));
    meet(&mut [&mut document, &mut other]);
    assert_eq!(document.counter("n"), i64::MAX);
    write(&mut other, NOW, |tx| tx.counter("n").add(i64::MIN));
    assert_eq!(other.counter("n"), i64::MAX - 1);
}

#[test]
fn concurrent_moves_leave_one_element_at_one_place() {
    for ids in [[1, 2], [2, 1]] {
        for late in [0, 1] {
            let mut a = replica(ids[0]);
            write(&mut a, NOW, |tx| tx.array("k").append_all(ints(0..5)));
            let mut b = copy(ids[1], &a);
            let id = a.array("k").id(2).expect("it shows");
            let times = [NOW + 10 + late, NOW + 11 - late];
            write(&mut a, times[0], |tx| tx.array("k").move_to(2, 0));
            write(&mut b, times[1], |tx| tx.array("k").move_to(2, 4));
            assert_eq!(array(&a, "k"), ints([2, 0, 1, 3, 4]));
            assert_eq!(array(&b, "k"), ints([0, 1, 3, 4, 2]));
            meet(&mut [&mut a, &mut b]);
            let want = if times[0] > times[1] {
                [2, 0, 1, 3, 4]
            } else {
                [0, 1, 3, 4, 2]
            };
            assert_eq!(array(&a, "k"), ints(want), "the latest decides");
            let index = a.array("k").index_of(id);
            assert_eq!(index.and_then(|index| a.array("k").id(index)), Some(id));
        }
    }
}

#[test]
fn a_moved_element_takes_what_is_concurrently_written_with_it() {
    let mut a = replica(1);
    write(&mut a, NOW, |tx| {
        tx.array("k").append_all(ints(0..3))?;
        tx.array("k").map(0).set("inner", 1)
    });
    let mut b = copy(2, &a);
    write(&mut a, NOW + 1, |tx| tx.array("k").move_to(0, 2));
    write(&mut b, NOW + 1, |tx| {
        tx.array("k").set(0, 9)?;
        tx.array("k").map(0).set("inner", 2)
    });
    meet(&mut [&mut a, &mut b]);
    assert_eq!(array(&a, "k"), ints([1, 2, 9]));
    assert_eq!(a.array("k").map(2).get("inner"), Some(&Value::from(2)));
    assert_eq!(a.array("k").get_all(2).count(), 1);
}

#[test]
fn a_move_does_not_bring_a_deleted_element_back() {
    for ids in [[1, 2], [2, 1]] {
        let mut a = replica(ids[0]);
        write(&mut a, NOW, |tx| tx.array("k").append_all(ints(0..3)));
        let id = a.array("k").id(0).expect("it shows");
        let mut b = copy(ids[1], &a);
        write(&mut a, NOW + 1, |tx| tx.array("k").move_to(0, 2));
        write(&mut b, NOW + 2, |tx| tx.array("k").delete(0));
        meet(&mut [&mut a, &mut b]);
        assert_eq!(array(&a, "k"), ints([1, 2]));
        assert_eq!(a.array("k").index_of(id), None);
        assert!(write(&mut a, NOW + 3, |tx| tx.array("k").undelete(id)));
        meet(&mut [&mut a, &mut b]);
        assert_eq!(array(&b, "k"), ints([1, 2, 0]), "where it was moved to");
    }
}

#[test]
fn a_concurrent_edit_survives_a_delete_whatever_it_is() {
    type Edit = fn(ArrayMut<'_, '_>) -> Result<(), Error>;
    let edits: [Edit; 5] = [
        |mut array| array.set(1, 9),
        |array| array.into_map(1).set("k", 9),
        |array| array.into_array(1).append(9).map(drop),
        |array| array.into_or_set(1).insert(9),
        |array| array.into_counter(1).add(9),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        for ids in [[1, 2], [2, 1]] {
            for later in [0, 1] {
                let mut editor = replica(ids[0]);
                write(&mut editor, NOW, |tx| tx.array("k").append_all(ints(0..3)));
                let id = editor.array("k").id(1).expect("it shows");
                let mut deleter = copy(ids[1], &editor);
                write(&mut editor, NOW + 1 + later, |tx| edit(tx.array("k")));
                write(&mut deleter, NOW + 2 - later, |tx| tx.array("k").delete(1));
                assert_eq!(deleter.array("k").len(), 2);
                meet(&mut [&mut editor, &mut deleter]);
                let elements = deleter.array("k");
                assert_eq!(elements.index_of(id), Some(1), "in its place, by {number}");
                let held = elements.held(1);
                assert_eq!(held.len(), 1, "the edit alone");
                assert_eq!(held[0].kind().is_none(), number == 0);
                assert_eq!(elements.get(1), (number == 0).then_some(&Value::from(9)));
                drop(held);
                // A delete that has seen it all ends it.
                write(&mut deleter, NOW + 3, |tx| tx.array("k").delete(1));
                meet(&mut [&mut editor, &mut deleter]);
                assert_eq!(array(&editor, "k"), ints([0, 2]));
            }
        }
    }
}

#[test]
fn undelete_brings_an_element_back_in_its_place_with_what_it_last_held() {
    let mut a = replica(1);
    write(&mut a, NOW, |tx| tx.array("k").append_all(ints(0..5)));
    let id = a.array("k").id(2).expect("it shows");
    write(&mut a, NOW + 1, |tx| tx.array("k").set(2, 7));
    write(&mut a, NOW + 1, |tx| tx.array("k").map(2).set("inner", 1));
    let mut b = copy(2, &a);
    write(&mut a, NOW + 2, |tx| tx.array("k").delete(2));
    write(&mut b, NOW + 2, |tx| tx.array("k").insert(2, "before"));
    write(&mut b, NOW + 2, |tx| tx.array("k").insert(4, "behind"));
    meet(&mut [&mut a, &mut b]);
    let mut c = copy(3, &a);
    for (time, document) in (NOW + 3..).zip([&mut a, &mut b]) {
        assert!(write(document, time, |tx| tx.array("k").undelete(id)));
        assert!(!write(document, time, |tx| tx.array("k").undelete(id)));
    }
    // One that was never told what it held says so.
    let outcome = c.transact(NOW, |tx| tx.array("k").undelete(id));
    assert_eq!(outcome, Err(Error::NoSuchElement));
    meet(&mut [&mut a, &mut b, &mut c]);
    let want = [
        Value::from(0),
        Value::from(1),
        Value::from("before"),
        Value::from(7),
        Value::from("behind"),
        Value::from(3),
        Value::from(4),
    ];
    assert_eq!(array(&c, "k"), want);
    assert_eq!(a.array("k").index_of(id), Some(3));
    assert_eq!(a.array("k").get_all(3).count(), 2, "two brought it back");
}

#[test]
fn a_failed_transaction_does_not_change_what_undelete_brings_back() {
    let mut document = replica(1);
    write(&mut document, NOW, |tx| tx.array("k").append("born"));
    let id = document.array("k").id(0).expect("it shows");
    write(&mut document, NOW, |tx| tx.array("k").delete(0));
    let outcome = document.transact(NOW, |tx| {
        tx.array("k").undelete(id)?;
        tx.array("k").set(0, "never")?;
        Err::<(), Error>(Error::ValueTooDeep)
    });
    assert_eq!(outcome, Err(Error::ValueTooDeep));
    assert!(write(&mut document, NOW, |tx| tx.array("k").undelete(id)));
    assert_eq!(array(&document, "k"), [Value::from("born")]);
}

/// Every kind of operation, on a document with something of everything.
type Operation = fn(&mut Transaction<'_>) -> Result<(), Error>;
const OPERATIONS: [Operation; 28] = [
    |tx| tx.set("register", 2),
    |tx| tx.set("fresh", 2),
    |tx| tx.set("map", 2),
    |tx| tx.root().unset("register").map(drop),
    |tx| tx.root().unset("map").map(drop),
    |tx| tx.root().unset("array").map(drop),
    |tx| tx.root().unset("set").map(drop),
    |tx| tx.root().unset("counter").map(drop),
    |tx| tx.root().clear().map(drop),
    |tx| tx.map("map").set("a", 2),
    |tx| tx.map("map").unset("deep").map(drop),
    |tx| tx.map("map").clear().map(drop),
    |tx| tx.map("new").map("newer").set("newest", 1),
    |tx| tx.or_set("set").insert(1),
    |tx| tx.or_set("set").insert(3),
    |tx| tx.or_set("set").remove(1).map(drop),
    |tx| tx.or_set("set").clear().map(drop),
    |tx| tx.counter("counter").add(1),
    |tx| tx.counter("counter").reset().map(drop),
    |tx| tx.array("array").append(1).map(drop),
    |tx| tx.array("array").insert_all(1, ints(0..40)).map(drop),
    |tx| tx.array("array").set(0, 1),
    |tx| tx.array("array").set(1, 1),
    |tx| tx.array("array").delete(2),
    |tx| tx.array("array").move_to(0, 2),
    |tx| tx.array("array").clear().map(drop),
    |tx| tx.array("array").array(2).append(1).map(drop),
    |tx| {
        let gone = Dot::new(
            ReplicaId::new(1),
            tx.document()
                .get("gone")
                .and_then(Value::as_int)
                .unwrap_or(0) as u64,
        );
        tx.array("array").undelete(gone).map(drop)
    },
];

/// Something of everything, by two replicas.
fn furnished() -> Document {
    let (mut a, mut b) = (replica(1), replica(2));
    let gone = write(&mut a, NOW, |tx| {
        tx.set("register", 1)?;
        tx.map("map").set("a", 1)?;
        tx.map("map").map("deep").set("a", 1)?;
        tx.map("map").counter("deep").add(5)?;
        tx.or_set("set").insert(1)?;
        tx.or_set("set").insert(2)?;
        tx.counter("counter").add(5)?;
        tx.array("array").append_all(ints(0..5))?;
        tx.array("array").map(2).set("a", 1)?;
        tx.array("array").array(2).append(1)?;
        tx.array("array").append("gone")
    });
    write(&mut a, NOW, |tx| {
        tx.array("array").delete(5)?;
        tx.set("gone", gone.seq as i64)
    });
    write(&mut b, NOW, |tx| {
        tx.set("register", 2)?;
        tx.map("map").set("a", 2)?;
        tx.map("map").counter("deep").add(7)?;
        tx.or_set("set").insert(1)?;
        tx.counter("counter").add(7)
    });
    meet(&mut [&mut a, &mut b]);
    write(&mut b, NOW + 1, |tx| tx.array("array").set(1, "b"));
    write(&mut a, NOW + 1, |tx| {
        tx.array("array").set(1, "a")?;
        tx.array("array").move_to(3, 0)?;
        tx.array("array").move_to(0, 1)
    });
    meet(&mut [&mut a, &mut b]);
    a
}

#[test]
fn failed_transactions_leave_the_bytes_as_they_were() {
    let mut document = furnished();
    document.observe(true);
    let before = (document.encode(), document.digest(), document.own_seq());
    for first in OPERATIONS {
        for second in OPERATIONS {
            for third in [OPERATIONS[8], OPERATIONS[24], OPERATIONS[21]] {
                let outcome = document.transact(NOW + 2, |tx| {
                    for operation in [first, second, third] {
                        // Out of bounds, some of them.
                        operation(tx).ok();
                    }
                    Err::<(), ()>(())
                });
                assert_eq!(outcome, Err(()));
                let after = (document.encode(), document.digest(), document.own_seq());
                assert!(after == before);
            }
        }
    }
    assert!(document.take_changes().is_empty());
    // And it goes on as if there had been nothing.
    let mut fresh = furnished();
    for operation in OPERATIONS {
        for other in [&mut document, &mut fresh] {
            other.transact(NOW + 3, operation).ok();
        }
        assert_eq!(document.encode(), fresh.encode());
    }
}

#[test]
fn every_operation_travels() {
    for operation in OPERATIONS {
        let mut document = furnished();
        let mut other = copy(7, &document);
        let base = document.own_seq();
        write(&mut document, NOW + 2, operation);
        other.apply(&read(&document.own_since(base)));
        assert_eq!(other.encode(), document.encode());
        assert_eq!(other.digest(), document.digest());
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
fn bad_indices_and_ids_are_errors_that_change_nothing() {
    let mut document = replica(1);
    let gone = write(&mut document, NOW, |tx| tx.array("other").append(1));
    write(&mut document, NOW, |tx| {
        tx.array("k").append_all(ints(0..2))
    });
    let before = document.encode();
    let beyond = |index, len| Error::IndexOutOfBounds { index, len };
    let outcome = document.transact(NOW, |tx| {
        let mut array = tx.array("k");
        assert_eq!(array.set(2, 0), Err(beyond(2, 2)));
        assert_eq!(array.delete(2), Err(beyond(2, 2)));
        assert_eq!(array.insert(3, 0).map(drop), Err(beyond(3, 2)));
        assert_eq!(array.insert_all(3, ints([1])).map(drop), Err(beyond(3, 2)));
        assert_eq!(array.move_to(2, 0), Err(beyond(2, 2)));
        assert_eq!(array.move_to(0, 2), Err(beyond(2, 2)));
        assert_eq!(array.id(usize::MAX), Err(beyond(usize::MAX, 2)));
        assert_eq!(array.map(2).set("a", 1), Err(beyond(2, 2)));
        assert_eq!(array.counter(2).add(1), Err(beyond(2, 2)));
        assert_eq!(
            array.array(5).array(0).append(1).map(drop),
            Err(beyond(5, 2))
        );
        // Of another array, of nobody, and of what is no element.
        let nobody = Dot::new(ReplicaId::new(7), 1);
        for id in [gone, nobody, Dot::new(ReplicaId::new(1), u64::MAX)] {
            assert_eq!(array.undelete(id), Err(Error::NoSuchElement));
            assert_eq!(array.index_of(id), Err(Error::NoSuchElement));
        }
        assert_eq!(array.append_all([]), Ok(None));
        let element = Key::Element(gone);
        assert_eq!(tx.set(&element, 1), Err(Error::ElementAsKey));
        assert_eq!(tx.map(&element).set("a", 1), Err(Error::ElementAsKey));
        let long = "k".repeat(limits::MAX_KEY_BYTES + 1);
        let bytes = long.len();
        assert_eq!(tx.map(&long).set("a", 1), Err(Error::KeyTooLong(bytes)));
        assert!(tx.or_set("s").insert(long).is_err());
        Ok::<(), ()>(())
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!(document.encode(), before);
    let view = document.array("k");
    assert_eq!(
        (view.id(2), view.get(2), view.index_of(gone)),
        (None, None, None)
    );
    assert!(view.held(2).is_empty() && view.map(2).is_empty() && view.get_all(2).next().is_none());
    assert_eq!(view.slice(7).count(), 0);
}

#[test]
fn late_repeated_and_broken_deltas_lose_and_revive_nothing() {
    let mut a = furnished();
    let mut deltas = vec![a.delta_since(&Version::new())];
    for (time, operation) in (NOW + 2..).zip(OPERATIONS) {
        let base = a.own_seq();
        a.transact(time, operation).ok();
        deltas.push(a.own_since(base));
    }
    let mut backwards = replica(8);
    for delta in deltas.iter().rev() {
        let bytes = delta.encode();
        for cut in [0, bytes.len() / 2, bytes.len() - 1] {
            assert!(Delta::decode(&bytes[..cut]).is_err());
        }
        backwards.apply(&read(delta));
        backwards.apply(&read(delta));
    }
    assert_eq!(backwards.encode(), a.encode());
    for delta in &deltas {
        assert!(backwards.apply(delta).is_empty());
    }
    assert_eq!(backwards.encode(), a.encode());
}

#[test]
fn a_backup_gives_way_under_a_new_id_with_all_it_has_done() {
    let mut first = furnished();
    let backup = first.snapshot();
    let after = first.own_seq();
    write(&mut first, NOW + 5, |tx| {
        tx.array("array").append("world")?;
        tx.map("map").set("world", 1)
    });
    let mut world = copy(5, &first);
    let mut restored = replica(1);
    restored.apply(&read(&backup));
    assert_eq!(restored.own_seq(), after);
    let id = write(&mut restored, NOW + 6, |tx| {
        tx.or_set("set").remove(2)?;
        tx.map("map").map("deep").set("restored", 1)?;
        tx.array("array").append("restored")
    });
    write(&mut restored, NOW + 7, |tx| {
        let index = tx.array("array").index_of(id)?.expect("it shows");
        tx.array("array").map(index).set("inner", 1)?;
        tx.array("array").move_to(index, 0)
    });
    restored.change_replica(ReplicaId::new(6), after);
    assert_eq!(restored.version().last_seq(ReplicaId::new(1)), after);
    meet(&mut [&mut world, &mut restored]);
    let values = array(&world, "array");
    let count = |text: &str| values.iter().filter(|v| v.as_str() == Some(text)).count();
    assert_eq!((count("world"), count("restored")), (1, 1));
    assert_eq!(values[0], Value::from("restored"));
    assert_eq!(
        world.array("array").map(0).get("inner"),
        Some(&Value::from(1))
    );
    assert!(!world.or_set("set").contains(2) && world.or_set("set").contains(1));
    let map = world.map("map");
    assert_eq!(map.get("world"), Some(&Value::from(1)));
    assert_eq!(map.map("deep").get("restored"), Some(&Value::from(1)));
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
fn a_whole_move_is_told_as_a_going_and_a_coming() {
    let mut document = replica(1);
    write(&mut document, NOW, |tx| {
        tx.array("k").append_all(ints(0..3))
    });
    document.observe(true);
    write(&mut document, NOW, |tx| tx.array("k").move_to(0, 2));
    let batches = document.take_changes();
    let places: Vec<_> = batches[0]
        .changes
        .iter()
        .map(|change| change.place)
        .collect();
    let id = document.array("k").id(2).expect("it shows");
    let at = |index| Place::Element { id, index };
    assert_eq!(places, [at(0), at(2)]);
    assert_eq!(batches[0].changes[0].old, Some(Value::from(0)));
    assert_eq!(batches[0].changes[1].new, Some(Value::from(0)));
}

#[test]
fn damage_in_containers_is_repaired_on_both_sides() {
    let whole = furnished();
    // It believes to have applied everything, but has lost some of each.
    let mut broken = replica(1);
    let mut garbled = furnished();
    garbled
        .transact(NOW + 5, |tx| {
            tx.array("array").delete(0)?;
            tx.array("array").delete(2)?;
            tx.map("map").unset("deep")?;
            tx.or_set("set").clear()
        })
        .expect("within limits");
    broken.apply(&garbled.delta_of(&whole.version()));
    assert_eq!(broken.version(), whole.version());
    assert_ne!(broken.digest(), whole.digest());
    let mut whole = copy(1, &whole);
    let (from_whole, from_broken) = (read(&whole.snapshot()), read(&broken.snapshot()));
    whole.repair(&from_broken);
    assert!(broken.repair(&from_whole) >= 5);
    assert_eq!(broken.digest(), whole.digest());
    assert_eq!(broken.encode(), whole.encode());
    assert_eq!(array(&broken, "array"), array(&furnished(), "array"));
    assert!(read(&broken.snapshot()) == whole.snapshot());
}

#[test]
fn members_and_values_that_are_too_large_are_refused() {
    let mut document = replica(1);
    let before = document.encode();
    let large = "x".repeat(limits::MAX_VALUE_BYTES);
    let outcome = document.transact(NOW, |tx| {
        let refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::ValueTooLarge(_)));
        assert!(refused(tx.map("m").set("k", large.clone())));
        assert!(refused(tx.array("a").append(large.clone()).map(drop)));
        assert!(refused(
            tx.array("a")
                .append_all([Value::from(1), large.clone().into()])
                .map(drop)
        ));
        assert!(tx.or_set("s").insert(large.clone()).is_err());
        assert!(
            tx.or_set("s")
                .insert(vec![0u8; limits::MAX_KEY_BYTES])
                .is_err()
        );
        Ok::<(), ()>(())
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!(document.encode(), before);
    let own = document.own_seq();
    assert_eq!(own, 0, "what was refused took no number");
}
