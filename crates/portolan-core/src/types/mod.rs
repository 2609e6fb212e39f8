//! The replicated data types, each by itself.
//!
//! Whoever wants one shared counter or list, and has a way of his own to carry bytes, takes a
//! type from here: [`MvMap`], [`RgArray`], [`OrSet`], [`MvRegister`], [`Counter`]. Each is a
//! [`Shared`], a [`Document`](crate::Document) of which one place is used, so the meaning is that
//! of documents, and nothing is built a second time. What they have in common stands at
//! [`Shared`]; every write gives the [`Update`] to send.
//!
//! ```
//! use portolan_core::ReplicaId;
//! use portolan_core::types::{Counter, InstanceId, OrSet, Update};
//!
//! let crew = InstanceId::new(0x5eed); // the same number at all who share it
//! let mut here = OrSet::new(crew, ReplicaId::new(1));
//! let mut there = OrSet::new(crew, ReplicaId::new(2));
//!
//! let update = here.insert("ada")?;
//! there.apply(&Update::decode(&update.encode())?)?;
//! assert!(there.contains("ada"));
//!
//! // What belongs to something else is refused.
//! let mut other = Counter::new(InstanceId::new(7), ReplicaId::new(1));
//! assert!(there.apply(&other.add(1)?).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod array;
mod counter;
mod history;
mod instance;
mod map;
mod register;
mod set;
mod shared;
mod time;
mod update;

pub use array::RgArray;
pub use counter::Counter;
pub use history::{History, Moment};
pub use instance::{DataType, InstanceId};
pub use map::MvMap;
pub use register::MvRegister;
pub use set::OrSet;
pub use shared::{Replicated, Shared};
pub use update::{Refused, Update};

/// What a [`Shared`] holds: the parameters that tell the types apart.
pub mod content {
    /// Of [`MvMap`](super::MvMap).
    #[derive(Debug)]
    pub enum Map {}
    /// Of [`RgArray`](super::RgArray).
    #[derive(Debug)]
    pub enum Array {}
    /// Of [`OrSet`](super::OrSet).
    #[derive(Debug)]
    pub enum Set {}
    /// Of [`MvRegister`](super::MvRegister).
    #[derive(Debug)]
    pub enum Register {}
    /// Of [`Counter`](super::Counter).
    #[derive(Debug)]
    pub enum Counter {}
}

/// The key under which the one thing stands that a document holds here; maps are the root.
const PLACE: &str = "";
