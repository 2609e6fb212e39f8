//! Changes as server-sent events.
//!
//! A stream starts with the whole map in `snapshot` events, or, where the client says in
//! `Last-Event-ID` what it has, with what it lacks. Then every transaction is one `change`
//! event. Whenever what a client lacks is not known any more (the id is too old, or from before
//! a restart), it gets a snapshot: never silence.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use portolan::{Change, Entry, Key, Map, Pattern, Place, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::sync::watch;

use super::app::{App, Need};
use super::auth::{Caller, TokenError};
use super::event_log::{Batch, EventLog, Next};
use super::place::Named;
use super::problem::Problem;
use crate::json::{JsonKey, JsonValue};
use crate::moment;

/// A stream says that it is alive this often.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Size of the pieces that a snapshot is sent in, about.
const PIECE_BYTES: usize = 256 * 1024;
/// Batches taken from the log at once.
const BATCHES: usize = 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only keys that match.
    pattern: Option<String>,
    /// For who cannot set the header.
    last_event_id: Option<String>,
}

/// `GET /v1/maps/{map}/events`
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may(Need::Read, &name)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let pattern = match &query.pattern {
        Some(text) => Pattern::new(text)?,
        None => Pattern::all(),
    };
    // Watching may begin before the first key is written; but only for who may write it can a
    // name that nobody knows take up room here.
    let map = match app.known(&name).await? {
        Some(map) => map,
        None if caller.rights(&name).write => app.node.open(&name).await?,
        None => return Err(Problem::no_map(&name)),
    };
    let log = app.logs.of(&map)?;
    let given = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let given = given.or(query.last_event_id.as_deref());
    let latest = map.read_numbered(|_, number| number);
    let position = given
        .and_then(|id| app.logs.position_of(id))
        .filter(|number| *number <= latest);
    let subscriber = Subscriber {
        head: log.head(),
        rules: app.auth.changes(),
        stopping: app.stopping.clone(),
        pending: None,
        position: match position {
            Some(number) => Position::After(number),
            None => Position::Unknown,
        },
        told: position,
        app,
        map,
        log,
        caller,
        pattern,
    };
    let opening = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(
        "retry: 1000\n\n",
    ))]);
    let rest = stream::unfold(subscriber, |mut subscriber| async {
        let piece = subscriber.next().await?;
        Some((Ok(Bytes::from(piece)), subscriber))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    let body = Body::from_stream(futures_util::StreamExt::chain(opening, rest));
    Ok((headers, body).into_response())
}

/// One open stream.
struct Subscriber {
    app: Arc<App>,
    map: Map,
    log: Arc<EventLog>,
    head: watch::Receiver<u64>,
    rules: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    caller: Caller,
    pattern: Pattern,
    position: Position,
    /// The latest id that the client was given.
    told: Option<u64>,
    /// What is left of a snapshot.
    pending: Option<Pieces>,
}

/// What the client has.
enum Position {
    /// Nothing that is known here.
    Unknown,
    /// All up to the batch of this number.
    After(u64),
    /// Nothing more may be sent.
    Over,
}

impl Subscriber {
    /// What to send next; `None` ends the stream, and the client comes again by itself.
    async fn next(&mut self) -> Option<String> {
        loop {
            if *self.stopping.borrow() || self.log.ended() {
                return None;
            }
            let expires = match self.app.auth.check(&self.caller) {
                Ok(expires) => expires,
                Err(_) if matches!(self.position, Position::Over) => return None,
                Err(error) => {
                    self.position = Position::Over;
                    self.pending = None;
                    return Some(refused(&error));
                }
            };
            if let Some(piece) = self.pending.as_mut().and_then(Iterator::next) {
                return Some(piece);
            }
            self.pending = None;
            let number = match self.position {
                Position::After(number) => number,
                Position::Over => return None,
                Position::Unknown => {
                    self.take_snapshot().await;
                    continue;
                }
            };
            match self.log.after(number, BATCHES) {
                Next::Gone => self.position = Position::Unknown,
                Next::Batches(batches) => {
                    let text = self.text_of(&batches);
                    if !text.is_empty() {
                        return Some(text);
                    }
                }
                Next::Nothing => {
                    if let Some(piece) = self.wait(number, expires).await {
                        return Some(piece);
                    }
                }
            }
        }
    }

    /// Waits for something to happen; a sign of life if nothing does.
    async fn wait(&mut self, number: u64, expires: Option<u64>) -> Option<String> {
        let until_expiry = Duration::from_secs(expires.unwrap_or(u64::from(u32::MAX)));
        tokio::select! {
            _ = self.head.changed() => None,
            _ = self.rules.changed() => None,
            _ = self.stopping.changed() => None,
            () = tokio::time::sleep(until_expiry.min(KEEP_ALIVE)) => {
                if self.told == Some(number) {
                    return Some(": alive\n\n".to_owned());
                }
                // Only what the pattern leaves out has happened: from there to resume all the same.
                self.told = Some(number);
                Some(format!("id: {}\n\n", self.app.logs.event_id(number)))
            }
        }
    }

    async fn take_snapshot(&mut self) {
        let (map, pattern) = (&self.map, &self.pattern);
        let copy =
            || map.read_numbered(|document, number| (number, Entry::matching(document, pattern)));
        let (number, entries) = self.app.turns.take(copy).await;
        self.position = Position::After(number);
        self.told = Some(number);
        self.pending = Some(Pieces {
            entries: entries.into_iter().peekable(),
            id: self.app.logs.event_id(number),
            at: At::First,
        });
    }

    fn text_of(&mut self, batches: &[Batch]) -> String {
        let mut text = String::new();
        for batch in batches {
            self.position = Position::After(batch.number);
            let matching = |change: &&Change| self.pattern.matches_path(&change.path);
            let changes: Vec<_> = batch
                .changes
                .iter()
                .filter(matching)
                .map(JsonChange)
                .collect();
            if changes.is_empty() {
                continue;
            }
            self.told = Some(batch.number);
            let id = self.app.logs.event_id(batch.number);
            let _ = write!(
                text,
                "event: change\nid: {id}\ndata: {{\"changes\":{}}}\n\n",
                to_json(&changes)
            );
        }
        text
    }
}

/// A snapshot as events, each made when the one before has been taken.
struct Pieces {
    entries: Peekable<std::vec::IntoIter<Entry>>,
    id: String,
    at: At,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    First,
    Later,
    End,
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.at == At::End {
            return None;
        }
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES
            && let Some(entry) = self.entries.next()
        {
            let comma = if piece.is_empty() { "" } else { "," };
            let _ = write!(piece, "{comma}{}", to_json(&JsonEntry(&entry)));
        }
        let (first, last) = (self.at == At::First, self.entries.peek().is_none());
        self.at = if last { At::End } else { At::Later };
        // The id comes with the last piece: who has not got that one has got nothing.
        let id = if last {
            format!("id: {}\n", self.id)
        } else {
            String::new()
        };
        Some(format!(
            "event: snapshot\n{id}data: {{\"first\":{first},\"last\":{last},\"entries\":[{piece}]}}\n\n"
        ))
    }
}

