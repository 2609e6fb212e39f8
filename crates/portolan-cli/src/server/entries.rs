//! Maps and keys over HTTP.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use portolan::{Content, Document, Error, Held, Key, Location, LocationMut, Pattern};
use serde::Deserialize;
use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::app::{App, Need, stored};
use super::auth::Caller;
use super::place::{Named, Place, check_steps, parse_steps, resolve, steps_text};
use super::problem::Problem;
use crate::json::{
    JsonHeld, JsonKey, ParsedValue, alike, all_json, content_json, elements_json, key_json,
    key_text,
};

/// Largest body for one value: JSON may take six bytes for one (`\u00ff`), and the limit on a
/// value is checked when it is read.
const MAX_VALUE_BODY: u64 = 8 * 1024 * 1024;
/// How long the next piece of a body may take.
const BODY_PATIENCE: Duration = Duration::from_mins(1);
/// How much of a map is written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// `GET /v1/maps`
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    app.knows_its_maps()?;
    let mut maps = Vec::new();
    for (name, map) in app.all(&caller).await {
        match map.map(|map| map.len()) {
            Ok(0) => {}
            Ok(keys) => maps.push(json!({ "name": name, "keys": keys })),
            Err(error) => maps.push(json!({ "name": name, "problem": error.to_string() })),
        }
    }
    Ok(Json(maps).into_response())
}

