//! watch.

mod held;

use std::io::{IsTerminal as _, Write};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anstream::eprintln;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use self::held::Held;
use super::entries::no_portolan;
use super::{output, written};
use crate::arguments::Watch;
use crate::client::{Client, ServerEvent, ServerEvents, map_path, segment};
use crate::failure::Failure;

/// The server gives a sign of life every 15 s; without three of them it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// First and longest wait before connecting again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Longest value shown to people, in characters.
const SHOWN: usize = 120;

type Raw = Box<RawValue>;

/// `portolan watch`
pub(crate) fn watch(arguments: &Watch) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let mut path = format!("{}/events", map_path(&arguments.map));
    if let Some(pattern) = &arguments.pattern {
        path = format!("{path}?pattern={}", segment(pattern));
    }
    let mut watcher = Watcher {
        json: arguments.json,
        id: None,
        held: None,
        snapshot: Vec::new(),
    };
    let mut wait = BACK_OFF.0;
    let mut connected = false;
    let tell = std::io::stderr().is_terminal();
    loop {
        match watcher.follow(&client, &path, &mut connected) {
            Ok(progress) => {
                if progress {
                    wait = BACK_OFF.0;
                }
            }
            // Who was connected once waits for the server to come back, and for the map to be
            // in a server that keeps nothing on disk.
            Err(Failure::Unreachable(_) | Failure::Unavailable(_) | Failure::NotFound(_))
                if connected => {}
            Err(failure) => return Err(failure),
        }
        if tell && wait == BACK_OFF.0 {
            eprintln!("the connection is lost; connecting again");
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(BACK_OFF.1);
    }
}

/// One change, as the server tells it. Values are kept as the server wrote them.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Change {
    pub(super) path: Raw,
    /// Unless it is the value of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Raw>,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    old: Option<Raw>,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    new: Option<Raw>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    siblings: Option<Raw>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
}

#[derive(Deserialize)]
struct Changes {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Snapshot {
    first: bool,
    last: bool,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: Raw,
    place: Option<Raw>,
    value: Raw,
    siblings: Option<Raw>,
    by: Option<String>,
    at: Option<String>,
}

/// `null` is a value, not the lack of one.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Raw>, D::Error> {
    Raw::deserialize(input).map(Some)
}

/// What is known of the map, so that after a break only what changed is told.
struct Watcher {
    json: bool,
    /// Where to resume.
    id: Option<String>,
    /// What there is; `None` before the first snapshot.
    held: Option<Held>,
    /// Pieces of a snapshot that is not complete.
    snapshot: Vec<Entry>,
}

