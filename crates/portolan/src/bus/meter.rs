//! What a node counts of its bus.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::BusError;
use crate::status::BusStatus;

/// What a node counts of its bus.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    appended: AtomicU64,
    read: AtomicU64,
    joins: AtomicU64,
    snapshots: AtomicU64,
    reached: AtomicBool,
    /// Why the list of maps cannot be had.
    failure: Mutex<Option<BusError>>,
}

impl Meter {
    pub(super) fn appended(&self) {
        self.appended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, entries: usize) {
        self.read.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn joined(&self) {
        self.joins.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn saved(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    /// How the last look at the list of maps ended.
    pub(crate) fn looked(&self, failure: Option<BusError>) {
        if failure.is_none() {
            self.reached.store(true, Ordering::Relaxed);
        }
        *self.failure.lock() = failure;
    }

    pub(crate) fn status(&self, address: String) -> BusStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BusStatus {
            address,
            appended: count(&self.appended),
            read: count(&self.read),
            joins: count(&self.joins),
            snapshots: count(&self.snapshots),
            reached: self.reached.load(Ordering::Relaxed),
            failure: self.failure.lock().clone(),
        }
    }
}
