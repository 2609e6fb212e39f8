//! Sentinels, clusters, and what Redis refuses.

use std::sync::Arc;

use portolan_redis::{RedisBus, Server};

use crate::support::{Redis, ask, cluster, replicates, sentinel, until};
use crate::{NAME, PERIOD, converge, node, node_on};

#[tokio::test]
async fn a_failover_by_sentinels_is_followed() {
    let mut master = Redis::start().await;
    let follow = format!("127.0.0.1 {}", master.port);
    let replica = Redis::with(&["--replicaof", &follow]).await;
    replicates(&replica).await;
    let sentinel = sentinel(&master).await;
    let bus = || {
        let server = Server::sentinel(&[&sentinel.url()], "fleet", "redis://fleet").unwrap();
        Arc::new(RedisBus::with_period(server, PERIOD))
    };
    let (_a, first) = node_on(bus()).await;
    let (_b, second) = node_on(bus()).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    master.kill();
    first.set("meanwhile/a", 1).unwrap();
    second.set("meanwhile/b", 1).unwrap();
    first.flush().await.unwrap();
    second.flush().await.unwrap();
    converge(&[&first, &second]).await;
    let (_c, third) = node_on(bus()).await;
    converge(&[&first, &third]).await;
    assert_eq!(third.len(), 3);
}

#[tokio::test]
async fn maps_in_a_cluster_go_on_when_their_slots_move() {
    let nodes = cluster().await;
    let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let bus = || {
        let server = Server::cluster(&urls).unwrap();
        Arc::new(RedisBus::with_period(server, PERIOD))
    };
    let (a, first) = node_on(bus()).await;
    let (b, second) = node_on(bus()).await;
    for n in 0..20 {
        let name = format!("map/{n}");
        let (here, there) = (a.open(&name).await.unwrap(), b.open(&name).await.unwrap());
        here.set("k", n).unwrap();
        converge(&[&here, &there]).await;
        assert_eq!(there.len(), 1);
    }
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    let mut connections = Vec::new();
    for node in &nodes {
        connections.push(node.plain().await);
    }
    let meta = format!("portolan:{{{NAME}}}:meta");
    let slot: u16 = ask(&mut connections[0], &["CLUSTER", "KEYSLOT", &meta]).await;
    let slot = slot.to_string();
    let mut owner = None;
    for (at, connection) in connections.iter_mut().enumerate() {
        let keys: Vec<String> = ask(connection, &["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
        if !keys.is_empty() {
            owner = Some((at, keys));
        }
    }
    let (from, keys) = owner.expect("the map is somewhere");
    let to = (from + 1) % nodes.len();
    let mut ids = Vec::new();
    for connection in &mut connections {
        let id: String = ask(connection, &["CLUSTER", "MYID"]).await;
        ids.push(id);
    }
    let set = ["CLUSTER", "SETSLOT", &slot];
    let [from_id, to_id] = [&ids[from], &ids[to]];
    let importing = [&set[..], &["IMPORTING", from_id]].concat();
    let _: String = ask(&mut connections[to], &importing).await;
    let migrating = [&set[..], &["MIGRATING", to_id]].concat();
    let _: String = ask(&mut connections[from], &migrating).await;
    let port = nodes[to].port.to_string();
    for key in &keys {
        let migrate = ["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
        let _: String = ask(&mut connections[from], &migrate).await;
    }
    for connection in &mut connections {
        let moved = [&set[..], &["NODE", to_id]].concat();
        let _: String = ask(connection, &moved).await;
    }
    first.set("after/a", 1).unwrap();
    second.set("after/b", 1).unwrap();
    first.flush().await.unwrap();
    second.flush().await.unwrap();
    converge(&[&first, &second]).await;
    assert_eq!(first.len(), 3);
}

#[tokio::test]
async fn what_redis_refuses_is_told_and_nothing_is_lost() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    let log = format!("portolan:{{{NAME}}}:log");
    let faults: [(&[&str], &[&str], &str); 3] = [
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
            "memory",
        ),
        (
            &["ACL", "SETUSER", "default", "-xadd"],
            &["ACL", "SETUSER", "default", "+@all"],
            "permission",
        ),
        (
            &["SET", &log, "something else"],
            &["DEL", &log],
            "something else",
        ),
    ];
    for (n, (fault, end, words)) in faults.into_iter().enumerate() {
        let _: String = ask(&mut plain, fault).await;
        first.set(format!("{n}"), "x").unwrap();
        until("it is told", async || {
            let failure = a.status().bus.and_then(|bus| bus.failure);
            failure.is_some_and(|failure| failure.to_string().contains(words))
        })
        .await;
        assert!(second.get(format!("{n}").as_str()).is_none());
        let _: redis::Value = ask(&mut plain, end).await;
        first.flush().await.unwrap();
        converge(&[&first, &second]).await;
        assert_eq!(second.len(), n + 1);
    }
}
