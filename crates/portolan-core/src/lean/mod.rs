//! What pages have in place of what is fast: one list of blocks for every look-up, where programs
//! have a hash table for each kind of thing, and the keys in order beside it. The hash tables alone
//! would be a fifteenth of a module that a page has to load. Look-ups take logarithmic time here.

pub(crate) mod index;
pub(crate) mod live;
pub(crate) mod order;
pub(crate) mod places;
pub(crate) mod slab;
mod sorted;
pub(crate) mod table;

pub(crate) use sorted::{At, Sorted};
