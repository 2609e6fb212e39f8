//! Who may do what with a map.

use portolan_core::sync::Access;

/// Decides what a peer may do with a map. A server asks it when a peer opens a map, when it
/// presents new credentials, and again at [`Node::reauthorize`](crate::Node::reauthorize).
pub trait Authorize: Send + Sync + 'static {
    /// What of `asked` is granted; an error refuses the map and is shown to the peer.
    ///
    /// Called outside all locks, on the task of the connection: it must not block for long.
    fn authorize(
        &self,
        map: &str,
        asked: Access,
        credentials: Option<&[u8]>,
    ) -> Result<Access, String>;
}

/// Grants everything to everyone: for tests, and for servers that only trusted processes reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorize for AllowAll {
    fn authorize(
        &self,
        _map: &str,
        asked: Access,
        _credentials: Option<&[u8]>,
    ) -> Result<Access, String> {
        Ok(asked)
    }
}
