//! Counters and their resets.

use portolan_core::{Error, ReplicaId};

use crate::{NOW, copy, meet, orders, read, replica, write};

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
fn a_reset_of_what_another_took_back_is_no_operation() {
    let mut adder = replica(1);
    write(&mut adder, NOW, |tx| tx.counter("n").add(5));
    let first = adder.own_since(0);
    write(&mut adder, NOW, |tx| tx.counter("n").add(3));
    let mut resetter = copy(2, &adder);
    write(&mut resetter, NOW, |tx| tx.counter("n").reset());
    let late = |id| {
        let mut late = replica(id);
        late.apply(&read(&resetter.own_since(0)));
        late.apply(&read(&first));
        late
    };
    let mut third = late(3);
    assert!(!write(&mut third, NOW, |tx| tx.counter("n").reset()));
    assert_eq!((third.own_seq(), third.counter("n")), (0, 0));
    // To unset the key is one, since it is there; of the counter nothing need be noted.
    let mut fourth = late(4);
    assert!(fourth.contains_key("n"));
    assert!(fourth.unset(NOW, "n"));
    assert!(!fourth.contains_key("n"));
    assert_eq!(fourth.own_seq(), 1);
    write(&mut adder, NOW, |tx| tx.counter("n").add(2));
    meet(&mut [&mut adder, &mut resetter, &mut third, &mut fourth]);
    assert_eq!(fourth.counter("n"), 2);
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
    // Nor where the transaction goes on.
    let outcome = document.transact(NOW, |tx| {
        assert_eq!(tx.counter("n").add(1), Err(Error::CounterOverflow));
        Ok::<_, Error>(())
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!((document.own_seq(), document.encode()), (1, before));
    // Of several replicas the sum is held to the range.
    let mut other = replica(2);
    write(&mut other, NOW, |tx| tx.counter("n").add(i64::MAX));
    meet(&mut [&mut document, &mut other]);
    assert_eq!(document.counter("n"), i64::MAX);
    write(&mut other, NOW, |tx| tx.counter("n").add(i64::MIN));
    assert_eq!(other.counter("n"), i64::MAX - 1);
}
