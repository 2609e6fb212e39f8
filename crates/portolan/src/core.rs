//! What all handles and tasks of a node share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use portolan_core::sync::{Config, Replica};
use portolan_core::{Document, ReplicaId};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::bus::{self, Bus, BusError, Meter};
use crate::clock::{Clock, random};
use crate::error::{Error, Result};
use crate::limits::{BUS_PATIENCE, FAREWELL, MAX_NAME_BYTES, MAX_TOKEN_BYTES};
use crate::link;
use crate::outbox::{Notice, Outbox};
use crate::peer::Peer;
use crate::runtime;
use crate::shared::Shared;
use crate::status::{BusStatus, LinkState, LinkStatus};
use crate::store::{self, Store};
use crate::timers::Timers;
use crate::websocket::Address;

/// What all handles and tasks of a node share.
pub(crate) struct Core {
    pub(crate) replica: ReplicaId,
    pub(crate) clock: Clock,
    pub(crate) timers: Timers,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) options: Options,
    pub(crate) bus: Option<Arc<dyn Bus>>,
    pub(crate) bus_meter: Meter,
    /// The servers that the node was told of.
    pub(crate) servers: Vec<Server>,
    /// Open maps, and those being opened, of which each is read once.
    maps: Mutex<HashMap<Arc<str>, Slot>>,
    /// Maps that are open or in the store.
    names: Mutex<BTreeSet<Arc<str>>>,
    handles: Mutex<Handles>,
    served: Mutex<BTreeMap<u64, Served>>,
    next_served: AtomicU64,
    /// Set before anything is ended: writes are refused from here on.
    closed: AtomicBool,
    stage: watch::Sender<Stage>,
    /// How many connections are up.
    links: watch::Sender<usize>,
    tasks: Mutex<JoinSet<()>>,
    outcome: OnceCell<Result<()>>,
}

/// Where an open map is, or will be once it is read.
type Slot = Arc<OnceCell<Arc<Shared>>>;

/// The numbers by which connections know the maps, from 1. Low ones are used again: they decide
/// how many connections to a server there are.
#[derive(Default)]
struct Handles {
    last: u32,
    free: BTreeSet<u32>,
}

impl Handles {
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }
}

/// What the builder was told, as far as it is needed later.
pub(crate) struct Options {
    pub(crate) sync: Config,
    pub(crate) watch_queue: usize,
    pub(crate) history: usize,
    pub(crate) receive_rate: u32,
    pub(crate) keep_alive: std::time::Duration,
    pub(crate) max_back_off: std::time::Duration,
}

/// A server that the node keeps a connection to.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) address: Address,
    /// The token in force: the peer's at first.
    credentials: Mutex<Option<Bytes>>,
    /// The token was replaced: an attempt to connect need not wait any longer.
    pub(crate) renewed: Notify,
    /// Its connections, each for a range of handles; the first from the start, others when there
    /// are so many maps.
    pub(crate) lanes: Mutex<Vec<Lane>>,
}

impl Server {
    fn new(peer: Peer) -> Result<Self> {
        peer.credentials.as_ref().map_or(Ok(()), check_token)?;
        Ok(Self {
            address: Address::new(&peer)?,
            credentials: Mutex::new(peer.credentials.clone()),
            renewed: Notify::new(),
            peer,
            lanes: Mutex::default(),
        })
    }

    /// The token to present.
    pub(crate) fn credentials(&self) -> Option<Bytes> {
        self.credentials.lock().clone()
    }

    /// Why a lane has no connection, if it has none and had one, or tried.
    pub(crate) fn failure(&self, lane: usize) -> Option<Error> {
        let lanes = self.lanes.lock();
        let lane = lanes.get(lane).filter(|lane| lane.link.is_none())?;
        lane.ended.clone()
    }
}

fn check_token(token: &Bytes) -> Result<()> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Error::Token {
            found: token.len(),
            limit: MAX_TOKEN_BYTES,
        });
    }
    Ok(())
}

