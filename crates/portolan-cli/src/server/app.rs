//! What every request is answered with.

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::{StreamExt as _, stream};
use portolan::{BusError, Error, Map, Node};
use tokio::sync::{Semaphore, watch};

use super::auth::{Auth, Caller};
use super::event_log::EventLogs;
use super::meter::Meter;
use super::origin::Origins;
use super::problem::Problem;
use super::rate::RateLimit;
use super::sync::Expiry;

/// Maps that one request opens at a time.
const OPENED_AT_ONCE: usize = 32;

/// The server's parts, shared by its connections.
pub(crate) struct App {
    pub(crate) node: Node,
    /// Whether maps are shared through a bus.
    pub(crate) has_bus: bool,
    pub(crate) auth: Auth,
    pub(crate) origins: Origins,
    pub(crate) rate: RateLimit,
    pub(crate) logs: EventLogs,
    pub(crate) meter: Meter,
    pub(crate) bodies: BodyBudget,
    pub(crate) turns: Turns,
    pub(crate) expiry: Expiry,
    /// True once the server stops: what lasts, ends itself.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

impl App {
    /// A map that is known here. What the others on the bus have, and this server has not read, is
    /// not shown as missing.
    pub(crate) async fn known(&self, name: &str) -> Result<Option<Map>, Problem> {
        let map = self.node.get(name).await?;
        match map.as_ref().and_then(Map::unread) {
            Some(unread) => Err(unread.into()),
            None => Ok(map),
        }
    }

    /// A map that has a key at least.
    pub(crate) async fn existing(&self, name: &str) -> Result<Map, Problem> {
        let map = self.known(name).await?;
        map.filter(|map| !map.is_empty())
            .ok_or_else(|| Problem::no_map(name))
    }

    /// Passes if the maps that there are have names here: those on the bus were looked at once, or
    /// a store has some.
    pub(crate) fn knows_its_maps(&self) -> Result<(), Problem> {
        let status = self.node.status();
        match status.bus {
            Some(bus) if !bus.reached && status.store.is_none() => Err(unread(bus.failure)),
            _ => Ok(()),
        }
    }

    /// All maps that the caller may read, in the order of their names, opened where they were not;
    /// or why one could not be.
    pub(crate) async fn all(&self, caller: &Caller) -> Vec<(String, Result<Map, Error>)> {
        let names = self.node.maps().into_iter();
        let readable = names.filter(|name| caller.rights(name).read);
        // Several at once: one may wait for the bus.
        let opened = stream::iter(readable)
            .map(async |name| {
                let map = self.node.get(&name).await.transpose()?;
                let map = map.and_then(|map| map.unread().map_or(Ok(map), Err));
                Some((name, map))
            })
            .buffered(OPENED_AT_ONCE);
        opened.filter_map(std::future::ready).collect().await
    }
}

/// Turns at work that takes as long as a map is large, such as copying it: as many at a time as
/// there are processors, since each holds what it has copied.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self(Semaphore::new(processors))
    }
}

impl Turns {
    /// Does the work, while other threads serve the connections that this one served.
    pub(crate) async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        // It is never closed.
        let _turn = self.0.acquire().await;
        tokio::task::block_in_place(work)
    }
}

/// The answer of a server that has not read from the bus what it should serve.
pub(crate) fn unread(failure: Option<BusError>) -> Problem {
    Problem::unavailable(match failure {
        Some(failure) => failure.to_string(),
        None => "the maps are being read from the bus".to_owned(),
    })
}

/// How long an answer waits for the bus.
const BUS_PATIENCE: Duration = Duration::from_secs(5);

/// Waits until what was written is as safe as it gets: in the store, and on the bus.
pub(crate) async fn stored(app: &App, map: &Map) -> Result<(), Problem> {
    if !app.has_bus {
        return Ok(map.flush().await?);
    }
    match tokio::time::timeout(BUS_PATIENCE, map.flush()).await {
        Ok(flushed) => Ok(flushed?),
        Err(_) => Err(Problem::unpublished()),
    }
}

/// The token of a request, if it has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A caller is known before a handler runs.
impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = app.auth.caller(bearer(&parts.headers));
        caller.map_err(|error| Problem::no_token(error.to_string()))
    }
}

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Read,
    Write,
    Admin,
}

impl Caller {
    /// Passes if the caller may do this with the map.
    pub(crate) fn may(&self, need: Need, map: &str) -> Result<(), Problem> {
        let rights = self.rights(map);
        let (allowed, what) = match need {
            Need::Read => (rights.read, "read"),
            Need::Write => (rights.write, "write"),
            Need::Admin => (rights.admin, "administer"),
        };
        if allowed {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "the token does not allow to {what} the map {map:?}"
        )))
    }

    /// Passes if the caller runs the whole server.
    pub(crate) fn may_administer(&self) -> Result<(), Problem> {
        if self.is_admin() {
            return Ok(());
        }
        Err(Problem::forbidden(
            "this takes a token with {\"**\": \"admin\"}",
        ))
    }
}

/// A body up to this size passes whatever large ones do.
const SMALL_BODY: u64 = 1024 * 1024;
/// Room for bodies besides two of the largest.
const SMALL_BODIES: u64 = 64 * 1024 * 1024;

/// Bounds the memory that bodies under way take all together.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    /// Largest single body.
    pub(crate) largest: u64,
    used: AtomicU64,
}

impl BodyBudget {
    pub(crate) fn new(largest: u64) -> Self {
        Self {
            largest,
            used: AtomicU64::new(0),
        }
    }

    /// Starts to count a body.
    pub(crate) fn body(&self, limit: u64) -> BodyCount<'_> {
        BodyCount {
            budget: self,
            limit,
            bytes: 0,
        }
    }
}

/// One body under way.
#[derive(Debug)]
pub(crate) struct BodyCount<'a> {
    budget: &'a BodyBudget,
    limit: u64,
    bytes: u64,
}

impl BodyCount<'_> {
    /// Counts some more of it.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes as u64;
        let used = self.budget.used.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if self.bytes > self.limit {
            return Err(Problem::too_large(self.limit));
        }
        if used > 2 * self.budget.largest + SMALL_BODIES && self.bytes > SMALL_BODY {
            return Err(Problem::unavailable(
                "too many large bodies at once: try again later",
            ));
        }
        Ok(())
    }
}

impl Drop for BodyCount<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
