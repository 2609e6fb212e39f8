//! How a map is joined.

use std::time::Duration;

use crate::layout::Layout;

/// How a map is joined. All nodes of a map name the same layout and time to live.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) layout: Layout,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) digest_period: Duration,
    pub(crate) patience: Duration,
    pub(crate) event_capacity: usize,
    pub(crate) owner: Option<String>,
}

/// When the whole map expires, by Redis's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// So long after the first write.
    Absolute(Duration),
    /// So long after the last write.
    Sliding(Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            ttl: None,
            digest_period: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            event_capacity: 4096,
            owner: None,
        }
    }
}

impl Options {
    /// The names of the map's keys and channels; those of Go services unless told.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// When the whole map expires; never unless told. Each write of this node sees to it.
    #[must_use]
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How often this node asks Redis whether it holds what Redis holds; 5 s unless told. What no
    /// message tells (a map that was deleted, a connection that hangs) is noticed so late.
    #[must_use]
    pub fn digest_period(mut self, period: Duration) -> Self {
        self.digest_period = period;
        self
    }

    /// How long anything waits for Redis; 5 s unless told.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many changes wait for one watcher; 4096 unless told. One that is further behind gets a
    /// snapshot.
    #[must_use]
    pub fn event_capacity(mut self, changes: usize) -> Self {
        self.event_capacity = changes;
        self
    }

    /// Under which name this node takes leases; a random one unless told.
    #[must_use]
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.owner = Some(name.into());
        self
    }
}
