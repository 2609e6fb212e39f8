//! Servers that share their maps through a Redis: any of them may go, and what was acknowledged
//! stays.
//!
//! `PORTOLAN_REDIS` says where Redis is. The servers are nodes of this program, so that the example
//! needs nothing else; `portolan serve --redis URL` is such a node with a listener for clients.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan::{Event, Map, Node, Value};
use portolan_redis::{RedisBus, Server};

/// Nothing here takes a second; whatever does, hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    tokio::time::timeout(PATIENCE, share())
        .await
        .context("something that should have happened did not")?
}

async fn share() -> Result<()> {
    let (north, jobs) = server().await?;
    // Of an earlier run.
    jobs.clear()?;
    jobs.flush().await?;
    let (south, jobs_south) = server().await?;

    // What one server writes, the other is told. Once it is flushed, Redis has it.
    let mut changes = jobs_south.watch("owner/*")?;
    jobs.set("owner/billing", "ada")?;
    jobs.flush().await?;
    let Some(Event::Changed(batch)) = changes.next().await else {
        anyhow::bail!("the other server was not told");
    };
    let told = &batch.changes[0];
    println!("south is told: {} is {:?}", told.path[0], told.new);
    ensure!(told.new == Some(Value::from("ada")));

    // Redis decides nothing: what is written at once is kept, or adds up.
    jobs.counter("done").add(2)?;
    jobs_south.counter("done").add(3)?;
    jobs.array("log").append("north was here")?;
    jobs_south.array("log").append("south was here")?;
    jobs.flush().await?;
    jobs_south.flush().await?;
    let all_is_there = |map: &Map| map.counter("done").get() == 5 && map.array("log").len() == 2;
    until(&jobs, all_is_there).await?;
    until(&jobs_south, all_is_there).await?;

    // When both have gone, and without a store of their own, Redis has what was acknowledged.
    north.close().await?;
    south.close().await?;
    let (late, found) = server().await?;
    ensure!(found.get_as::<String>("owner/billing")?.as_deref() == Some("ada"));
    ensure!(found.counter("done").get() == 5);
    println!("a server that comes late has {} keys", found.len());
    let bus = late.status().bus.context("it has a bus")?;
    ensure!(bus.failure.is_none());
    println!("and is on {}", bus.address);
    late.close().await?;
    Ok(())
}

/// A server that keeps nothing but what Redis and the others have.
async fn server() -> Result<(Node, Map)> {
    let url = std::env::var("PORTOLAN_REDIS");
    let redis = Server::single(url.as_deref().unwrap_or("redis://127.0.0.1:6379"))?;
    let bus = Arc::new(RedisBus::new(redis));
    let node = Node::builder().bus(bus).spawn().await?;
    let map = node.open("example/jobs").await?;
    map.ready().await?;
    Ok((node, map))
}

/// Waits until a map holds what it should.
async fn until(map: &Map, holds: impl Fn(&Map) -> bool) -> Result<()> {
    let mut changes = map.watch("**")?;
    while !holds(map) {
        changes.next().await.context("the node was closed")?;
    }
    Ok(())
}
