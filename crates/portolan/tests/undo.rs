//! Transactions that are taken back, by nodes.

mod common;

use common::{Server, client, converge, memory, soon};
use portolan::{Error, Map, OperationError, Value};

#[tokio::test]
async fn a_transaction_is_taken_back_for_all_and_leaves_what_others_have_written_since() {
    let server = Server::start(memory().await).await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    a.set("rate", 10).unwrap();
    a.set("owner", "ada").unwrap();
    a.counter("hits").add(5).unwrap();
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;

    let mut changes = b.watch("**").unwrap();
    let write = |map: &Map| {
        let done = map.transact_undoable(|tx| {
            tx.set("rate", 20)?;
            tx.unset("owner");
            tx.set("new", true)?;
            tx.counter("hits").add(2)?;
            tx.array("log").append("faster")?;
            Ok::<_, Error>(7)
        });
        let (result, done) = done.unwrap();
        assert_eq!(result, 7);
        done
    };
    let done = write(&a);
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    b.set("new", "kept").unwrap();
    b.counter("hits").add(1).unwrap();
    soon("flush", b.flush_peers()).await.unwrap();
    converge(&a, &b).await;

    a.undo(&done).unwrap();
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    for map in [&a, &b] {
        assert_eq!(map.get("rate"), Some(Value::from(10)));
        assert_eq!(map.get("owner"), Some(Value::from("ada")));
        assert_eq!(map.get("new"), Some(Value::from("kept")));
        assert_eq!(map.counter("hits").get(), 6);
        assert!(map.array("log").is_empty());
    }
    assert!(soon("a change", changes.next()).await.is_some());
    // Another node has not done it.
    assert!(b.undo(&done).is_err());
}

#[tokio::test]
async fn what_was_done_offline_is_taken_back_under_a_lent_id() {
    let server = Server::start(memory().await).await;
    let first = client(&server).await;
    let map = first.open("m").await.unwrap();
    map.set("k", 0).unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    // Its id is lent to the next one.
    soon("close", first.close()).await.unwrap();

    let second = client(&server).await;
    let map = second.open("m").await.unwrap();
    let ((), done) = map
        .transact_undoable(|tx| tx.set("mine", 1).map_err(Error::from))
        .unwrap();
    let before = map.status().replica;
    soon("ready", map.ready()).await.unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    assert_ne!(map.status().replica, before, "an id was lent");
    map.undo(&done).unwrap();
    assert_eq!(map.get("mine"), None);
    assert_eq!(map.get("k"), Some(Value::from(0)));
}

#[tokio::test]
async fn nothing_is_made_up_where_it_cannot_be_taken_back() {
    let node = portolan::Node::builder().history(1).spawn().await.unwrap();
    let map = node.open("m").await.unwrap();
    map.set("k", 0).unwrap();
    let done = map.transact_undoable(|tx| tx.set("k", 1).map_err(Error::from));
    let ((), done) = done.unwrap();
    for n in 2..20 {
        map.set("k", n).unwrap();
    }
    let failed = map.undo(&done).unwrap_err();
    let forgotten = Error::Operation(OperationError::PastForgotten);
    assert_eq!(failed.to_string(), forgotten.to_string());
    assert_eq!(map.get("k"), Some(Value::from(19)));
    let ((), nothing) = map.transact_undoable(|_| Ok::<_, Error>(())).unwrap();
    map.undo(&nothing).unwrap();
    let failed: Result<((), _), Error> = map.transact_undoable(|tx| {
        tx.set("k", 20)?;
        map.undo(&nothing)?;
        map.undo(&done)
    });
    assert!(matches!(failed, Err(Error::Held { .. })));
    assert_eq!(map.get("k"), Some(Value::from(19)));
}
