//! Whatever the nodes write, and whatever becomes of Redis meanwhile.

use proptest::prelude::*;

use crate::support::{Redis, until};
use crate::{Map, Node, converge, durable, node_at};

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8, i64),
    Delete(usize, u8),
    Append(usize, i64),
    Shorten(usize),
    Flush(usize),
    /// Connections are killed: all, or those that are subscribed.
    Kill(bool),
    /// Redis stops, and starts with what it saved last.
    Stop,
    Start,
    Save,
    Empty,
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..3usize;
    prop_oneof![
        8 => (node.clone(), 0..6u8, any::<i64>()).prop_map(|(n, k, v)| Step::Write(n, k, v)),
        3 => (node.clone(), 0..6u8).prop_map(|(n, k)| Step::Delete(n, k)),
        6 => (node.clone(), any::<i64>()).prop_map(|(n, v)| Step::Append(n, v)),
        3 => node.clone().prop_map(Step::Shorten),
        3 => node.clone().prop_map(Step::Flush),
        2 => any::<bool>().prop_map(Step::Kill),
        1 => Just(Step::Stop),
        2 => Just(Step::Start),
        1 => Just(Step::Save),
        1 => Just(Step::Empty),
        1 => node.prop_map(Step::Restart),
    ]
}

/// The first node has a store.
async fn begin(redis: &Redis, at: usize, folder: &std::path::Path) -> (Node, Map) {
    match at {
        0 => durable(redis, folder).await,
        _ => node_at(&redis.url()).await,
    }
}

async fn run(steps: Vec<Step>) {
    let mut redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for at in 0..3 {
        nodes.push(begin(&redis, at, folder.path()).await);
    }
    let mut up = true;
    for step in steps {
        match step {
            Step::Write(at, key, value) => nodes[at].1.set(i64::from(key), value).unwrap(),
            Step::Delete(at, key) => drop(nodes[at].1.unset(i64::from(key)).unwrap()),
            Step::Append(at, value) => drop(nodes[at].1.array("list").append(value).unwrap()),
            Step::Shorten(at) => {
                let list = nodes[at].1.array("list");
                if !list.is_empty() {
                    list.delete(0).unwrap();
                }
            }
            Step::Flush(at) if up => nodes[at].1.flush().await.unwrap(),
            Step::Kill(all) if up => {
                let mut plain = redis.plain().await;
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL")
                    .arg("TYPE")
                    .arg(if all { "normal" } else { "pubsub" });
                kill.arg("SKIPME")
                    .arg("yes")
                    .exec_async(&mut plain)
                    .await
                    .unwrap();
            }
            Step::Stop => {
                redis.kill();
                up = false;
            }
            Step::Start if !up => {
                redis.restart().await;
                up = true;
            }
            Step::Save if up => {
                let mut plain = redis.plain().await;
                redis::cmd("SAVE").exec_async(&mut plain).await.unwrap();
            }
            Step::Empty if up => {
                let mut plain = redis.plain().await;
                redis::cmd("FLUSHALL").exec_async(&mut plain).await.unwrap();
            }
            Step::Restart(at) if up => {
                // What it has not told yet may go with it.
                nodes[at].1.flush().await.unwrap();
                nodes[at].0.close().await.unwrap();
                nodes.remove(at);
                nodes.insert(at, begin(&redis, at, folder.path()).await);
            }
            _ => {}
        }
    }
    if !up {
        redis.restart().await;
    }
    for (_, map) in &nodes {
        map.flush().await.unwrap();
    }
    let maps: Vec<&Map> = nodes.iter().map(|(_, map)| map).collect();
    converge(&maps).await;
    until("who comes has it all", async || {
        let (_node, late) = node_at(&redis.url()).await;
        late.version() == maps[0].version() && late.digest() == maps[0].digest()
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nodes_converge_whatever_becomes_of_redis(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
