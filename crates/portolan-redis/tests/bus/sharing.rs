//! What nodes on a bus share, and what they tell.

use portolan::Value;

use crate::support::{Redis, until};
use crate::{NAME, converge, durable, node};

#[tokio::test]
async fn nodes_converge_and_keep_siblings() {
    let redis = Redis::start().await;
    let (a, first) = node(&redis).await;
    let (b, second) = node(&redis).await;
    first.set("rate", 10).unwrap();
    first.array("list").append("x").unwrap();
    first.counter("hits").add(2).unwrap();
    first.flush().await.unwrap();
    until("it is there", async || second.get("rate").is_some()).await;
    second.counter("hits").add(3).unwrap();
    second.array("list").append("y").unwrap();
    converge(&[&first, &second]).await;
    assert_eq!(first.counter("hits").get(), 5);
    assert_eq!(first.array("list").len(), 2);
    // Neither has seen the other's.
    first.set("both", "a").unwrap();
    second.set("both", "b").unwrap();
    converge(&[&first, &second]).await;
    assert_eq!(first.get_all("both").len(), 2);
    let (c, third) = node(&redis).await;
    converge(&[&first, &second, &third]).await;
    assert_eq!(third.get_all("both").len(), 2);
    for node in [a, b, c] {
        node.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_flushed_is_there_for_who_comes_when_all_others_are_gone() {
    let redis = Redis::start().await;
    for round in 0..3 {
        let (node, map) = node(&redis).await;
        assert_eq!(map.len(), round as usize);
        map.set(format!("{round}"), round).unwrap();
        map.flush().await.unwrap();
        // As a crash would: nothing is said any more.
        std::mem::forget(node);
    }
}

#[tokio::test]
async fn maps_on_the_bus_are_found_by_their_names() {
    let redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    first.set("k", 1).unwrap();
    first.flush().await.unwrap();
    let other = portolan::Node::builder().bus(crate::bus(&redis.url()));
    let other = other.spawn().await.unwrap();
    let found = other.get(NAME).await.unwrap().expect("it is on the bus");
    assert_eq!(found.get("k"), Some(Value::from(1)));
    assert!(other.get("nothing").await.unwrap().is_none());
    until("it is listed", async || other.maps() == [NAME]).await;
}

#[tokio::test]
async fn a_name_that_was_only_asked_for_leaves_nothing_in_redis() {
    let redis = Redis::start().await;
    let (_node, map) = node(&redis).await;
    map.flush().await.unwrap();
    let mut plain = redis.plain().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut plain)
        .await
        .unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_log_stays_short_and_who_comes_late_has_everything() {
    let redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    let mut plain = redis.plain().await;
    let mut longest = 0u64;
    for n in 0..6_000 {
        first.set(format!("{}", n % 700), n).unwrap();
        // An entry each.
        first.flush().await.unwrap();
        if n % 100 == 0 {
            let log = format!("portolan:{{{NAME}}}:log");
            let len: u64 = redis::cmd("XLEN")
                .arg(log)
                .query_async(&mut plain)
                .await
                .unwrap();
            longest = longest.max(len);
        }
    }
    assert!(longest < 2_500, "{longest} entries");
    assert!(longest > 900, "entries are not gathered here");
    let (_c, third) = node(&redis).await;
    converge(&[&first, &second, &third]).await;
    assert_eq!(third.len(), 700);
}

#[tokio::test]
async fn a_store_and_the_bus_bring_the_same() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (a, first) = durable(&redis, folder.path()).await;
    let (_b, second) = node(&redis).await;
    first.set("a", 1).unwrap();
    second.set("b", 2).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    a.close().await.unwrap();
    second.set("c", 3).unwrap();
    second.flush().await.unwrap();
    let (_a, again) = durable(&redis, folder.path()).await;
    converge(&[&again, &second]).await;
    assert_eq!(again.len(), 3);
    again.set("d", 4).unwrap();
    converge(&[&again, &second]).await;
    assert_eq!(second.len(), 4);
}

#[tokio::test]
async fn what_is_deleted_goes_once_all_nodes_have_it() {
    let redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    for n in 0..50 {
        first.array("list").append(n).unwrap();
    }
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    second.array("list").clear().unwrap();
    until("nothing is left of it", async || {
        let left = |map: &portolan::Map| map.read(|document| document.encode().len());
        left(&first) < 120 && left(&second) < 120
    })
    .await;
    first.array("list").append("x").unwrap();
    converge(&[&first, &second]).await;
    assert_eq!(second.array("list").len(), 1);
}

#[tokio::test]
async fn redis_sees_two_connections_of_a_process_however_many_maps_it_has() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (node, _map) = node(&redis).await;
    for n in 0..100 {
        let map = node.open(&format!("map/{n}")).await.unwrap();
        map.set("k", n).unwrap();
        map.flush().await.unwrap();
    }
    let clients: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut plain)
        .await
        .unwrap();
    // And the one that asks.
    assert_eq!(clients.lines().count(), 3, "{clients}");
}
