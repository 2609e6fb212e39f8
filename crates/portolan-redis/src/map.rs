//! A map whose authority is Redis, held in memory by every node that has joined it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use portolan::Pattern;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::keeper;
use crate::key::Key;
use crate::layout::Place;
use crate::list;
use crate::options::Options;
use crate::order::{Fault, Order};
use crate::replica::Replica;
use crate::server::Server;
use crate::snapshot::Snapshot;
use crate::wait::Question;
use crate::watch::{Event, Queue, Watch};

/// A map whose authority is Redis, held in memory by every node that has joined it.
///
/// A handle is cheap to clone. Reads never wait. Writes are atomic in Redis, and are read here
/// once they have returned. When the last handle goes, the node leaves the map.
#[derive(Clone, Debug)]
pub struct CoordinatedMap {
    pub(crate) shared: Arc<Shared>,
    replica: Arc<Replica>,
    keeper: Arc<Keeper>,
}

/// Whether this node holds what Redis holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does, but for what is under way.
    Live,
    /// Nothing is heard from Redis, or something was missed. Reads show the map as it was, and
    /// what was written since may be missing.
    Stale {
        /// When Redis was last known to hold the same, by this machine's clock.
        since: SystemTime,
    },
    /// The map is being read again.
    Resyncing,
}

impl CoordinatedMap {
    /// Joins a map: listens to its changes, and reads it. Cost in time and memory: the map's size.
    ///
    /// Fails where Redis cannot be reached or does not allow it. Once joined, the node looks after
    /// its connection by itself.
    pub async fn join(server: &Server, name: &str, options: Options) -> Result<Self> {
        let place = Place::new(name, options.layout)?;
        let replica = Arc::new(Replica::default());
        let shared = Arc::new(Shared::new(server, place, options, Arc::clone(&replica)));
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(keeper::keep(Arc::clone(&shared), tell));
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            task: Mutex::new(Some(task)),
        };
        let map = Self {
            shared,
            replica,
            keeper: Arc::new(keeper),
        };
        // Dropped on failure, the keeper ends its task.
        told.await.unwrap_or(Err(Error::Left))?;
        Ok(map)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.place.name
    }

    /// The random name of this node in the map.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// The value of a key, from this process's memory.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Bytes> {
        self.replica.get(key.as_ref())
    }

    /// The list of strings under a key: a JSON array of strings, or text with commas.
    pub fn get_values(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<String>>> {
        let key = key.as_ref();
        let value = self.get(key);
        value.map(|value| list::parse(key, &value)).transpose()
    }

    /// Whether the key is there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> bool {
        self.get(key).is_some()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.replica.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys, sorted.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::with_capacity(self.len());
        let order = self.shared.order.lock();
        self.replica.each(|key, _| keys.push(key.clone()));
        drop(order);
        keys.sort_unstable();
        keys
    }

    /// The entries at one revision, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Bytes)> + use<> {
        let snapshot = self.snapshot();
        (0..snapshot.len()).map(move |place| snapshot.entry(place))
    }

    /// What the map holds at one revision. Cost: the map's size; changes wait meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.order.lock().snapshot(|_| true)
    }

    /// The revision of what is read here.
    pub fn revision(&self) -> u64 {
        self.shared.order.lock().revision()
    }

    /// Tells the changes of the keys that match a pattern, as in `portolan::Map::watch`.
    pub fn watch(&self, pattern: &str) -> Result<Watch> {
        self.snapshot_and_watch(pattern).map(|(_, watch)| watch)
    }

    /// What matches a pattern, and the changes that follow on it.
    pub fn snapshot_and_watch(&self, pattern: &str) -> Result<(Snapshot, Watch)> {
        let pattern = Pattern::new(pattern)?;
        let mut order = self.shared.order.lock();
        let snapshot = order.snapshot(|key| pattern.matches(&key.to_string()));
        let capacity = self.shared.options.event_capacity;
        let queue = Arc::new(Queue::new(pattern, capacity, order.events.place()));
        order.events.add(Arc::clone(&queue));
        let map = Arc::downgrade(&self.shared);
        Ok((snapshot, Watch { queue, map }))
    }

    /// Whether this node holds what Redis holds.
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// The state as it changes.
    pub fn states(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Why the map could not be brought up to date, if it is stale for a reason that is known.
    pub fn last_error(&self) -> Option<Error> {
        self.shared.last_error.lock().clone()
    }

    /// Leaves the map. Reads of other handles go on and show it as it was.
    pub async fn leave(self) {
        self.shared.leave();
        let task = self.keeper.task.lock().take();
        if let Some(task) = task {
            // It has ended either way.
            let _ = task.await;
        }
    }
}

