//! Deltas with containers, damaged and sealed again.

use portolan_core::{
    ArrayView, Delta, Document, Dot, Error, Held, Key, MapView, ReplicaId, Transaction, Value,
    Version,
};
use proptest::prelude::*;

use crate::raw::seal;
use crate::{LAST, NOW, assert_packs, edit, edited, forms, has_one_encoding, value};

/// One operation somewhere in a small tree.
type Numbers = (u8, u8, u8);

fn operate(tx: &mut Transaction<'_>, (act, a, b): Numbers, value: Value) -> Result<(), Error> {
    let array = ["x", "y"][usize::from(b) % 2];
    let (a, b) = (usize::from(a), usize::from(b));
    let len = tx.array(array).len()?;
    match act % 20 {
        0 => tx.set("x", value),
        1 => tx.map("x").set("k", value),
        2 => tx.map("x").map("y").set(b as i64 % 3, value),
        3 => tx.or_set("x").insert(value),
        4 => tx.or_set("x").remove(value).map(drop),
        5 => tx.counter("x").add(a as i64 - 100),
        6 => tx.counter("x").reset().map(drop),
        7 => tx.root().unset("x").map(drop),
        8 => tx.array(array).append_all(vec![value; a % 5]).map(drop),
        9..=11 => tx
            .array(array)
            .insert_all(b % (len + 1), vec![value; a % 20])
            .map(drop),
        _ if len == 0 => tx.array(array).append(value).map(drop),
        12 => tx.array(array).set(a % len, value),
        13 => tx.array(array).delete(a % len),
        14..=15 => tx.array(array).move_to(a % len, b % len),
        16 => tx.array(array).map(a % len).set("k", value),
        17 => tx.array(array).array(a % len).append(value).map(drop),
        18 => tx.array(array).or_set(a % len).insert(value),
        _ => tx.array(array).counter(a % len).add(b as i64),
    }
}

/// Three replicas of one document, and the deltas that they exchanged or could have.
fn documents() -> impl Strategy<Value = (Vec<Document>, Vec<Delta>)> {
    let step = (0..3usize, any::<Numbers>(), value(), any::<usize>());
    prop::collection::vec(step, 1..30).prop_map(|steps| {
        let ids = [1, 2, 1 << 40];
        let mut all: Vec<Document> = ids.map(|id| Document::new(ReplicaId::new(id))).into();
        let mut deltas = Vec::new();
        for (time, (at, numbers, value, pick)) in steps.into_iter().enumerate() {
            let base = all[at].own_seq();
            let now = NOW + time as u64 / 3;
            let done = all[at].transact(now, |tx| operate(tx, numbers, value));
            // A member may be too large for a key.
            assert!(matches!(done, Ok(()) | Err(Error::KeyTooLong(_))));
            deltas.push(all[at].own_since(base));
            let to = pick % all.len();
            let delta = deltas[pick % deltas.len()].clone();
            all[to].apply(&delta);
            if pick % 5 == 0 {
                deltas.push(all[to].snapshot());
                deltas.push(all[at].delta_since(&all[to].version()));
            }
        }
        (all, deltas)
    })
}

