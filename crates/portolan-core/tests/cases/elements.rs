//! Arrays: elements that come, go, move and come back.

use std::collections::BTreeSet;

use portolan_core::{ArrayMut, Dot, Error, Key, Place, ReplicaId, Value, limits};

use crate::{NOW, array, copy, ints, meet, read, replica, write};

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
