//! A fleet's configuration on Redis: local reads, atomic writes, changes pushed to every node.
//!
//! `PORTOLAN_REDIS` says where Redis is. A service in Go that joins the map `example/fleet` with
//! `goa.design/pulse/rmap` is one more node of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_redis::{CoordinatedMap, Event, Kind, Options, Origin, Server, State};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("PORTOLAN_REDIS");
    let server = Server::single(url.as_deref().unwrap_or("redis://127.0.0.1:6379"))?;
    // Two services; in life each is a process of its own.
    let api = CoordinatedMap::join(&server, "example/fleet", Options::default()).await?;
    let billing = CoordinatedMap::join(&server, "example/fleet", Options::default()).await?;
    api.reset().await?;

    // What was written is read at once, in this process.
    api.set_many([("rate", "100"), ("region", "eu")]).await?;
    ensure!(api.get("rate").as_deref() == Some(b"100"));

    // The other service is told.
    let mut changes = billing.watch("feature/**")?;
    api.set("feature/invoices", "on").await?;
    let event = tokio::time::timeout(PATIENCE, changes.next()).await?;
    let Some(Event::Changed(batch)) = event else {
        anyhow::bail!("no change but {event:?}");
    };
    let change = &batch.changes[0];
    ensure!(change.key == "feature/invoices" && change.kind == Kind::Set);
    ensure!(batch.origin == Origin::Elsewhere);
    println!(
        "billing was told: {} at revision {}",
        change.key, batch.revision
    );

    // Both count, and none is lost.
    let (a, b) = tokio::join!(api.increment("starts", 1), billing.increment("starts", 1));
    ensure!(a?.value.max(b?.value) == 2);

    // Who decides on what was read asks for it to be so still.
    let stale = billing.compare_and_set("rate", "99", "120").await?;
    ensure!(!stale.is_applied() && stale.previous.as_deref() == Some(b"100"));
    ensure!(
        billing
            .compare_and_set("rate", "100", "120")
            .await?
            .is_applied()
    );

    // After this no node reads the old key.
    let rolled_out = api.set_and_wait("signing-key", "k2", PATIENCE).await?;
    ensure!(billing.get("signing-key").as_deref() == Some(b"k2"));
    println!("{} nodes sign with k2", rolled_out.value);

    ensure!(billing.state() == State::Live);
    let rate = billing.get("rate").context("there is a rate")?;
    println!("billing reads rate {}", String::from_utf8_lossy(&rate));
    api.destroy().await?;
    Ok(())
}
