//! Each way in which a replica can come to miss something, brought about on a real server.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use portolan_redis::{CoordinatedMap, Error, Event, Origin, State};

use crate::support::{
    PATIENCE, Proxy, Redis, agrees, entries, options, plain, reaches, reads, subscribed, until,
};

/// Kills the connections that are subscribed.
async fn kill_subscribed(connection: &mut redis::aio::MultiplexedConnection) {
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .exec_async(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_change_is_missed_while_connections_are_killed() {
    let redis = Redis::start().await;
    let mut killer = redis.plain().await;
    let (writer, reader) = (redis.join("fleet").await, redis.join("fleet").await);
    for round in 0..10 {
        for n in 0..40 {
            writer.set(format!("{round}/{n}"), "x").await.unwrap();
        }
        kill_subscribed(&mut killer).await;
    }
    agrees(&writer, &mut killer).await;
    agrees(&reader, &mut killer).await;
    assert_eq!(reader.len(), 400);
}

#[tokio::test]
async fn a_write_is_read_here_even_if_the_subscription_is_killed() {
    let redis = Redis::start().await;
    let mut killer = redis.plain().await;
    let map = redis.join("fleet").await;
    for n in 0..30 {
        kill_subscribed(&mut killer).await;
        let value = n.to_string();
        map.set("k", &value).await.unwrap();
        assert_eq!(map.get("k").as_deref(), Some(value.as_bytes()));
    }
}

#[tokio::test]
async fn a_hash_that_is_deleted_is_noticed_without_a_message() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let map = redis.join("fleet").await;
    map.set_many([("a", "1"), ("b", "2")]).await.unwrap();
    redis::cmd("DEL")
        .arg("map:fleet:content")
        .exec_async(&mut plain)
        .await
        .unwrap();
    until("the map is empty", async || map.is_empty()).await;
    assert_eq!(map.set("c", "1").await.unwrap().revision, Some(1));
    agrees(&map, &mut plain).await;
    redis::cmd("FLUSHALL").exec_async(&mut plain).await.unwrap();
    until("the map is empty", async || map.is_empty()).await;
    redis::cmd("HSET")
        .arg("map:fleet:content")
        .arg("d")
        .arg("1")
        .exec_async(&mut plain)
        .await
        .unwrap();
    reads(&map, "d", "1").await;
}

#[tokio::test]
async fn a_hash_that_is_made_anew_is_noticed_by_its_first_message() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    // No digest: the messages alone must tell.
    let rarely = options().digest_period(Duration::from_hours(1));
    let (writer, reader) = (
        redis.join_with("fleet", rarely.clone()).await,
        redis.join_with("fleet", rarely).await,
    );
    for round in 0..10u64 {
        writer
            .set_many([("a", "1"), ("b", "2"), ("c", "3")])
            .await
            .unwrap();
        redis::cmd("FLUSHALL").exec_async(&mut plain).await.unwrap();
        // As many writes as before, fewer and more.
        for n in 0..=round {
            let done = writer.set(format!("{round}/{n}"), "x").await.unwrap();
            assert_eq!(done.revision, Some(n + 1));
            assert!(writer.contains(format!("{round}/{n}")));
            assert!(
                !writer.contains("a"),
                "what was flushed is not read after a write"
            );
        }
        agrees(&writer, &mut plain).await;
        agrees(&reader, &mut plain).await;
    }
}

#[tokio::test]
async fn an_expired_map_is_seen_to_be_gone_when_it_is() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let map = redis.join("fleet").await;
    map.set("a", "1").await.unwrap();
    redis::cmd("PEXPIRE")
        .arg("map:fleet:content")
        .arg(50)
        .exec_async(&mut plain)
        .await
        .unwrap();
    until("the map is empty", async || map.is_empty()).await;
}

#[tokio::test]
async fn a_field_that_is_written_past_the_format_is_found_by_the_digest() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let map = redis.join("fleet").await;
    map.set("a", "1").await.unwrap();
    redis::cmd("HDEL")
        .arg("map:fleet:content")
        .arg("a")
        .exec_async(&mut plain)
        .await
        .unwrap();
    until("the map is empty", async || map.is_empty()).await;
}

