//! What a node is to be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::sync::Config;

use crate::bus::Bus;
use crate::error::Result;
use crate::limits;
use crate::node::Node;
use crate::peer::Peer;

/// Builds a [`Node`].
#[derive(Clone, Debug)]
#[must_use = "a node exists once it is spawned"]
pub struct Builder {
    pub(crate) store: Option<PathBuf>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) bus: Option<Arc<dyn Bus>>,
    pub(crate) sync: Config,
    pub(crate) watch_queue: usize,
    pub(crate) history: usize,
    pub(crate) receive_rate: u32,
    pub(crate) keep_alive: Duration,
    pub(crate) max_back_off: Duration,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            store: None,
            peers: Vec::new(),
            bus: None,
            sync: Config {
                chunk_bytes: limits::CHUNK_BYTES,
                ..Config::default()
            },
            watch_queue: limits::WATCH_QUEUE,
            history: limits::HISTORY_VALUES,
            receive_rate: limits::RECEIVE_RATE,
            keep_alive: limits::KEEP_ALIVE,
            max_back_off: limits::MAX_BACK_OFF,
        }
    }

    /// Keeps the maps in this directory, which is created if need be. Without it they are in
    /// memory only.
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.store = Some(directory.into());
        self
    }

    /// Keeps a connection to a server; call it again for more.
    pub fn connect(mut self, peer: impl Into<Peer>) -> Self {
        self.peers.push(peer.into());
        self
    }

    /// Shares all maps with the nodes that are on the same bus, such as a Redis. What a client is
    /// told to be stored is on the bus then, too; while that is away, the node goes on without.
    ///
    /// The nodes of a bus trust each other.
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Bounds and delays of synchronisation: at first the defaults, but for pieces of at most
    /// 32 KiB, which keep the buffers of thousands of connections small.
    pub fn sync(mut self, config: Config) -> Self {
        self.sync = config;
        self
    }

    /// How many changes may wait for one watcher (65,536) before it is given a snapshot instead.
    pub fn watch_queue(mut self, changes: usize) -> Self {
        self.watch_queue = changes;
        self
    }

    /// How many values that were replaced or removed each open map keeps (1,000), for
    /// [`Map::history`](crate::Map::history) and [`Map::as_of`](crate::Map::as_of). One takes some
    /// 200 bytes beside itself; where they are larger than 1 KiB on average, fewer are kept.
    pub fn history(mut self, values: usize) -> Self {
        self.history = values;
        self
    }

    /// How many frames each peer that is [served](Node::serve) may send in a second (20,000), after
    /// a burst of two seconds' worth; a frame of more than 4 KiB counts as several. What exceeds it
    /// is not read until later, and so waits at the peer. 0 for no limit.
    pub fn receive_rate(mut self, frames: u32) -> Self {
        self.receive_rate = frames;
        self
    }

    /// How long a connection may be silent before it is asked for a sign of life (15 s); without
    /// one it is dropped after as long again.
    pub fn keep_alive(mut self, period: Duration) -> Self {
        self.keep_alive = period;
        self
    }

    /// Longest wait before connecting again (15 s).
    pub fn max_back_off(mut self, wait: Duration) -> Self {
        self.max_back_off = wait;
        self
    }

    /// Opens the store and starts to connect; does not wait for a connection.
    ///
    /// Must be called within a Tokio runtime with time and, where there is a server or a bus, I/O
    /// enabled; fails with [`Error::Runtime`](crate::Error::Runtime) elsewhere.
    pub async fn spawn(self) -> Result<Node> {
        Node::spawn(self).await
    }
}
