//! One connection: many maps, one task.
//!
//! A reader and a writer run as one task, so that a peer that does not read cannot keep this side
//! from reading, and the other way round. Frames wait in the replicas, where they are bounded; a
//! connection takes them when it can send them.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use parking_lot::Mutex;
use portolan_core::sync::{Access, CloseReason, ErrorCode, Frame, Hello, ProtocolError, SessionId};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::authorize::Authorize;
use crate::clock::random;
use crate::control::Control;
use crate::core::{Core, CountedLink, Stage};
use crate::error::{Error, Result};
use crate::limits::{
    FAREWELL, MAX_DOCUMENTS_PER_CONNECTION, MAX_STRIKES, MIN_BACK_OFF, NAMES_PER_MESSAGE,
    REOPEN_DELAY, SEND_TIMEOUT, TURN_BYTES,
};
use crate::outbox::{Notice, Outbox};
use crate::pattern::Pattern;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::websocket::{self, Address};

/// Keeps a connection to a server: connects, again and again, until the node closes.
pub(crate) async fn keep(core: Arc<Core>, place: usize, address: Address) {
    let server = &core.servers[place];
    let url = &server.peer.url;
    let mut wait = MIN_BACK_OFF;
    while !core.is_closed() {
        let started = Instant::now();
        let ended = match websocket::connect(&address, &server.peer).await {
            Ok(link) => {
                tracing::info!(url, "connected");
                let outbox = Outbox::new(Some(place));
                server.link.lock().0 = Some(outbox.clone());
                let role = Role::Opened(&server.peer);
                let link = Link::new(&core, outbox, role).run(link).await;
                server.link.lock().0 = None;
                link
            }
            Err(error) => Err(error),
        };
        let reason = ended.as_ref().err().map(ToString::to_string);
        tracing::info!(url, reason, "not connected");
        server.link.lock().1 = ended.err();
        if started.elapsed() > core.options.max_back_off {
            wait = MIN_BACK_OFF;
        }
        // Anywhere in the second half of the wait, so that a fleet does not return at once.
        let jitter = wait.mul_f64(random() as f64 / u64::MAX as f64 / 2.0);
        tokio::select! {
            () = sleep(wait - jitter) => {}
            () = core.reached(Stage::Leaving) => {}
        }
        wait = (wait * 2).min(core.options.max_back_off);
    }
}

/// Serves a connection that a peer opened.
pub(crate) async fn serve<L>(
    core: &Arc<Core>,
    link: L,
    peer: String,
    authorizer: Arc<dyn Authorize>,
) -> Result<()>
where
    L: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Unpin,
{
    let outbox = Outbox::new(None);
    let number = core.serve(peer, outbox.clone());
    let _registered = Registered { core, number };
    Link::new(core, outbox, Role::Served(authorizer))
        .run(link)
        .await
}

struct Registered<'c> {
    core: &'c Core,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.core.unserve(self.number);
    }
}

/// Which side this is of a connection.
enum Role<'c> {
    Opened(&'c Peer),
    Served(Arc<dyn Authorize>),
}

struct Link<'c> {
    core: &'c Arc<Core>,
    outbox: Arc<Outbox>,
    role: Role<'c>,
    routes: Mutex<Routes>,
    /// What a peer follows, and its credentials for it.
    follows: Mutex<Option<(Pattern, Option<Bytes>)>>,
    strikes: AtomicU32,
    pong_due: AtomicBool,
    /// A rule of the connection was broken: what still arrives is thrown away.
    over: AtomicBool,
    _counted: CountedLink,
}

/// The sessions of a connection.
#[derive(Default)]
struct Routes {
    by_name: HashMap<Arc<str>, Route>,
    /// By the number that the peer has for the map.
    by_handle: HashMap<u32, (Arc<Shared>, SessionId)>,
}

struct Route {
    map: Arc<Shared>,
    session: SessionId,
    handle: Option<u32>,
    asked: Access,
    granted: Access,
    credentials: Option<Bytes>,
}

