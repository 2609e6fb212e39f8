//! Each way in which something can come to be missing, brought about on a real server.

use std::sync::Arc;

use bytes::Bytes;
use portolan::{Bus as _, Map, Node, Snapshot};
use portolan_redis::RedisBus;
use redis::aio::MultiplexedConnection;

use crate::support::{Proxy, Redis, subscribed, until};
use crate::{NAME, PERIOD, bus, converge, node, node_on};

/// A node whose line to Redis can be disturbed.
async fn node_behind(proxy: &Proxy) -> (Node, Map) {
    node_on(Arc::new(RedisBus::with_period(proxy.server(), PERIOD))).await
}

async fn command(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.exec_async(connection).await.unwrap();
}

fn key(what: &str) -> String {
    format!("portolan:{{{NAME}}}:{what}")
}

#[tokio::test]
async fn nothing_is_missing_after_the_subscriptions_were_killed() {
    let redis = Redis::start().await;
    let mut killer = redis.plain().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    for n in 0..4_000 {
        let map = if n % 2 == 0 { &first } else { &second };
        map.set(format!("{n}"), n).unwrap();
        if n % 200 == 0 {
            command(&mut killer, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
        if n % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    converge(&[&first, &second]).await;
    assert_eq!(first.len(), 4_000);
}

#[tokio::test]
async fn a_line_that_is_cut_or_goes_dead_is_noticed_and_replaced() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let (_a, first) = node_behind(&proxy).await;
    let (_b, second) = node(&redis).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    for (disturb, name) in [(Proxy::cut as fn(&Proxy), "cut"), (Proxy::deaden, "dead")] {
        disturb(&proxy);
        // Where a line is dead nobody says so; new ones pass.
        first.set(format!("{name}/a"), 1).unwrap();
        second.set(format!("{name}/b"), 1).unwrap();
        first.flush().await.unwrap();
        second.flush().await.unwrap();
        converge(&[&first, &second]).await;
    }
    assert_eq!(first.len(), 5);
}

#[tokio::test]
async fn a_subscription_whose_buffer_overflows_misses_nothing() {
    let redis = Redis::with(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]).await;
    let proxy = Proxy::start(redis.port).await;
    let (_a, slow) = node_behind(&proxy).await;
    let (_b, writer) = node(&redis).await;
    writer.set("before", 1).unwrap();
    writer.flush().await.unwrap();
    converge(&[&slow, &writer]).await;
    proxy.hold(true);
    // More than fits into the buffers of sockets besides. Of longer messages a Valkey keeps no copy
    // in the buffer.
    for n in 0..1_200 {
        writer.set(format!("k{n}"), "x".repeat(12 << 10)).unwrap();
        writer.flush().await.unwrap();
    }
    // Redis has ended that of the slow node; the writer's is left.
    subscribed(&redis, 1).await;
    proxy.hold(false);
    converge(&[&slow, &writer]).await;
    assert_eq!(slow.len(), 1_201);
}

#[tokio::test]
async fn what_is_deleted_in_redis_is_brought_back_by_the_nodes() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    let keys = [
        key("meta"),
        key("log"),
        key("snapshot"),
        "portolan:maps".to_owned(),
    ];
    let faults = keys.iter().map(|key| vec!["DEL", key]);
    for (round, fault) in faults.chain([vec!["FLUSHALL"]]).enumerate() {
        first.set(format!("{round}/a"), "x").unwrap();
        first.flush().await.unwrap();
        converge(&[&first, &second]).await;
        command(&mut plain, &fault).await;
        first.set(format!("{round}/b"), "x").unwrap();
        second.set(format!("{round}/c"), "x").unwrap();
        converge(&[&first, &second]).await;
        first.flush().await.unwrap();
        second.flush().await.unwrap();
        // All of it is in Redis again.
        until("who comes has it all", async || {
            let (_c, third) = node(&redis).await;
            third.version() == first.version()
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_deleted_in_silence_is_noticed() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (_a, first) = node(&redis).await;
    first.set("k", "x").unwrap();
    first.flush().await.unwrap();
    command(&mut plain, &["FLUSHALL"]).await;
    let meta = key("meta");
    until("the log is there again", || {
        let (mut plain, meta) = (plain.clone(), meta.clone());
        async move {
            let exists = redis::cmd("EXISTS").arg(&meta).to_owned();
            exists.query_async(&mut plain).await.unwrap()
        }
    })
    .await;
    let (_b, second) = node(&redis).await;
    assert_eq!(second.len(), 1);
}

#[tokio::test]
async fn an_empty_redis_is_filled_again() {
    let mut redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    first.set("before", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    redis.kill();
    first.set("meanwhile/a", 1).unwrap();
    second.set("meanwhile/b", 1).unwrap();
    redis.restart().await;
    converge(&[&first, &second]).await;
    assert_eq!(first.len(), 3);
    first.flush().await.unwrap();
    let (_c, third) = node(&redis).await;
    assert_eq!(third.len(), 3);
}

#[tokio::test]
async fn what_a_failover_to_an_older_state_loses_is_brought_back() {
    let mut redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    first.set("old", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    let mut plain = redis.plain().await;
    command(&mut plain, &["SAVE"]).await;
    for n in 0..50 {
        first.set(format!("a{n}"), n).unwrap();
        second.set(format!("b{n}"), n).unwrap();
        first.flush().await.unwrap();
        second.flush().await.unwrap();
    }
    // The file of then is what it starts with.
    redis.restart().await;
    first.set("after/a", 1).unwrap();
    second.set("after/b", 1).unwrap();
    converge(&[&first, &second]).await;
    first.flush().await.unwrap();
    second.flush().await.unwrap();
    assert_eq!(first.len(), 103);
    let (_c, third) = node(&redis).await;
    converge(&[&first, &second, &third]).await;
}

#[tokio::test]
async fn entries_that_make_no_sense_are_left_out() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (_a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    first.set("k", 1).unwrap();
    first.flush().await.unwrap();
    converge(&[&first, &second]).await;
    for garbage in [
        "",
        "x",
        "0123456789abcdef\u{1}\u{1}\u{5}hello",
        "0123456789abcdef\u{9}",
    ] {
        let append = "local n = redis.call('HINCRBY', KEYS[1], 'last', 1) \
                      redis.call('XADD', KEYS[2], n .. '-0', 'e', ARGV[1])";
        let (meta, log) = (key("meta"), key("log"));
        command(&mut plain, &["EVAL", append, "2", &meta, &log, garbage]).await;
        first.set("k", garbage.len() as i64).unwrap();
        first.flush().await.unwrap();
        converge(&[&first, &second]).await;
    }
    let (_c, third) = node(&redis).await;
    converge(&[&first, &second, &third]).await;
}

#[tokio::test]
async fn a_snapshot_that_lost_a_part_on_its_way_takes_no_place() {
    let redis = Redis::start().await;
    let (alone, map) = node(&redis).await;
    map.set("a", 1).unwrap();
    map.flush().await.unwrap();
    alone.close().await.unwrap();
    drop((map, alone));
    let bus = bus(&redis.url());
    let log = bus.read(NAME, u64::MAX).await.unwrap().unwrap().log;
    let snapshot = Snapshot {
        place: log.last,
        bytes: Bytes::from(vec![7; 40 << 20]),
    };
    // As if the time of the upload had run out after its first piece.
    let plain = redis.plain().await;
    let forgetting = until("a part was there", async || {
        let mut plain = plain.clone();
        let uploads = redis::cmd("KEYS").arg(key("saving:*")).to_owned();
        let uploads: Vec<String> = uploads.query_async(&mut plain).await.unwrap();
        let Some(upload) = uploads.first() else {
            return false;
        };
        command(&mut plain, &["DEL", upload]).await;
        true
    });
    let (saved, ()) = tokio::join!(
        bus.save(NAME, log.epoch, snapshot, log.last + 1),
        forgetting
    );
    let whole = bus.snapshot(NAME).await.unwrap().is_some();
    assert_eq!(saved.unwrap(), whole);
    let rest = bus.read(NAME, 1).await.unwrap().unwrap();
    assert_eq!(
        rest.entries.is_empty(),
        whole,
        "the log is let go of with a snapshot only"
    );
}
