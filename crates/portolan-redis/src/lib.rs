//! A map whose authority is Redis, held in memory by every process that has joined it.
//!
//! For fleets of services that run a Redis or a Valkey: reads are local, writes are atomic scripts,
//! and every node is told what changed. It speaks the format of the replicated maps of Go services
//! (`goa.design/pulse/rmap`), so nodes in both languages share a map.
//!
//! ```no_run
//! # async fn example() -> portolan_redis::Result<()> {
//! use portolan_redis::{CoordinatedMap, Event, Options, Server};
//!
//! let server = Server::single("redis://127.0.0.1:6379")?;
//! let fleet = CoordinatedMap::join(&server, "fleet", Options::default()).await?;
//! fleet.set("rate", "100").await?;
//! assert_eq!(fleet.get("rate").as_deref(), Some(&b"100"[..]));
//! let mut changes = fleet.watch("feature/**")?;
//! fleet.increment("feature/starts", 1).await?;
//! if let Some(Event::Changed(batch)) = changes.next().await {
//!     println!("{:?}", batch.changes);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises:
//!
//! * A read never waits. A read after a returned write, in the same process, sees it.
//! * An operation happens in Redis as a whole or not at all, and is published with its revision.
//! * No change is missed in silence: a gap in the revisions, a broken connection, a hash that was
//!   deleted, flushed or rolled back leads to a new reading of the map within one message or one
//!   digest period, and what differs is told as changes. [`State`] says which it is.
//! * A [`Watch`] is exact, or says that it fell behind and gives a snapshot.
//!
//! What it does not do: it does not write while Redis is away (the documents of `portolan` do), and
//! it cannot keep what a failover of Redis loses.

mod bus;
mod error;
mod events;
mod keeper;
mod key;
mod layout;
mod lease;
mod limits;
mod list;
mod map;
mod message;
mod options;
mod order;
mod replica;
mod reply;
mod script;
mod server;
mod snapshot;
mod tap;
mod wait;
mod watch;
mod write;

pub use bus::RedisBus;
pub use error::{Error, Result};
pub use key::Key;
pub use layout::Layout;
pub use lease::Lease;
pub use limits::{MAX_ENTRIES, MAX_KEY_BYTES, MAX_NAME_CHARS, MAX_VALUE_BYTES};
pub use map::{CoordinatedMap, State};
pub use options::{Options, Ttl};
pub use server::Server;
pub use snapshot::Snapshot;
pub use watch::{Batch, Change, Event, Kind, Origin, Watch};
pub use write::Outcome;

/// The examples in the documents are compiled with those here.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../docs/redis.md")]
    struct Redis;
}
