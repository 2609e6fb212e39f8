//! Nodes that share maps through a bus on a real Redis.

mod differences;
mod faults;
mod format;
mod garbage;
mod presence;
mod sequences;
mod sharing;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests of coordinated maps use the rest")]
mod support;
mod topologies;

use std::sync::Arc;
use std::time::Duration;

use portolan::{Config, Map, Node};
use portolan_redis::{RedisBus, Server};

use crate::support::Redis;

/// The map that the tests share.
const NAME: &str = "fleet/config";
/// Digests come soon, so that tests need not wait for them.
const PERIOD: Duration = Duration::from_millis(200);

fn bus(url: &str) -> Arc<RedisBus> {
    Arc::new(RedisBus::with_period(Server::single(url).unwrap(), PERIOD))
}

/// A node that keeps nothing.
async fn node(redis: &Redis) -> (Node, Map) {
    node_at(&redis.url()).await
}

async fn node_at(url: &str) -> (Node, Map) {
    node_on(bus(url)).await
}

async fn node_on(bus: Arc<RedisBus>) -> (Node, Map) {
    let node = Node::builder().sync(config()).bus(bus);
    let node = node.spawn().await.unwrap();
    let map = node.open(NAME).await.unwrap();
    (node, map)
}

/// A node with a store.
async fn durable(redis: &Redis, folder: &std::path::Path) -> (Node, Map) {
    let node = Node::builder().sync(config()).bus(bus(&redis.url()));
    let node = node.store(folder).spawn().await.unwrap();
    let map = node.open(NAME).await.unwrap();
    (node, map)
}

fn config() -> Config {
    Config {
        gossip_interval: 100,
        digest_period: 500,
        presence_period: 300,
        ..Config::default()
    }
}

/// Waits until all hold the same operations; then they hold the same.
async fn converge(maps: &[&Map]) {
    let what = "all hold the same";
    support::until(what, async || {
        let version = maps[0].version();
        maps.iter().all(|map| map.version() == version)
    })
    .await;
    for map in maps {
        assert_eq!(map.digest(), maps[0].digest());
    }
}