#[tokio::test]
async fn a_restarted_server_is_joined_again() {
    let mut redis = Redis::start().await;
    let map = redis.join("fleet").await;
    map.set("a", "1").await.unwrap();
    redis.kill();
    reaches(&map, |state| matches!(state, State::Stale { .. })).await;
    assert_eq!(map.get("a").as_deref(), Some(&b"1"[..]), "reads go on");
    redis.restart().await;
    reaches(&map, |state| *state == State::Live).await;
    assert!(map.is_empty(), "the server kept nothing");
    map.set("b", "2").await.unwrap();
    assert_eq!(entries(&map), [("b".into(), "2".into())]);
}

#[tokio::test]
async fn writes_that_a_failover_lost_are_noticed_healed_and_told() {
    // Revisions that were lost are counted again by others: none, fewer, as many, and more.
    for again in [0, 2, 4, 6u64] {
        let mut redis = Redis::start().await;
        let rarely = options().digest_period(Duration::from_hours(1));
        let map = redis.join_with("fleet", rarely).await;
        map.set_many([("kept", "1"), ("changed", "old"), ("removed", "here")])
            .await
            .unwrap();
        let mut plain = redis.plain().await;
        redis::cmd("SAVE").exec_async(&mut plain).await.unwrap();
        let (_, mut watch) = map.snapshot_and_watch("**").unwrap();
        map.set("changed", "new").await.unwrap();
        map.set("added", "1").await.unwrap();
        map.delete("removed").await.unwrap();
        assert_eq!(map.set("n", "lost").await.unwrap().revision, Some(7));
        for _ in 0..4 {
            watch.next().await.unwrap();
        }
        // It comes back as it was when it was saved, as a replica does that lagged behind.
        redis.restart().await;
        let mut plain = redis.plain().await;
        let other = redis.join("fleet").await;
        assert_eq!(other.revision(), 3);
        for n in 0..again {
            let done = other.set("n", n.to_string()).await.unwrap();
            assert_eq!(done.revision, Some(n + 4));
        }
        reaches(&map, |state| *state == State::Live).await;
        agrees(&map, &mut plain).await;
        assert_eq!(map.get("changed").as_deref(), Some(&b"old"[..]));
        assert_eq!(map.get("removed").as_deref(), Some(&b"here"[..]));
        assert!(!map.contains("added"), "it was lost");

        // What the watcher is told leads to what the map holds now.
        let mut told = BTreeMap::from([
            ("kept".to_owned(), "1".to_owned()),
            ("changed".to_owned(), "new".to_owned()),
            ("added".to_owned(), "1".to_owned()),
            ("n".to_owned(), "lost".to_owned()),
        ]);
        let now: BTreeMap<String, String> = entries(&map).into_iter().collect();
        while told != now {
            let event = tokio::time::timeout(PATIENCE, watch.next()).await;
            let Ok(Some(Event::Changed(batch))) = event else {
                panic!("told {told:?}, not {now:?}");
            };
            assert_eq!(batch.origin, Origin::Elsewhere);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            for change in &batch.changes {
                let key = change.key.to_string();
                let old = change.old.as_deref().map(text);
                assert_eq!(told.get(&key), old.as_ref(), "{key}");
                match &change.new {
                    Some(new) => told.insert(key, text(new)),
                    None => told.remove(&key),
                };
            }
        }
        // Writes go on from there, and are read at once.
        let done = map.set("after", "1").await.unwrap();
        assert_eq!(done.revision, Some(4 + again));
        reads(&other, "after", "1").await;
        agrees(&map, &mut plain).await;
    }
}