/// Sessions to be opened again, and when.
type Reopen = Vec<(Instant, Arc<Shared>)>;

impl<'c> Link<'c> {
    fn new(core: &'c Arc<Core>, outbox: Arc<Outbox>, role: Role<'c>) -> Self {
        Self {
            core,
            outbox,
            role,
            routes: Mutex::default(),
            follows: Mutex::default(),
            strikes: AtomicU32::new(0),
            pong_due: AtomicBool::new(false),
            over: AtomicBool::new(false),
            _counted: core.count_link(),
        }
    }

    /// Moves frames until either side ends the connection.
    async fn run<L>(self, link: L) -> Result<()>
    where
        L: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Unpin,
    {
        let (sink, stream) = link.split();
        tokio::select! {
            ended = self.read(stream) => ended,
            ended = self.write(sink) => ended,
            () = self.core.reached(Stage::Gone) => Ok(()),
        }
    }

    /// Takes in what arrives, until the peer leaves.
    async fn read(&self, mut stream: impl Stream<Item = io::Result<Bytes>> + Unpin) -> Result<()> {
        self.begin().await;
        // The client asks first; a server asks only where no client does.
        let patience = match self.role {
            Role::Opened(_) => self.core.options.keep_alive,
            Role::Served(_) => self.core.options.keep_alive * 2,
        };
        let mut asked = false;
        loop {
            // What comes faster than it can be stored, or answered, waits at the sender.
            if let Some(store) = &self.core.store {
                store.room().await;
            }
            self.outbox.room().await;
            let bytes = match timeout(patience, stream.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(self.broken(&error)),
                Ok(Some(Ok(bytes))) => bytes,
                Err(_) if asked => {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "no sign of life");
                    return Err(self.broken(&error));
                }
                Err(_) => {
                    asked = true;
                    self.send(Control::Ping.encode());
                    continue;
                }
            };
            asked = false;
            Outbox::count(&self.outbox.received_bytes, bytes.len());
            if self.over.load(Ordering::Relaxed) {
                continue;
            }
            if let Err((error, frame)) = self.take(bytes).await {
                self.over.store(true, Ordering::Relaxed);
                if let Some(frame) = frame {
                    self.send(frame);
                }
                self.notice(Notice::Hang(error));
            }
        }
    }

    /// A client asks for its maps.
    async fn begin(&self) {
        let Role::Opened(peer) = &self.role else {
            return;
        };
        if peer.mirror {
            self.send(
                Control::Follow {
                    pattern: peer.maps.as_str().to_owned(),
                    credentials: peer.credentials.clone(),
                }
                .encode(),
            );
            for name in self.core.names() {
                if peer.maps.matches(&name) {
                    self.mirror(&name).await;
                }
            }
        }
        for map in self.core.maps() {
            if peer.maps.matches(&map.name) {
                self.notice(Notice::Open(map));
            }
        }
    }

    /// Opens a map that exists here or at the peer; opening it connects it.
    async fn mirror(&self, name: &str) {
        if self.routes.lock().by_name.len() >= MAX_DOCUMENTS_PER_CONNECTION {
            tracing::warn!(map = name, "not shared: a connection carries no more maps");
            return;
        }
        if let Err(error) = self.core.open(name).await {
            tracing::error!(map = name, %error, "not shared");
        }
    }

    /// Takes in one frame. The error ends the connection, after the frame beside it.
    async fn take(&self, bytes: Bytes) -> Result<(), (Error, Option<Bytes>)> {
        if Control::is(&bytes) {
            let taken = match Control::decode(&bytes) {
                Ok(message) => self.take_control(message).await,
                Err(error) => Err(error),
            };
            return taken.map_err(|error| {
                let refusal = ProtocolError::Refused(error.to_string());
                (error, Some(refusal.to_frame("")))
            });
        }
        let frame = Frame::decode(bytes).map_err(|error| {
            let frame = error.to_frame("");
            (Error::Protocol(error.to_string()), Some(frame))
        })?;
        if let Some(hello) = frame.hello() {
            let refused = match hello.reply {
                false => self.take_hello(frame.handle(), hello).await,
                true => self.take_answer(frame),
            };
            return Ok(refused
                .map_err(|(name, error)| {
                    self.send(error.to_frame(&name));
                    self.strike();
                })
                .unwrap_or(()));
        }
        if let Some(error) = frame.error() {
            if error.document.is_empty() {
                return Err((Error::Protocol(error.message.clone()), None));
            }
            let routes = self.routes.lock();
            let route = routes.by_name.get(&*error.document);
            let route = route.map(|route| (route.map.clone(), route.session));
            drop(routes);
            if let Some((map, session)) = route {
                self.receive(&map, session, frame);
            }
            return Ok(());
        }
        let route = self.routes.lock().by_handle.get(&frame.handle()).cloned();
        // A session that this side has just ended may have had frames under way.
        if let Some((map, session)) = route {
            self.receive(&map, session, frame);
        }
        Ok(())
    }

    fn receive(&self, map: &Arc<Shared>, session: SessionId, frame: Frame) {
        // A broken rule ends the session, with a notice to this connection.
        let _ = map.with(|state, now| state.replica.receive(session, now, frame));
    }

    async fn take_control(&self, message: Control) -> Result<()> {
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
                let pattern = Pattern::new(&pattern)?;
                *self.follows.lock() = Some((pattern, credentials));
                // Before the names are listed, so that none is missed in between.
                self.outbox.follows.store(true, Ordering::Release);
                self.tell_names(&self.core.names());
            }
            (Control::Maps(names), Role::Opened(peer)) => {
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
    fn tell_names(&self, names: &[Arc<str>]) {
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
    async fn take_hello(&self, handle: u32, hello: &Hello) -> Result<(), (String, ProtocolError)> {
        let name = || hello.document.clone();
        let refused = |reason: String| (name(), ProtocolError::Refused(reason));
        let Role::Served(authorizer) = &self.role else {
            return Err(refused("the maps are opened by the other side".into()));
        };
        let (open, known) = {
            let routes = self.routes.lock();
            let known = routes.by_name.get(&*hello.document);
            let known = known.map(|route| (route.map.clone(), route.session));
            (routes.by_name.len(), known)
        };
        if let Some((map, session)) = known {
            // Twice on one connection; the old session is not worth keeping either.
            self.end(
                &map,
                session,
                ErrorCode::Protocol,
                "the map was opened twice",
            );
            return Err((name(), ProtocolError::DuplicateHello));
        }
        if open >= MAX_DOCUMENTS_PER_CONNECTION {
            return Err(refused(format!(
                "a connection carries at most {MAX_DOCUMENTS_PER_CONNECTION} maps"
            )));
        }
        let credentials = hello.credentials.clone();
        let granted = authorizer.authorize(&hello.document, hello.access, credentials.as_deref());
        let granted = granted.map_err(refused)?;
        let opened = self.core.open(&hello.document).await;
        let map = opened.map_err(|error| refused(error.to_string()))?;
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

    fn route(&self, handle: u32, route: Route) {
        let mut routes = self.routes.lock();
        let target = (route.map.clone(), route.session);
        routes.by_handle.insert(handle, target);
        routes.by_name.insert(route.map.name.clone(), route);
        let count = routes.by_name.len() as u64;
        self.outbox.maps.store(count, Ordering::Relaxed);
    }

    /// The peer answers a hello of this side.
    fn take_answer(&self, frame: Frame) -> Result<(), (String, ProtocolError)> {
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
        self.receive(&target.0, target.1, frame);
        Ok(())
    }

    /// A rule about one map was broken; a peer that goes on so is not worth serving.
    fn strike(&self) {
        if self.strikes.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_STRIKES
            && matches!(self.role, Role::Served(_))
        {
            self.over.store(true, Ordering::Relaxed);
            let reason = format!("the rules were broken {MAX_STRIKES} times");
            self.send(ProtocolError::Refused(reason.clone()).to_frame(""));
            self.notice(Notice::Hang(Error::Protocol(reason)));
        }
    }

    fn send(&self, frame: Bytes) {
        self.notice(Notice::Frame(frame));
    }

    fn notice(&self, notice: Notice) {
        self.outbox.notice(notice);
        self.outbox.wake();
    }

    /// Sends what waits, until the connection breaks or is to end.
    async fn write(&self, mut sink: impl Sink<Bytes, Error = io::Error> + Unpin) -> Result<()> {
        let mut frames = VecDeque::new();
        let mut reopen = Reopen::new();
        let mut unflushed = false;
        let mut leaving = false;
        loop {
            let mut hang = None;
            while let Some(notice) = self.outbox.next_notice() {
                hang = self.see_to(notice, &mut frames, &mut reopen);
                if hang.is_some() {
                    break;
                }
            }
            if self.pong_due.swap(false, Ordering::Relaxed) {
                frames.push_back(Control::Pong.encode());
            }
            self.reopen_due(&mut reopen);
            if frames.is_empty()
                && let Some((map, session)) = self.outbox.next_ready()
                && !map.frames(session, TURN_BYTES, &mut frames)
            {
                self.outbox.ready(&map, session);
            }
            if leaving && hang.is_none() && frames.is_empty() && !self.outbox.is_ready() {
                self.farewell(&mut frames);
                hang = Some(Error::Closed);
            }
            for frame in frames.drain(..) {
                Outbox::count(&self.outbox.sent_bytes, frame.len());
                // Feeding writes when enough has gathered, and flushing once does for the rest.
                self.in_time(sink.feed(frame)).await?;
                unflushed = true;
            }
            if let Some(error) = hang {
                self.in_time(sink.flush()).await?;
                self.in_time(sink.close()).await?;
                // The peer reads what was sent, then ends the connection; to close it at once
                // could take away what it has not read.
                sleep(FAREWELL).await;
                return match error {
                    Error::Closed => Ok(()),
                    error => Err(error),
                };
            }
            if self.outbox.is_ready() {
                continue;
            }
            if unflushed {
                self.in_time(sink.flush()).await?;
                unflushed = false;
                continue;
            }
            let due = reopen.iter().map(|(at, _)| *at).min();
            let reopening = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let left = async {
                match leaving {
                    false => self.core.reached(Stage::Leaving).await,
                    true => pending().await,
                }
            };
            tokio::select! {
                () = self.outbox.wait() => {}
                () = reopening => {}
                () = left => leaving = true,
            }
        }
    }

    async fn in_time(&self, sent: impl Future<Output = io::Result<()>>) -> Result<()> {
        match timeout(SEND_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
                Err(self.broken(&error))
            }
        }
    }

    fn broken(&self, error: &io::Error) -> Error {
        let reason = error.to_string();
        match &self.role {
            Role::Opened(peer) => Error::Unreachable {
                url: peer.url.clone(),
                reason,
            },
            Role::Served(_) if error.kind() == io::ErrorKind::InvalidData => {
                Error::Protocol(reason)
            }
            Role::Served(_) => Error::Disconnected(reason),
        }
    }

    /// Does what a notice says; an error ends the connection.
    fn see_to(
        &self,
        notice: Notice,
        frames: &mut VecDeque<Bytes>,
        reopen: &mut Reopen,
    ) -> Option<Error> {
        match notice {
            Notice::Frame(frame) => frames.push_back(frame),
            Notice::Open(map) => self.open(map),
            Notice::Named(name) => self.tell_names(&[name]),
            Notice::Closed(map, session, reason) => {
                self.last_words(&map, session, frames);
                match (&self.role, &reason) {
                    (Role::Served(_), CloseReason::Protocol(_)) => self.strike(),
                    (Role::Opened(_), CloseReason::ReplicaChanged) => self.open(map),
                    (Role::Opened(_), reason) if !is_refusal(reason) => {
                        reopen.push((Instant::now() + REOPEN_DELAY, map));
                    }
                    _ => {}
                }
            }
            Notice::Credentials(map, session, credentials) => {
                let mut routes = self.routes.lock();
                let route = routes.by_name.get_mut(&map.name);
                if let Some(route) = route.filter(|route| route.session == session) {
                    route.credentials = Some(credentials);
                }
                drop(routes);
                self.authorize_again(Some(&map.name), frames);
            }
            Notice::Reauthorize => self.authorize_again(None, frames),
            Notice::Hang(error) => return Some(error),
        }
        None
    }

    /// Opens a session for a map, on a connection that this side opened.
    fn open(&self, map: Arc<Shared>) {
        let Role::Opened(peer) = &self.role else {
            return;
        };
        let routes = self.routes.lock();
        let (known, open) = (routes.by_name.contains_key(&map.name), routes.by_name.len());
        drop(routes);
        if known || self.core.is_closed() {
            return;
        }
        if open >= MAX_DOCUMENTS_PER_CONNECTION {
            let limit = MAX_DOCUMENTS_PER_CONNECTION;
            tracing::error!(
                map = &*map.name,
                limit,
                "not shared: the connection is full"
            );
            return;
        }
        let (access, credentials) = (peer.access, peer.credentials.clone());
        let outbox = self.outbox.clone();
        let session = map.with(|state, now| {
            let session = state.replica.connect(now, access, credentials);
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
            credentials: None,
        };
        routes.by_name.insert(name, route);
        let count = routes.by_name.len() as u64;
        self.outbox.maps.store(count, Ordering::Relaxed);
    }

    fn reopen_due(&self, reopen: &mut Reopen) {
        if reopen.is_empty() {
            return;
        }
        let now = Instant::now();
        for (_, map) in reopen.extract_if(.., |(at, _)| *at <= now) {
            self.open(map);
        }
    }

    /// Asks the authorizer again about one map or all, and ends what it does not grant any more.
    fn authorize_again(&self, only: Option<&Arc<str>>, frames: &mut VecDeque<Bytes>) {
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
                Ok(_) => self.end(&map, session, ErrorCode::Restart, "the access has changed"),
                Err(reason) => self.end(&map, session, ErrorCode::Refused, &reason),
            }
            self.last_words(&map, session, frames);
        }
    }

    fn end(&self, map: &Arc<Shared>, session: SessionId, code: ErrorCode, message: &str) {
        map.with(|state, _| state.replica.end(session, code, message));
    }

    /// The last frames of a session that is over; then it is forgotten.
    fn last_words(&self, map: &Arc<Shared>, session: SessionId, frames: &mut VecDeque<Bytes>) {
        map.frames(session, usize::MAX, frames);
        map.leave(session);
        let mut routes = self.routes.lock();
        let current = routes.by_name.get(&map.name);
        if current.is_some_and(|route| route.session == session) {
            let route = routes.by_name.remove(&map.name);
            if let Some(handle) = route.and_then(|route| route.handle) {
                routes.by_handle.remove(&handle);
            }
        }
        let count = routes.by_name.len() as u64;
        self.outbox.maps.store(count, Ordering::Relaxed);
    }

    /// Ends all sessions in good order.
    fn farewell(&self, frames: &mut VecDeque<Bytes>) {
        let routes = std::mem::take(&mut *self.routes.lock());
        for route in routes.by_name.into_values() {
            let (map, session) = (route.map, route.session);
            self.end(&map, session, ErrorCode::Closing, "the node closes");
            self.last_words(&map, session, frames);
        }
    }
}

fn is_refusal(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::Peer { code, .. } => *code == ErrorCode::Refused,
        _ => false,
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        let routes = std::mem::take(&mut *self.routes.lock());
        for route in routes.by_name.into_values() {
            route.map.leave(route.session);
        }
        self.outbox.clear();
    }
}
