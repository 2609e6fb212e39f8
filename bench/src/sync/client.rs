//! A client of a Portolan server, told what to do as `hocuspocus/client.js` is.

use std::io::stdin;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use portolan::{Event, Key, Map, Node, Value};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep_until;

/// A client process of the synchronisation suite.
#[derive(Clone, Debug, Args)]
pub(crate) struct Client {
    role: Role,
    url: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Writer,
    Reader,
}

/// Obeys standard input until it ends.
pub(crate) fn run(client: &Client) -> anyhow::Result<()> {
    Runtime::new()?.block_on(obey(client))
}

async fn obey(client: &Client) -> anyhow::Result<()> {
    let mut lines = lines();
    // Held to the end: a node closes with its last handle.
    let (_node, map) = match client.role {
        Role::Writer => {
            let (node, map) = connect(&client.url).await?;
            map.ready().await?;
            println!("connected");
            (node, map)
        }
        Role::Reader => {
            // A late joiner: from connecting until it has all the keys.
            let line = lines.recv().await.context("told nothing")?;
            let keys: usize = line
                .strip_prefix("join ")
                .context("told no join")?
                .parse()?;
            let start = Instant::now();
            let (node, map) = connect(&client.url).await?;
            map.ready().await?;
            ensure!(map.len() >= keys, "{} of {keys} keys are here", map.len());
            println!("joined {}", start.elapsed().as_secs_f64() * 1000.0);
            (node, map)
        }
    };
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        match (client.role, words.as_slice()) {
            (Role::Writer, ["fill", keys]) => fill(&map, keys.parse()?).await?,
            (Role::Writer, ["edit", rate, n]) => edit(&map, rate.parse()?, n.parse()?).await?,
            (Role::Writer, ["burst", n]) => burst(&map, n.parse()?)?,
            (Role::Reader, ["edits", n]) => {
                let mut latencies = vec!["latencies".to_owned()];
                watch(&map, "edit-", n.parse()?, |written| {
                    latencies.push((now() - written).to_string());
                })
                .await?;
                println!("{}", latencies.join(" "));
            }
            (Role::Reader, ["burst", n]) => {
                watch(&map, "burst-", n.parse()?, |_| {}).await?;
                println!("finished {}", now());
            }
            _ => bail!("no such command: {line}"),
        }
    }
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<(Node, Map)> {
    let node = Node::builder().connect(url).spawn().await?;
    let map = node.open("bench").await?;
    Ok((node, map))
}

async fn fill(map: &Map, keys: i64) -> anyhow::Result<()> {
    map.transact(|tx| {
        (0..keys).try_for_each(|i| Ok::<(), portolan::Error>(tx.set(format!("key-{i:06}"), i)?))
    })?;
    map.flush_peers().await?;
    println!("filled");
    Ok(())
}

async fn edit(map: &Map, rate: u32, n: u32) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    for i in 0..n {
        sleep_until(start + Duration::from_secs(1) * i / rate).await;
        map.set(format!("edit-{i}"), now())?;
    }
    println!("edited");
    Ok(())
}

fn burst(map: &Map, n: i64) -> anyhow::Result<()> {
    let start = now();
    for i in 0..n {
        map.set(format!("burst-{i}"), i)?;
    }
    println!("started {start}");
    Ok(())
}

/// Calls back with the value of each key of this kind that is written, until it has been for so
/// many.
async fn watch(
    map: &Map,
    prefix: &str,
    count: usize,
    mut callback: impl FnMut(i64),
) -> anyhow::Result<()> {
    let mut watch = map.watch("**")?;
    println!("watching");
    let mut seen = 0;
    while seen < count {
        let event = watch.next().await.context("the node has closed")?;
        let Event::Changed(batch) = event else {
            bail!("the watcher fell behind");
        };
        for change in &batch.changes {
            let key = change.path.first().and_then(Key::as_str);
            if key.is_some_and(|key| key.starts_with(prefix)) {
                let value = change.new.as_ref().and_then(Value::as_int);
                callback(value.context("no integer")?);
                seen += 1;
            }
        }
    }
    Ok(())
}

/// Microseconds of the machine's clock, which all its processes share.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is wrong, and so are the figures then.
    since.map_or(0, |since| since.as_micros() as i64)
}

/// Standard input, line by line.
fn lines() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    // Ends with standard input, or with the process.
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
