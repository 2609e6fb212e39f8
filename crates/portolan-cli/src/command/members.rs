//! members, forget.

use std::io::Write as _;

use portolan::ReplicaId;
use serde::Deserialize;

use super::entries::{no_portolan, text};
use super::{output, written};
use crate::arguments::{Forget, Members};
use crate::client::{Client, map_path, segment};
use crate::failure::Failure;

#[derive(Deserialize)]
struct Told {
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    replica: String,
    standing: String,
    silent_ms: u64,
    missing: Option<u64>,
}

/// `portolan members`
pub(crate) fn members(arguments: &Members) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let path = format!("{}/members", map_path(&arguments.map));
    let text = text(client.get(&path, &[])?)?;
    let mut out = output();
    if arguments.json {
        return written(writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()));
    }
    let told: Told = serde_json::from_str(&text).map_err(|error| no_portolan(&error))?;
    if told.members.is_empty() {
        return written(writeln!(out, "no other replicas").and_then(|()| out.flush()));
    }
    written(writeln!(
        out,
        "{:16}  {:9}  {:>6}  {:>10}",
        "replica", "standing", "silent", "missing"
    ))?;
    for Member {
        replica,
        standing,
        silent_ms,
        missing,
    } in told.members
    {
        let silent = duration(silent_ms);
        let missing = missing.map_or_else(|| "-".to_owned(), |missing| missing.to_string());
        let line = format!("{replica:16}  {standing:9}  {silent:>6}  {missing:>10}");
        written(writeln!(out, "{line}"))?;
    }
    written(out.flush())
}

/// `portolan forget`
pub(crate) fn forget(arguments: &Forget) -> Result<(), Failure> {
    let replica = &arguments.replica;
    if replica.parse::<ReplicaId>().is_err() {
        return Err(Failure::Usage(format!(
            "{replica:?} is no id of a replica: it has 16 hex digits, as `portolan members` tells it"
        )));
    }
    let client = Client::new(&arguments.server)?;
    let (map, replica) = (map_path(&arguments.map), segment(replica));
    client.delete(&format!("{map}/members/{replica}"))
}

/// In the largest unit of which it is one at least.
fn duration(millis: u64) -> String {
    match millis / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
