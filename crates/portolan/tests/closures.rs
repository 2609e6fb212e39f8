//! Closures that run while a map is held: what they may do, and what becomes of their mistakes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use portolan::{Error, Map, Node, Value};

async fn map() -> Map {
    let node = Node::builder().spawn().await.unwrap();
    node.open("m").await.unwrap()
}

/// What `f` gives, on a thread of its own: where it waits for itself, the test fails and does not
/// hang.
fn done<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(catch_unwind(AssertUnwindSafe(f))));
    let result = receiver.recv_timeout(Duration::from_secs(30));
    result.expect("it waits for itself")
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_transaction_that_panics_changes_nothing_and_holds_nobody_up() {
    let map = map().await;
    map.set("a", 1).unwrap();
    let mut changes = map.watch("**").unwrap();
    let before = map.read(|document| (document.encode(), document.digest()));
    let writer = map.clone();
    let panicked = done(move || {
        writer.transact(|tx| {
            tx.set("a", 2)?;
            tx.array("list").append(1)?;
            tx.counter("n").add(1)?;
            assert!(tx.document().is_empty(), "of the program");
            Ok::<_, Error>(())
        })
    });
    let panic = panicked.unwrap_err();
    assert!(words(&*panic).contains("of the program"));
    assert!(map.read(|document| (document.encode(), document.digest())) == before);
    assert_eq!(changes.try_next(), None);
    map.set("a", 3).unwrap();
    assert!(changes.try_next().is_some());
}

#[tokio::test]
async fn a_write_within_a_closure_of_the_same_map_is_refused() {
    let map = map().await;
    let inner = map.clone();
    let result = done(move || {
        inner.transact(|tx| {
            tx.set("a", 1)?;
            inner.map("users").array("inbox").append("x")?;
            Ok::<_, Error>(())
        })
    });
    assert!(matches!(result, Ok(Err(Error::Held { .. }))), "{result:?}");
    assert!(map.is_empty(), "the transaction failed, and is taken back");

    let inner = map.clone();
    let result = done(move || inner.read(|_| inner.set("a", 1)));
    assert!(matches!(result, Ok(Err(Error::Held { .. }))), "{result:?}");
    map.set("a", 1).unwrap();
}

#[tokio::test]
async fn a_read_within_a_transaction_of_the_same_map_fails_and_takes_it_back() {
    let map = map().await;
    let inner = map.clone();
    let panicked = done(move || {
        inner.transact(|tx| {
            tx.set("a", 1)?;
            Ok::<_, Error>(inner.get("a"))
        })
    });
    let panic = panicked.unwrap_err();
    assert!(words(&*panic).contains("the map `m`"), "{}", words(&*panic));
    assert!(map.is_empty());
    map.set("a", 1).unwrap();
}

#[tokio::test]
async fn another_map_may_be_used_within_a_closure() {
    let map = map().await;
    let node = Node::builder().spawn().await.unwrap();
    let other = node.open("other").await.unwrap();
    map.transact(|tx| {
        tx.set("a", 1)?;
        other.transact(|tx| {
            tx.set("a", 2)?;
            Ok::<_, Error>(())
        })?;
        assert_eq!(other.get("a"), Some(Value::from(2)));
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(map.get("a"), Some(Value::from(1)));
}

#[tokio::test]
async fn a_read_within_a_read_does_not_wait_for_a_writer_that_waits_for_both() {
    let map = map().await;
    let (writer, reader) = (map.clone(), map.clone());
    let (stop, stopped) = mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        while stopped.try_recv().is_err() {
            writer.set("a", 1).unwrap();
        }
    });
    done(move || {
        for _ in 0..500 {
            reader.read(|document| {
                let outer = document.version();
                for _ in 0..50 {
                    assert_eq!(reader.version(), outer);
                }
            });
        }
    })
    .unwrap();
    stop.send(()).unwrap();
    writing.join().unwrap();
}
