//! What a program leaves out that has to be small.

use portolan_core::{Delta, Document, Error, ReplicaId, Value};

use super::{NOW, copy, replica};

#[test]
fn what_is_written_to_stand_stands_whatever_the_closure_gives() {
    let mut ada = replica(1);
    let failed: Result<(), Error> = ada.write(NOW, |tx| {
        tx.set("kept", 1)?;
        tx.array("list").insert(1, "beyond the end")?;
        tx.set("never", 2)
    });
    assert_eq!(failed, Err(Error::IndexOutOfBounds { index: 1, len: 0 }));
    assert_eq!(ada.get("kept"), Some(&Value::from(1)));
    assert!(!ada.contains_key("never") && !ada.contains_key("list"));
    assert_eq!(ada.own_seq(), 1);
    // An operation that fails leaves no trace: the next one follows, and others agree.
    ada.set(NOW, "next", 3).expect("within limits");
    let ben = copy(2, &ada);
    assert_eq!(ben.encode(), ada.encode());
    assert_eq!(ben.version(), ada.version());
}

#[test]
fn a_transaction_that_fails_still_takes_all_back() {
    let mut ada = replica(1);
    ada.set(NOW, "key", 1).expect("within limits");
    let before = ada.encode();
    let failed: Result<(), Error> = ada.transact(NOW, |tx| {
        tx.set("key", 2)?;
        tx.array("list").append("one")?;
        tx.array("list").delete(1)
    });
    assert!(failed.is_err());
    assert_eq!(ada.encode(), before);
}

#[test]
fn a_document_without_a_past_is_the_same_but_for_looking_back() {
    let mut bare = Document::without_past(ReplicaId::new(1));
    let mut full = Document::new(ReplicaId::new(1));
    for document in [&mut bare, &mut full] {
        document.set(NOW, "key", 1).expect("within limits");
        document.set(NOW, "key", 2).expect("within limits");
    }
    assert_eq!(bare.encode(), full.encode());
    assert_eq!(bare.digest(), full.digest());
    assert!(full.undo(NOW, 2..=2).is_ok());
    assert_eq!(full.get("key"), Some(&Value::from(1)));
    assert_eq!(bare.undo(NOW, 2..=2), Err(Error::PastForgotten));
    // From the moment on that it is asked to.
    bare.keep_past(10);
    bare.set(NOW, "key", 3).expect("within limits");
    let last = bare.own_seq();
    assert!(bare.undo(NOW, last..=last).is_ok());
    assert_eq!(bare.get("key"), Some(&Value::from(2)));
}

#[test]
fn values_stand_one_behind_the_other_in_bytes() {
    let values = [
        Value::from(-7),
        Value::from(vec![Value::Null, Value::from("text")]),
        Value::from(0.5),
    ];
    let mut bytes = Vec::new();
    for value in &values {
        value.encode_to(&mut bytes);
    }
    let mut rest = bytes.as_slice();
    for value in &values {
        assert_eq!(Value::decode_from(&mut rest).as_ref(), Ok(value));
    }
    assert!(rest.is_empty());
    assert!(Value::decode_from(&mut rest).is_err());
    assert!(Delta::decode(&bytes).is_err());
}
