//! What watchers are told.

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_redis::{Event, Kind, Origin, Snapshot, Ttl, Watch};

use crate::support::{PATIENCE, Redis, agrees, entries, options, reads};

async fn next(watch: &mut Watch) -> Event {
    let next = tokio::time::timeout(PATIENCE, watch.next());
    next.await.expect("an event").expect("the map is not left")
}

type Told = (String, Option<String>, Option<String>, Kind);

async fn batch(watch: &mut Watch) -> (u64, Origin, Vec<Told>) {
    let Event::Changed(batch) = next(watch).await else {
        panic!("it does not lag");
    };
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let told = batch.changes.iter().map(|change| {
        let old = change.old.as_deref().map(text);
        (
            change.key.to_string(),
            old,
            change.new.as_deref().map(text),
            change.kind,
        )
    });
    (batch.revision, batch.origin, told.collect())
}

fn told(key: &str, old: Option<&str>, new: Option<&str>, kind: Kind) -> Told {
    (
        key.to_owned(),
        old.map(str::to_owned),
        new.map(str::to_owned),
        kind,
    )
}

#[tokio::test]
async fn events_tell_old_new_revision_kind_and_who_wrote() {
    let redis = Redis::start().await;
    let (here, there) = (redis.join("fleet").await, redis.join("fleet").await);
    let mut watch = here.watch("**").unwrap();
    here.set("a", "1").await.unwrap();
    let set = (1, Origin::Here, vec![told("a", None, Some("1"), Kind::Set)]);
    assert_eq!(batch(&mut watch).await, set);
    there.set("a", "2").await.unwrap();
    let set = (
        2,
        Origin::Elsewhere,
        vec![told("a", Some("1"), Some("2"), Kind::Set)],
    );
    assert_eq!(batch(&mut watch).await, set);
    there.delete("a").await.unwrap();
    let deleted = (
        3,
        Origin::Elsewhere,
        vec![told("a", Some("2"), None, Kind::Delete)],
    );
    assert_eq!(batch(&mut watch).await, deleted);
    here.set("b", "1").await.unwrap();
    batch(&mut watch).await;
    here.reset().await.unwrap();
    let reset = (
        5,
        Origin::Here,
        vec![told("b", Some("1"), None, Kind::Reset)],
    );
    assert_eq!(batch(&mut watch).await, reset);
    here.set("c", "1").await.unwrap();
    batch(&mut watch).await;
    let mut plain = redis.plain().await;
    redis::cmd("FLUSHALL").exec_async(&mut plain).await.unwrap();
    let gone = (
        0,
        Origin::Elsewhere,
        vec![told("c", Some("1"), None, Kind::Expired)],
    );
    assert_eq!(batch(&mut watch).await, gone);
    here.leave().await;
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_map_that_expires_or_is_destroyed_is_told_as_such() {
    let redis = Redis::start().await;
    let ttl = options().ttl(Ttl::Sliding(Duration::from_secs(1)));
    let (map, other) = (
        redis.join_with("fleet", ttl.clone()).await,
        redis.join_with("fleet", ttl).await,
    );
    let mut watch = other.watch("**").unwrap();
    map.set("a", "1").await.unwrap();
    batch(&mut watch).await;
    let gone = vec![told("a", Some("1"), None, Kind::Expired)];
    assert_eq!(batch(&mut watch).await, (0, Origin::Elsewhere, gone));
    map.set("b", "1").await.unwrap();
    batch(&mut watch).await;
    map.destroy().await.unwrap();
    let destroyed = vec![told("b", Some("1"), None, Kind::Reset)];
    assert_eq!(batch(&mut watch).await, (2, Origin::Elsewhere, destroyed));
}

#[tokio::test]
async fn who_wrote_is_right_however_many_write_at_once() {
    let redis = Redis::start().await;
    let (here, there) = (redis.join("fleet").await, redis.join("fleet").await);
    let mut watch = here.watch("**").unwrap();
    let mut writers = Vec::new();
    for n in 0..8 {
        for (map, who) in [(&here, "here"), (&there, "there")] {
            let map = map.clone();
            writers.push(tokio::spawn(async move {
                for i in 0..20 {
                    map.set(format!("{who}/{n}/{i}"), "x").await.unwrap();
                }
            }));
        }
    }
    for revision in 1..=8 * 20 * 2 {
        let (found, origin, changes) = batch(&mut watch).await;
        assert_eq!(found, revision);
        let is_here = changes[0].0.starts_with("here");
        assert_eq!(origin == Origin::Here, is_here, "{}", changes[0].0);
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_missed_is_told_as_changes() {
    let mut redis = Redis::with(&["--appendonly", "no"]).await;
    let map = redis.join("fleet").await;
    map.set_many([("a", "1"), ("b", "1"), ("c", "1")])
        .await
        .unwrap();
    let mut watch = map.watch("**").unwrap();
    redis.restart().await;
    let mut plain = redis.plain().await;
    redis::cmd("HSET")
        .arg("map:fleet:content")
        .arg(&["=rev", "9", "=kind", "set", "a", "1", "b", "2", "d", "1"])
        .exec_async(&mut plain)
        .await
        .unwrap();
    let mut held: BTreeMap<String, Option<String>> = BTreeMap::new();
    for key in ["a", "b", "c"] {
        held.insert(key.to_owned(), Some("1".to_owned()));
    }
    let expected = [("a", "1"), ("b", "2"), ("d", "1")];
    let expected: BTreeMap<String, Option<String>> = expected
        .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
        .into();
    // The restart may be seen before the write is, as an empty map.
    while held != expected {
        let (_, origin, changes) = batch(&mut watch).await;
        assert_eq!(origin, Origin::Elsewhere);
        for (key, old, new, _) in changes {
            assert_eq!(held.remove(&key).flatten(), old, "{key}");
            if new.is_some() {
                held.insert(key, new);
            }
        }
    }
}

#[tokio::test]
async fn a_watcher_hears_of_what_matches_alone() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    map.set("feature/a", "0").await.unwrap();
    let (snapshot, mut watch) = map.snapshot_and_watch("feature/*").unwrap();
    assert_eq!(
        snapshot.get("feature/a").map(|value| &value[..]),
        Some(&b"0"[..])
    );
    map.set("other", "1").await.unwrap();
    map.set("feature/a", "1").await.unwrap();
    assert_eq!(batch(&mut watch).await.0, 3);
    assert!(map.watch("[").is_err());
}

#[tokio::test]
async fn a_slow_watcher_is_told_how_far_it_fell_behind_and_gets_a_snapshot() {
    let redis = Redis::start().await;
    let map = redis.join_with("fleet", options().event_capacity(10)).await;
    let mut watch = map.watch("**").unwrap();
    for n in 0..25 {
        map.set(format!("k{n}"), "x").await.unwrap();
    }
    let Event::Lagged { missed, snapshot } = next(&mut watch).await else {
        panic!("it lags");
    };
    assert_eq!((missed, snapshot.len(), snapshot.revision()), (25, 25, 25));
    map.set("k0", "y").await.unwrap();
    let set = (
        26,
        Origin::Here,
        vec![told("k0", Some("x"), Some("y"), Kind::Set)],
    );
    assert_eq!(batch(&mut watch).await, set);
}

/// Applies what a watcher is told to what it had.
async fn follow(
    mut held: BTreeMap<Vec<u8>, Vec<u8>>,
    watch: &mut Watch,
    last: u64,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let whole = |snapshot: &Snapshot| {
        let entries = snapshot
            .iter()
            .map(|(k, v)| (k.as_bytes().to_vec(), v.to_vec()));
        entries.collect::<BTreeMap<_, _>>()
    };
    loop {
        let revision = match next(watch).await {
            Event::Lagged { snapshot, .. } => {
                held = whole(&snapshot);
                snapshot.revision()
            }
            Event::Changed(batch) => {
                for change in &batch.changes {
                    let key = change.key.as_bytes();
                    let old = held.remove(key);
                    assert_eq!(old.as_deref(), change.old.as_deref());
                    if let Some(new) = &change.new {
                        held.insert(key.to_vec(), new.to_vec());
                    }
                }
                batch.revision
            }
        };
        if revision >= last {
            return held;
        }
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u8),
        Many(Vec<(u8, u8)>),
        Absent(u8, u8),
        Compare(u8, u8, u8),
        Delete(u8),
        CompareDelete(u8, u8),
        Increment(u8, i8),
        Append(u8, u8, bool),
        Remove(u8, u8),
        Reset,
        CompareReset(u8, u8),
        Destroy,
        Kill,
        Flush,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (key, value) = (0u8..4, 0u8..4);
        prop_oneof![
            6 => (key.clone(), value.clone()).prop_map(|(k, v)| Step::Set(k, v)),
            2 => prop::collection::vec((key.clone(), value.clone()), 0..4).prop_map(Step::Many),
            1 => (key.clone(), value.clone()).prop_map(|(k, v)| Step::Absent(k, v)),
            2 => (key.clone(), value.clone(), value.clone()).prop_map(|(k, t, v)| Step::Compare(k, t, v)),
            3 => key.clone().prop_map(Step::Delete),
            1 => (key.clone(), value.clone()).prop_map(|(k, v)| Step::CompareDelete(k, v)),
            2 => (key.clone(), any::<i8>()).prop_map(|(k, n)| Step::Increment(k, n)),
            2 => (key.clone(), value.clone(), any::<bool>()).prop_map(|(k, v, u)| Step::Append(k, v, u)),
            2 => (key.clone(), value.clone()).prop_map(|(k, v)| Step::Remove(k, v)),
            1 => Just(Step::Reset),
            1 => (key, value).prop_map(|(k, v)| Step::CompareReset(k, v)),
            1 => Just(Step::Destroy),
            1 => Just(Step::Kill),
            1 => Just(Step::Flush),
        ]
    }

    fn key(key: u8) -> String {
        format!("k{key}")
    }

    async fn perform(redis: &Redis, map: &portolan_redis::CoordinatedMap, step: Step) {
        match step {
            Step::Set(k, v) => drop(map.set(key(k), v.to_string()).await.unwrap()),
            Step::Many(entries) => {
                let entries = entries.into_iter().map(|(k, v)| (key(k), v.to_string()));
                drop(map.set_many(entries).await.unwrap());
            }
            Step::Absent(k, v) => drop(map.set_if_absent(key(k), v.to_string()).await.unwrap()),
            Step::Compare(k, t, v) => {
                drop(
                    map.compare_and_set(key(k), t.to_string(), v.to_string())
                        .await
                        .unwrap(),
                );
            }
            Step::Delete(k) => drop(map.delete(key(k)).await.unwrap()),
            Step::CompareDelete(k, v) => {
                drop(map.compare_and_delete(key(k), v.to_string()).await.unwrap());
            }
            // Of a list or of a number, whichever is there, the other one is refused.
            Step::Increment(k, n) => drop(map.increment(key(k), n.into()).await),
            Step::Append(k, v, false) => drop(map.append(key(k), &[v.to_string()]).await),
            Step::Append(k, v, true) => drop(map.append_unique(key(k), &[v.to_string()]).await),
            Step::Remove(k, v) => drop(map.remove(key(k), &[v.to_string()]).await),
            Step::Reset => drop(map.reset().await.unwrap()),
            Step::CompareReset(k, v) => {
                drop(
                    map.compare_and_reset([(key(k), v.to_string())])
                        .await
                        .unwrap(),
                );
            }
            Step::Destroy => drop(map.destroy().await.unwrap()),
            Step::Kill => {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("TYPE").arg("pubsub");
                kill.exec_async(&mut redis.plain().await).await.unwrap();
            }
            Step::Flush => {
                redis::cmd("FLUSHALL")
                    .exec_async(&mut redis.plain().await)
                    .await
                    .unwrap();
            }
        }
    }

    #[test]
    fn replicas_and_watchers_hold_the_hash_after_any_sequence_by_several_writers() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let redis = runtime.block_on(Redis::start());
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
        let steps = prop::collection::vec((0usize..3, step()), 1..40);
        let case = std::cell::Cell::new(0);
        let result = runner.run(&steps, |steps| {
            case.set(case.get() + 1);
            runtime.block_on(run(&redis, &format!("random{}", case.get()), steps));
            Ok(())
        });
        result.unwrap();
    }

    /// Each writer goes on by itself, so that what they do is in any order.
    async fn run(redis: &Redis, name: &str, steps: Vec<(usize, Step)>) {
        let mut maps = Vec::new();
        for _ in 0..3 {
            maps.push(redis.join_with(name, options().event_capacity(20)).await);
        }
        let (snapshot, mut watch) = maps[0].snapshot_and_watch("**").unwrap();
        assert!(snapshot.is_empty());
        let writers = (0..3).map(|writer| {
            let map = maps[writer].clone();
            let own = steps.iter().filter(move |(by, _)| *by == writer);
            async move {
                for (_, step) in own {
                    perform(redis, &map, step.clone()).await;
                }
            }
        });
        futures_util::future::join_all(writers).await;
        let mut plain = redis.plain().await;
        for map in &maps {
            agrees(map, &mut plain).await;
        }
        // A last word, after which nothing comes.
        let last = maps[1].set("last", "x").await.unwrap().revision.unwrap();
        reads(&maps[0], "last", "x").await;
        let mut held = follow_to_last(&mut watch, last).await;
        held.retain(|_, value| !value.is_empty());
        let expected = entries(&maps[0]).into_iter();
        let expected: BTreeMap<_, _> = expected
            .map(|(k, v)| (k.into_bytes(), v.into_bytes()))
            .collect();
        assert_eq!(held, expected);
    }

    /// Revisions begin anew when the database is flushed, so the last is known by its key.
    async fn follow_to_last(watch: &mut Watch, last: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut held = BTreeMap::new();
        while !held.contains_key(&b"last"[..]) {
            held = follow(held, watch, 0).await;
        }
        assert!(last > 0);
        held
    }
}
