//! Who holds a map, over HTTP: for whoever administers it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use portolan::{Document, Map, MemberStatus, ReplicaId, Standing};
use serde_json::{Value as Json_, json};

use super::app::{App, Need};
use super::auth::Caller;
use super::place::Named;
use super::problem::Problem;

/// `GET /v1/maps/{map}/members`: `{"replica": …, "members": [{"replica": …, "standing": …,
/// "silent_ms": n, "missing": n}]}`, this server itself apart from the others.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.may(Need::Admin, &name)?;
    let map = known(&app, &name).await?;
    let members: Vec<Json_> = map.members().iter().map(member_json).collect();
    let body = json!({ "replica": own(&map).to_string(), "members": members });
    Ok(Json(body).into_response())
}

/// `DELETE /v1/maps/{map}/members/{replica}`: waits for it no longer.
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    Named((name, replica)): Named<(String, String)>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    caller.may(Need::Admin, &name)?;
    let id: ReplicaId = replica.parse().map_err(|_| {
        Problem::bad_request(format!("{replica:?} is no id of a replica: 16 hex digits"))
    })?;
    let map = known(&app, &name).await?;
    if id == own(&map) {
        let detail = format!("{id} is this server, which cannot do without itself");
        return Err(Problem::unacceptable(detail));
    }
    if !map.members().iter().any(|member| member.replica == id) {
        return Err(Problem::no_member(&name, id));
    }
    // One that is not waited for as it is needs nothing.
    if map.forget(id)? {
        tracing::info!(map = name, replica = %id, by = %caller, "forgotten by command");
    }
    map.flush().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A map in which anything was ever done: members outlast its keys.
async fn known(app: &App, name: &str) -> Result<Map, Problem> {
    let map = app.known(name).await?;
    map.filter(|map| !map.version().is_empty())
        .ok_or_else(|| Problem::no_map(name))
}

fn own(map: &Map) -> ReplicaId {
    map.read(Document::replica)
}

fn member_json(member: &MemberStatus) -> Json_ {
    let (standing, waited) = match member.standing {
        Standing::Member => ("member", true),
        Standing::Forgotten => ("forgotten", false),
        _ => ("gone", false),
    };
    json!({
        "replica": member.replica.to_string(),
        "standing": standing,
        "silent_ms": member.silent,
        // What the others have is not followed any more.
        "missing": waited.then_some(member.missing),
    })
}
