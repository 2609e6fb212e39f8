//! Nodes that share maps through a real server on loopback.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Server, client, converge, memory, soon, until};
use portolan::{Event, Key, Map, Node, Pattern, Peer, Value};

#[tokio::test]
async fn two_nodes_converge_through_a_server() {
    let server = Server::start(memory().await).await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    for i in 0..500i64 {
        a.set(format!("a{i}"), i).unwrap();
        b.set(i, format!("b{i}")).unwrap();
    }
    assert!(a.unset("a7").unwrap());
    assert!(!b.unset("nothing").unwrap());
    soon("ready", a.ready()).await.unwrap();
    soon("flush", a.flush_peers()).await.unwrap();
    soon("flush", b.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    assert_eq!(a.len(), 999);
    let there = server.node.get("m").await.unwrap().unwrap();
    converge(&a, &there).await;
}

#[tokio::test]
async fn what_is_written_before_there_is_a_server_arrives() {
    let reserved = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let builder = Node::builder().connect(format!("ws://{address}"));
    let builder = builder.max_back_off(Duration::from_millis(100));
    let node = builder.spawn().await.unwrap();
    let map = node.open("m").await.unwrap();
    map.set("k", "offline").unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), map.flush_peers()).await;
    assert!(early.is_err(), "offline, a flush to the peers waits");
    let server = Server::start_at(memory().await, address).await;
    soon("flush", map.flush_peers()).await.unwrap();
    let there = server.node.get("m").await.unwrap().unwrap();
    assert_eq!(there.get("k"), Some(Value::from("offline")));
}

#[tokio::test]
async fn a_lost_server_is_found_again_and_both_sides_are_kept() {
    let server = Server::start(memory().await).await;
    let address = server.address;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    a.set("k", "before").unwrap();
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;

    let node = server.stop().await;
    until("the loss is noticed", &a, |a| {
        a.status().sessions.is_empty() && b.status().sessions.is_empty()
    })
    .await;
    a.set("k", "from a").unwrap();
    b.set("k", "from b").unwrap();
    a.set("a", 1).unwrap();
    b.unset("nothing").unwrap();

    let _server = Server::start_at(node, address).await;
    soon("flush", a.flush_peers()).await.unwrap();
    soon("flush", b.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    let siblings = a.get_all("k");
    assert_eq!(siblings.len(), 2, "both are kept: {siblings:?}");
    assert_eq!(siblings, b.get_all("k"), "in the same order");
    a.set("k", "settled").unwrap();
    until("one value is left", &b, |b| {
        b.get_all("k") == [Value::from("settled")]
    })
    .await;
}

/// A map as its watcher knows it.
#[derive(Default)]
struct Copy {
    entries: BTreeMap<Key, (Value, Vec<Value>)>,
    snapshots: usize,
    missed: u64,
}

impl Copy {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Changed(batch) => {
                for change in &batch.changes {
                    let key = change.path[0].clone();
                    let known = self.entries.get(&key).map(|(value, _)| value.clone());
                    assert_eq!(known, change.old, "{key}: the old value is what was there");
                    match &change.new {
                        Some(new) => {
                            let siblings = change.siblings.clone();
                            self.entries.insert(key, (new.clone(), siblings));
                        }
                        None => drop(self.entries.remove(&key)),
                    }
                }
            }
            Event::Snapshot {
                entries, missed, ..
            } => {
                self.snapshots += 1;
                self.missed += missed;
                let entries = entries.iter().cloned();
                let entries = entries.map(|e| (e.path[0].clone(), (e.value, e.siblings)));
                self.entries = entries.collect();
            }
        }
    }

    fn is(&self, map: &Map, pattern: &str) -> bool {
        let pattern = Pattern::new(pattern).unwrap();
        let entries = map.entries().into_iter();
        let entries = entries.filter(|entry| pattern.matches_path(&entry.path));
        let entries = entries.map(|e| (e.path[0].clone(), (e.value, e.siblings)));
        entries.collect::<BTreeMap<_, _>>() == self.entries
    }
}

