//! Keys, members and siblings.

use portolan_core::{Error, Key, Value, Version, limits};

use crate::{NOW, copy, ints, meet, read, replica, write};

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
