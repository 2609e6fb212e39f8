//! Two services share their configuration through a hub, and go on while it is gone.
//!
//! The hub is part of this program, so that the example needs nothing else; `portolan serve` does
//! the same and more.

mod hub;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan::{Event, Map, Node, Value};

use crate::hub::Hub;

/// Nothing here takes a second; whatever does, hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    tokio::time::timeout(PATIENCE, share())
        .await
        .context("something that should have happened did not")?
}

async fn share() -> Result<()> {
    let hub = Hub::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = hub.address();
    let (billing, billing_config) = service(address).await?;
    let (search, search_config) = service(address).await?;

    // What one service writes, the other is told: all of a transaction at once, and only what it
    // asked for.
    let mut rates = search_config.watch("rate/*")?;
    billing_config.transact(|tx| {
        tx.set("rate/search", 50)?;
        tx.set("rate/export", 5)?;
        tx.set("greeting", "Ahoy")?;
        Ok::<_, portolan::Error>(())
    })?;
    let Some(Event::Changed(batch)) = rates.next().await else {
        anyhow::bail!("the watcher was not told");
    };
    for change in &batch.changes {
        println!("search is told: {} is {:?}", change.path[0], change.new);
    }
    ensure!(batch.changes.len() == 2);
    ensure!(search_config.get_as::<i64>("rate/search")? == Some(50));

    // Without the hub both go on reading and writing.
    hub.stop().await?;
    billing_config.set("on-call", "Ada")?;
    search_config.set("on-call", "Grace")?;
    println!("apart, search has {:?}", search_config.get("on-call"));

    // A new hub knows nothing; the services bring it up to date, and each other.
    let hub = Hub::start(address).await?;
    until_siblings(&billing_config, "on-call", 2).await?;
    until_siblings(&search_config, "on-call", 2).await?;
    let both = search_config.get_all("on-call");
    println!("together again: {both:?}");
    ensure!(both == billing_config.get_all("on-call"));
    ensure!(both.contains(&Value::from("Ada")) && both.contains(&Value::from("Grace")));

    // Whoever has seen both decides.
    search_config.set("on-call", "Grace")?;
    until_siblings(&billing_config, "on-call", 1).await?;
    println!("decided: billing has {:?}", billing_config.get("on-call"));

    billing.close().await?;
    search.close().await?;
    hub.stop().await
}

/// A service with a replica of the configuration, in memory.
async fn service(hub: SocketAddr) -> Result<(Node, Map)> {
    let node = Node::builder()
        .connect(format!("ws://{hub}"))
        .max_back_off(Duration::from_millis(200))
        .spawn()
        .await?;
    let config = node.open("fleet/config").await?;
    config.ready().await?;
    Ok((node, config))
}

/// Waits until a key has so many values.
async fn until_siblings(map: &Map, key: &str, count: usize) -> Result<()> {
    let mut changes = map.watch(key)?;
    while map.get_all(key).len() != count {
        changes.next().await.context("the node was closed")?;
    }
    Ok(())
}
