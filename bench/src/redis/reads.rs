//! What it takes to join a coordinated map, and to read it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::Bytes;

use super::server::Server;
use crate::report::Measure;

/// Keys of the map that is joined and read.
const KEYS: usize = 100_000;
/// Its hash.
pub(super) const JOINED: &str = "map:joined:content";
/// Reads of each thread.
const GETS: usize = 2_000_000;
/// Pause between writes that arrive while two threads read.
const PAUSE: Duration = Duration::from_millis(1);

fn key(n: usize) -> String {
    format!("service/{n:06}")
}

/// Writes the map that is joined, unless it is there.
pub(super) async fn fill(server: &Server) -> anyhow::Result<()> {
    let mut connection = server.connect().await?;
    let there: usize = redis::cmd("HLEN")
        .arg(JOINED)
        .query_async(&mut connection)
        .await?;
    if there > 0 {
        return Ok(());
    }
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
        let mut set = redis::cmd("HSET");
        set.arg(JOINED);
        for n in chunk {
            set.arg(key(*n)).arg(format!("value of {n}"));
        }
        set.exec_async(&mut connection).await?;
    }
    let reserved = ["=rev", "100000", "=kind", "set"];
    redis::cmd("HSET")
        .arg(JOINED)
        .arg(&reserved)
        .exec_async(&mut connection)
        .await?;
    Ok(())
}

pub(super) async fn join(server: &Server) -> anyhow::Result<Vec<Measure>> {
    fill(server).await?;
    let start = Instant::now();
    let map = server.join("joined").await?;
    let time = start.elapsed().as_secs_f64() * 1000.0;
    ensure!(map.len() == KEYS, "{} keys were joined", map.len());
    Ok(vec![Measure::new("time_ms", time, "ms")])
}

/// Reads by so many threads; while it is more than one, writes arrive from another node.
pub(super) async fn gets(server: &Server, threads: usize) -> anyhow::Result<Vec<Measure>> {
    fill(server).await?;
    let map = server.join("joined").await?;
    let writing = if threads > 1 {
        let writer = server.join("joined").await?;
        let write = async move {
            for n in 0.. {
                writer.set(key(n % KEYS), "another").await?;
                tokio::time::sleep(PAUSE).await;
            }
            anyhow::Ok(())
        };
        Some(tokio::spawn(write))
    } else {
        None
    };
    let measured = tokio::task::spawn_blocking(move || time(threads, &|key| map.get(key)));
    let measured = measured.await?;
    if let Some(writing) = writing {
        writing.abort();
    }
    measured
}

/// A plain map behind a read-write lock, written to at the same rate.
pub(super) fn bare_gets(threads: usize) -> anyhow::Result<Vec<Measure>> {
    let entry = |n| (key(n), Bytes::from(format!("value of {n}")));
    let map: RwLock<HashMap<String, Bytes>> = RwLock::new((0..KEYS).map(entry).collect());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        if threads > 1 {
            scope.spawn(|| {
                for n in (0..KEYS)
                    .cycle()
                    .take_while(|_| !done.load(Ordering::Relaxed))
                {
                    if let Ok(mut map) = map.write() {
                        map.insert(key(n), Bytes::from_static(b"another"));
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
        let read = |key: &str| map.read().ok()?.get(key).cloned();
        let measured = time(threads, &read);
        done.store(true, Ordering::Relaxed);
        measured
    })
}

/// The time of a read, and how many there are in a second on all threads.
fn time(
    threads: usize,
    read: &(dyn Fn(&str) -> Option<Bytes> + Sync),
) -> anyhow::Result<Vec<Measure>> {
    // No order that memory has.
    let keys: Vec<String> = (0..KEYS).map(|n| key(n * 7_919 % KEYS)).collect();
    let barrier = Barrier::new(threads);
    let turn = |offset: usize| {
        let keys = keys[offset..].iter().chain(&keys[..offset]);
        barrier.wait();
        let start = Instant::now();
        let found = keys
            .cycle()
            .take(GETS)
            .filter(|key| read(key).is_some())
            .count();
        (start.elapsed().as_secs_f64(), found)
    };
    let times = thread::scope(|scope| {
        let turns: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || turn(n * KEYS / threads)))
            .collect();
        let times = turns.into_iter().map(|turn| turn.join());
        times
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| anyhow!("a reader panicked"))
    })?;
    ensure!(
        times.iter().all(|(_, found)| *found == GETS),
        "keys are missing"
    );
    let slowest = times.iter().map(|(time, _)| *time).fold(0.0, f64::max);
    Ok(vec![
        Measure::new("get_ns", slowest / GETS as f64 * 1e9, "ns"),
        Measure::new("gets_per_s", (GETS * threads) as f64 / slowest, "1/s"),
    ])
}
