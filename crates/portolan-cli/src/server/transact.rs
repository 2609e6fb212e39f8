//! Several operations as one, over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use portolan::{Key, Map, Value};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::app::{App, Need};
use super::auth::Caller;
use super::entries::{check_length, whole};
use super::problem::Problem;
use crate::json::{ParsedKey, ParsedValue, key_json};

/// Largest body in the JSON form, which is held twice while it is read; NDJSON is read as it
/// arrives and may be as large as the server is told.
const MAX_JSON_BODY: u64 = 16 * 1024 * 1024;
/// Most operations in one transaction: they are applied under one lock.
const MAX_OPERATIONS: usize = 4_000_000;
/// From here on the work is moved off the threads that serve connections.
const MANY_OPERATIONS: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Kind,
    key: ParsedKey,
    /// Told apart from `null`, which is a value.
    #[serde(default, deserialize_with = "present")]
    value: Option<ParsedValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Set,
    Unset,
}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ParsedValue>, D::Error> {
    ParsedValue::deserialize(input).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operations {
    operations: Vec<Operation>,
}

/// `POST /v1/maps/{map}/transact`: `{"operations": [{"op": "set", "key": …, "value": …},
/// {"op": "unset", "key": …}]}`, or NDJSON with an operation a line.
pub(crate) async fn transact(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may(Need::Write, &name)?;
    let limit = app.bodies.largest;
    check_length(&headers, limit)?;
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let operations = match media_type.to_ascii_lowercase().as_str() {
        "application/x-ndjson" => read_lines(&app, body, limit).await?,
        "application/json" => {
            let body = whole(&app, body, limit.min(MAX_JSON_BODY)).await?;
            let read = serde_json::from_slice::<Operations>(&body);
            read.map_err(|error| Problem::bad_request(error.to_string()))?
                .operations
        }
        _ => {
            let detail = "say Content-Type: application/json, or application/x-ndjson";
            return Err(Problem::media_type(detail));
        }
    };
    let map = app.node.open(&name).await?;
    let (set, unset) = if operations.len() < MANY_OPERATIONS {
        apply(&map, operations)?
    } else {
        let map = map.clone();
        let applied = tokio::task::spawn_blocking(move || apply(&map, operations)).await;
        applied.map_err(|_| Problem::unavailable("the transaction was given up"))??
    };
    map.flush().await?;
    Ok(Json(json!({ "set": set, "unset": unset })).into_response())
}

/// How many keys were set, and how many removed that were there.
fn apply(map: &Map, operations: Vec<Operation>) -> Result<(usize, usize), Problem> {
    map.transact(|tx| {
        let (mut set, mut unset) = (0, 0);
        for operation in operations {
            let Operation {
                op,
                key: ParsedKey(key),
                value,
            } = operation;
            match (op, value) {
                (Kind::Set, Some(value)) => {
                    put(tx, key, value.0)?;
                    set += 1;
                }
                (Kind::Unset, None) => unset += usize::from(tx.unset(&key)),
                (Kind::Set, None) => return Err(odd(&key, "`set` takes a value")),
                (Kind::Unset, Some(_)) => return Err(odd(&key, "`unset` takes no value")),
            }
        }
        Ok((set, unset))
    })
}

fn put(tx: &mut portolan::Transaction<'_>, key: Key, value: Value) -> Result<(), Problem> {
    let name = key.clone();
    tx.set(key, value).map_err(|error| odd(&name, error))
}

/// What is wrong with the operation on a key.
fn odd(key: &Key, what: impl std::fmt::Display) -> Problem {
    const SHOWN: usize = 100;
    let text = key_json(key);
    let name = match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    Problem::unacceptable(format!("key {name}: {what}"))
}

/// Reads an operation a line while the lines arrive.
async fn read_lines(app: &App, body: Body, limit: u64) -> Result<Vec<Operation>, Problem> {
    let mut count = app.bodies.body(limit);
    let mut stream = body.into_data_stream();
    let (mut operations, mut partial, mut number) = (Vec::new(), Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the body broke off"))?;
        count.add(chunk.len())?;
        let mut rest = &chunk[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            number += 1;
            read_line(&partial, number, &mut operations)?;
            partial.clear();
        }
        partial.extend_from_slice(rest);
    }
    read_line(&partial, number + 1, &mut operations)?;
    Ok(operations)
}

fn read_line(line: &[u8], number: u64, operations: &mut Vec<Operation>) -> Result<(), Problem> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    if operations.len() == MAX_OPERATIONS {
        let detail = format!("more than {MAX_OPERATIONS} operations: split the transaction");
        return Err(Problem::unacceptable(detail));
    }
    let operation = serde_json::from_slice(line).map_err(|error| {
        // The reader counts lines within the line.
        let text = error.to_string();
        let (what, column) = (
            text.split(" at line ").next().unwrap_or(&text),
            error.column(),
        );
        Problem::bad_request(format!("line {number}, column {column}: {what}"))
    })?;
    operations.push(operation);
    Ok(())
}
