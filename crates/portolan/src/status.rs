//! How things stand, for status pages and metrics.

use std::path::PathBuf;

use portolan_core::sync::SessionStatus;
use portolan_core::{ReplicaId, Version};

use crate::bus::BusError;
use crate::error::Error;

/// How a node stands.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The id under which it writes, or starts to where there is no store.
    pub replica: ReplicaId,
    /// Its store, if it has one.
    pub store: Option<StoreStatus>,
    /// Its bus, if it has one.
    pub bus: Option<BusStatus>,
    /// Its connections: those to the servers it was told of, then those it serves.
    pub links: Vec<LinkStatus>,
    /// The maps that are open, in the order of their names.
    pub maps: Vec<MapStatus>,
}

/// How a store stands.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// Its directory.
    pub path: PathBuf,
    /// Commits since it was opened.
    pub commits: u64,
    /// Deltas in them.
    pub writes: u64,
    /// Bytes of deltas in them.
    pub written_bytes: u64,
    /// Maps whose log was replaced by a snapshot.
    pub compactions: u64,
    /// Bytes that wait to be stored.
    pub backlog_bytes: u64,
    /// Why it takes no writes, if it does not.
    pub failure: Option<Error>,
}

/// How a bus stands, as this node sees it.
#[derive(Clone, Debug)]
pub struct BusStatus {
    /// Its address, without secrets.
    pub address: String,
    /// Entries appended since the node was spawned.
    pub appended: u64,
    /// Entries read, own ones among them.
    pub read: u64,
    /// How often the log of a map was joined: more than once for each where something was lost, or
    /// the bus was away for so long that entries had gone behind a snapshot.
    pub joins: u64,
    /// Whether it was ever reached.
    pub reached: bool,
    /// Snapshots saved.
    pub snapshots: u64,
    /// Why it cannot be used, if it cannot. It is tried again.
    pub failure: Option<BusError>,
}

/// How a map stands with the bus.
#[derive(Clone, Debug)]
pub struct MapOnBus {
    /// Whether it follows its log now, or there is none and nothing to put into one.
    pub live: bool,
    /// Whether it ever did since it was opened: what the others had then is here.
    pub joined: bool,
    /// Operations that are not known to be on the bus.
    pub unpublished: u64,
    /// How often this node has found since the map was opened that it holds something else than
    /// another one on the bus, and had it repaired: a sign of bad memory, or of a mistake in the
    /// program.
    pub differences: u64,
    /// Why it does not follow its log, if it does not.
    pub failure: Option<BusError>,
}

/// How a connection stands.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The address of a server this node connects to, or what the host calls a peer it serves.
    pub peer: String,
    /// Whether this node opened it.
    pub opened: bool,
    /// Whether it is up.
    pub state: LinkState,
    /// Maps open on it.
    pub maps: usize,
    /// Bytes of frames sent over it.
    pub sent_bytes: u64,
    /// Bytes of frames received over it.
    pub received_bytes: u64,
}

/// Whether a connection is up.
#[derive(Clone, Debug)]
pub enum LinkState {
    /// Being made for the first time, or again.
    Connecting {
        /// Why the last attempt, or the last connection, ended.
        last: Option<Error>,
    },
    /// Up.
    Online,
}

/// How a map stands.
#[derive(Clone, Debug)]
pub struct MapStatus {
    /// Its name.
    pub name: String,
    /// How many keys it has.
    pub keys: usize,
    /// The id under which this node writes in it now.
    pub replica: ReplicaId,
    /// The operations applied.
    pub version: Version,
    /// How many ids have written: the entries of the version.
    pub replicas: usize,
    /// How many of them nobody holds, so that this node can lend them.
    pub spare_ids: usize,
    /// Other replicas that are waited for before what was deleted goes, see
    /// [`Map::members`](crate::Map::members).
    pub members: usize,
    /// Replicas that are not waited for any more, because they were silent for too long or by
    /// [`Map::forget`](crate::Map::forget).
    pub forgotten: usize,
    /// Fingerprint of the live state: equal versions have equal digests.
    pub digest: u128,
    /// Number of this node's latest own operation.
    pub own_seq: u64,
    /// Deltas that are not known to be stored.
    pub unstored: u64,
    /// How it stands with the bus, where there is one.
    pub bus: Option<MapOnBus>,
    /// Values that were damaged or missing here since it was opened, and taken from a peer: a sign
    /// of bad memory, a bad disk, or a mistake in the program.
    pub repaired: u64,
    /// Why it is not shared with servers that it should be shared with: they refuse it, or one side
    /// breaks the protocol in the eyes of the other. Empty when all is well.
    pub refused: Vec<String>,
    /// Watchers.
    pub watchers: usize,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
}