#[tokio::test]
async fn a_write_without_a_server_fails_and_says_so() {
    let mut redis = Redis::start().await;
    let map = redis
        .join_with("fleet", options().patience(Duration::from_millis(300)))
        .await;
    redis.kill();
    reaches(&map, |state| matches!(state, State::Stale { .. })).await;
    let error = map.set("a", "1").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let nobody = CoordinatedMap::join(&redis.server(), "fleet", options()).await;
    assert!(matches!(nobody, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_full_buffer_at_the_server_is_noticed() {
    // The server ends a subscription for which more than this waits.
    let redis = Redis::with(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]).await;
    let mut plain = redis.plain().await;
    let proxy = Proxy::start(redis.port).await;
    let map = CoordinatedMap::join(&proxy.server(), "fleet", options())
        .await
        .unwrap();
    let writer = redis.join("fleet").await;
    proxy.hold(true);
    // More than fits into the buffers of sockets besides. Of longer values a Valkey keeps no copy
    // in the buffer.
    for n in 0..1_200 {
        let value = vec![b'x'; 12 << 10];
        writer.set(format!("k{n}"), value).await.unwrap();
    }
    // The server has ended that of the node; its writer's is left.
    subscribed(&redis, 1).await;
    proxy.hold(false);
    until("all came", async || map.len() == 1_200).await;
    agrees(&map, &mut plain).await;
}

#[tokio::test]
async fn a_line_that_goes_dead_is_noticed_and_replaced() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let proxy = Proxy::start(redis.port).await;
    let soon = options().patience(Duration::from_millis(500));
    let map = CoordinatedMap::join(&proxy.server(), "fleet", soon)
        .await
        .unwrap();
    let writer = redis.join("fleet").await;
    // Nothing passes and nobody says so; new connections do pass.
    proxy.deaden();
    writer.set("a", "1").await.unwrap();
    reads(&map, "a", "1").await;
    // A line that is cut is noticed at once.
    proxy.cut();
    writer.set("b", "1").await.unwrap();
    reads(&map, "b", "1").await;
    agrees(&map, &mut plain).await;
}

#[tokio::test]
async fn the_state_tells_since_when_it_is_stale_and_that_it_is_read_again() {
    let mut redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let proxy = Proxy::start(redis.port).await;
    let map = CoordinatedMap::join(&proxy.server(), "fleet", options())
        .await
        .unwrap();
    let other = redis.join("fleet").await;
    other.set("a", "1").await.unwrap();
    reads(&map, "a", "1").await;
    assert_eq!(map.state(), State::Live);
    // A message that says that something was missed; the node cannot ask for it.
    proxy.mute(true);
    redis::cmd("PUBLISH")
        .arg("map:fleet:updates")
        .arg("reset:9")
        .exec_async(&mut plain)
        .await
        .unwrap();
    reaches(&map, |state| *state == State::Resyncing).await;
    assert_eq!(map.get("a").as_deref(), Some(&b"1"[..]), "reads go on");
    proxy.mute(false);
    reaches(&map, |state| *state == State::Live).await;
    assert_eq!(map.get("a").as_deref(), Some(&b"1"[..]));
    // And until when it was heard.
    let before = SystemTime::now();
    redis.kill();
    reaches(&map, |state| matches!(state, State::Stale { .. })).await;
    let State::Stale { since } = map.state() else {
        panic!("it does not come back: {:?}", map.state());
    };
    assert!(since <= SystemTime::now() && since + PATIENCE > before);
    until("it says why", async || {
        matches!(map.last_error(), Some(Error::Unreachable { .. }))
    })
    .await;
}

#[tokio::test]
async fn a_hundred_joins_during_writes_are_all_right() {
    let redis = Redis::start().await;
    let writer = redis.join("fleet").await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn({
        let writer = writer.clone();
        async move {
            let mut n = 0u32;
            while !*stopped.borrow_and_update() {
                writer
                    .set(format!("k{}", n % 50), n.to_string())
                    .await
                    .unwrap();
                if n.is_multiple_of(7) {
                    writer.delete(format!("k{}", n % 11)).await.unwrap();
                }
                n += 1;
            }
        }
    });
    let mut maps = Vec::new();
    for _ in 0..100 {
        maps.push(redis.join("fleet").await);
    }
    stop.send(true).unwrap();
    writing.await.unwrap();
    let mut plain = plain(&redis.url()).await;
    for map in &maps {
        agrees(map, &mut plain).await;
        assert_eq!(map.state(), State::Live);
    }
}

#[tokio::test]
async fn a_node_that_leaves_reads_on_and_writes_no_more() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    map.set("a", "1").await.unwrap();
    let other = map.clone();
    map.leave().await;
    assert_eq!(other.get("a").as_deref(), Some(&b"1"[..]));
    assert!(matches!(other.set("a", "2").await, Err(Error::Left)));
    let mut plain = redis.plain().await;
    until("no subscription is left", async || {
        let count: (String, u64) = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg("map:fleet:updates")
            .query_async(&mut plain.clone())
            .await
            .unwrap();
        count.1 == 0
    })
    .await;
    drop(plain.clone());
    agrees(&redis.join("fleet").await, &mut plain).await;
}
