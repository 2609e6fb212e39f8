//! What is deleted goes once all nodes have it, and whoever was not waited for loses nothing.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Server, converge, soon, until};
use portolan::{Config, Document, Error, Map, Node, Standing, Value};

/// Members are told of soon, and forgotten after so long.
fn config(forget_after: u64) -> Config {
    Config {
        gossip_interval: 50,
        gossip_rate: 1_000_000,
        forget_after,
        ..Config::default()
    }
}

const NEVER: u64 = u64::MAX;

async fn stored(directory: &Path, server: Option<&Server>, forget_after: u64) -> Node {
    let mut node = Node::builder().store(directory).sync(config(forget_after));
    if let Some(server) = server {
        node = node.connect(server.url());
    }
    let node = node.max_back_off(Duration::from_millis(200));
    node.spawn().await.unwrap()
}

fn fill(map: &Map, values: i64) {
    let fill = map.transact(|tx| {
        let all = (0..values).map(Value::from);
        tx.array("list").insert_all(0, all)?;
        Ok::<_, Error>(())
    });
    fill.unwrap();
}

fn tombstones(map: &Map) -> usize {
    map.read(Document::tombstones)
}

/// Whether one member has told that it has stored everything.
fn has_told(map: &Map, replica: portolan::ReplicaId) -> bool {
    let mut members = map.members().into_iter();
    members.any(|member| member.replica == replica && member.missing == 0)
}

#[tokio::test]
async fn what_was_set_and_unset_leaves_nothing_at_either_node() {
    let directories = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let server = Server::start(stored(directories[0].path(), None, NEVER).await).await;
    let node = stored(directories[1].path(), Some(&server), NEVER).await;
    let (here, there) = (
        server.node.open("m").await.unwrap(),
        node.open("m").await.unwrap(),
    );
    let keys = 0..20_000i64;
    for some in [keys.clone(), keys] {
        let set = there.read(Document::is_empty);
        there
            .transact(|tx| {
                for key in some {
                    if set {
                        tx.set(key, key)?;
                    } else {
                        tx.unset(key);
                    }
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        soon("flush", there.flush_peers()).await.unwrap();
    }
    for map in [&here, &there] {
        until("the log is gone", map, |map| !map.read(Document::has_past)).await;
        let bytes = map.read(|document| document.encode().len());
        assert!(bytes < 1_000, "{bytes}");
    }
    converge(&here, &there).await;
}

#[tokio::test]
async fn deleted_elements_go_soon_and_wait_for_a_node_that_is_away() {
    let directories = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
    let server = Server::start(stored(directories[0].path(), None, NEVER).await).await;
    let node = stored(directories[1].path(), Some(&server), NEVER).await;
    let (here, there) = (
        server.node.open("m").await.unwrap(),
        node.open("m").await.unwrap(),
    );
    fill(&here, 10_000);
    converge(&here, &there).await;
    there.array("list").clear().unwrap();
    for map in [&here, &there] {
        until("they are gone", map, |map| {
            map.version() == there.version() && tombstones(map) == 0
        })
        .await;
    }

    let third = stored(directories[2].path(), Some(&server), NEVER).await;
    let away = third.open("m").await.unwrap();
    fill(&here, 100);
    converge(&here, &away).await;
    soon("flush", away.flush()).await.unwrap();
    let id = away.status().replica;
    until("it is a member", &here, |map| has_told(map, id)).await;
    soon("close", third.close()).await.unwrap();
    here.array("list").clear().unwrap();
    until("the others have it", &here, |map| {
        has_told(map, there.status().replica)
    })
    .await;
    assert_eq!(tombstones(&here), 100);
    let third = stored(directories[2].path(), Some(&server), NEVER).await;
    let away = third.open("m").await.unwrap();
    for map in [&here, &there, &away] {
        until("it has it too", map, |map| {
            map.version() == here.version() && tombstones(map) == 0
        })
        .await;
    }
}

/// By command, and by time: what was written offline meanwhile is there.
#[tokio::test]
async fn a_node_that_was_forgotten_returns_with_what_it_wrote_offline() {
    for by_time in [false, true] {
        let forget_after = if by_time { 2_000 } else { NEVER };
        let directories = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let node = stored(directories[0].path(), None, forget_after).await;
        let server = Server::start(node).await;
        let here = server.node.open("m").await.unwrap();
        fill(&here, 10);
        let node = stored(directories[1].path(), Some(&server), forget_after).await;
        let there = node.open("m").await.unwrap();
        converge(&here, &there).await;
        let id = there.status().replica;
        until("it is a member", &here, |map| has_told(map, id)).await;
        soon("close", node.close()).await.unwrap();

        let node = stored(directories[1].path(), None, forget_after).await;
        let there = node.open("m").await.unwrap();
        let list = there.array("list");
        list.insert(5, 100).unwrap();
        list.set(4, 40).unwrap();
        list.map(3).unwrap().set("inner", 30).unwrap();
        list.map(3).unwrap().counter("count").add(5).unwrap();
        list.delete(9).unwrap();
        there.set("key", "offline").unwrap();
        soon("flush", there.flush()).await.unwrap();
        soon("close", node.close()).await.unwrap();

        let elsewhere = here.array("list");
        for _ in 2..8 {
            elsewhere.delete(2).unwrap();
        }
        if !by_time {
            assert!(here.forget(id).unwrap());
        }
        until("it is not waited for", &here, |map| tombstones(map) == 0).await;
        let members = here.members();
        let standing = members.iter().map(|member| member.standing);
        assert!(standing.eq([Standing::Forgotten]), "{members:?}");

        let node = stored(directories[1].path(), Some(&server), forget_after).await;
        let there = node.open("m").await.unwrap();
        until("they are one again", &here, |map| {
            map.get("key").is_some() && map.version() == there.version()
        })
        .await;
        converge(&here, &there).await;
        let numbers = |map: &Map| -> Vec<Option<i64>> {
            let values = map.array("list").values();
            values.iter().map(Value::as_int).collect()
        };
        // 0 and 1, what stood among those that went and was written, and what others left.
        let found = numbers(&here);
        assert_eq!(numbers(&there), found);
        let plain: Vec<i64> = found.iter().copied().flatten().collect();
        assert_eq!(plain, [0, 1, 40, 100, 9]);
        let inner = here.array("list").map(2).unwrap();
        assert_eq!(inner.get_as::<i64>("inner").unwrap(), Some(30));
        assert_eq!(inner.counter("count").get(), 5);
        until("nothing is left", &here, |map| tombstones(map) == 0).await;
    }
}
