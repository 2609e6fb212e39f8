//! The engine of Portolan: a map that many replicas hold at once and change at the same time.
//!
//! # What it does
//! - Holds a [`Document`]: keys, each with the concurrent values ([`Siblings`]) that no write has
//!   replaced. Reads and writes are local and take constant time.
//! - Gives a [`Delta`] for what another replica lacks, in time proportional to the difference,
//!   and joins deltas in any order, however often: replicas that have applied the same
//!   operations hold the same state, to the byte.
//! - Tells exactly what changed ([`Batch`]), runs several operations as one ([`Transaction`]),
//!   and refuses bytes that no correct replica would write ([`DecodeError`]).
//! - Synchronises replicas over any transport by a machine without I/O ([`sync`]).
//! - Gives each replicated data type by itself, for whoever wants no more than one ([`types`]).
//!
//! # What it does not do
//! - No I/O, no threads, no clock, no randomness: time and ids are passed in. The same calls give
//!   the same bytes on every machine, wasm32 included. Only [`types`] look at the machine's
//!   clock, where they are given no other.
//! - No tombstones: what is overwritten or removed leaves its dot in the version and nothing else.
//! - No arbitration: a value is dropped only by an operation that saw it.
//!
//! # Features
//! - `std`, on by default: documents that several threads may read at once, and the machine's clock
//!   for [`types`]. Without it the crate needs an allocator and nothing else.
//! - `digest`, on by default: [`Document::digest`], and what compares states by it, [`sync`] and
//!   [`types`]. Without it writing costs less, and a program is smaller.
//! - `small`, off by default: as little code as can be in place of speed, for modules that pages
//!   load. Look-ups take logarithmic time, and what refuses bytes does not say by which rule, nor
//!   that they could be fewer. What is written is the same.
//! - `packing`, on by default: deltas are written packed where that saves much, and where it is
//!   asked for. Without it they are plain; packed ones are read all the same.
//!
//! ```
//! use portolan_core::{Delta, Document, ReplicaId, Version};
//!
//! let now = 1_767_225_600_000; // milliseconds since the Unix epoch
//! let mut ada = Document::new(ReplicaId::new(1));
//! ada.transact(now, |tx| {
//!     tx.set("lamp", "on")?;
//!     tx.set("level", 7)
//! })?;
//! let bytes = ada.delta_since(&Version::new()).encode();
//!
//! let mut ben = Document::new(ReplicaId::new(2));
//! ben.apply(&Delta::decode(&bytes)?);
//! assert_eq!(ben.encode(), ada.encode());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The method follows Almeida, Shoker and Baquero, *Delta state replicated data types* (JPDC
//! 2018): state is key → {dot → value} with a causal context, a delta a piece of both.

#![cfg_attr(not(feature = "std"), no_std)]
// What is used by what was left out is left out by the linker.
#![cfg_attr(
    any(feature = "small", not(all(feature = "digest", feature = "packing"))),
    allow(dead_code, unused_imports)
)]

extern crate alloc;

pub mod limits;
#[cfg(feature = "digest")]
pub mod sync;
#[cfg(feature = "digest")]
pub mod types;

mod anew;
mod arrays;
mod births;
mod change;
mod clock;
mod codec;
mod compact;
mod containers;
mod counters;
mod delta;
mod document;
mod dots;
mod edit;
mod entries;
mod error;
mod extract;
mod few;
mod hashing;
mod history;
#[cfg(feature = "digest")]
mod holdings;
#[cfg(not(feature = "small"))]
mod index;
mod join;
mod journal;
mod key;
#[cfg(any(test, feature = "small"))]
#[cfg_attr(not(feature = "small"), allow(dead_code))] // the tests alone use it, in part
#[allow(clippy::unused_self)] // what it stands for needs it
mod lean;
#[cfg(not(feature = "small"))]
mod live;
mod lock;
mod log;
mod nested;
#[cfg(not(feature = "small"))]
mod order;
mod packed;
mod past;
#[cfg(feature = "digest")]
mod reconcile;
mod record;
mod registers;
mod renaming;
mod replica;
mod replicas;
#[cfg(not(feature = "small"))]
mod rows;
mod sequence;
mod sets;
#[cfg(not(feature = "small"))]
mod slab;
mod sorting;
mod spotmap;
mod stability;
#[cfg(not(feature = "small"))]
mod table;
mod tally;
mod transaction;
mod undo;
mod value;
mod view;
mod visibility;
#[cfg(not(feature = "small"))]
mod words;

#[cfg(feature = "small")]
use lean::{index, live, order, slab, table};

/// Whether fewer bytes of code are worth more than speed. Where there are a short way and a fast one,
/// the fast one is left out then.
pub(crate) const SMALL: bool = cfg!(feature = "small");

/// Whether fingerprints of what is live are kept.
pub(crate) const DIGEST: bool = cfg!(feature = "digest");

/// Whether deltas can be written packed; they can always be read.
pub(crate) const PACKING: bool = cfg!(feature = "packing");

pub use change::{Batch, Change, Origin, Place};
pub use clock::{Clock, Timestamp};
pub use compact::{Contexts, UpdateError};
pub use containers::Kind;
pub use delta::Delta;
pub use document::Document;
pub use dots::{DotRange, DotSet, Version};
pub use edit::{ArrayMut, CounterMut, MapMut, SetMut};
pub use entries::{Entries, Sibling, Siblings};
pub use error::{DecodeError, Error};
pub use history::{Step, Timeline};
pub use key::{Key, KeyRef};
pub use replica::{Dot, ReplicaId};
pub use smol_str::SmolStr;
pub use transaction::Transaction;
pub use value::Value;
pub use view::{AllHeld, ArrayView, Held, MapView, SetView};
