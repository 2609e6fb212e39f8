//! The maps of a connection: how their sessions begin and end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use portolan_core::sync::{Access, ErrorCode, Frame, Hello, ProtocolError, SessionId};
use tokio::time::{Instant, timeout_at};

use super::{Link, Reopen, Role};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::limits::{BUS_PATIENCE, MAX_DOCUMENTS_PER_CONNECTION, NAMES_PER_MESSAGE};
use crate::pattern::Pattern;
use crate::shared::Shared;

/// The sessions of a connection.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) by_name: HashMap<Arc<str>, Route>,
    /// By the number that the peer has for the map.
    pub(super) by_handle: HashMap<u32, (Arc<Shared>, SessionId)>,
}

pub(super) struct Route {
    pub(super) map: Arc<Shared>,
    pub(super) session: SessionId,
    pub(super) handle: Option<u32>,
    pub(super) asked: Access,
    pub(super) granted: Access,
    pub(super) credentials: Option<Bytes>,
}

impl Link<'_> {
    /// The session of a map.
    pub(super) fn session(&self, map: &str) -> Option<(Arc<Shared>, SessionId)> {
        let routes = self.routes.lock();
        let route = routes.by_name.get(map)?;
        Some((route.map.clone(), route.session))
    }

    /// What was presented when a map's session began.
    pub(super) fn credentials(&self, map: &str) -> Option<Bytes> {
        let routes = self.routes.lock();
        routes.by_name.get(map)?.credentials.clone()
    }

    pub(super) async fn take_control(&self, message: Control) -> Result<()> {
        match (message, &self.role) {
            (Control::Ping, _) => {
                // One answer does for all that were asked meanwhile.
                self.pong_due.store(true, Ordering::Relaxed);
                self.outbox.wake();
            }
            (Control::Pong, _) => {}
            (
                Control::Follow {
                    pattern,
                    credentials,
                },
                Role::Served(_),
            ) => {
                // A second one, with other credentials, takes the place of the first.
                let pattern = Pattern::new(&pattern)?;
                *self.follows.lock() = Some((pattern, credentials));
                // Before the names are listed, so that none is missed in between.
                self.outbox.follows.store(true, Ordering::Release);
                let names = self.core.names();
                self.authorizations(names.len());
                self.tell_names(&names);
            }
            (Control::Maps(names), Role::Opened(server, _)) => {
                let peer = &server.peer;
                for name in names {
                    if peer.mirror && peer.maps.matches(&name) {
                        self.mirror(&name).await;
                    }
                }
            }
            (Control::Follow { .. } | Control::Maps(_), _) => {
                let what = "a message of the directory from the wrong side";
                return Err(Error::Protocol(what.into()));
            }
        }
        Ok(())
    }

    /// Tells a peer that follows of maps, as far as they match and it may read them.
    pub(super) fn tell_names(&self, names: &[Arc<str>]) {
        let Role::Served(authorizer) = &self.role else {
            return;
        };
        let follows = self.follows.lock().clone();
        let Some((pattern, credentials)) = follows else {
            return;
        };
        let read = Access {
            read: true,
            write: false,
        };
        let credentials = credentials.as_deref();
        let may = |name: &str| {
            let granted = authorizer.authorize(name, read, credentials);
            granted.is_ok_and(|granted| granted.read)
        };
        let names = names
            .iter()
            .filter(|name| pattern.matches(name) && may(name));
        let names: Vec<String> = names.map(ToString::to_string).collect();
        for names in names.chunks(NAMES_PER_MESSAGE) {
            self.send(Control::Maps(names.to_vec()).encode());
        }
    }

    /// A peer opens a map.
    pub(super) async fn take_hello(
        &self,
        handle: u32,
        hello: &Hello,
    ) -> Result<(), (String, ProtocolError)> {
        let name = || hello.document.clone();
        let refused = |reason: String| (name(), ProtocolError::Refused(reason));
        let Role::Served(authorizer) = &self.role else {
            return Err(refused("the maps are opened by the other side".into()));
        };
        let open = self.routes.lock().by_name.len();
        if open >= MAX_DOCUMENTS_PER_CONNECTION {
            return Err(refused(format!(
                "a connection carries at most {MAX_DOCUMENTS_PER_CONNECTION} maps"
            )));
        }
        self.authorizations(1);
        let credentials = hello.credentials.clone();
        let granted = authorizer.authorize(&hello.document, hello.access, credentials.as_deref());
        let granted = granted.map_err(refused)?;
        let opened = self.core.open_at_once(&hello.document).await;
        let map = opened.map_err(|error| {
            // The peer is told as well, but it is here that something is to be done about it.
            if matches!(error, Error::StoreDamaged { .. }) {
                tracing::error!(map = hello.document, %error, "not opened for a peer");
            }
            refused(error.to_string())
        })?;
        self.wait_for_bus(&map).await;
        let outbox = self.outbox.clone();
        let accepted = map.with(|state, now| {
            let session = state.replica.accept(now, hello, granted)?;
            state.links.insert(session, outbox);
            Ok(session)
        });
        let session = accepted.map_err(|error| (name(), error))?;
        self.route(
            handle,
            Route {
                map,
                session,
                handle: Some(handle),
                asked: hello.access,
                granted,
                credentials,
            },
        );
        Ok(())
    }

    /// Waits for what the bus has of a map: so that the peer need not be told that it is not here,
    /// nor tell all of it. A silent bus holds up a connection once, and not for each of its maps.
    async fn wait_for_bus(&self, map: &Arc<Shared>) {
        let until = *self
            .bus_until
            .lock()
            .get_or_insert_with(|| Instant::now() + BUS_PATIENCE);
        if timeout_at(until, map.tried_bus()).await.is_ok() {
            *self.bus_until.lock() = None;
        }
    }

    fn route(&self, handle: u32, route: Route) {
        let mut routes = self.routes.lock();
        let target = (route.map.clone(), route.session);
        routes.by_handle.insert(handle, target);
        routes.by_name.insert(route.map.name.clone(), route);
        let count = routes.by_name.len() as u64;
        self.outbox.maps.store(count, Ordering::Relaxed);
    }

    /// The peer answers a hello of this side.
    pub(super) fn take_answer(&self, frame: Frame) -> Result<(), (String, ProtocolError)> {
        let handle = frame.handle();
        let name = frame.hello().map(|hello| hello.document.clone());
        let name = name.unwrap_or_default();
        if let Role::Served(_) = self.role {
            return Err((name, ProtocolError::HelloDirection));
        }
        let mut routes = self.routes.lock();
        let Some(route) = routes.by_name.get_mut(&*name) else {
            return Ok(());
        };
        route.handle = Some(handle);
        let target = (route.map.clone(), route.session);
        routes.by_handle.insert(handle, target.clone());
        drop(routes);
        receive(&target.0, target.1, frame);
        Ok(())
    }

    /// Opens a session for a map, on a connection that this side opened.
    pub(super) fn open(&self, map: Arc<Shared>) {
        let Role::Opened(server, _) = &self.role else {
            return;
        };
        let known = self.routes.lock().by_name.contains_key(&map.name);
        if known || self.core.is_closed() {
            return;
        }
        let (access, credentials) = (server.peer.access, server.credentials());
        let outbox = self.outbox.clone();
        let session = map.with(|state, now| {
            let session = state.replica.connect(now, access, credentials.clone());
            state.links.insert(session, outbox);
            session
        });
        let mut routes = self.routes.lock();
        let name = map.name.clone();
        let route = Route {
            map,
            session,
            handle: None,
            asked: access,
            granted: access,
            credentials,
        };
        routes.by_name.insert(name, route);
        let count = routes.by_name.len() as u64;
        self.outbox.maps.store(count, Ordering::Relaxed);
    }

    pub(super) fn reopen_due(&self, reopen: &mut Reopen) {
        if reopen.is_empty() {
            return;
        }
        let now = Instant::now();
        for (_, map) in reopen.extract_if(.., |(at, _)| *at <= now) {
            self.open(map);
        }
    }

    /// Asks the authorizer again about one map or all, and ends what it does not grant any more.
    pub(super) fn authorize_again(&self, only: Option<&Arc<str>>, frames: &mut VecDeque<Bytes>) {
        let Role::Served(authorizer) = &self.role else {
            return;
        };
        let routes = self.routes.lock();
        let asked = routes.by_name.values().map(|route| {
            let target = (route.map.clone(), route.session);
            (
                target,
                route.asked,
                route.granted,
                route.credentials.clone(),
            )
        });
        let asked: Vec<_> = asked.collect();
        drop(routes);
        for ((map, session), access, granted, credentials) in asked {
            if only.is_some_and(|only| *only != map.name) {
                continue;
            }
            match authorizer.authorize(&map.name, access, credentials.as_deref()) {
                Ok(now) if now.and(access) == granted.and(access) => continue,
                // It asks again, and is given what it may have now.
                Ok(_) => end(&map, session, ErrorCode::Restart, "the access has changed"),
                Err(reason) => end(&map, session, ErrorCode::Refused, &reason),
            }
            self.last_words(map, session, frames);
        }
    }

    /// The last frames of a session that is over; then it is forgotten.
    pub(super) fn last_words(
        &self,
        map: Arc<Shared>,
        session: SessionId,
        frames: &mut VecDeque<Bytes>,
    ) {
        map.frames(session, usize::MAX, frames);
        self.outbox.not_ready(session, &map);
        let mut routes = self.routes.lock();
        let current = routes.by_name.get(&map.name);
        if current.is_some_and(|route| route.session == session) {
            let route = routes.by_name.remove(&map.name);
            if let Some(handle) = route.and_then(|route| route.handle) {
                routes.by_handle.remove(&handle);
            }
        }
        let count = routes.by_name.len() as u64;
        drop(routes);
        self.outbox.maps.store(count, Ordering::Relaxed);
        self.leave(map, session);
    }

    /// Forgets a session, and its map if nobody has a use for it.
    pub(super) fn leave(&self, map: Arc<Shared>, session: SessionId) {
        let name = map.name.clone();
        map.leave(session);
        drop(map);
        self.core.forget_unused(&name);
    }

    /// Ends all sessions in good order.
    pub(super) fn farewell(&self, frames: &mut VecDeque<Bytes>) {
        let routes = std::mem::take(&mut *self.routes.lock());
        for route in routes.by_name.into_values() {
            let (map, session) = (route.map, route.session);
            end(&map, session, ErrorCode::Closing, "the node closes");
            self.last_words(map, session, frames);
        }
    }
}

/// Takes in a frame of a session. A broken rule ends the session, of which the connection is told
/// by a notice.
pub(super) fn receive(map: &Arc<Shared>, session: SessionId, frame: Frame) {
    let _ = map.with(|state, now| state.replica.receive(session, now, frame));
}

fn end(map: &Arc<Shared>, session: SessionId, code: ErrorCode, message: &str) {
    map.with(|state, _| state.replica.end(session, code, message));
}
