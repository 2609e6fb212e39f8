//! The least that does the same: a script that writes, counts and publishes, to subscribers that
//! do nothing but receive.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt as _;

use super::REPLICAS;
use super::reads::{JOINED, fill};
use super::server::{PATIENCE, Server};
use super::writes::{KEYS, RATE, SETS, WRITES, percentiles};
use crate::report::Measure;

/// The mutation of the format and nothing else.
const SCRIPT: &str = "
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], '=kind', 'set')
local revision = tostring(redis.call('HINCRBY', KEYS[1], '=rev', 1))
local function packed(text) return struct.pack('<I4', #text) .. text end
redis.call('PUBLISH', ARGV[3], 'set:' .. packed(ARGV[1]) .. packed(ARGV[2]) .. packed(revision))
return revision";
const CHANNEL: &str = "map:bare:updates";

pub(super) async fn sets(server: &Server, writers: usize) -> anyhow::Result<Vec<Measure>> {
    let mut subscribers = tokio::task::JoinSet::new();
    for _ in 0..REPLICAS {
        let mut messages = subscribe(server).await?;
        subscribers.spawn(async move {
            let mut bytes = 0;
            while let Some(message) = messages.next().await {
                bytes += message.get_payload_bytes().len();
            }
            bytes
        });
    }
    let script = std::sync::Arc::new(redis::Script::new(SCRIPT));
    let connection = server.connect().await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (script, mut connection) = (script.clone(), connection.clone());
        tasks.spawn(async move {
            for n in 0..SETS / writers {
                let mut set = script.key("map:bare:content");
                set.arg(format!("k{}", (writer + n) % KEYS))
                    .arg("value")
                    .arg(CHANNEL);
                let _: String = set.invoke_async(&mut connection).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let sets = (SETS / writers * writers) as f64;
    let rate = sets / start.elapsed().as_secs_f64();
    Ok(vec![Measure::new("sets_per_s", rate, "1/s")])
}

/// From before a publish until a subscriber has it.
pub(super) async fn latency(server: &Server) -> anyhow::Result<Vec<Measure>> {
    let mut messages = subscribe(server).await?;
    let reading = tokio::spawn(async move {
        let mut arrived = Vec::with_capacity(WRITES);
        while arrived.len() < WRITES {
            messages.next().await.context("the subscription ended")?;
            arrived.push(Instant::now());
        }
        anyhow::Ok(arrived)
    });
    let connection = server.connect().await?;
    let mut tasks = tokio::task::JoinSet::new();
    let mut started = Vec::with_capacity(WRITES);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
    for n in 0..WRITES {
        ticks.tick().await;
        let mut connection = connection.clone();
        started.push(Instant::now());
        tasks.spawn(async move {
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(CHANNEL).arg(format!("set k{} {n}", n % KEYS));
            publish.exec_async(&mut connection).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let arrived = tokio::time::timeout(PATIENCE, reading)
        .await
        .context("no message")???;
    percentiles(&started, &arrived)
}

/// One HGETALL into a map, from a new connection.
pub(super) async fn read_all(server: &Server) -> anyhow::Result<Vec<Measure>> {
    fill(server).await?;
    let start = Instant::now();
    let mut connection = server.connect().await?;
    let map: HashMap<String, Vec<u8>> = redis::cmd("HGETALL")
        .arg(JOINED)
        .query_async(&mut connection)
        .await?;
    let time = start.elapsed().as_secs_f64() * 1000.0;
    std::hint::black_box(map);
    Ok(vec![Measure::new("time_ms", time, "ms")])
}

async fn subscribe(server: &Server) -> anyhow::Result<redis::aio::PubSubStream> {
    let mut subscription = server.client()?.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    let (sink, stream) = subscription.split();
    // The stream holds the connection as well.
    drop(sink);
    Ok(stream)
}
