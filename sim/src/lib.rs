//! What checks a cluster of replicas from outside: a naive reference of all operations, what a
//! document shows, a watcher's copy of it, and random operations that the reference is told of.
//!
//! The simulator and the fuzz targets share it.

mod anew;
mod shown;
mod truth;
mod watched;
mod writer;

pub use shown::{Path, Ranked, Shown};
pub use truth::{Draft, Leaf, Seen, Truth};
pub use watched::Watched;
pub use writer::{Dice, Tree, undo, write};
