//! Flags of a program's own type, kept in a store, watched by a pattern.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use portolan::{Event, Map, Node};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flag {
    on: bool,
    /// Percent of the users.
    rollout: u8,
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path()).await?;
    read(folder.path()).await
}

async fn write(store: &Path) -> Result<()> {
    let (node, flags) = open(store).await?;
    flags.set_as(
        "feature/search",
        &Flag {
            on: true,
            rollout: 100,
        },
    )?;
    flags.set_as(
        "feature/export",
        &Flag {
            on: true,
            rollout: 5,
        },
    )?;
    flags.set("notice", "Maintenance on Sunday")?;
    flags.flush().await?; // from here on it survives a crash
    node.close().await?;
    Ok(())
}

/// As the program does after a restart.
async fn read(store: &Path) -> Result<()> {
    let (node, flags) = open(store).await?;

    // First what there is, then every change: nothing is missed in between.
    let mut watch = flags.watch_from_snapshot("feature/*")?;
    let Some(Event::Snapshot { entries, .. }) = watch.next().await else {
        bail!("the watch did not begin with a snapshot");
    };
    for entry in &entries {
        let flag: Flag = portolan::from_value(&entry.value)?;
        println!("{}: {flag:?}", entry.path[0]);
    }
    ensure!(entries.len() == 2);

    let mut export: Flag = flags.get_as("feature/export")?.unwrap_or(Flag {
        on: false,
        rollout: 0,
    });
    export.rollout = 50;
    flags.set_as("feature/export", &export)?;
    let Some(Event::Changed(batch)) = watch.next().await else {
        bail!("the watch did not tell of the change");
    };
    let Some(now) = &batch.changes[0].new else {
        bail!("the flag is gone");
    };
    ensure!(portolan::from_value::<Flag>(now)? == export);
    println!("{} changed: {export:?}", batch.changes[0].path[0]);

    // A value of another shape is an error that says so, not a panic.
    let error = flags.get_as::<Flag>("notice").map(|_| ());
    println!("notice as a flag: {}", error.unwrap_err());

    node.close().await?;
    Ok(())
}

async fn open(store: &Path) -> Result<(Node, Map)> {
    let node = Node::builder().store(store).spawn().await?;
    let flags = node.open("flags").await?;
    Ok((node, flags))
}
