//! What a bus between two servers costs their clients, beside one server with as many.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan::{Event, Map, Node, Value};
use tokio::task::JoinSet;

use super::server::{PATIENCE, Server};
use crate::child::build;
use crate::report::Measure;
use crate::sync::system::{Running, serve_portolan};

/// Clients, half of them at each of two servers.
const CLIENTS: usize = 1_000;
/// Updates in a second, and how many there are; the first do not count.
const RATE: u32 = 20;
const UPDATES: usize = 120;
const WARM_UP: usize = 20;

/// Two servers on a bus, half of the clients at each. The one that writes is one of them.
pub(super) async fn two_servers(redis: &Server) -> anyhow::Result<Vec<Measure>> {
    let url = redis.url();
    let (first, second) = (serve(&["--redis", &url])?, serve(&["--redis", &url])?);
    let mut asking = redis.connect().await?;
    let before = connections(&mut asking).await?;
    let mut measures = updates(&[&first, &second]).await?;
    let after = connections(&mut asking).await?;
    ensure!(before == after, "{before} connections became {after}");
    measures.push(Measure::new("connections", after as f64, ""));
    Ok(measures)
}

/// One server with as many clients.
pub(super) async fn one_server() -> anyhow::Result<Vec<Measure>> {
    updates(&[&serve(&[])?]).await
}

fn serve(arguments: &[&str]) -> anyhow::Result<Running> {
    let mut command = Command::new(build("portolan-cli", "portolan", &[])?);
    command.args(["serve", "--memory"]).args(arguments);
    serve_portolan(command, None)
}

/// Connections that Redis sees, but for the one that asks.
async fn connections(asking: &mut redis::aio::MultiplexedConnection) -> anyhow::Result<usize> {
    let mut list = redis::cmd("CLIENT");
    let list: String = list.arg("LIST").query_async(asking).await?;
    Ok(list.lines().count() - 1)
}

/// From before an update until each client was told of it.
async fn updates(servers: &[&Running]) -> anyhow::Result<Vec<Measure>> {
    let clock = Instant::now();
    let mut joining = JoinSet::new();
    for n in 0..CLIENTS {
        let url = servers[n % servers.len()].url().to_owned();
        joining.spawn(async move { connect(&url).await });
    }
    let mut clients = Vec::with_capacity(CLIENTS);
    while let Some(client) = joining.join_next().await {
        clients.push(client??);
    }
    let mut watching = JoinSet::new();
    for (_, map) in &clients {
        watching.spawn(watch(map.clone(), clock));
    }
    let writer = clients[0].1.clone();
    let begin = tokio::time::Instant::now();
    for n in 0..UPDATES {
        tokio::time::sleep_until(begin + Duration::from_secs(1) * n as u32 / RATE).await;
        let since = clock.elapsed().as_nanos() as i64;
        writer.set(format!("update-{n}"), since)?;
    }
    let (mut times, mut missing) = (Vec::new(), 0);
    while let Some(watched) = watching.join_next().await {
        let (seen, latencies) = watched??;
        missing += UPDATES.saturating_sub(seen);
        times.extend(latencies);
    }
    times.sort_by(f64::total_cmp);
    ensure!(!times.is_empty(), "no update arrived anywhere");
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    Ok(vec![
        Measure::new("missing", missing as f64, "updates"),
        Measure::new("p50_ms", percentile(50), "ms"),
        Measure::new("p99_ms", percentile(99), "ms"),
    ])
}

async fn connect(url: &str) -> anyhow::Result<(Node, Map)> {
    let node = Node::builder().connect(url).spawn().await?;
    let map = node.open("bench").await?;
    let ready = tokio::time::timeout(PATIENCE, map.ready()).await;
    ready.context("a client is not ready")??;
    Ok((node, map))
}

/// How many updates a client was told of, and how long those took that count, in milliseconds.
async fn watch(map: Map, clock: Instant) -> anyhow::Result<(usize, Vec<f64>)> {
    let mut watch = map.watch("update-*")?;
    let (mut seen, mut latencies) = (0, Vec::with_capacity(UPDATES));
    while seen < UPDATES {
        let Ok(event) = tokio::time::timeout(PATIENCE, watch.next()).await else {
            break;
        };
        let Some(Event::Changed(batch)) = event else {
            anyhow::bail!("the watcher was told {event:?}");
        };
        let now = clock.elapsed().as_nanos() as i64;
        for change in &batch.changes {
            let since = change.new.as_ref().and_then(Value::as_int);
            let since = since.context("an update without its time")?;
            if seen >= WARM_UP {
                latencies.push((now - since) as f64 / 1e6);
            }
            seen += 1;
        }
    }
    Ok((seen, latencies))
}
