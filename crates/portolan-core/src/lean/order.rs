//! The keys in order are those of the [index](super::index) here: there is nothing to keep beside it.

use crate::key::KeyRef;
use crate::slab::{Slab, Slot};

/// Where a key sorts: its container, then the key.
pub(crate) type Position<'a> = (u32, KeyRef<'a>);

/// The key that sorts before all others.
pub(crate) const LEAST: KeyRef<'static> = KeyRef::Bool(false);

#[derive(Debug, Default)]
pub(crate) struct Order;

impl Order {
    pub(crate) fn insert(&mut self, _slot: Slot) {}

    pub(crate) fn remove(&mut self, _slab: &Slab, _slot: Slot) {}

    pub(crate) fn replace(&mut self, _slab: &Slab, _old: Slot, _new: Slot) {}
}
