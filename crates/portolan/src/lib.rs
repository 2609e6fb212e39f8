//! One map that many processes hold at once.
//!
//! Each process has the whole map in memory: a read is local, a write is local first and reaches
//! the others by itself, and everyone is told what changed. A process that was cut off goes on
//! reading and writing, and converges when it returns. Concurrent writes of one key are kept beside
//! each other as *siblings*.
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let node = portolan::Node::builder().spawn().await?;
//! let fleet = node.open("fleet/config").await?;
//! let mut changes = fleet.watch("feature/**")?;
//! fleet.set("rate", 10)?;
//! fleet.set("feature/dark-mode", true)?;
//! assert_eq!(fleet.get_as::<i64>("rate")?, Some(10));
//! let Some(portolan::Event::Changed(batch)) = changes.next().await else { panic!() };
//! assert_eq!(batch.changes[0].new, Some(true.into()));
//! node.close().await?;
//! # Ok::<(), portolan::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Give the builder a store and the map survives the process; connect it to a server and other
//! processes share it.
//!
//! What it promises:
//!
//! * A read never waits for the network or the disk.
//! * A write is visible here at once, and, with a store, elsewhere only when the store has it: what
//!   others have seen, a crash here does not take back.
//! * What a [`Watch`] is given, applied to what it had, is what the map holds.
//! * Starting without a connection is normal, and connecting again is automatic.
//!
//! What it does not do: it has no place for data larger than memory, and no transactions across
//! maps.

mod array;
mod authorize;
mod builder;
mod bus;
mod clock;
mod content;
mod control;
mod convert;
mod core;
mod counter;
mod entry;
mod error;
mod history;
mod limits;
mod link;
mod location;
mod map;
mod node;
mod outbox;
mod pattern;
mod peer;
mod runtime;
mod set;
mod shared;
mod site;
mod status;
mod store;
mod timers;
mod undo;
mod watch;
mod websocket;
mod within;

pub use array::Array;
pub use authorize::{AllowAll, Authorize};
pub use builder::Builder;
pub use bus::{Bus, BusError, BusFuture, Listener, Log, Reading, Renewal, Snapshot};
pub use content::Content;
pub use convert::{from_value, to_value};
pub use counter::Counter;
pub use entry::Entry;
pub use error::{Error, Result};
pub use history::History;
pub use location::{Location, LocationMut};
pub use map::Map;
pub use node::Node;
pub use pattern::{Pattern, path_text};
pub use peer::Peer;
pub use portolan_core::sync::{Access, Config, MemberStatus, Standing};
pub use portolan_core::types::Moment;
pub use portolan_core::{
    AllHeld, ArrayMut, ArrayView, Batch, Change, CounterMut, Delta, Document, Dot,
    Error as OperationError, Held, Key, KeyRef, Kind, MapMut, MapView, Origin, Place, ReplicaId,
    SetMut, SetView, Sibling, Siblings, SmolStr, Step, Timestamp, Transaction, Value, Version,
    limits as engine_limits,
};
pub use set::Set;
pub use status::{BusStatus, LinkState, LinkStatus, MapOnBus, MapStatus, NodeStatus, StoreStatus};
pub use store::{MapReport, Report, verify};
pub use undo::Undoable;
pub use watch::{Event, Numbered, Watch};

/// The examples in the documents are compiled with those here.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/guide.md")]
    struct Guide;
}
