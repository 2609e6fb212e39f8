//! Several operations as one, over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use portolan::{Key, Location, LocationMut, Map, Transaction};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::app::{App, Need, stored};
use super::auth::Caller;
use super::entries::{check_length, next_chunk, whole};
use super::place::{Named, check_steps, element, resolve, steps_text};
use super::problem::Problem;
use crate::json::{ParsedKey, ParsedValue};

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
    /// A key of the root, or …
    key: Option<ParsedKey>,
    /// … the keys that lead further down.
    path: Option<Vec<ParsedKey>>,
    /// Told apart from `null`, which is a value.
    #[serde(default, deserialize_with = "present")]
    value: Option<ParsedValue>,
    /// Of an array, where to insert.
    index: Option<usize>,
    /// Of an array, where an element moves.
    to: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Set,
    Unset,
    /// Values alone: containers stay.
    UnsetValues,
    Add,
    Append,
    Insert,
    Remove,
    Delete,
    Move,
    Undelete,
}

impl Kind {
    fn takes_value(self) -> bool {
        use Kind::{Add, Append, Insert, Remove, Set};
        matches!(self, Set | Add | Append | Insert | Remove)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Unset => "unset",
            Self::UnsetValues => "unset-values",
            Self::Add => "add",
            Self::Append => "append",
            Self::Insert => "insert",
            Self::Remove => "remove",
            Self::Delete => "delete",
            Self::Move => "move",
            Self::Undelete => "undelete",
        }
    }
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
/// {"op": "unset", "path": […]}, …]}`, or NDJSON with an operation a line.
pub(crate) async fn transact(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
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
    let done = if operations.len() < MANY_OPERATIONS {
        apply(&map, operations)?
    } else {
        app.turns.take(|| apply(&map, operations)).await?
    };
    stored(&app, &map).await?;
    let mut answer = json!({ "set": done.set, "unset": done.unset });
    if done.changed > 0 {
        answer["changed"] = done.changed.into();
    }
    Ok(Json(answer).into_response())
}

/// How many operations did something.
#[derive(Default)]
struct Done {
    set: usize,
    /// What was removed, of what was there.
    unset: usize,
    /// What was added to counters, arrays and sets, or moved.
    changed: usize,
}

fn apply(map: &Map, operations: Vec<Operation>) -> Result<Done, Problem> {
    map.transact(|tx| {
        let mut done = Done::default();
        for operation in operations {
            operation.apply(tx, &mut done)?;
        }
        Ok(done)
    })
}

impl Operation {
    fn apply(self, tx: &mut Transaction<'_>, done: &mut Done) -> Result<(), Problem> {
        let steps: Vec<Key> = match (self.key, self.path) {
            (Some(key), None) => vec![key.0],
            (None, Some(path)) if !path.is_empty() => path.into_iter().map(|key| key.0).collect(),
            _ => {
                let detail = "an operation has a `key`, or a `path` of at least one key";
                return Err(Problem::unacceptable(detail));
            }
        };
        check_steps(&steps)?;
        let wrong = |what: &dyn std::fmt::Display| odd(&steps, what);
        // What would be left out of account was meant for another operation.
        if self.index.is_some() && !matches!(self.op, Kind::Insert) {
            return Err(wrong(&"`insert` alone takes an index"));
        }
        if self.to.is_some() && !matches!(self.op, Kind::Move) {
            return Err(wrong(&"`move` alone takes a `to`"));
        }
        if self.value.is_some() && !self.op.takes_value() {
            return Err(wrong(&format_args!("`{}` takes no value", self.op.name())));
        }
        if matches!(self.op, Kind::Undelete) {
            let detail = "`undelete` takes the path of an element by its id";
            let element = element(tx.document(), &steps);
            let (array, id) = element.ok_or_else(|| wrong(&detail))?;
            let at = LocationMut::find(tx, &array).map_err(|error| wrong(&error))?;
            let back = at
                .into_array()
                .undelete(id)
                .map_err(|error| wrong(&error))?;
            done.changed += usize::from(back);
            return Ok(());
        }
        let path = resolve(tx.document(), &steps);
        let Some(path) = path else {
            return match self.op {
                Kind::Unset | Kind::UnsetValues | Kind::Remove => Ok(()),
                _ => Err(wrong(&"there is no such element in the array")),
            };
        };
        let removes = matches!(self.op, Kind::Unset | Kind::Delete);
        let there = removes && {
            let at = Location::find(tx.document(), &path);
            at.is_some_and(|at| !at.held().is_empty())
        };
        let value = |wanted: &str| {
            let value = self.value.map(|value| value.0);
            value.ok_or_else(|| wrong(&format_args!("`{wanted}` takes a value")))
        };
        let at = LocationMut::find(tx, &path).map_err(|error| wrong(&error))?;
        let result = match self.op {
            Kind::Set => {
                done.set += 1;
                at.set(value("set")?)
            }
            Kind::Unset | Kind::Delete => {
                done.unset += usize::from(there);
                if there { at.unset().map(drop) } else { Ok(()) }
            }
            Kind::UnsetValues => at
                .unset_values()
                .map(|unset| done.unset += usize::from(unset)),
            Kind::Add => {
                let n = value("add")?;
                let n = n.as_int().ok_or_else(|| wrong(&"`add` takes an integer"))?;
                done.changed += 1;
                at.into_counter().add(n)
            }
            Kind::Append => {
                done.changed += 1;
                at.into_array().append(value("append")?).map(drop)
            }
            Kind::Insert => {
                done.changed += 1;
                match self.index {
                    Some(index) => at.into_array().insert(index, value("insert")?).map(drop),
                    None => at.into_or_set().insert(value("insert")?),
                }
            }
            Kind::Remove => {
                let removed = at.into_or_set().remove(value("remove")?);
                removed.map(|removed| done.unset += usize::from(removed))
            }
            // Done above: the element is not there to be found.
            Kind::Undelete => Ok(()),
            Kind::Move => {
                let to = self
                    .to
                    .ok_or_else(|| wrong(&"`move` says where with `to`"))?;
                done.changed += 1;
                match at {
                    LocationMut::Element(mut array, from) => array.move_to(from, to),
                    LocationMut::Key(..) => {
                        return Err(wrong(&"`move` takes the path of an array's element"));
                    }
                }
            }
        };
        result.map_err(|error| wrong(&error))
    }
}

/// What is wrong with the operation on a key.
fn odd(steps: &[Key], what: &dyn std::fmt::Display) -> Problem {
    const SHOWN: usize = 100;
    let text = steps_text(steps);
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
    while let Some(chunk) = next_chunk(&mut stream).await? {
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
