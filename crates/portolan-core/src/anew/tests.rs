//! Whoever begins anew loses nothing that he has written, and brings nothing back.

use crate::transaction::Transaction;
use crate::{Document, ReplicaId, Value};

#[test]
fn what_was_inserted_into_an_element_that_is_gone_is_done_again() {
    let mut here = Document::new(ReplicaId::new(1));
    let write = |tx: &mut Transaction<'_>| tx.array("list").append("element");
    let id = here.transact(1, write).unwrap();
    let mut away = Document::new(ReplicaId::new(2));
    away.apply(&here.snapshot());
    let inside = away.transact(2, |tx| {
        tx.array("list").array(0).append(7)?;
        tx.array("list").map(0).set("key", 8)
    });
    inside.unwrap();
    here.transact(2, |tx| tx.array("list").delete(0)).unwrap();
    for _ in 0..3 {
        let now = here.version();
        here.forget_stable(&now, &now);
    }
    assert_eq!(here.tombstones(), 0);

    away.begin_anew(&here.snapshot(), 3);
    let list = away.array("list");
    assert_eq!(list.len(), 1);
    assert_ne!(list.id(0), Some(id));
    assert_eq!(list.array(0).get(0), Some(&Value::from(7)));
    assert_eq!(list.map(0).get("key"), Some(&Value::from(8)));
    let delta = away.delta_since(&here.version());
    assert_eq!(here.misfit(&delta), None);
    here.apply(&delta);
    assert_eq!(here.encode(), away.encode());
}