#[tokio::test]
async fn a_watcher_can_keep_an_exact_copy() {
    let server = Server::start(memory().await).await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    let mut all = b.watch("**").unwrap();
    let mut some = b.watch("x/*").unwrap();
    let mut other = b.watch("y/**").unwrap();
    for round in 0..50i64 {
        a.transact(|tx| {
            tx.set("x/1", round)?;
            tx.set(format!("x/{}/deep", round % 7), round)?;
            tx.set(round % 5, "number")?;
            Ok::<(), portolan::Error>(())
        })
        .unwrap();
        b.set("x/2", round).unwrap();
        a.set("x/2", -round).unwrap();
        b.set("y/z/1", round).unwrap();
        if round % 3 == 0 {
            b.unset("x/1").unwrap();
            a.unset(round % 5).unwrap();
        }
        tokio::task::yield_now().await;
    }
    soon("flush", a.flush_peers()).await.unwrap();
    soon("flush", b.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    let (mut copy, mut part) = (Copy::default(), Copy::default());
    let mut numbers = Vec::new();
    while let Some(event) = all.try_next() {
        copy.apply(&event);
        if let Event::Changed(batch) = &event {
            numbers.push(batch.number);
        }
    }
    assert!(copy.is(&b, "**"));
    assert!(
        numbers.is_sorted_by(|a, b| a + 1 == *b),
        "no number is left out"
    );
    assert_eq!(
        numbers.last().copied(),
        Some(b.read_numbered(|_, number| number))
    );
    while let Some(event) = some.try_next() {
        if let Event::Changed(batch) = &event {
            let stays = |path: &[Key]| {
                path[0]
                    .as_str()
                    .is_some_and(|k| k.matches('/').count() == 1)
            };
            assert!(batch.changes.iter().all(|change| stays(&change.path)));
        }
        part.apply(&event);
    }
    assert!(part.is(&b, "x/*"));
    while let Some(event) = other.try_next() {
        let Event::Changed(batch) = event else {
            panic!()
        };
        assert_eq!(batch.changes[0].path, [Key::from("y/z/1")]);
    }
    assert_eq!((copy.snapshots, part.snapshots), (0, 0));
}

#[tokio::test]
async fn a_transaction_is_one_event() {
    let node = memory().await;
    let map = node.open("m").await.unwrap();
    let mut watch = map.watch("**").unwrap();
    map.transact(|tx| {
        tx.set("a", 1)?;
        tx.set("b", 2)?;
        tx.unset("a");
        tx.set("c", 3)?;
        Ok::<(), portolan::Error>(())
    })
    .unwrap();
    let failed = map.transact(|tx| {
        tx.set("d", 4)?;
        Err::<(), _>(portolan::Error::Conversion("changed my mind".into()))
    });
    assert!(failed.is_err());
    let Some(Event::Changed(batch)) = watch.next().await else {
        panic!("one event")
    };
    let keys: Vec<_> = batch
        .changes
        .iter()
        .map(|change| change.path[0].clone())
        .collect();
    assert_eq!(keys, [Key::from("b"), Key::from("c")]);
    assert_eq!(watch.try_next(), None);
    assert_eq!(map.keys(), [Key::from("b"), Key::from("c")]);
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_and_given_a_snapshot() {
    let node = Node::builder().watch_queue(10).spawn().await.unwrap();
    let map = node.open("m").await.unwrap();
    let mut slow = map.watch("**").unwrap();
    let mut copy = Copy::default();
    for i in 0..100i64 {
        map.set(i % 20, i).unwrap();
    }
    let event = slow.next().await.unwrap();
    let Event::Snapshot { missed, .. } = &event else {
        panic!("a snapshot: {event:?}")
    };
    assert_eq!(*missed, 100);
    copy.apply(&event);
    assert!(copy.is(&map, "**"));
    map.set(3, "after").unwrap();
    copy.apply(&slow.next().await.unwrap());
    assert!(copy.is(&map, "**"), "what comes after fits the snapshot");
    assert_eq!(slow.try_next(), None);

    let big = map.transact(|tx| {
        (0..50i64).try_for_each(|i| tx.set(i, "big"))?;
        Ok::<(), portolan::Error>(())
    });
    big.unwrap();
    let event = slow.next().await.unwrap();
    assert!(
        matches!(event, Event::Changed(_)),
        "one batch is given, however large"
    );
    let mut first = map.watch_from_snapshot("**").unwrap();
    let Some(Event::Snapshot {
        missed: 0, entries, ..
    }) = first.next().await
    else {
        panic!("the snapshot that was asked for")
    };
    assert_eq!(entries.len(), 50);
}

#[tokio::test]
async fn a_watch_ends_when_the_node_closes() {
    let node = memory().await;
    let map = node.open("m").await.unwrap();
    let mut watch = map.watch("**").unwrap();
    map.set("k", 1).unwrap();
    node.close().await.unwrap();
    assert!(matches!(watch.next().await, Some(Event::Changed(_))));
    assert_eq!(watch.next().await, None);
    assert_eq!(map.get("k"), Some(Value::Int(1)), "it can still be read");
    assert!(matches!(map.set("k", 2), Err(portolan::Error::Closed)));
    assert!(matches!(node.open("n").await, Err(portolan::Error::Closed)));
    node.close().await.unwrap();
}

#[tokio::test]
async fn closing_sends_what_waits() {
    let server = Server::start(memory().await).await;
    let node = client(&server).await;
    let map = node.open("m").await.unwrap();
    soon("ready", map.ready()).await.unwrap();
    for i in 0..1000i64 {
        map.set(i, "value").unwrap();
    }
    soon("close", node.close()).await.unwrap();
    let there = server.node.get("m").await.unwrap().unwrap();
    until("all has arrived", &there, |there| there.len() == 1000).await;
    until("the session is over", &there, |there| {
        there.status().sessions.is_empty()
    })
    .await;
}

#[tokio::test]
async fn servers_in_a_chain_share_maps_that_match_whoever_made_them() {
    let first = Server::start(memory().await).await;
    first
        .node
        .open("fleet/old")
        .await
        .unwrap()
        .set("k", 1)
        .unwrap();
    first
        .node
        .open("private/x")
        .await
        .unwrap()
        .set("k", 1)
        .unwrap();
    let pattern = Pattern::new("fleet/**").unwrap();
    let middle = Node::builder().connect(Peer::new(first.url()).share(pattern.clone()));
    let middle = middle.spawn().await.unwrap();
    middle
        .open("fleet/mine")
        .await
        .unwrap()
        .set("k", 2)
        .unwrap();
    let middle = Server::start(middle).await;
    let last = Node::builder().connect(Peer::new(middle.url()).share(pattern));
    let last = last.spawn().await.unwrap();
    soon("the names of all arrive", async {
        loop {
            let names = last.maps();
            if names.len() == 2 && first.node.maps().len() == 3 {
                return assert_eq!(names, ["fleet/mine", "fleet/old"]);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let later = first.node.open("fleet/later").await.unwrap();
    later.set("k", 3).unwrap();
    let at_last = soon("a later one too", async {
        loop {
            if let Some(map) = last.get("fleet/later").await.unwrap() {
                return map;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    converge(&later, &at_last).await;
    let mine = first.node.get("fleet/mine").await.unwrap().unwrap();
    until("what the middle made", &mine, |mine| {
        mine.get("k") == Some(Value::Int(2))
    })
    .await;
    assert_eq!(middle.node.maps().len(), 3);
    assert!(middle.node.get("private/x").await.unwrap().is_none());
}

#[tokio::test]
async fn presence_is_told_and_goes_with_its_connection() {
    let server = Server::start(memory().await).await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (map_a, map_b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    soon("ready", map_b.ready()).await.unwrap();
    map_a.set_presence(Some("cursor 3".into())).unwrap();
    until("presence", &map_b, |b| {
        b.presences() == [(a.replica(), "cursor 3".into())]
    })
    .await;
    assert!(map_a.set_presence(Some(vec![0; 70_000].into())).is_err());
    let changed = map_b.presence_changed();
    let (changed, closed) = tokio::join!(soon("change", changed), a.close());
    changed.unwrap();
    closed.unwrap();
    until("it is gone", &map_b, |b| b.presences().is_empty()).await;
}

#[tokio::test]
async fn names_and_patterns_out_of_bounds_are_refused() {
    let node = memory().await;
    for name in [String::new(), "x".repeat(513)] {
        let error = node.open(&name).await.unwrap_err();
        assert!(matches!(error, portolan::Error::MapName { .. }), "{error}");
    }
    let map = node.open(&"x".repeat(512)).await.unwrap();
    assert!(map.watch("[").is_err());
    assert!(map.set("k".repeat(5_000), 1).is_err());
    assert!(map.is_empty());
    assert!(Node::builder().connect("nonsense").spawn().await.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_node() {
    let server = Server::start(memory().await).await;
    let node = client(&server).await;
    let map = node.open("m").await.unwrap();
    soon("ready", map.ready()).await.unwrap();
    let there = server.node.get("m").await.unwrap().unwrap();
    drop(node);
    map.set("k", 1).unwrap();
    until("a map keeps its node alive", &there, |there| {
        there.len() == 1
    })
    .await;
    drop(map);
    until("the connection is cut", &there, |there| {
        there.status().sessions.is_empty()
    })
    .await;
}