/// Owns the task that looks after the connection.
#[derive(Debug)]
struct Keeper {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.leave();
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// What handles, the keeper and the connections of one node share.
pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) node: String,
    pub(crate) order: Mutex<Order>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) last_error: Mutex<Option<Error>>,
    /// The connection for commands, and its number.
    commands: watch::Sender<Commands>,
    trouble: Mutex<Option<Trouble>>,
    /// Something is there for the keeper to do.
    pub(crate) attention: Notify,
    /// Of other nodes, which wait for this one to be up to date.
    pub(crate) asked: Mutex<Vec<Question>>,
    /// Questions of this node so far, and who has answered those that are open.
    pub(crate) questions: AtomicU64,
    pub(crate) asking: Mutex<HashMap<u64, crate::wait::Answers>>,
}

#[derive(Clone)]
enum Commands {
    None,
    Open(u64, MultiplexedConnection),
    Left,
}

/// What the keeper has to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    ReadAgain,
    ConnectAgain,
}

impl Shared {
    fn new(server: &Server, place: Place, options: Options, replica: Arc<Replica>) -> Self {
        let since = SystemTime::now();
        Self {
            server: server.clone(),
            place,
            options,
            node: random_name(),
            order: Mutex::new(Order::new(replica)),
            state: watch::Sender::new(State::Stale { since }),
            last_error: Mutex::new(None),
            commands: watch::Sender::new(Commands::None),
            trouble: Mutex::new(None),
            attention: Notify::new(),
            asked: Mutex::default(),
            questions: AtomicU64::new(0),
            asking: Mutex::default(),
        }
    }

    /// The connection for commands, once there is one.
    pub(crate) async fn commands(&self, until: Instant) -> Result<(u64, MultiplexedConnection)> {
        if let Commands::Open(generation, connection) = &*self.commands.borrow() {
            return Ok((*generation, connection.clone()));
        }
        let mut commands = self.commands.subscribe();
        let open = commands.wait_for(|commands| !matches!(commands, Commands::None));
        let commands = match tokio::time::timeout_at(until, open).await {
            Ok(Ok(commands)) => commands.clone(),
            Ok(Err(_)) => return Err(Error::Left),
            Err(_) => {
                let reason = self.last_error.lock().as_ref().map(ToString::to_string);
                let reason = reason.unwrap_or_else(|| "the connection is lost".to_owned());
                return Err(Error::Unreachable { reason });
            }
        };
        match commands {
            Commands::Open(generation, connection) => Ok((generation, connection)),
            Commands::None | Commands::Left => Err(Error::Left),
        }
    }

    pub(crate) fn open(&self, generation: u64, connection: MultiplexedConnection) {
        self.commands.send_if_modified(|commands| {
            let left = matches!(commands, Commands::Left);
            if !left {
                *commands = Commands::Open(generation, connection);
            }
            !left
        });
    }

    /// Writers wait from now on.
    pub(crate) fn close(&self) {
        self.commands.send_if_modified(|commands| {
            let open = matches!(commands, Commands::Open(..));
            if open {
                *commands = Commands::None;
            }
            open
        });
    }

    pub(crate) fn has_left(&self) -> bool {
        matches!(*self.commands.borrow(), Commands::Left)
    }

    fn leave(&self) {
        self.commands.send_replace(Commands::Left);
        let mut order = self.order.lock();
        order.disconnect();
        order.events.end();
        self.grow_stale(&order);
        drop(order);
        self.attention.notify_one();
    }

    /// A connection broke, or is of no use.
    pub(crate) fn broken(&self, generation: u64) {
        let mut order = self.order.lock();
        if order.is_heard(generation) {
            order.disconnect();
            self.grow_stale(&order);
            drop(order);
            self.close();
            self.call_for(Trouble::ConnectAgain);
        }
    }

    /// A fault was found; the order has already stopped.
    pub(crate) fn settle(&self, order: &Order, found: Result<(), Fault>) {
        if let Err(fault) = found {
            tracing::debug!(map = self.place.name, ?fault, "read again");
            self.grow_stale(order);
            self.call_for(Trouble::ReadAgain);
        }
    }

    pub(crate) fn call_for(&self, trouble: Trouble) {
        let mut held = self.trouble.lock();
        *held = (*held).max(Some(trouble));
        drop(held);
        self.attention.notify_one();
    }

    pub(crate) fn take_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().take()
    }

    /// Takes the lock of the order as an argument: states change in the order of their causes.
    pub(crate) fn grow_stale(&self, order: &Order) {
        let since = order.agreed();
        self.change_state(State::Stale { since });
    }

    pub(crate) fn change_state(&self, new: State) {
        self.state.send_if_modified(|state| {
            let changed = match (*state, new) {
                (State::Stale { .. }, State::Stale { .. }) => false,
                (old, new) => old != new,
            };
            if changed {
                *state = new;
            }
            changed
        });
    }

    /// For a watcher that missed changes.
    pub(crate) fn catch_up(&self, queue: &Queue) -> Event {
        let order = self.order.lock();
        let missed = queue.go_on_after(order.events.place());
        let snapshot = order.snapshot(|key| queue.pattern.matches(&key.to_string()));
        Event::Lagged { missed, snapshot }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.place.name)
            .field("node", &self.node)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// 128 bits that no other node has, from the randomness that the standard library's maps have.
fn random_name() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