/// `GET /v1/maps/{map}`
pub(crate) async fn read_map(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may(Need::Read, &name)?;
    let map = app.existing(&name).await?;
    let typed = prefers_ndjson(&headers);
    let suffix = if typed { "n" } else { "j" };
    let etag_of = |document: &Document| format!("\"{:032x}-{suffix}\"", document.digest());
    let etag = map.read(etag_of);
    if is_named(&headers, header::IF_NONE_MATCH, &etag) {
        return Ok(not_modified(&etag));
    }
    let copy = || {
        // One moment of the map; keys and values are shared, not copied.
        let (etag, content) = map.read(|document| {
            let content = Content::of_map(document.root());
            (etag_of(document), content)
        });
        match alike(&content) {
            Some(text) if !typed => Err(Problem::keys_alike(&text)),
            _ => Ok((etag, content)),
        }
    };
    let (etag, content) = app.turns.take(copy).await?;
    let Content::Map(entries) = content else {
        return Err(Problem::no_map(&name));
    };
    let body = Body::from_stream(futures_util::stream::iter(MapText {
        entries: entries.into_iter(),
        typed,
        at: At::Start,
    }));
    let media_type = if typed { NDJSON } else { JSON };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::ETAG, tag(&etag)),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    Ok((headers, body).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysQuery {
    /// Only keys that match.
    pattern: Option<String>,
    /// Of the map at this path: a JSON list of keys.
    #[serde(rename = "in")]
    within: Option<String>,
}

/// `GET /v1/maps/{map}/keys`: the keys in order, each as JSON that gives its kind.
pub(crate) async fn list_keys(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    query: Result<Query<KeysQuery>, QueryRejection>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may(Need::Read, &name)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let pattern = query
        .pattern
        .as_deref()
        .map_or(Ok(Pattern::all()), Pattern::new)?;
    let map = app.existing(&name).await?;
    let steps = query
        .within
        .as_deref()
        .map_or(Ok(Vec::new()), parse_steps)?;
    check_steps(&steps)?;
    let matching = |document: &Document| {
        let within = if steps.is_empty() {
            document.root()
        } else {
            let path = resolve(document, &steps)?;
            Location::find(document, &path)?.map()
        };
        let keys = within.iter().map(|(key, _)| key);
        let matching = keys.filter(|key| pattern.matches_path(std::slice::from_ref(key)));
        Some(matching.cloned().collect::<Vec<_>>())
    };
    let keys = app.turns.take(|| map.read(matching)).await;
    let keys = keys.filter(|keys| steps.is_empty() || !keys.is_empty());
    let keys = keys.ok_or_else(|| Problem::no_key(&name, &steps_text(&steps)))?;
    if prefers_ndjson(&headers) {
        let lines: String = keys.iter().map(|key| key_json(key) + "\n").collect();
        return Ok(([(header::CONTENT_TYPE, NDJSON)], lines).into_response());
    }
    Ok(Json(keys.iter().map(JsonKey).collect::<Vec<_>>()).into_response())
}

/// `DELETE /v1/maps/{map}`: removes all of its keys, as one change.
pub(crate) async fn remove_map(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    caller.may(Need::Admin, &name)?;
    let map = app.existing(&name).await?;
    app.turns.take(|| map.clear()).await?;
    stored(&app, &map).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/maps/{map}/keys/{key}`
pub(crate) async fn read_key(
    State(app): State<Arc<App>>,
    place: Place,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = &place.map;
    caller.may(Need::Read, name)?;
    let map = app.known(name).await?.ok_or_else(|| place.missing())?;
    let read = |document: &Document| {
        let at = Location::find(document, &resolve(document, &place.steps)?)?;
        let held = at.held();
        let etag = place_tag(&held)?;
        if is_named(&headers, header::IF_NONE_MATCH, &etag) {
            return Some((etag, None));
        }
        Some((etag, Some(Content::of_all(&held))))
    };
    let answer = |read: Option<(String, Option<Vec<Content>>)>| {
        let (etag, held) = read.ok_or_else(|| place.missing())?;
        let Some(held) = held else {
            return Ok(not_modified(&etag));
        };
        if let Some(text) = held.iter().find_map(alike) {
            return Err(Problem::keys_alike(&text));
        }
        let text = match held.first() {
            _ if place.ids => elements_json(&held).ok_or_else(|| place.no_array())?,
            Some(shown) if !place.all => content_json(shown),
            _ => all_json(&held),
        };
        let headers = [(header::CONTENT_TYPE, JSON), (header::ETAG, tag(&etag))];
        Ok((headers, text).into_response())
    };
    if let Some(at) = &place.at {
        // It costs the whole map.
        let then = || answer(read(&map.as_of(at.moment())?));
        return app.turns.take(then).await;
    }
    if map.read(|document| holds_container(document, &place.steps)) {
        return app.turns.take(|| answer(map.read(read))).await;
    }
    answer(map.read(read))
}

/// Whether there may be much in a place: something that has no bounds but the map's.
fn holds_container(document: &Document, steps: &[Key]) -> bool {
    let path = resolve(document, steps);
    let at = path.and_then(|path| Location::find(document, &path));
    at.is_some_and(|at| !(at.map().is_empty() && at.array().is_empty() && at.or_set().is_empty()))
}

/// `PUT /v1/maps/{map}/keys/{key}`
pub(crate) async fn write_key(
    State(app): State<Arc<App>>,
    place: Place,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = &place.map;
    caller.may(Need::Write, name)?;
    check_length(&headers, MAX_VALUE_BODY)?;
    let body = whole(&app, body, MAX_VALUE_BODY).await?;
    let value: ParsedValue = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON value: {error}")))?;
    let map = app.node.open(name).await?;
    let (existed, etag) = map.transact(|tx| {
        let path = resolve(tx.document(), &place.steps).ok_or_else(|| place.missing())?;
        let before = tag_at(tx.document(), &path);
        check_conditions(&headers, before.as_deref())?;
        let at = LocationMut::find(tx, &path).map_err(Error::from)?;
        at.set(value.0).map_err(Error::from)?;
        let after = tag_at(tx.document(), &path);
        Ok::<_, Problem>((before.is_some(), after.unwrap_or_default()))
    })?;
    stored(&app, &map).await?;
    let status = if existed {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CREATED
    };
    Ok((status, [(header::ETAG, tag(&etag))]).into_response())
}

/// `DELETE /v1/maps/{map}/keys/{key}`
pub(crate) async fn remove_key(
    State(app): State<Arc<App>>,
    place: Place,
    caller: Caller,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let name = &place.map;
    caller.may(Need::Write, name)?;
    let map = app.known(name).await?.ok_or_else(|| place.missing())?;
    map.transact(|tx| {
        let path = resolve(tx.document(), &place.steps).ok_or_else(|| place.missing())?;
        let before = tag_at(tx.document(), &path);
        check_conditions(&headers, before.as_deref())?;
        let at = LocationMut::find(tx, &path).map_err(Error::from)?;
        if at.unset().map_err(Error::from)? {
            Ok(())
        } else {
            Err(place.missing())
        }
    })?;
    stored(&app, &map).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a body that says itself that it is too large, before any of it is sent.
pub(crate) fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limit => Err(Problem::too_large(limit)),
        _ => Ok(()),
    }
}

/// The whole of a body.
pub(crate) async fn whole(app: &App, body: Body, limit: u64) -> Result<Vec<u8>, Problem> {
    let mut count = app.bodies.body(limit);
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(chunk) = next_chunk(&mut stream).await? {
        count.add(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The next piece of a body, which may not keep its connection waiting for ever.
pub(crate) async fn next_chunk(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    let chunk = tokio::time::timeout(BODY_PATIENCE, stream.next()).await;
    let chunk = chunk.map_err(|_| Problem::too_slow())?.transpose();
    chunk.map_err(|_| Problem::bad_request("the body broke off"))
}

/// Names what stands in a place: it changes whenever what is shown does. `None` where there is
/// nothing.
fn place_tag(held: &[Held<'_>]) -> Option<String> {
    let mut hash = Xxh3::new();
    for held in held {
        match held {
            Held::Values(siblings) => {
                for sibling in siblings.clone() {
                    hash.update(&sibling.dot.replica.get().to_le_bytes());
                    hash.update(&sibling.dot.seq.to_le_bytes());
                }
            }
            container => {
                let held = &[Content::of(container)];
                let typed = serde_json::to_vec(&JsonHeld { key: None, held });
                // proof: keys and values always serialise.
                hash.update(&typed.expect("content always serialises"));
            }
        }
    }
    (!held.is_empty()).then(|| format!("\"{:032x}\"", hash.digest128()))
}

fn tag_at(document: &Document, path: &[Key]) -> Option<String> {
    place_tag(&Location::find(document, path)?.held())
}

fn check_conditions(headers: &HeaderMap, etag: Option<&str>) -> Result<(), Problem> {
    let named = |header| match etag {
        Some(etag) => is_named(headers, header, etag),
        None => false,
    };
    if headers.contains_key(header::IF_MATCH) && !named(header::IF_MATCH) {
        return Err(Problem::precondition(
            "it was changed, or is not there: read it again",
        ));
    }
    if headers.contains_key(header::IF_NONE_MATCH) && named(header::IF_NONE_MATCH) {
        return Err(Problem::precondition(
            "it exists, or is what If-None-Match names",
        ));
    }
    Ok(())
}

/// Whether a header names the tag, or anything (`*`).
fn is_named(headers: &HeaderMap, header: header::HeaderName, etag: &str) -> bool {
    let values = headers
        .get_all(header)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == etag)
}

fn tag(etag: &str) -> HeaderValue {
    HeaderValue::from_str(etag).expect("a tag is ASCII")
}

fn not_modified(etag: &str) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, tag(etag))]).into_response()
}

fn prefers_ndjson(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-ndjson")
    })
}

/// A map as text, in pieces.
struct MapText {
    entries: std::vec::IntoIter<(Key, Vec<Content>)>,
    typed: bool,
    at: At,
}

#[derive(PartialEq)]
enum At {
    Start,
    Inside,
    End,
}

impl Iterator for MapText {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == At::End {
            return None;
        }
        let mut text = String::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        while text.len() < CHUNK_BYTES {
            let Some((key, held)) = self.entries.next() else {
                if !self.typed {
                    text.push_str(if self.at == At::Start { "{}" } else { "}" });
                }
                self.at = At::End;
                break;
            };
            if self.typed {
                push_line(&mut text, &key, &held);
            } else {
                text.push(if self.at == At::Start { '{' } else { ',' });
                let name = serde_json::to_string(&key_text(&key)).expect("text serialises");
                let value = held.first().map_or_else(|| "null".to_owned(), content_json);
                let _ = write!(text, "{name}:{value}");
            }
            self.at = At::Inside;
        }
        Some(Ok(Bytes::from(text)))
    }
}

/// One line of NDJSON: the key with its kind, and all that stands under it.
fn push_line(text: &mut String, key: &Key, held: &[Content]) {
    let key = Some(key);
    let line = serde_json::to_string(&JsonHeld { key, held });
    // proof: keys and values always serialise.
    text.push_str(&line.expect("content always serialises"));
    text.push('\n');
}
