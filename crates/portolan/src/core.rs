//! What all handles and tasks of a node share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use portolan_core::sync::{Config, Replica};
use portolan_core::{Document, ReplicaId};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::clock::{Clock, random};
use crate::error::{Error, Result};
use crate::limits::{FAREWELL, MAX_NAME_BYTES};
use crate::link;
use crate::outbox::{Notice, Outbox};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::status::{LinkState, LinkStatus};
use crate::store::{self, Store};
use crate::timers::Timers;

/// What all handles and tasks of a node share.
pub(crate) struct Core {
    pub(crate) replica: ReplicaId,
    pub(crate) clock: Clock,
    pub(crate) timers: Timers,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) options: Options,
    /// The servers that the node was told of.
    pub(crate) servers: Vec<Server>,
    /// Open maps, and those being opened, of which each is read once.
    maps: Mutex<HashMap<Arc<str>, Arc<OnceCell<Arc<Shared>>>>>,
    /// Maps that are open or in the store.
    names: Mutex<BTreeSet<Arc<str>>>,
    next_handle: AtomicU32,
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

/// What the builder was told, as far as it is needed later.
pub(crate) struct Options {
    pub(crate) sync: Config,
    pub(crate) watch_queue: usize,
    pub(crate) keep_alive: std::time::Duration,
    pub(crate) max_back_off: std::time::Duration,
}

/// A server that the node keeps a connection to.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    /// Its connection, when there is one, and why the last one ended.
    pub(crate) link: Mutex<(Option<Arc<Outbox>>, Option<Error>)>,
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
        let servers = builder.peers.into_iter().map(|peer| Server {
            peer,
            link: Mutex::new((None, None)),
        });
        let core = Arc::new(Self {
            replica: store.as_ref().map_or(fresh, |store| store.replica()),
            clock: Clock::new(),
            timers: Timers::default(),
            store,
            options: Options {
                sync: builder.sync,
                watch_queue: builder.watch_queue,
                keep_alive: builder.keep_alive,
                max_back_off: builder.max_back_off,
            },
            servers: servers.collect(),
            maps: Mutex::default(),
            names: Mutex::new(names),
            next_handle: AtomicU32::new(1),
            served: Mutex::default(),
            next_served: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Working),
            links: watch::Sender::new(0),
            tasks: Mutex::default(),
            outcome: OnceCell::new(),
        });
        let addresses = core.servers.iter().map(|server| &server.peer);
        let addresses: Result<Vec<_>> = addresses.map(crate::websocket::Address::new).collect();
        let mut tasks = core.tasks.lock();
        let timed = core.clone();
        tasks.spawn(async move { timed.timers.run(&timed.clock).await });
        for (place, address) in addresses?.into_iter().enumerate() {
            tasks.spawn(link::keep(core.clone(), place, address));
        }
        drop(tasks);
        Ok(core)
    }

    /// Opens a map, from the store if it is there.
    pub(crate) async fn open(self: &Arc<Self>, name: &str) -> Result<Arc<Shared>> {
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
            for server in &self.servers {
                let link = server.link.lock().0.clone();
                if let Some(link) = link.filter(|_| server.peer.maps.matches(&name)) {
                    link.notice(Notice::Open(map.clone()));
                    link.wake();
                }
            }
        }
        Ok(map)
    }

    async fn read(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<Shared>> {
        let stored = match &self.store {
            Some(store) => store.load(name).await?,
            None => None,
        };
        let document = match stored {
            None => Document::with_hash_seed(self.replica, random()),
            Some(stored) => {
                let name = name.clone();
                let path = self.store.as_ref().map(|store| store.path().to_owned());
                let path = path.unwrap_or_default();
                let restored = move || store::restore(&path, &name, &stored, random());
                let restored = tokio::task::spawn_blocking(restored).await;
                restored.unwrap_or(Err(Error::Closed))?
            }
        };
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let durable = self.store.is_some();
        let replica = Replica::new(name, handle, document, durable, self.options.sync.clone());
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
        let opened = self.servers.iter().map(|server| {
            let (link, last) = server.link.lock().clone();
            let state = match &link {
                Some(_) => LinkState::Online,
                None => LinkState::Connecting { last },
            };
            status(&server.peer.url, link.as_deref(), true, state)
        });
        let mut all: Vec<_> = opened.collect();
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
            closed.await.unwrap_or(Err(Error::Closed))
        };
        self.outcome.get_or_init(|| closing).await.clone()
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
