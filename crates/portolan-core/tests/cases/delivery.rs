//! What a delta or a failed transaction may do, and may not.

use portolan_core::{Delta, Document, Dot, Error, ReplicaId, Transaction, Value, Version};

use crate::{NOW, array, copy, ints, meet, read, replica, write};

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
