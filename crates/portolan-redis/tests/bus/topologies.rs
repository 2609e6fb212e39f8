//! Sentinels, clusters, and what Redis refuses.

use std::sync::Arc;

use portolan_redis::RedisBus;

use crate::support::{Cluster, Redis, Watched, ask, until};
use crate::{NAME, PERIOD, converge, node, node_on};

#[tokio::test]
async fn a_failover_by_sentinels_is_followed() {
    let mut servers = Watched::start().await;
    let server = servers.server();
    let bus = || Arc::new(RedisBus::with_period(server.clone(), PERIOD));
    let (_a, first) = node_on(bus()).await;
    let (_b, second) = node_on(bus()).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    servers.master.kill();
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
    let mut cluster = Cluster::start().await;
    let server = cluster.server();
    let bus = || Arc::new(RedisBus::with_period(server.clone(), PERIOD));
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
    let meta = format!("portolan:{{{NAME}}}:meta");
    cluster.move_slot(&meta).await;
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
