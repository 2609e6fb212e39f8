//! history.

use std::io::{BufWriter, Write as _};

use anstream::eprintln;
use portolan::Key;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entries::{no_portolan, text};
use super::watch::{Change, local, what};
use super::{output, written};
use crate::arguments::History;
use crate::client::{Client, map_path, segment};
use crate::failure::Failure;
use crate::json::{ParsedKey, key_json};

/// How the time of a change is written.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// What the server tells.
#[derive(Deserialize)]
struct Told {
    known_since: Option<String>,
    replica: String,
    left_out: usize,
    /// As the server wrote them.
    changes: Vec<Box<RawValue>>,
}

/// `portolan history`
pub(crate) fn history(arguments: &History) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let response = client.get(&path(arguments)?, &[])?;
    let told: Told = serde_json::from_str(&text(response)?).map_err(|error| no_portolan(&error))?;
    let mut out = BufWriter::new(output());
    if arguments.json {
        for change in &told.changes {
            written(writeln!(out, "{change}"))?;
        }
    } else {
        for line in lines(&told)? {
            written(writeln!(out, "{line}"))?;
        }
    }
    written(out.flush())?;
    if told.left_out > 0 {
        eprintln!("{} older ones are left out", told.left_out);
    }
    if let Some(known) = told.known_since.filter(|_| arguments.since.is_none()) {
        let known = local(&known, TIME);
        eprintln!("what was replaced or removed before {known} is not known any more");
    }
    Ok(())
}

fn path(arguments: &History) -> Result<String, Failure> {
    let mut query = Vec::new();
    for (name, moment) in [("since", &arguments.since), ("until", &arguments.until)] {
        query.extend(
            moment
                .iter()
                .map(|moment| format!("{name}={}", segment(moment))),
        );
    }
    if arguments.each {
        query.push("each".to_owned());
    }
    query.extend(arguments.limit.iter().map(|limit| format!("limit={limit}")));
    if !arguments.keys.is_empty() {
        let key = |key: &String| {
            if arguments.typed {
                serde_json::from_str::<ParsedKey>(key).map(|key| key_json(&key.0))
            } else {
                Ok(key_json(&Key::from(key.as_str())))
            }
        };
        let keys: Result<Vec<String>, _> = arguments.keys.iter().map(key).collect();
        let keys = keys.map_err(|error| Failure::Usage(format!("the typed key: {error}")))?;
        query.push(format!("in={}", segment(&format!("[{}]", keys.join(",")))));
    }
    let path = format!("{}/history", map_path(&arguments.map));
    Ok(match query.as_slice() {
        [] => path,
        query => format!("{path}?{}", query.join("&")),
    })
}

/// The changes for people, in the order of time.
fn lines(told: &Told) -> Result<Vec<String>, Failure> {
    const DIM: &str = "\x1b[2m";
    const PLAIN: &str = "\x1b[0m";
    let read = told.changes.iter();
    let read = read.map(|change| serde_json::from_str::<Change>(change.get()));
    let changes: Result<Vec<Change>, _> = read.collect();
    let mut changes = changes.map_err(|error| no_portolan(&error))?;
    changes.sort_by_key(|change| change.at.as_deref()?.parse::<jiff::Timestamp>().ok());
    let line = |change: &Change| {
        let time = change
            .at
            .as_deref()
            .map_or_else(String::new, |at| local(at, TIME));
        let by = match change.by.as_deref() {
            Some(by) if by == told.replica => " by this server".to_owned(),
            Some(by) => format!(" by {by}"),
            None => String::new(),
        };
        let what = what(change, &element(change));
        format!("{DIM}{time}{PLAIN} {what}{DIM}{by}{PLAIN}")
    };
    Ok(changes.iter().map(line).collect())
}

/// Which element, where it is one: by its id, which stays.
fn element(change: &Change) -> String {
    #[derive(Deserialize)]
    struct Element {
        element: String,
    }
    let place = change.place.as_ref();
    let element = place.and_then(|place| serde_json::from_str::<Element>(place.get()).ok());
    element.map_or_else(String::new, |place| format!(" @{}", place.element))
}
