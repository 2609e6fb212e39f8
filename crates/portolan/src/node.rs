//! A process's part in the maps.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use portolan_core::ReplicaId;

use crate::authorize::Authorize;
use crate::builder::Builder;
use crate::core::Core;
use crate::error::Result;
use crate::link;
use crate::map::Map;
use crate::status::NodeStatus;

/// A process's part in the maps: its store, its connections, and the maps it has open.
///
/// A handle is cheap to clone. When the last handle, and the last [`Map`] and
/// [`Watch`](crate::Watch), are dropped, connections are cut and the store is closed after what
/// it was given, which takes as long as the disk does; [`close`](Self::close) does the same in
/// good order. A node without a store says goodbye even so, as long as its runtime goes on: servers
/// lend the id under which it wrote to others then.
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

/// What all handles hold: when it goes, the node goes.
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.leave();
    }
}

impl Node {
    /// Starts to build a node.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn spawn(builder: Builder) -> Result<Self> {
        let core = Core::start(builder).await?;
        Ok(Self {
            handle: Arc::new(Handle { core }),
        })
    }

    /// The id under which this node writes; without a store the one that it starts under, for a
    /// server may lend it another for a map ([`MapStatus::replica`](crate::MapStatus::replica)).
    pub fn replica(&self) -> ReplicaId {
        self.handle.core.replica
    }

    /// Opens a map, which need not exist anywhere yet. Read from the store the first time, in time
    /// proportional to its size; it then stays in memory.
    pub async fn open(&self, name: &str) -> Result<Map> {
        let shared = self.handle.core.open(name).await?;
        Ok(Map::new(self.handle.clone(), shared))
    }

    /// Opens a map if it is known here: in the store, open, or on the bus. Fails with
    /// [`Error::Bus`](crate::Error::Bus) where only the bus may know it, and cannot be asked.
    pub async fn get(&self, name: &str) -> Result<Option<Map>> {
        if !self.handle.core.knows(name) && !self.handle.core.finds_on_bus(name).await? {
            return Ok(None);
        }
        self.open(name).await.map(Some)
    }

    /// The names of the maps known here, in order: those in the store, those open, and those on the
    /// bus, which are looked at once in each of its periods.
    pub fn maps(&self) -> Vec<String> {
        let names = self.handle.core.names();
        names.iter().map(ToString::to_string).collect()
    }

    /// Lets go of the open maps that never held anything and that nobody uses: where names come from
    /// strangers, those of failed writes would pile up. Costs the number of open maps.
    pub fn forget_unused(&self) {
        let core = &self.handle.core;
        let unused = core.maps().into_iter().filter(|map| map.is_unused());
        let names: Vec<_> = unused.map(|map| map.name.clone()).collect();
        for name in &names {
            core.forget_unused(name);
        }
    }

    /// Serves one connection that a peer opened, until it ends or breaks the protocol. `link`
    /// gives and takes binary frames; `peer` names the other side in status and logs.
    ///
    /// Whatever the peer does, other connections do not notice. Ends without an error when the
    /// peer leaves or the node closes.
    pub async fn serve<L>(
        &self,
        link: L,
        peer: impl Into<String>,
        authorizer: Arc<dyn Authorize>,
    ) -> Result<()>
    where
        L: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Unpin + Send,
    {
        // Not the handle: what is served does not keep a node alive.
        let core = self.handle.core.clone();
        link::serve(&core, link, peer.into(), authorizer).await
    }

    /// Asks the authorizers of all served connections again about every map open on them, and ends
    /// what is not allowed any more. For tokens that were revoked or have expired.
    pub fn reauthorize(&self) {
        self.handle.core.reauthorize();
    }

    /// Presents another token to a server: for every map open there at once, within the connection,
    /// and for what is opened later. For tokens that expire; those that the server refused under
    /// the old token are asked for again.
    ///
    /// `url` is the address that the builder was given.
    pub fn set_token(&self, url: &str, token: impl Into<String>) -> Result<()> {
        let token = Bytes::from(token.into());
        self.handle.core.set_token(url, &token)
    }

    /// How the node stands. Costs the sum of the versions of the open maps, not of their sizes.
    pub fn status(&self) -> NodeStatus {
        let core = &self.handle.core;
        let mut maps: Vec<_> = core.maps().iter().map(|map| map.status()).collect();
        maps.sort_by(|a, b| a.name.cmp(&b.name));
        NodeStatus {
            replica: core.replica,
            store: core.store.as_ref().map(|store| store.status()),
            bus: core.bus_status(),
            links: core.link_status(),
            maps,
        }
    }

    /// Leaves in good order: stores what waits, tells the peers, and ends all tasks. What the
    /// peers must have before that, [`Map::flush_peers`] waits for.
    ///
    /// An error means that the store could not take what was written since its last success.
    /// Maps remain readable; writes give [`Error::Closed`](crate::Error::Closed).
    pub async fn close(&self) -> Result<()> {
        self.handle.core.close().await
    }
}
