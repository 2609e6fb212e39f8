//! Sentinels, clusters, and what Redis refuses.

use std::sync::Arc;

use portolan_redis::RedisBus;

use crate::support::{Cluster, Redis, Watched, ask, until};
use crate::{NAME, PERIOD, converge, node, node_at, node_on};

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
async fn a_master_that_is_demoted_and_stays_up_is_left() {
    let servers = Watched::start().await;
    let server = servers.server();
    let bus = || Arc::new(RedisBus::with_period(server.clone(), PERIOD));
    let (_a, first) = node_on(bus()).await;
    let (_b, second) = node_on(bus()).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    servers.fail_over().await;
    first.set("after/a", 1).unwrap();
    second.set("after/b", 1).unwrap();
    first.flush().await.unwrap();
    second.flush().await.unwrap();
    converge(&[&first, &second]).await;
    // The new master alone has it, whatever the old one is asked.
    let mut master = servers.replica.plain().await;
    let log = format!("portolan:{{{NAME}}}:log");
    until("the new master has it", async || {
        let length: u64 = ask(&mut master.clone(), &["XLEN", &log]).await;
        length > 1
    })
    .await;
    let role: Vec<redis::Value> = ask(&mut master, &["ROLE"]).await;
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
    let (_c, third) = node_on(bus()).await;
    assert_eq!(third.len(), 3);
}

#[tokio::test]
async fn what_the_guide_says_is_enough_for_the_bus() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let enough = "hello subscribe unsubscribe ping publish eval evalsha hget hmget hset hlen \
                  hexists xadd xrange xtrim del set rename persist pexpire sadd smembers";
    let enough: Vec<String> = enough
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| format!("+{word}"))
        .collect();
    let mut rule = vec!["ACL", "SETUSER", "enough", "on", ">secret"];
    rule.extend(["~portolan:*", "&portolan:*", "-@all"]);
    rule.extend(enough.iter().map(String::as_str));
    let _: String = ask(&mut plain, &rule).await;
    let url = format!("redis://enough:secret@127.0.0.1:{}", redis.port);
    let (a, first) = node_at(&url).await;
    let (_b, second) = node_at(&url).await;
    // So many entries that a snapshot takes their place.
    for n in 0..1_100 {
        first.set("k", n).unwrap();
        first.flush().await.unwrap();
    }
    until("a snapshot is saved", async || {
        let key = format!("portolan:{{{NAME}}}:snapshot");
        let exists: u64 = ask(&mut plain.clone(), &["EXISTS", &key]).await;
        exists == 1
    })
    .await;
    let (_c, third) = node_at(&url).await;
    converge(&[&first, &second, &third]).await;
    let _: String = ask(&mut plain, &["FLUSHALL"]).await;
    second.set("after", 1).unwrap();
    second.flush().await.unwrap();
    converge(&[&first, &second, &third]).await;
    let bus = a.status().bus.expect("it has a bus");
    assert!(bus.failure.is_none(), "{:?}", bus.failure);
    // Nor does it say with which password it goes there.
    assert!(!bus.address.contains("secret"), "{}", bus.address);
}

#[tokio::test]
async fn who_may_not_do_all_of_it_harms_no_log() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (a, first) = node(&redis).await;
    first.set("k", 1).unwrap();
    first.flush().await.unwrap();
    let (log, meta) = (
        format!("portolan:{{{NAME}}}:log"),
        format!("portolan:{{{NAME}}}:meta"),
    );
    for missing in ["hset", "xadd", "eval", "hmget"] {
        let without = format!("-{missing}");
        let mut rule = vec![
            "ACL", "SETUSER", missing, "on", ">secret", "~*", "&*", "+@all",
        ];
        rule.extend(
            [&*without, "-evalsha"]
                .iter()
                .filter(|word| missing == "eval" || **word != "-evalsha"),
        );
        let _: String = ask(&mut plain, &rule).await;
        let (b, second) = node_at(&format!(
            "redis://{missing}:secret@127.0.0.1:{}",
            redis.port
        ))
        .await;
        second.set(missing, 1).unwrap();
        until("it is told", async || {
            let failure = b.status().bus.and_then(|bus| bus.failure);
            failure.is_some_and(|failure| failure.to_string().contains("permission"))
        })
        .await;
        // The first may have told of the members meanwhile; nobody else has written anything.
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            ask(&mut plain, &["XRANGE", &log, "-", "+"]).await;
        let writer = |(_, fields): &(String, Vec<Vec<u8>>)| fields[1][..8].to_vec();
        let first = writer(&entries[0]);
        assert!(
            entries.iter().all(|entry| writer(entry) == first),
            "without {missing}"
        );
        let both = "return {redis.call('HGET', KEYS[1], 'last'), redis.call('XLEN', KEYS[2])}";
        let (last, len): (u64, u64) = ask(&mut plain, &["EVAL", both, "2", &meta, &log]).await;
        assert_eq!(len, last, "without {missing}");
    }
    assert_eq!(a.status().bus.expect("it has a bus").joins, 1);
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
async fn a_failover_in_a_cluster_is_followed() {
    let mut cluster = Cluster::with_replicas().await;
    let server = cluster.server();
    let bus = || Arc::new(RedisBus::with_period(server.clone(), PERIOD));
    let (a, first) = node_on(bus()).await;
    let (_b, second) = node_on(bus()).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    let meta = format!("portolan:{{{NAME}}}:meta");
    let writing = tokio::spawn({
        let first = first.clone();
        async move {
            for n in 0..200 {
                first.set(format!("during/{n}"), n).unwrap();
                first.flush().await.unwrap();
            }
        }
    });
    let told = until("it is told", async || {
        a.status().bus.is_some_and(|bus| bus.failure.is_some())
    });
    let (mut master, ()) = tokio::join!(cluster.fail_over(&meta), told);
    writing.await.unwrap();
    second.set("after", 1).unwrap();
    second.flush().await.unwrap();
    converge(&[&first, &second]).await;
    until("all is well", async || {
        a.status().bus.is_some_and(|bus| bus.failure.is_none())
    })
    .await;
    assert_eq!(first.len(), 202);
    let there: u64 = ask(&mut master, &["EXISTS", &meta]).await;
    assert_eq!(there, 1);
    let (_c, third) = node_on(bus()).await;
    converge(&[&first, &third]).await;
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
