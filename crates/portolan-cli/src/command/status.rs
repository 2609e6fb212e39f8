//! status.

use std::io::Write;

use serde::Deserialize;

use super::entries::{no_portolan, text};
use super::{output, written};
use crate::arguments::Status;
use crate::client::Client;
use crate::failure::Failure;

#[derive(Deserialize)]
struct ServerStatus {
    version: String,
    replica: String,
    maps: Vec<MapLine>,
    #[serde(default)]
    unreadable: Vec<Unreadable>,
    store: Option<Store>,
    bus: Option<Bus>,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct MapLine {
    name: String,
    keys: u64,
    operations: u64,
    #[serde(default)]
    replicas: u64,
    #[serde(default)]
    members: u64,
    peers: u64,
    digest: String,
    #[serde(default)]
    refused: Vec<String>,
}

#[derive(Deserialize)]
struct Unreadable {
    name: String,
    problem: String,
}

#[derive(Deserialize)]
struct Store {
    path: String,
    commits: u64,
    written_bytes: u64,
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Bus {
    address: String,
    appended: u64,
    read: u64,
    joins: u64,
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    peer: String,
    opened: bool,
    online: bool,
    problem: Option<String>,
    maps: u64,
}

/// `portolan status`
pub(crate) fn status(arguments: &Status) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let text = text(client.get("/v1/status", &[])?)?;
    let mut out = output();
    if arguments.json {
        return written(writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()));
    }
    let status: ServerStatus = serde_json::from_str(&text).map_err(|error| no_portolan(&error))?;
    written(print(&mut out, client.base(), &status).and_then(|()| out.flush()))
}

fn print(out: &mut impl Write, base: &str, status: &ServerStatus) -> std::io::Result<()> {
    writeln!(
        out,
        "server  {base}, version {}, replica {}",
        status.version, status.replica
    )?;
    if let Some(store) = &status.store {
        let Store {
            path,
            commits,
            written_bytes,
            failure,
        } = store;
        writeln!(
            out,
            "store   {path}, {commits} commits, {written_bytes} bytes since its start"
        )?;
        if let Some(failure) = failure {
            writeln!(out, "        FAILING: {failure}")?;
        }
    }
    if let Some(bus) = &status.bus {
        let Bus {
            address,
            appended,
            read,
            joins,
            failure,
        } = bus;
        writeln!(
            out,
            "bus     {address}, {appended} entries appended, {read} read, {joins} joins since its start"
        )?;
        if let Some(failure) = failure {
            writeln!(out, "        FAILING: {failure}")?;
        }
    }
    for link in &status.links {
        let side = if link.opened { "to" } else { "from" };
        let state = if link.online {
            "online"
        } else {
            "not connected"
        };
        write!(
            out,
            "link    {side} {}, {state}, {} maps",
            link.peer, link.maps
        )?;
        match &link.problem {
            Some(problem) => writeln!(out, ": {problem}")?,
            None => writeln!(out)?,
        }
    }
    for Unreadable { name, problem } in &status.unreadable {
        writeln!(out, "{name}  UNREADABLE: {problem}")?;
    }
    if status.maps.is_empty() {
        return writeln!(
            out,
            "no maps{}",
            if status.unreadable.is_empty() {
                ""
            } else {
                " else"
            }
        );
    }
    let width = status
        .maps
        .iter()
        .map(|map| map.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(3);
    writeln!(
        out,
        "{:width$}  {:>10}  {:>10}  {:>8}  {:>7}  {:>5}  digest",
        "map", "keys", "operations", "replicas", "members", "peers"
    )?;
    for map in &status.maps {
        let MapLine {
            name,
            keys,
            operations,
            replicas,
            members,
            peers,
            digest,
            refused,
        } = map;
        writeln!(
            out,
            "{name:width$}  {keys:>10}  {operations:>10}  {replicas:>8}  {members:>7}  {peers:>5}  {digest}"
        )?;
        for reason in refused {
            writeln!(out, "{:width$}  refused by a server: {reason}", "")?;
        }
    }
    Ok(())
}
