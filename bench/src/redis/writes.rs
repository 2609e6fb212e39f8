//! What it takes a coordinated map to write.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_redis::{CoordinatedMap, Event};

use super::REPLICAS;
use super::server::{PATIENCE, Server};
use crate::report::Measure;

/// Sets in all, whoever writes.
pub(super) const SETS: usize = 12_800;
/// Keys that they go to in turn.
pub(super) const KEYS: usize = 100;
/// Writes in a second while latency is measured, and how many there are. The first fifth warms up.
pub(super) const RATE: u64 = 1_000;
pub(super) const WRITES: usize = 3_000;

/// Writes while subscriptions are killed; what is missing afterwards, on any node or to a watcher.
pub(super) async fn kills(server: &Server) -> anyhow::Result<Vec<Measure>> {
    const WRITES: usize = 4_000;
    const KILLS: usize = 20;
    let maps = join_all(server, "kills").await?;
    let (_, mut watch) = maps[REPLICAS - 1].snapshot_and_watch("**")?;
    let mut killer = server.connect().await?;
    for n in 0..WRITES {
        if n % (WRITES / KILLS) == WRITES / KILLS / 2 {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL")
                .arg("TYPE")
                .arg("pubsub")
                .exec_async(&mut killer)
                .await?;
        }
        maps[0].set(format!("k{n}"), n.to_string()).await?;
    }
    let end = Instant::now() + Duration::from_secs(10);
    let behind = |map: &CoordinatedMap| map.len() < WRITES;
    while maps.iter().any(behind) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let missing = |map: &CoordinatedMap| {
        let holds = |n: &usize| map.get(format!("k{n}")) != Some(n.to_string().into());
        (0..WRITES).filter(holds).count()
    };
    let missing = maps.iter().map(missing).max().unwrap_or(0);
    let mut told = 0;
    while told < WRITES {
        match tokio::time::timeout(Duration::from_secs(5), watch.next()).await {
            Ok(Some(Event::Changed(batch))) => told += batch.changes.len(),
            Ok(Some(Event::Lagged { snapshot, .. })) => told = snapshot.len(),
            _ => break,
        }
    }
    Ok(vec![
        Measure::new("missing", missing as f64, "changes"),
        Measure::new("untold", (WRITES - told.min(WRITES)) as f64, "changes"),
    ])
}

/// Sets by so many writers at once on one node, each read there when it has returned, with eleven
/// replicas.
pub(super) async fn sets(server: &Server, writers: usize) -> anyhow::Result<Vec<Measure>> {
    let maps = join_all(server, "sets").await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let map = maps[0].clone();
        tasks.spawn(async move {
            for n in 0..SETS / writers {
                map.set(format!("k{}", (writer + n) % KEYS), "value")
                    .await?;
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

/// From before a set until another node's watcher is told.
pub(super) async fn latency(server: &Server) -> anyhow::Result<Vec<Measure>> {
    let (writer, reader) = (server.join("latency").await?, server.join("latency").await?);
    let mut watch = reader.watch("**")?;
    let reading = tokio::spawn(async move {
        let mut arrived = Vec::with_capacity(WRITES);
        while arrived.len() < WRITES {
            match watch.next().await {
                Some(Event::Changed(_)) => arrived.push(Instant::now()),
                other => anyhow::bail!("the watcher was told {other:?}"),
            }
        }
        Ok(arrived)
    });
    let mut tasks = tokio::task::JoinSet::new();
    let mut started = Vec::with_capacity(WRITES);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
    for n in 0..WRITES {
        ticks.tick().await;
        let map = writer.clone();
        started.push(Instant::now());
        tasks.spawn(async move { map.set(format!("k{}", n % KEYS), n.to_string()).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let arrived = tokio::time::timeout(PATIENCE, reading)
        .await
        .context("no event")???;
    percentiles(&started, &arrived)
}

/// Of what was started and arrived in the same order.
pub(super) fn percentiles(
    started: &[Instant],
    arrived: &[Instant],
) -> anyhow::Result<Vec<Measure>> {
    ensure!(started.len() == arrived.len(), "not all arrived");
    let times = started.iter().zip(arrived).skip(WRITES / 5);
    let mut times: Vec<f64> = times
        .map(|(from, to)| to.duration_since(*from).as_secs_f64() * 1000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    Ok(vec![
        Measure::new("p50_ms", percentile(50), "ms"),
        Measure::new("p99_ms", percentile(99), "ms"),
    ])
}

async fn join_all(server: &Server, name: &str) -> anyhow::Result<Vec<CoordinatedMap>> {
    let mut maps = Vec::with_capacity(REPLICAS);
    for _ in 0..REPLICAS {
        maps.push(server.join(name).await?);
    }
    Ok(maps)
}
