//! What became of a map, over HTTP.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use portolan::{Change, Key, Map, Moment};
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::app::{App, Need};
use super::auth::Caller;
use super::events::serialize_change;
use super::place::{Named, check_steps, flag, parse_steps, path_ever};
use super::problem::Problem;
use crate::moment::{self, When};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryQuery {
    since: Option<String>,
    until: Option<String>,
    /// Only what happened at this path: a JSON list of keys.
    #[serde(rename = "in")]
    within: Option<String>,
    /// Each transaction by itself, instead of the difference in the end.
    #[serde(default, deserialize_with = "flag")]
    each: bool,
    /// Only so many changes, the latest.
    limit: Option<usize>,
}

/// `GET /v1/maps/{map}/history`: `{"since": …, "until": …, "known_since": …, "replica": …,
/// "left_out": n, "changes": […]}`, a change as in an event, with its transaction.
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.may(Need::Read, &name)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let map = app.known(&name).await?;
    let map = map.filter(|map| !map.version().is_empty());
    let map = map.ok_or_else(|| Problem::no_map(&name))?;
    // It costs the whole map.
    app.turns.take(|| tell(&map, &query)).await
}

fn tell(map: &Map, query: &HistoryQuery) -> Result<Response, Problem> {
    let now = moment::now();
    let when = |text: &Option<String>| text.as_deref().map(|text| When::parse(text, now));
    let read = |text| when(text).transpose().map_err(Problem::bad_request);
    let (since, until) = (read(&query.since)?, read(&query.until)?);
    let steps = match &query.within {
        None => Vec::new(),
        Some(text) => parse_steps(text)?,
    };
    check_steps(&steps)?;
    let history = map.history(
        since.as_ref().map_or(Moment::Open, When::moment),
        until.as_ref().map_or(Moment::Open, When::moment),
    )?;
    let path = map.read(|document| path_ever(document, &steps));
    let mut changes: Vec<Change> = if query.each {
        let steps = history.steps().into_iter();
        steps.flat_map(|step| step.changes).collect()
    } else {
        history.changes()
    };
    changes.retain(|change| concerns(change, &path));
    let left_out = query
        .limit
        .map_or(0, |limit| changes.len().saturating_sub(limit));
    if left_out > 0 {
        leave_out(&mut changes, left_out);
    }
    let version = |version| moment::version_text(version);
    let body = json!({
        "since": history.since().map(version),
        "until": version(history.until()),
        "known_since": history.known_since().map(moment::text),
        "replica": map.read(|document| document.replica().to_string()),
        "left_out": left_out,
        "changes": changes.iter().map(JsonPast).collect::<Vec<_>>(),
    });
    Ok(Json(body).into_response())
}

fn concerns(change: &Change, path: &[Key]) -> bool {
    let place = match change.place {
        portolan::Place::Element { id, .. } => Some(Key::Element(id)),
        _ => None,
    };
    let keys = change.path.iter().chain(&place);
    change.path.len() + usize::from(place.is_some()) >= path.len()
        && keys.zip(path).all(|(key, asked)| key == asked)
}

/// Takes the oldest out; the others stay in their order.
fn leave_out(changes: &mut Vec<Change>, oldest: usize) {
    let mut order: Vec<usize> = (0..changes.len()).collect();
    // Of those that are as old, the first go first.
    order.sort_by_key(|at| Reverse((changes[*at].timestamp, *at)));
    let mut stays = vec![false; changes.len()];
    let kept = changes.len() - oldest;
    order[..kept].iter().for_each(|at| stays[*at] = true);
    let mut stays = stays.into_iter();
    changes.retain(|_| stays.next().unwrap_or(true));
}

/// A change with the transaction that it was part of: the same text for the same one.
struct JsonPast<'a>(&'a Change);

impl Serialize for JsonPast<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        serialize_change(&mut map, self.0)?;
        if let Some(by) = self.0.by {
            let transaction = format!("{by}-{:016x}", self.0.timestamp.bits());
            map.serialize_entry("transaction", &transaction)?;
        }
        map.end()
    }
}