impl Watcher {
    /// Follows one connection to its end; whether it told anything.
    fn follow(
        &mut self,
        client: &Client,
        path: &str,
        connected: &mut bool,
    ) -> Result<bool, Failure> {
        let headers = self.id.clone();
        let headers: Vec<_> = headers
            .iter()
            .map(|id| ("last-event-id", id.as_str()))
            .collect();
        let response = client.get(path, &headers)?;
        *connected = true;
        self.snapshot.clear();
        // The reader may block for ever on a connection whose other end has vanished; so it has
        // a thread of its own, which is left behind then.
        let (give, take) = sync_channel(16);
        let body = response.into_body().into_reader();
        std::thread::spawn(move || {
            for event in ServerEvents::new(body) {
                let broken = event.is_err();
                if give.send(event).is_err() || broken {
                    return;
                }
            }
        });
        let mut progress = false;
        loop {
            match take.recv_timeout(SILENCE) {
                Ok(Ok(event)) => {
                    progress = true;
                    self.take(event)?;
                }
                Ok(Err(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(progress);
                }
            }
        }
    }

    fn take(&mut self, event: ServerEvent) -> Result<(), Failure> {
        match event.name.as_str() {
            "change" => {
                let changes: Changes =
                    serde_json::from_str(&event.data).map_err(|error| no_portolan(&error))?;
                let held = self.held.get_or_insert_default();
                for change in &changes.changes {
                    held.apply(change);
                }
                self.print(&changes.changes)?;
            }
            "snapshot" => {
                let piece: Snapshot =
                    serde_json::from_str(&event.data).map_err(|error| no_portolan(&error))?;
                if piece.first {
                    self.snapshot.clear();
                }
                self.snapshot.extend(piece.entries);
                if piece.last {
                    let changes = self.replace();
                    self.print(&changes)?;
                }
            }
            "refused" => {
                #[derive(Deserialize)]
                struct Problem {
                    detail: String,
                }
                let problem: Problem =
                    serde_json::from_str(&event.data).map_err(|error| no_portolan(&error))?;
                return Err(Failure::Refused(problem.detail));
            }
            _ => {}
        }
        // Only now is the event dealt with.
        if event.id.is_some() {
            self.id = event.id;
        }
        Ok(())
    }

    /// Takes the snapshot in place of what is held; returns what differs.
    fn replace(&mut self) -> Vec<Change> {
        let new = Held::of(std::mem::take(&mut self.snapshot));
        let changes = match &self.held {
            // The first one is where watching starts.
            None => Vec::new(),
            Some(old) => old.changes_to(&new),
        };
        self.held = Some(new);
        changes
    }

    fn print(&self, changes: &[Change]) -> Result<(), Failure> {
        let mut out = output();
        for change in changes {
            let line = if self.json {
                serde_json::to_string(change).expect("it was JSON before")
            } else {
                line(change)
            };
            written(writeln!(out, "{line}"))?;
        }
        written(out.flush())
    }
}

/// A change for people.
fn line(change: &Change) -> String {
    // Of what happened while nobody was connected, the time is not always known.
    let time = change
        .at
        .as_deref()
        .map_or("--:--:--".to_owned(), |at| local(at, "%H:%M:%S"));
    format!(
        "\x1b[2m{time}\x1b[0m {}",
        what(change, &place_text(change.place.as_ref()))
    )
}

/// What was changed and how, for people.
pub(super) fn what(change: &Change, place: &str) -> String {
    const BOLD: &str = "\x1b[1m";
    const RED: &str = "\x1b[31m";
    const GREEN: &str = "\x1b[32m";
    const YELLOW: &str = "\x1b[33m";
    const PLAIN: &str = "\x1b[0m";
    let key = path_text(&change.path) + place;
    let value = |raw: &Raw| short(raw.get());
    let body = match (&change.old, &change.new) {
        (None, Some(new)) => format!("{GREEN}{}{PLAIN}", value(new)),
        (Some(old), Some(new)) => {
            format!("{RED}{}{PLAIN} → {GREEN}{}{PLAIN}", value(old), value(new))
        }
        (Some(old), None) => format!("{RED}{}{PLAIN} → removed", value(old)),
        (None, None) => "removed".to_owned(),
    };
    let siblings = match &change.siblings {
        Some(siblings) => format!(" {YELLOW}beside {}{PLAIN}", value(siblings)),
        None => String::new(),
    };
    format!("{BOLD}{key}{PLAIN} {body}{siblings}")
}

/// Which element, where it is one.
fn place_text(place: Option<&Raw>) -> String {
    #[derive(Deserialize)]
    struct Element {
        index: usize,
    }
    let element = place.and_then(|place| serde_json::from_str::<Element>(place.get()).ok());
    element.map_or_else(String::new, |element| format!(" [{}]", element.index))
}

/// A moment by the clocks here.
pub(super) fn local(at: &str, format: &str) -> String {
    let Ok(moment) = at.parse::<jiff::Timestamp>() else {
        return at.to_owned();
    };
    let local = moment.to_zoned(jiff::tz::TimeZone::system());
    local.strftime(format).to_string()
}

fn path_text(path: &RawValue) -> String {
    let keys: Vec<serde_json::Value> = serde_json::from_str(path.get()).unwrap_or_default();
    let texts = keys.iter().map(|key| match key {
        serde_json::Value::String(text) if !text.contains(char::is_control) => text.clone(),
        serde_json::Value::Object(id) if id.contains_key("$element") => {
            format!("@{}", id["$element"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    });
    texts.collect::<Vec<_>>().join(" / ")
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
