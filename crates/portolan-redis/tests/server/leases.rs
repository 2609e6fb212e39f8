//! Leases, and waiting for all nodes.

use std::time::{Duration, Instant};

use portolan_redis::{Error, Event};

use crate::support::{PATIENCE, Redis, ask, options, until};

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
async fn a_holder_that_was_held_up_itself_does_not_hold_the_lease_for_that() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let lease = map.lease("job", Duration::from_millis(100)).await.unwrap();
    assert!(lease.is_held());
    // Nothing else of this process goes on, as if it had been stopped.
    let end = Instant::now() + Duration::from_millis(110);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    assert!(!lease.is_held());
}

#[tokio::test]
async fn writes_under_leases_are_in_the_order_of_their_tokens_whatever_goes_wrong() {
    let redis = Redis::start().await;
    let watcher = redis.join("fleet").await;
    let mut watch = watcher.watch("job").unwrap();
    let mut holders = tokio::task::JoinSet::new();
    for holder in 0..4 {
        let map = redis
            .join_with("fleet", options().owner(format!("{holder}")))
            .await;
        holders.spawn(async move {
            let mut taken = 0;
            while taken < 15 {
                let Ok(lease) = map.lease("job", Duration::from_millis(100)).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                taken += 1;
                // Until it is lost, or has done enough; one in three goes without a word.
                for _ in 0..5 {
                    match lease.set(lease.token().to_string()).await {
                        Ok(_) | Err(Error::Unknown { .. } | Error::Behind { .. }) => {}
                        Err(Error::LeaseLost { .. }) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
                if taken % 3 > 0 {
                    // Where the connection broke it lapses.
                    let _ = lease.release().await;
                }
            }
        });
    }
    let disturb = async {
        let mut plain = redis.plain().await;
        let lease = ["DEL", "map:fleet:lease:job"];
        let faults: [&[&str]; 4] = [
            &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
            &lease,
            &["CLIENT", "KILL", "TYPE", "pubsub"],
            &["DEL", "map:fleet:fence", "map:fleet:lease:job"],
        ];
        for fault in faults.into_iter().cycle() {
            let _: redis::Value = ask(&mut plain, fault).await;
            let next = watcher.revision() + 9;
            until("they write on", async || watcher.revision() >= next).await;
        }
    };
    tokio::select! {
        () = async { while let Some(done) = holders.join_next().await { done.unwrap() } } => {}
        () = disturb => {}
    }
    let last = watcher.set("job", "end").await.unwrap().revision.unwrap();
    let (mut highest, mut writes, mut leases) = (0, 0, 0);
    loop {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await;
        let Some(Event::Changed(batch)) = event.expect("an event") else {
            panic!("it does not lag");
        };
        for change in batch.changes.iter().filter(|_| batch.revision < last) {
            let token = change.new.as_deref().expect("nothing is deleted");
            let token: u64 = std::str::from_utf8(token).unwrap().parse().unwrap();
            assert!(token >= highest, "{token} after {highest}");
            writes += 1;
            leases += u32::from(token > highest);
            highest = token;
        }
        if batch.revision >= last {
            break;
        }
    }
    assert!(
        writes > 60 && leases > 30,
        "{writes} writes under {leases} leases"
    );
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
