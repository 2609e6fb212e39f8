//! The engine of Portolan: a map that many replicas hold at once and change at the same time.
//!
//! draft
pub mod limits;
pub mod sync;

mod change;
mod clock;
mod codec;
mod delta;
mod document;
mod dots;
mod error;
mod key;
mod replica;
mod value;

pub use change::{Batch, Change, Origin};
pub use clock::{Clock, Timestamp};
pub use delta::Delta;
pub use document::{Document, Entries, Sibling, Siblings, Transaction};
pub use dots::{DotRange, DotSet, Version};
pub use error::{DecodeError, Error};
pub use key::{Key, KeyRef};
pub use replica::{Dot, ReplicaId};
pub use smol_str::SmolStr;
pub use value::Value;