/// Tells the client that coming again with the same token is of no use.
fn refused(error: &TokenError) -> String {
    let problem = serde_json::json!({ "title": "The token is good no more", "status": 401, "detail": error.to_string() });
    format!("event: refused\ndata: {problem}\n\n")
}

fn to_json(content: &impl Serialize) -> String {
    serde_json::to_string(content).expect("keys and values always serialise")
}

/// An entry of a snapshot.
struct JsonEntry<'a>(&'a Entry);

impl Serialize for JsonEntry<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let entry = self.0;
        let mut map = out.serialize_map(None)?;
        map.serialize_entry("path", &JsonPath(&entry.path))?;
        serialize_place(&mut map, entry.place)?;
        map.serialize_entry("value", &JsonValue(&entry.value))?;
        serialize_siblings(&mut map, &entry.siblings)?;
        if let Some(by) = entry.by {
            map.serialize_entry("by", &by.to_string())?;
        }
        if let Some(timestamp) = entry.timestamp {
            map.serialize_entry("at", &moment::text(timestamp))?;
        }
        map.end()
    }
}

struct JsonPath<'a>(&'a [Key]);

impl Serialize for JsonPath<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.iter().map(JsonKey))
    }
}

/// What of the path it is about, unless it is the value of a key: `{"element": id, "index": n}`,
/// `"member"` or `"count"`.
fn serialize_place<M: SerializeMap>(map: &mut M, place: Place) -> Result<(), M::Error> {
    match place {
        Place::Key => Ok(()),
        Place::Element { id, index } => {
            let place = serde_json::json!({ "element": id.to_string(), "index": index });
            map.serialize_entry("place", &place)
        }
        Place::Member => map.serialize_entry("place", "member"),
        Place::Count => map.serialize_entry("place", "count"),
    }
}

/// A change: without `old` the key did not exist, without `new` it does not any more.
struct JsonChange<'a>(&'a Change);

impl Serialize for JsonChange<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        serialize_change(&mut map, self.0)?;
        map.end()
    }
}

/// The fields of a change.
pub(crate) fn serialize_change<M: SerializeMap>(
    map: &mut M,
    change: &Change,
) -> Result<(), M::Error> {
    map.serialize_entry("path", &JsonPath(&change.path))?;
    serialize_place(map, change.place)?;
    if let Some(old) = &change.old {
        map.serialize_entry("old", &JsonValue(old))?;
    }
    if let Some(new) = &change.new {
        map.serialize_entry("new", &JsonValue(new))?;
    }
    serialize_siblings(map, &change.siblings)?;
    if let Some(by) = change.by {
        map.serialize_entry("by", &by.to_string())?;
    }
    map.serialize_entry("at", &moment::text(change.timestamp))
}

fn serialize_siblings<M: SerializeMap>(map: &mut M, siblings: &[Value]) -> Result<(), M::Error> {
    if siblings.is_empty() {
        return Ok(());
    }
    map.serialize_entry(
        "siblings",
        &siblings.iter().map(JsonValue).collect::<Vec<_>>(),
    )
}
