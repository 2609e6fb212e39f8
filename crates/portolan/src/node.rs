//! A process's part in the maps.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use portolan_core::ReplicaId;

use crate::authorize::Authorize;
use crate::builder::Builder;
use crate::error::Result;
use crate::map::Map;
use crate::status::NodeStatus;

/// A process's part in the maps: its store, its connections, and the maps it has open.
///
/// A handle is cheap to clone. When the last handle, and the last [`Map`] and
/// [`Watch`](crate::Watch), are dropped, connections are cut and the store is closed after what
/// it was given; [`close`](Self::close) does the same in good order.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Starts to build a node.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn spawn(_builder: Builder) -> Result<Self> {
        todo!()
    }

    /// The id under which this node writes.
    pub fn replica(&self) -> ReplicaId {
        todo!()
    }

    /// Opens a map, which need not exist anywhere yet. Read from the store the first time, in time
    /// proportional to its size; it then stays in memory.
    pub async fn open(&self, _name: &str) -> Result<Map> {
        todo!()
    }

    /// Opens a map if it is known here: in the store, or open.
    pub async fn get(&self, _name: &str) -> Result<Option<Map>> {
        todo!()
    }

    /// The names of the maps known here, in order: those in the store and those open.
    pub fn maps(&self) -> Vec<String> {
        todo!()
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
        let _ = (link, peer.into(), authorizer);
        todo!()
    }

    /// Asks the authorizers of all served connections again about every map open on them, and ends
    /// what is not allowed any more. For tokens that were revoked or have expired.
    pub fn reauthorize(&self) {
        todo!()
    }

    /// How the node stands. Costs the sum of the versions of the open maps, not of their sizes.
    pub fn status(&self) -> NodeStatus {
        todo!()
    }

    /// Leaves in good order: tells the peers, stores what waits, and ends all tasks.
    ///
    /// An error means that the store could not take what was written since its last success.
    /// Handles remain usable for reading.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
}