#[derive(Clone, Default)]
pub(crate) struct Lane {
    /// The connection, when it is up.
    pub(crate) link: Option<Arc<Outbox>>,
    /// Why the last one ended.
    pub(crate) ended: Option<Error>,
}

struct Served {
    peer: String,
    outbox: Arc<Outbox>,
}

/// How far a node is in closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Working,
    /// Connections send what waits, and end.
    Leaving,
    /// Connections that have not ended are cut.
    Gone,
}

impl Core {
    pub(crate) async fn start(builder: Builder) -> Result<Arc<Self>> {
        runtime::check(!builder.peers.is_empty() || builder.bus.is_some())?;
        let fresh = ReplicaId::new(random());
        let store = match builder.store {
            None => None,
            Some(path) => {
                let opened = tokio::task::spawn_blocking(move || Store::open(&path, fresh));
                // Opening catches the panics of the database, and has none of its own.
                Some(Arc::new(opened.await.unwrap_or(Err(Error::Closed))?))
            }
        };
        let names = store
            .iter()
            .flat_map(|store| store.names())
            .cloned()
            .collect();
        let servers = builder.peers.into_iter().map(Server::new);
        let servers = servers.collect::<Result<Vec<Server>>>()?;
        let sync = Config {
            // With a store the id is the node's own for good. On a bus others lend none.
            borrows: store.is_none() && builder.bus.is_none(),
            ..builder.sync
        };
        let core = Arc::new(Self {
            replica: store.as_ref().map_or(fresh, |store| store.replica()),
            clock: Clock::new(),
            timers: Timers::default(),
            store,
            options: Options {
                sync,
                watch_queue: builder.watch_queue,
                history: builder.history,
                receive_rate: builder.receive_rate,
                keep_alive: builder.keep_alive,
                max_back_off: builder.max_back_off,
            },
            servers,
            bus: builder.bus,
            bus_meter: Meter::default(),
            maps: Mutex::default(),
            names: Mutex::new(names),
            handles: Mutex::default(),
            served: Mutex::default(),
            next_served: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Working),
            links: watch::Sender::new(0),
            tasks: Mutex::default(),
            outcome: OnceCell::new(),
        });
        let timed = core.clone();
        let timing = async move { timed.timers.run(&timed.clock).await };
        core.tasks.lock().spawn(timing);
        for place in 0..core.servers.len() {
            core.link(place, 0);
        }
        if let Some(bus) = &core.bus {
            let looking = core.clone().look_around(bus.clone());
            core.tasks.lock().spawn(looking);
        }
        Ok(core)
    }

    /// The connection of a lane, if it is up. A lane that is new begins to connect.
    fn link(self: &Arc<Self>, place: usize, lane: usize) -> Option<Arc<Outbox>> {
        let mut lanes = self.servers[place].lanes.lock();
        while lanes.len() <= lane {
            let new = lanes.len();
            lanes.push(Lane::default());
            self.tasks
                .lock()
                .spawn(link::keep(self.clone(), place, new));
        }
        lanes[lane].link.clone()
    }

    /// Opens a map, from the store if it is there. Who opens it finds what the others on the bus
    /// have, where that can be had.
    pub(crate) async fn open(self: &Arc<Self>, name: &str) -> Result<Arc<Shared>> {
        let map = self.open_at_once(name).await?;
        let _ = tokio::time::timeout(BUS_PATIENCE, map.tried_bus()).await;
        Ok(map)
    }

    /// As [`open`](Self::open), without waiting for the bus.
    pub(crate) async fn open_at_once(self: &Arc<Self>, name: &str) -> Result<Arc<Shared>> {
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
            return Err(Error::MapName {
                found: name.len(),
                limit: MAX_NAME_BYTES,
            });
        }
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let name: Arc<str> = Arc::from(name);
        let cell = self.maps.lock().entry(name.clone()).or_default().clone();
        let mut is_new = false;
        let read = async {
            is_new = true;
            self.read(&name).await
        };
        let map = cell.get_or_try_init(|| read).await?.clone();
        if is_new {
            // After the map can be found: a connection that comes up now finds it, one that was up
            // before is told.
            self.announce(&name);
            if let Some(bus) = &self.bus {
                let keeping = bus::keep(self.clone(), bus.clone(), map.clone());
                let mut tasks = self.tasks.lock();
                // Those of maps that nobody had a use for.
                while tasks.try_join_next().is_some() {}
                tasks.spawn(keeping);
            }
            for (place, server) in self.servers.iter().enumerate() {
                if !server.peer.maps.matches(&name) {
                    continue;
                }
                if let Some(link) = self.link(place, map.lane) {
                    link.notice(Notice::Open(map.clone()));
                    link.wake();
                }
            }
        }
        Ok(map)
    }

    /// Finds the maps that others have put on the bus, again and again.
    async fn look_around(self: Arc<Self>, bus: Arc<dyn Bus>) {
        loop {
            let on_bus = |map: &Arc<Shared>| map.read(|state| state.replica.is_on_bus());
            let known = self.maps().into_iter().filter(on_bus);
            let known = known.map(|map| map.name.clone()).collect();
            match bus.maps(known).await {
                Ok(names) => {
                    for name in names {
                        if (1..=MAX_NAME_BYTES).contains(&name.len()) {
                            self.announce(&Arc::from(name));
                        }
                    }
                    self.bus_meter.looked(None);
                }
                Err(error) => self.bus_meter.looked(Some(error)),
            }
            tokio::time::sleep(bus.digest_period()).await;
        }
    }

    /// Whether there is a log of a map on the bus. Fails where that cannot be asked.
    pub(crate) async fn finds_on_bus(&self, name: &str) -> Result<bool> {
        let Some(bus) = self
            .bus
            .as_ref()
            .filter(|_| (1..=MAX_NAME_BYTES).contains(&name.len()))
        else {
            return Ok(false);
        };
        let found = tokio::time::timeout(BUS_PATIENCE, bus.read(name, u64::MAX)).await;
        let found = found.map_err(|_| BusError::Unreachable("it does not answer".to_owned()))?;
        match found {
            // Who opens it mends it.
            Err(BusError::Damaged(_)) => Ok(true),
            found => Ok(found?.is_some()),
        }
    }

    /// How the bus stands, where there is one.
    pub(crate) fn bus_status(&self) -> Option<BusStatus> {
        let bus = self.bus.as_ref()?;
        let mut status = self.bus_meter.status(bus.address());
        let failures = self.maps().into_iter();
        let mut failures = failures.filter_map(|map| map.read(|state| state.bus.failure.clone()));
        status.failure = status.failure.or_else(|| failures.next());
        Some(status)
    }

    async fn read(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<Shared>> {
        let stored = match &self.store {
            Some(store) => store.load(name).await?,
            None => None,
        };
        let mut members = None;
        let past = self.options.history;
        let document = match stored {
            None => {
                let mut document = Document::with_hash_seed(self.replica, random());
                document.keep_past(past);
                document
            }
            Some(mut stored) => {
                members = stored.members.take();
                let name = name.clone();
                let path = self.store.as_ref().map(|store| store.path().to_owned());
                let path = path.unwrap_or_default();
                let restored = move || store::restore(&path, &name, &stored, random(), past);
                let restored = tokio::task::spawn_blocking(restored).await;
                restored.unwrap_or(Err(Error::Closed))?
            }
        };
        let handle = self.handles.lock().take();
        let durable = self.store.is_some();
        let sync = self.options.sync.clone();
        let mut replica = Replica::new(name, handle, document, durable, sync);
        if self.bus.is_some() {
            replica.attach_bus(random());
        }
        if let (Some(members), Some(store)) = (members, &self.store) {
            let restored = replica.restore_members(&members);
            restored.map_err(|error| Error::StoreDamaged {
                path: store.path().to_owned(),
                what: format!("the members of map `{name}`: {error}"),
            })?;
        }
        Ok(Shared::new(name.clone(), self, replica))
    }

    /// A map is known here; peers who follow are told if it is new.
    fn announce(&self, name: &Arc<str>) {
        if !self.names.lock().insert(name.clone()) {
            return;
        }
        let served = self.served.lock();
        for link in served.values().map(|served| &served.outbox) {
            if link.follows.load(Ordering::Acquire) {
                link.notice(Notice::Named(name.clone()));
                link.wake();
            }
        }
    }

    /// Forgets a map that nobody uses and that never held anything: peers can ask for any name,
    /// and names must not pile up.
    pub(crate) fn forget_unused(&self, name: &Arc<str>) {
        let mut maps = self.maps.lock();
        // With the lock nobody comes by a new handle, and without another handle nobody has one.
        let unused = maps.get(name).is_some_and(|slot| {
            let alone = |map: &Arc<Shared>| Arc::strong_count(map) == 1 && map.is_unused();
            Arc::strong_count(slot) == 1 && slot.get().is_some_and(alone)
        });
        if unused && let Some(map) = maps.remove(name).and_then(|slot| slot.get().cloned()) {
            self.names.lock().remove(name);
            let handle = map.read(|state| state.replica.handle());
            self.handles.lock().free.insert(handle);
        }
    }

    /// The names of all maps that are open or in the store.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.names.lock().iter().cloned().collect()
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.lock().contains(name)
    }

    /// The maps that are open.
    pub(crate) fn maps(&self) -> Vec<Arc<Shared>> {
        let maps = self.maps.lock();
        maps.values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }

    /// Why no writes are taken, if they are not.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        match self.store.as_ref().and_then(|store| store.failure()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until the node is at least this far in closing.
    pub(crate) async fn reached(&self, stage: Stage) {
        // The sender lives as long as this borrow.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Counts a connection as up, until what this gives is dropped.
    pub(crate) fn count_link(self: &Arc<Self>) -> CountedLink {
        self.links.send_modify(|count| *count += 1);
        CountedLink(self.clone())
    }

    /// Registers a served connection.
    pub(crate) fn serve(&self, peer: String, outbox: Arc<Outbox>) -> u64 {
        let number = self.next_served.fetch_add(1, Ordering::Relaxed);
        self.served.lock().insert(number, Served { peer, outbox });
        number
    }

    pub(crate) fn unserve(&self, number: u64) {
        self.served.lock().remove(&number);
    }

    /// Lets all served connections ask their authorizers again.
    pub(crate) fn reauthorize(&self) {
        for served in self.served.lock().values() {
            served.outbox.notice(Notice::Reauthorize);
            served.outbox.wake();
        }
    }

    /// Presents another token to a server, on all connections to it.
    pub(crate) fn set_token(&self, url: &str, token: &Bytes) -> Result<()> {
        check_token(token)?;
        let servers = self.servers.iter();
        let mut servers = servers.filter(|server| server.peer.url == url).peekable();
        if servers.peek().is_none() {
            let url = url.to_owned();
            return Err(Error::UnknownServer { url });
        }
        for server in servers {
            // First the token: a connection that comes up from here on presents it by itself.
            *server.credentials.lock() = Some(token.clone());
            server.renewed.notify_waiters();
            for lane in server.lanes.lock().iter() {
                if let Some(link) = &lane.link {
                    link.notice(Notice::Renew);
                    link.wake();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn link_status(&self) -> Vec<LinkStatus> {
        let status = |peer: &str, outbox: Option<&Outbox>, opened, state| {
            let count = |count: fn(&Outbox) -> &AtomicU64| {
                outbox.map_or(0, |outbox| count(outbox).load(Ordering::Relaxed))
            };
            LinkStatus {
                peer: peer.to_owned(),
                opened,
                state,
                maps: count(|outbox| &outbox.maps) as usize,
                sent_bytes: count(|outbox| &outbox.sent_bytes),
                received_bytes: count(|outbox| &outbox.received_bytes),
            }
        };
        let mut all = Vec::new();
        for server in &self.servers {
            for lane in server.lanes.lock().iter() {
                let state = match &lane.link {
                    Some(_) => LinkState::Online,
                    None => LinkState::Connecting {
                        last: lane.ended.clone(),
                    },
                };
                all.push(status(&server.peer.url, lane.link.as_deref(), true, state));
            }
        }
        let served = self.served.lock();
        all.extend(served.values().map(|served| {
            let outbox = Some(&*served.outbox);
            status(&served.peer, outbox, false, LinkState::Online)
        }));
        all
    }

    /// Ends everything in good order.
    pub(crate) async fn close(&self) -> Result<()> {
        let closing = async {
            self.closed.store(true, Ordering::Release);
            if let Some(store) = &self.store {
                // What is not stored may not be sent.
                let _ = tokio::time::timeout(FAREWELL, store.drained()).await;
            }
            let _ = tokio::time::timeout(FAREWELL, self.published()).await;
            if self.store.is_none() {
                // Under this id nobody comes back, so nobody need wait.
                for map in self.maps() {
                    map.with(|state, now| state.replica.leave(now));
                }
                let _ = tokio::time::timeout(FAREWELL, self.published()).await;
            }
            let _ = tokio::time::timeout(FAREWELL, self.give_back()).await;
            self.stage.send_replace(Stage::Leaving);
            let mut links = self.links.subscribe();
            let _ = tokio::time::timeout(FAREWELL, links.wait_for(|count| *count == 0)).await;
            self.stage.send_replace(Stage::Gone);
            let mut tasks = std::mem::take(&mut *self.tasks.lock());
            tasks.shutdown().await;
            // A host that does not poll what it serves cannot be waited for.
            let _ = tokio::time::timeout(FAREWELL, links.wait_for(|count| *count == 0)).await;
            for map in self.maps() {
                map.end_watches();
            }
            let Some(store) = self.store.clone() else {
                return Ok(());
            };
            let closed = tokio::task::spawn_blocking(move || store.close());
            let closed = closed.await.unwrap_or(Err(Error::Closed));
            for map in self.maps() {
                map.progress.notify_waiters();
            }
            closed
        };
        self.outcome.get_or_init(|| closing).await.clone()
    }

    /// Waits until the bus has everything, as far as maps are on it.
    async fn published(&self) {
        for map in self.maps() {
            let rests = || {
                map.read(|state| {
                    let away = !state.replica.is_on_bus();
                    away || state.replica.rests_on_bus()
                })
            };
            map.wait(|| rests().then_some(())).await;
        }
    }

    /// Gives the ids under which this node has written back to servers, once these have stored what
    /// was written: others write under them then.
    async fn give_back(&self) {
        for map in self.maps() {
            map.wait(|| map.with(|state, _| state.replica.give_back()).then_some(()))
                .await;
        }
    }

    /// The last handle is gone: ends everything, in good order where there is a runtime to do so.
    /// Only a node without a store has something to say then, which is short.
    pub(crate) fn leave(self: &Arc<Self>) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.store.is_none() && *self.links.borrow() > 0 => {
                let core = self.clone();
                // It ends by itself, in bounded time.
                runtime.spawn(async move { core.close().await });
            }
            _ => self.cut(),
        }
    }

    /// Ends everything at once: the last handle is gone. Waits for the store alone.
    pub(crate) fn cut(&self) {
        self.closed.store(true, Ordering::Release);
        self.stage.send_replace(Stage::Gone);
        self.tasks.lock().abort_all();
        for map in self.maps() {
            map.end_watches();
        }
        if let Some(store) = &self.store {
            // Nobody is left to be told.
            let _ = store.close();
        }
    }
}

/// A connection that is up.
pub(crate) struct CountedLink(Arc<Core>);

impl Drop for CountedLink {
    fn drop(&mut self) {
        self.0.links.send_modify(|count| *count -= 1);
    }
}
