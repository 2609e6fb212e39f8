//! One connection: many maps, one task.
//!
//! A reader and a writer run as one task, so that a peer that does not read cannot keep this side
//! from reading, and the other way round. Frames wait in the replicas, where they are bounded; a
//! connection takes them when it can send them.

mod pace;
mod sessions;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use parking_lot::Mutex;
use portolan_core::sync::{CloseReason, ErrorCode, Frame, ProtocolError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::pace::Pace;
use self::sessions::{Routes, receive};
use crate::authorize::Authorize;
use crate::clock::random;
use crate::control::Control;
use crate::core::{Core, CountedLink, Server, Stage};
use crate::error::{Error, Result};
use crate::limits::{
    AUTHORIZATION_FRAMES, FAREWELL, MAX_STRIKES, MIN_BACK_OFF, REOPEN_DELAY, SEND_TIMEOUT,
    TURN_BYTES,
};
use crate::outbox::{Notice, Outbox};
use crate::pattern::Pattern;
use crate::shared::Shared;
use crate::websocket;

/// Keeps a connection to a server: connects, again and again, until the node closes.
///
/// `lane` is its number among the connections to that server: each carries the maps of a range of
/// handles, for a connection carries a limited number.
pub(crate) async fn keep(core: Arc<Core>, place: usize, lane: usize) {
    let server = &core.servers[place];
    let url = &server.peer.url;
    let mut wait = MIN_BACK_OFF;
    while !core.is_closed() {
        let started = Instant::now();
        let credentials = server.credentials();
        let connecting =
            websocket::connect(&server.address, &server.peer, credentials.as_deref()).await;
        let ended = match connecting {
            Ok(link) => {
                tracing::info!(url, "connected");
                let outbox = Outbox::new(Some(place));
                server.lanes.lock()[lane].link = Some(outbox.clone());
                let role = Role::Opened(server, lane);
                let link = Link::new(&core, outbox, role).run(link).await;
                server.lanes.lock()[lane].link = None;
                link
            }
            Err(error) => Err(error),
        };
        let reason = ended.as_ref().err().map(ToString::to_string);
        tracing::info!(url, reason, "not connected");
        server.lanes.lock()[lane].ended = ended.err();
        if started.elapsed() > core.options.max_back_off {
            wait = MIN_BACK_OFF;
        }
        // Anywhere in the second half of the wait, so that a fleet does not return at once.
        let jittered = wait.mul_f64(0.5 + random() as f64 / u64::MAX as f64 / 2.0);
        tokio::select! {
            () = sleep(jittered) => {}
            // What was refused may be allowed now.
            () = server.renewed.notified() => {}
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
    Opened(&'c Server, usize),
    Served(Arc<dyn Authorize>),
}

struct Link<'c> {
    core: &'c Arc<Core>,
    outbox: Arc<Outbox>,
    role: Role<'c>,
    routes: Mutex<Routes>,
    /// What a peer follows, and its credentials for it.
    follows: Mutex<Option<(Pattern, Option<Bytes>)>>,
    pace: Mutex<Pace>,
    /// Until when hellos wait for the bus.
    bus_until: Mutex<Option<Instant>>,
    strikes: AtomicU32,
    pong_due: AtomicBool,
    /// A rule of the connection was broken: what still arrives is thrown away.
    over: AtomicBool,
    _counted: CountedLink,
}

/// Sessions to be opened again, and when.
type Reopen = Vec<(Instant, Arc<Shared>)>;

impl<'c> Link<'c> {
    fn new(core: &'c Arc<Core>, outbox: Arc<Outbox>, role: Role<'c>) -> Self {
        // The servers that this node connects to are its own choice.
        let rate = match role {
            Role::Opened(..) => 0,
            Role::Served(_) => core.options.receive_rate,
        };
        Self {
            core,
            outbox,
            role,
            routes: Mutex::default(),
            follows: Mutex::default(),
            pace: Mutex::new(Pace::new(rate)),
            bus_until: Mutex::default(),
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
            Role::Opened(..) => self.core.options.keep_alive,
            Role::Served(_) => self.core.options.keep_alive * 2,
        };
        let mut asked = false;
        loop {
            // What comes faster than it can be stored, or answered, waits at the sender.
            if let Some(store) = &self.core.store {
                store.room().await;
            }
            self.outbox.room().await;
            let pause = self.pace.lock().pause(Instant::now());
            if let Some(until) = pause {
                sleep_until(until).await;
            }
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
            self.pace.lock().frame(bytes.len(), Instant::now());
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
        let Role::Opened(server, lane) = &self.role else {
            return;
        };
        let maps = &server.peer.maps;
        if server.peer.mirror && *lane == 0 {
            self.follow(server);
            for name in self.core.names() {
                if maps.matches(&name) {
                    self.mirror(&name).await;
                }
            }
        }
        for map in self.core.maps() {
            if map.lane == *lane && maps.matches(&map.name) {
                self.notice(Notice::Open(map));
            }
        }
    }

    /// A client that mirrors asks what there is.
    fn follow(&self, server: &Server) {
        self.send(
            Control::Follow {
                pattern: server.peer.maps.as_str().to_owned(),
                credentials: server.credentials(),
            }
            .encode(),
        );
    }

    /// Presents the new token: for the maps that are open, and for those that were refused.
    fn renew(&self) {
        let Role::Opened(server, lane) = &self.role else {
            return;
        };
        let credentials = server.credentials().unwrap_or_default();
        let routes = self.routes.lock();
        let open = routes.by_name.values();
        let open: Vec<_> = open
            .map(|route| (route.map.clone(), route.session))
            .collect();
        drop(routes);
        for (map, session) in open {
            map.with(|state, _| state.replica.refresh(session, &credentials));
        }
        if server.peer.mirror && *lane == 0 {
            self.follow(server);
        }
        for map in self.core.maps() {
            if map.lane == *lane && server.peer.maps.matches(&map.name) {
                self.open(map);
            }
        }
    }

    /// Opens a map that exists here or at the peer; opening it connects it.
    async fn mirror(&self, name: &str) {
        if let Err(error) = self.core.open_at_once(name).await {
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
            let taken = if hello.reply {
                self.take_answer(frame)
            } else if let Some((map, session)) = self.session(&hello.document) {
                // Against the rules, as the session will say.
                receive(&map, session, frame);
                Ok(())
            } else {
                self.take_hello(frame.handle(), hello).await
            };
            if let Err((name, error)) = taken {
                self.send(error.to_frame(&name));
                // To be refused is no offence.
                if !matches!(error, ProtocolError::Refused(_)) {
                    self.strike();
                }
            }
            return Ok(());
        }
        if let Some(error) = frame.error() {
            if error.document.is_empty() {
                return Err((Error::Protocol(error.message.clone()), None));
            }
            if let Some((map, session)) = self.session(&error.document) {
                receive(&map, session, frame);
            }
            return Ok(());
        }
        let route = self.routes.lock().by_handle.get(&frame.handle()).cloned();
        // A session that this side has just ended may have had frames under way.
        if let Some((map, session)) = route {
            receive(&map, session, frame);
        }
        Ok(())
    }

    /// The peer had the authorizer asked, so often.
    fn authorizations(&self, times: usize) {
        let frames = times.saturating_mul(AUTHORIZATION_FRAMES);
        self.pace.lock().count(frames, Instant::now());
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
                if leaving {
                    pending::<()>().await;
                } else {
                    self.core.reached(Stage::Leaving).await;
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
            Role::Opened(server, _) => Error::Unreachable {
                url: server.peer.url.clone(),
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
                tracing::debug!(map = &*map.name, %reason, "a session ended");
                let again = match (&self.role, &reason) {
                    (Role::Served(_), CloseReason::Protocol(_)) => {
                        self.strike();
                        None
                    }
                    (Role::Served(_), _) => None,
                    (
                        Role::Opened(..),
                        CloseReason::ReplicaChanged
                        | CloseReason::Forgotten
                        | CloseReason::Resynced,
                    ) => Some(Instant::now()),
                    (Role::Opened(server, _), reason) if is_refusal(reason) => {
                        // Where it was the old token that was refused, the new one is to be tried.
                        let asked_with = self.credentials(&map.name);
                        (asked_with != server.credentials()).then(Instant::now)
                    }
                    (Role::Opened(..), _) => Some(Instant::now() + REOPEN_DELAY),
                };
                reopen.extend(again.map(|at| (at, map.clone())));
                self.last_words(map, session, frames);
            }
            Notice::Credentials(map, session, credentials) => {
                let mut routes = self.routes.lock();
                let route = routes.by_name.get_mut(&map.name);
                if let Some(route) = route.filter(|route| route.session == session) {
                    route.credentials = Some(credentials);
                }
                drop(routes);
                self.authorizations(1);
                self.authorize_again(Some(&map.name), frames);
            }
            Notice::Renew => self.renew(),
            Notice::Reauthorize => self.authorize_again(None, frames),
            Notice::Hang(error) => return Some(error),
        }
        None
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
        self.outbox.clear();
        drop(routes.by_handle);
        for route in routes.by_name.into_values() {
            self.leave(route.map, route.session);
        }
    }
}
