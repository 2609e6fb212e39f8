//! The engine of Portolan: a map that many replicas hold at once and change at the same time.
//!
//! draft
pub mod limits;

mod change;
mod clock;
mod codec;
mod delta;
mod document;
mod dots;
mod error;
mod join;
mod journal;
mod key;
mod live;
mod log;
mod order;
mod replica;
mod replicas;
mod slab;
mod transaction;
mod value;

pub use change::{Batch, Change, Origin};
pub use clock::{Clock, Timestamp};
pub use delta::Delta;
pub use document::{Document, Entries, Sibling, Siblings};
pub use dots::{DotRange, DotSet, Version};
pub use error::{DecodeError, Error};
pub use key::{Key, KeyRef};
pub use replica::{Dot, ReplicaId};
pub use smol_str::SmolStr;
pub use transaction::Transaction;
pub use value::Value;
