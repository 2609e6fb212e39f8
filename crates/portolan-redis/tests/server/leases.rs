//! Leases, and waiting for all nodes.

use std::time::Duration;

use portolan_redis::Error;

use crate::support::{PATIENCE, Redis, options, until};

const LONG: Duration = Duration::from_mins(10);

#[tokio::test]
async fn one_holds_a_lease_at_a_time_and_tokens_grow() {
    let redis = Redis::start().await;
    let a = redis.join_with("fleet", options().owner("a")).await;
    let b = redis.join_with("fleet", options().owner("b")).await;
    let lease = a.lease("job", LONG).await.unwrap();
    assert!(lease.is_held());
    match b.lease("job", LONG).await {
        Err(Error::LeaseHeld { owner, left, .. }) => {
            assert_eq!(owner, "a");
            assert!(left <= LONG && left > LONG / 2);
        }
        other => panic!("{other:?}"),
    }
    let other = b.lease("other", LONG).await.unwrap();
    assert!(other.token() > lease.token());
    let first = lease.token();
    lease.release().await.unwrap();
    let taken = b.lease("job", LONG).await.unwrap();
    assert!(taken.token() > first);
    // Not even a flush makes them begin anew.
    let mut plain = redis.plain().await;
    redis::cmd("FLUSHALL").exec_async(&mut plain).await.unwrap();
    assert!(a.lease("job", LONG).await.unwrap().token() > taken.token());
    assert!(a.lease("short", Duration::from_millis(1)).await.is_err());
}

#[tokio::test]
async fn a_lease_is_renewed_while_it_is_held_and_lapses_when_its_holder_is_gone() {
    let redis = Redis::start().await;
    let (a, b) = (redis.join("fleet").await, redis.join("fleet").await);
    let ttl = Duration::from_millis(600);
    let lease = a.lease("job", ttl).await.unwrap();
    // What is renewed has more time left than the lease had in all, at the time of the look.
    let end = tokio::time::Instant::now() + ttl * 2;
    until("twice its time has gone", async || {
        assert!(b.lease("job", ttl).await.is_err());
        tokio::time::Instant::now() > end
    })
    .await;
    assert!(lease.is_held());
    drop(lease);
    until("it lapses", async || b.lease("job", ttl).await.is_ok()).await;
}

#[tokio::test]
async fn the_holder_is_told_of_the_loss_and_writes_no_more() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let lease = map.lease("job", Duration::from_millis(300)).await.unwrap();
    assert_eq!(lease.set("mine").await.unwrap().revision, Some(1));
    let mut plain = redis.plain().await;
    redis::cmd("DEL")
        .arg("map:fleet:lease:job")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let lost = tokio::time::timeout(PATIENCE, lease.lost());
    lost.await.expect("it is told");
    assert!(!lease.is_held());

    let lease = map.lease("job", LONG).await.unwrap();
    redis::cmd("DEL")
        .arg("map:fleet:lease:job")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let refused = lease.set("late").await;
    assert!(
        matches!(refused, Err(Error::LeaseLost { .. })),
        "{refused:?}"
    );
    assert!(matches!(lease.delete().await, Err(Error::LeaseLost { .. })));
    assert!(!lease.is_held());
    assert_eq!(map.get("job").as_deref(), Some(&b"mine"[..]));
    let next = map.lease("job", LONG).await.unwrap();
    next.delete().await.unwrap();
    assert!(map.is_empty());
}

#[tokio::test]
async fn a_holder_that_is_cut_off_loses_the_lease_by_its_own_clock() {
    let mut redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let lease = map.lease("job", Duration::from_millis(500)).await.unwrap();
    redis.kill();
    let lost = tokio::time::timeout(PATIENCE, lease.lost());
    lost.await.expect("it is told");
}

#[tokio::test]
async fn what_was_set_and_waited_for_is_read_on_every_node() {
    let redis = Redis::start().await;
    let mut maps = Vec::new();
    for _ in 0..5 {
        maps.push(redis.join("fleet").await);
    }
    for n in 0..20 {
        let value = n.to_string();
        let done = maps[n % 5]
            .set_and_wait("k", &value, PATIENCE)
            .await
            .unwrap();
        assert_eq!(done.value, 5);
        for map in &maps {
            assert_eq!(map.get("k").as_deref(), Some(value.as_bytes()));
        }
    }
    // One that has left is not waited for; one that does not answer is.
    maps.pop().unwrap().leave().await;
    until("it is gone", async || {
        maps[0].confirm(PATIENCE).await.unwrap() == 4
    })
    .await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut silent = client.get_async_pubsub().await.unwrap();
    silent.subscribe("map:fleet:nodes").await.unwrap();
    let waited = maps[0]
        .set_and_wait("k", "x", Duration::from_millis(400))
        .await;
    assert!(
        matches!(waited, Err(Error::Unconfirmed { told: 4, of: 5, .. })),
        "{waited:?}"
    );
    assert_eq!(
        maps[0].get("k").as_deref(),
        Some(&b"x"[..]),
        "it is written all the same"
    );
}
