//! How the server is: for load balancers, Prometheus, and people.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use portolan::{LinkState, LinkStatus, MapStatus};
use serde_json::{Value as Json_, json};

use super::app::{App, unread};
use super::auth::Caller;
use super::problem::Problem;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: writes are taken, and the open maps are what the others on the bus had when this
/// server came. Without the bus a server goes on; it only may not begin without, unless it has a
/// store.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if *app.stopping.borrow() {
        return Err(Problem::unavailable("the server is stopping"));
    }
    let status = app.node.status();
    let durable = status.store.is_some();
    if let Some(failure) = status.store.and_then(|store| store.failure) {
        return Err(failure.into());
    }
    let Some(bus) = status.bus else {
        return Ok("ready\n");
    };
    let joined = |map: &MapStatus| map.bus.as_ref().is_none_or(|bus| bus.joined);
    if !durable && !(status.maps.iter().all(joined) && (bus.reached || bus.failure.is_none())) {
        return Err(unread(bus.failure));
    }
    Ok(match bus.failure {
        Some(_) => "ready, without the bus\n",
        None => "ready\n",
    })
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.may_administer()?;
    let text = app.meter.render(&app.node.status(), app.logs.streams());
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
}

/// `GET /v1/status`: what `portolan status` shows.
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let all = app.all(&caller).await;
    let unreadable = all.into_iter().filter_map(|(name, map)| {
        let problem = map.err()?.to_string();
        Some(json!({ "name": name, "problem": problem }))
    });
    let unreadable: Vec<_> = unreadable.collect();
    let status = app.node.status();
    let readable = |map: &&MapStatus| caller.rights(&map.name).read;
    let maps: Vec<_> = status.maps.iter().filter(readable).map(map_json).collect();
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "replica": status.replica.to_string(),
        "maps": maps,
        "unreadable": unreadable,
    });
    // Where the server keeps its things and whom it talks to is for who runs it.
    if caller.is_admin() {
        body["store"] = status.store.map_or(Json_::Null, |store| {
            json!({
                "path": store.path,
                "commits": store.commits,
                "writes": store.writes,
                "written_bytes": store.written_bytes,
                "backlog_bytes": store.backlog_bytes,
                "failure": store.failure.map(|failure| failure.to_string()),
            })
        });
        body["bus"] = status.bus.map_or(Json_::Null, |bus| {
            json!({
                "address": bus.address,
                "appended": bus.appended,
                "read": bus.read,
                "joins": bus.joins,
                "snapshots": bus.snapshots,
                "failure": bus.failure.map(|failure| failure.to_string()),
            })
        });
        body["links"] = status.links.iter().map(link_json).collect();
    }
    Ok(Json(body).into_response())
}

fn map_json(map: &MapStatus) -> Json_ {
    json!({
        "name": map.name,
        "keys": map.keys,
        "operations": map.version.len(),
        "replicas": map.replicas,
        "spare_ids": map.spare_ids,
        "members": map.members,
        "forgotten": map.forgotten,
        "digest": format!("{:032x}", map.digest),
        "peers": map.sessions.len(),
        "refused": map.refused,
        "repaired": map.repaired,
        "bus": map.bus.as_ref().map(|bus| json!({
            "live": bus.live,
            "joined": bus.joined,
            "unpublished": bus.unpublished,
            "differences": bus.differences,
            "failure": bus.failure.as_ref().map(ToString::to_string),
        })),
        "queued_bytes": map.sessions.iter().map(|session| session.queued_bytes).sum::<usize>(),
    })
}

fn link_json(link: &LinkStatus) -> Json_ {
    let (online, problem) = match &link.state {
        LinkState::Online => (true, None),
        LinkState::Connecting { last } => (false, last.as_ref().map(ToString::to_string)),
    };
    json!({
        "peer": link.peer,
        "opened": link.opened,
        "online": online,
        "problem": problem,
        "maps": link.maps,
        "sent_bytes": link.sent_bytes,
        "received_bytes": link.received_bytes,
    })
}