/// Reads everything; what is counted is there.
fn read_map(map: MapView<'_>) -> usize {
    let keys: Vec<&Key> = map.iter().map(|(key, _)| key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert_eq!(keys.len(), map.len());
    keys.into_iter()
        .map(|key| {
            assert!(map.contains_key(key));
            map.held(key).into_iter().map(read_held).sum::<usize>()
        })
        .sum()
}

fn read_array(array: ArrayView<'_>) -> usize {
    let mut all = 0;
    for (index, (id, siblings)) in array.iter().enumerate() {
        assert_eq!(
            (array.id(index), array.index_of(id)),
            (Some(id), Some(index))
        );
        assert_eq!(array.get_all(index).count(), siblings.count());
        all += array.held(index).into_iter().map(read_held).sum::<usize>();
    }
    assert_eq!(array.iter().count(), array.len());
    all
}

fn read_values(array: ArrayView<'_>) -> Vec<Value> {
    let values = array.iter().flat_map(|(_, siblings)| siblings);
    values.map(|sibling| sibling.value.clone()).collect()
}

fn read_held(held: Held<'_>) -> usize {
    match held {
        Held::Values(values) => values.count(),
        Held::Map(map) => read_map(map),
        Held::Array(array) => read_array(array),
        Held::Set(set) => {
            assert_eq!(set.iter().count(), set.len());
            set.len()
        }
        Held::Counter(_) => 1,
    }
}

fn assert_consistent(document: &Document) {
    read_map(document.root());
    let bytes = document.encode();
    let snapshot = Delta::decode(&bytes).expect("own bytes decode");
    assert_eq!(snapshot, document.snapshot());
    assert!(snapshot.encode() == bytes);
    let mut again = Document::new(ReplicaId::new(0x000a_9a11));
    again.apply(&snapshot);
    assert_eq!(again.digest(), document.digest());
    assert!(again.encode() == bytes);
    let all = document.delta_since(&Version::new());
    assert_eq!(Delta::decode(&all.encode()), Ok(all));
}

/// Applies a delta, goes on writing, and repairs with it.
fn assert_harmless(document: &mut Document, delta: &Delta, numbers: &[Numbers]) {
    document.observe(true);
    let before = document.version();
    let new = document.apply(delta);
    assert_eq!(new, delta.applied().difference(&before));
    assert_eq!(document.version(), before.union(delta.applied()));
    assert_consistent(document);
    if document.own_seq() < LAST - 1000 {
        for numbers in numbers {
            let was = (document.encode(), document.digest());
            let failed = document.transact(NOW, |tx| {
                operate(tx, *numbers, Value::from(1)).ok();
                operate(tx, (numbers.1, numbers.2, numbers.0), Value::from(1)).ok();
                Err::<(), ()>(())
            });
            assert!(failed.is_err() && (document.encode(), document.digest()) == was);
            document
                .transact(NOW, |tx| operate(tx, *numbers, Value::from(1)))
                .ok();
            assert_consistent(document);
        }
        document
            .transact(NOW, |tx| tx.root().clear())
            .expect("within limits");
        assert!(document.is_empty());
        assert_consistent(document);
    }
    document.repair(delta);
    assert_consistent(document);
    document.prune_log(&document.version());
    assert_consistent(document);
}

/// What a delta takes in memory, about: held in a document, and read from there.
fn values_in(delta: &Delta) -> usize {
    let mut holder = Document::new(ReplicaId::new(0x000a_9a11));
    holder.apply(delta);
    read_map(holder.root())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(250),
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_damage_or_malice_makes_of_a_nested_delta_is_refused_or_harmless(
        (all, deltas) in documents(),
        edits in prop::collection::vec((any::<usize>(), prop::collection::vec(edit(), 1..3)), 40),
        numbers in prop::collection::vec(any::<Numbers>(), 0..3),
    ) {
        let whole: Vec<Vec<u8>> = all.iter().map(Document::encode).collect();
        let sent: Vec<Vec<u8>> = deltas.iter().flat_map(forms).collect();
        for (pick, edits) in edits {
            let bytes = edited(&sent[pick % sent.len()], &edits);
            if let Ok(delta) = Delta::decode(&bytes) {
                prop_assert!(has_one_encoding(&delta, &bytes));
                prop_assert!(values_in(&delta) <= 20 * bytes.len());
                let at = pick % whole.len();
                let mut document = Document::new(ReplicaId::new([1, 2, 1 << 40][at]));
                document.apply(&Delta::decode(&whole[at]).expect("own bytes decode"));
                assert_harmless(&mut document, &delta, &numbers);
                assert_packs(&document.snapshot());
            }
        }
    }

    #[test]
    fn cut_off_nested_deltas_are_refused((_, deltas) in documents(), at in any::<prop::sample::Index>()) {
        for bytes in deltas.iter().flat_map(forms) {
            let body = &bytes[..bytes.len() - 4];
            let cut = &body[..at.index(body.len())];
            prop_assert!(Delta::decode(&crate::seal(cut.to_vec())).is_err());
        }
    }
}

#[test]
fn few_bytes_never_stand_for_many_positions() {
    let mut document = Document::new(ReplicaId::new(1));
    document
        .transact(NOW, |tx| {
            tx.array("k").append_all(vec![Value::Null; 100_000])
        })
        .expect("within limits");
    let many = document.encode();
    assert!(many.len() > 100_000 / 16);
    document
        .transact(NOW, |tx| tx.array("k").clear())
        .expect("within limits");
    let dead = document.encode();
    assert!(dead.len() > 100_000 / 16);
    for bytes in [many, dead] {
        let mut body = bytes[..bytes.len() - 4].to_vec();
        body.truncate(body.len() - 1000);
        assert!(Delta::decode(&crate::seal(body)).is_err());
    }
    let unknown = Dot::new(ReplicaId::new(1), 5);
    assert_eq!(document.array("k").index_of(unknown), None);
}

/// Positions of which the first shows nothing begin with an empty run of values that are live, and
/// no other run is empty.
#[test]
fn empty_runs_of_positions_are_refused() {
    let mut document = Document::new(ReplicaId::new(1));
    let done = document.transact(NOW, |tx| {
        let mut list = tx.array("x");
        list.append_all([1, 2, 3].map(Value::from))?;
        list.delete(0)
    });
    done.expect("within limits");
    let bytes = document.encode();
    let content = &bytes[..bytes.len() - 4];
    for at in 0..=content.len() {
        let (before, after) = content.split_at(at);
        let more = seal([before, &[0, 0], after].concat());
        if let Ok(delta) = Delta::decode(&more) {
            assert_eq!(delta.encode(), more, "at {at}");
        }
    }
}

/// A move to beside an element that is not known so far counts, and is not where the element
/// stands.
#[test]
fn a_move_is_taken_back_though_one_that_is_waited_for_outranks_it() {
    let [mut one, mut two, mut three] = [1, 2, 3].map(|id| Document::new(ReplicaId::new(id)));
    let values = [1, 2, 3].map(Value::from);
    let done = one.transact(NOW, |tx| tx.array("x").append_all(values.clone()));
    done.expect("within limits");
    two.apply(&one.snapshot());
    three.apply(&one.snapshot());
    let done = three.transact(NOW, |tx| tx.array("x").append(4));
    done.expect("within limits");
    two.apply(&three.snapshot());
    let done = two.transact(NOW, |tx| tx.array("x").move_to(0, 3));
    done.expect("within limits");
    one.apply(&two.own_since(0));
    let was = (one.encode(), one.digest());
    let failed = one.transact(NOW, |tx| {
        tx.array("x").move_to(0, 1).expect("within limits");
        Err::<(), ()>(())
    });
    assert!(failed.is_err() && (one.encode(), one.digest()) == was);
    assert_consistent(&one);
    assert_eq!(read_values(one.array("x")), values);
    one.apply(&three.snapshot());
    assert_consistent(&one);
    assert_eq!(one.digest(), two.digest());
    assert_eq!(read_values(one.array("x")), [2, 3, 4, 1].map(Value::from));
}

/// Only who lies, or has heard what this replica lost, can write to an element that is not
/// inserted so far.
#[test]
fn an_insertion_is_taken_back_though_something_was_written_to_its_element_before() {
    let [mut lost, mut other, mut again] = [1, 2, 1].map(|id| Document::new(ReplicaId::new(id)));
    let done = lost.transact(NOW, |tx| tx.array("x").append(1));
    done.expect("within limits");
    other.apply(&lost.snapshot());
    let done = other.transact(NOW, |tx| {
        tx.array("x").set(0, 2)?;
        tx.array("x").map(0).set("k", 3)
    });
    done.expect("within limits");
    again.apply(&other.own_since(0));
    let was = (again.encode(), again.digest());
    let failed = again.transact(NOW, |tx| {
        tx.array("x").append(4).expect("within limits");
        tx.array("x").append(5).expect("within limits");
        tx.array("x").move_to(0, 1).expect("within limits");
        Err::<(), ()>(())
    });
    assert!(failed.is_err() && (again.encode(), again.digest()) == was);
    assert_consistent(&again);
    assert!(again.array("x").is_empty());
}

#[test]
fn a_move_is_done_again_under_a_new_id_though_one_that_is_waited_for_outranks_it() {
    let [mut one, mut two, mut three] = [1, 2, 3].map(|id| Document::new(ReplicaId::new(id)));
    let done = one.transact(NOW, |tx| {
        tx.array("x").append_all([1, 2, 3].map(Value::from))
    });
    done.expect("within limits");
    two.apply(&one.snapshot());
    three.apply(&one.snapshot());
    let done = three.transact(NOW, |tx| tx.array("x").append(4));
    done.expect("within limits");
    two.apply(&three.snapshot());
    let done = two.transact(NOW + 1, |tx| tx.array("x").move_to(0, 3));
    done.expect("within limits");
    let heard = one.own_seq();
    let done = one.transact(NOW, |tx| tx.array("x").move_to(0, 1));
    done.expect("within limits");
    one.apply(&two.own_since(0));
    one.change_replica(ReplicaId::new(4), heard);
    assert_consistent(&one);
    one.apply(&three.snapshot());
    two.apply(&one.snapshot());
    assert_consistent(&one);
    assert_eq!(one.digest(), two.digest());
    let shown = |document: &Document| read_values(document.array("x"));
    assert_eq!(shown(&one), [2, 3, 4, 1].map(Value::from));
    assert_eq!(shown(&one), shown(&two));
}

#[test]
fn where_an_element_stands_while_a_move_waits_does_not_depend_on_the_order() {
    let [mut one, mut two, mut three, mut four] =
        [1, 2, 3, 4].map(|id| Document::new(ReplicaId::new(id)));
    let done = one.transact(NOW, |tx| {
        tx.array("x").append_all([1, 2, 3].map(Value::from))
    });
    done.expect("within limits");
    for other in [&mut two, &mut three, &mut four] {
        other.apply(&one.snapshot());
    }
    let done = three.transact(NOW, |tx| tx.array("x").append(4));
    done.expect("within limits");
    let done = four.transact(NOW, |tx| tx.array("x").move_to(0, 1));
    done.expect("within limits");
    for seen in [false, true] {
        if seen {
            two.apply(&four.snapshot());
        }
        two.apply(&three.snapshot());
        let base = two.own_seq();
        let done = two.transact(NOW + 1, |tx| tx.array("x").move_to(usize::from(seen), 3));
        done.expect("within limits");
        let moves = [four.own_since(0), two.own_since(base)];
        let orders = [[0, 1], [1, 0]].map(|order| {
            let mut reader = Document::new(ReplicaId::new(9));
            reader.apply(&one.snapshot());
            for at in order {
                reader.apply(&moves[at]);
            }
            reader
        });
        let [a, b] = orders.each_ref().map(|one| read_values(one.array("x")));
        assert_eq!(a, b);
        assert_eq!(orders[0].version(), orders[1].version());
    }
}

/// Found by a fuzzer: whoever took such a position wrote other bytes than who took these.
#[test]
fn a_position_that_has_adopted_its_own_place_is_refused() {
    let bytes = vec![
        2, 2, 218, 10, 0, 0, 0, 0, 0, 0, 1, 0, 8, 176, 176, 176, 176, 176, 176, 176, 176, 1, 0, 1,
        0, 2, 0, 5, 4, 108, 105, 115, 116, 2, 0, 5, 4, 108, 105, 115, 116, 5, 2, 2, 2, 15, 2, 9, 0,
        0, 0, 0, 0, 0, 10, 218, 0, 0, 0, 0, 0, 0, 0, 4, 240, 2, 2, 0, 1, 1, 1, 0, 2, 10, 1, 2, 128,
        128, 168, 128, 213, 182, 187, 155, 3, 6, 0, 6, 1, 4, 0, 2, 1, 0, 1, 0, 0, 0, 0, 2, 1, 0, 0,
        1, 0, 1, 0, 1, 18, 1, 16, 1, 24, 1, 16, 1, 24, 0, 6, 0, 3, 128, 128, 128, 192, 170, 219,
        221, 205, 1, 0, 0, 14, 128, 128, 128, 192, 170, 219, 221, 205, 1, 0, 245, 63, 253, 127,
        128, 128, 170, 217, 221, 205, 1, 0, 12, 0, 128, 128, 128, 192, 170, 219, 221, 205, 1, 0, 0,
        3, 128, 164, 128, 192, 170, 219, 221, 202, 1, 0, 2, 1, 4, 1, 1, 1, 1, 128, 128, 128, 128,
        213, 182, 187, 155, 3, 2, 0, 1, 128, 128, 40, 3, 0, 5, 5, 1, 5, 4, 1, 115, 116, 97, 121,
        115, 99, 100, 97, 98,
    ];
    assert!(Delta::decode(&seal(bytes)).is_err());
}
