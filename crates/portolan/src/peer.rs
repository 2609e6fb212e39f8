//! A server to connect to.

use bytes::Bytes;
use portolan_core::sync::Access;

use crate::pattern::Pattern;

/// A server that the node keeps a connection to.
///
/// ```
/// # use portolan::{Pattern, Peer};
/// let peer = Peer::new("wss://maps.example.org").token("eyJ…").share(Pattern::new("fleet/**")?);
/// # Ok::<(), portolan::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) url: String,
    pub(crate) credentials: Option<Bytes>,
    pub(crate) access: Access,
    pub(crate) maps: Pattern,
    /// Whether maps that exist at the peer are opened here too.
    pub(crate) mirror: bool,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Peer {
    /// The server at a `ws://` or `wss://` address; without a path, `/v1/sync` is meant.
    ///
    /// Every map that this node opens is shared with it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: None,
            access: Access::ALL,
            maps: Pattern::all(),
            mirror: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Presents this token for every map.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Some(Bytes::from(token.into()));
        self
    }

    /// Asks for no more than this; read and write at first.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Shares only maps whose names match.
    #[must_use]
    pub fn only(mut self, maps: Pattern) -> Self {
        self.maps = maps;
        self
    }

    /// Shares all maps whose names match, those too that exist at the server and were never opened
    /// here, now or later. For a server that is a client of another.
    #[must_use]
    pub fn share(mut self, maps: Pattern) -> Self {
        self.maps = maps;
        self.mirror = true;
        self
    }

    /// Uses this configuration for `wss://`, for example with roots of one's own, in place of the
    /// certificates that the system trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: std::sync::Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }
}

impl<U: Into<String>> From<U> for Peer {
    fn from(url: U) -> Self {
        Self::new(url)
    }
}
