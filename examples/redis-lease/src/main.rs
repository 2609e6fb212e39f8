//! One worker at a time, by a lease on Redis with a fencing token.
//!
//! `PORTOLAN_REDIS` says where Redis is.

use std::time::Duration;

use anyhow::{Result, ensure};
use portolan_redis::{CoordinatedMap, Error, Options, Server};

const LEASE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("PORTOLAN_REDIS");
    let server = Server::single(url.as_deref().unwrap_or("redis://127.0.0.1:6379"))?;
    let anna =
        CoordinatedMap::join(&server, "example/work", Options::default().owner("anna")).await?;
    let ben =
        CoordinatedMap::join(&server, "example/work", Options::default().owner("ben")).await?;

    let held = anna.lease("nightly-report", LEASE).await?;
    println!("anna holds the lease with token {}", held.token());
    match ben.lease("nightly-report", LEASE).await {
        Err(Error::LeaseHeld { owner, .. }) => println!("ben waits for {owner}"),
        other => anyhow::bail!("two hold it: {other:?}"),
    }

    // Written only if the lease is held when Redis writes it.
    held.set("page 1").await?;
    // Work goes on until it is done, or the lease is lost.
    tokio::select! {
        () = held.lost() => anyhow::bail!("the lease was lost"),
        done = work() => done,
    }
    let first = held.token();
    held.release().await?;

    let next = ben.lease("nightly-report", LEASE).await?;
    ensure!(
        next.token() > first,
        "tokens grow: who comes late is known by a lower one"
    );
    println!("ben goes on with token {}", next.token());
    next.delete().await?;
    next.release().await?;
    Ok(())
}

async fn work() {
    tokio::task::yield_now().await;
}
