//! One timer for all maps of a node.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::shared::Shared;

/// When each map wants to be called. A map is called early at worst, never late: it asks again.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<BTreeMap<(u64, u64), Weak<Shared>>>,
    count: std::sync::atomic::AtomicU64,
    earlier: Notify,
}

impl Timers {
    /// Calls a map at some time.
    pub(crate) fn set(&self, at: u64, map: &Arc<Shared>) {
        // Two maps may be due at the same time.
        let number = self
            .count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut due = self.due.lock();
        due.insert((at, number), Arc::downgrade(map));
        let first = due.keys().next() == Some(&(at, number));
        drop(due);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Calls the maps, for ever.
    pub(crate) async fn run(&self, clock: &Clock) {
        loop {
            let next = self.due.lock().keys().next().map(|(at, _)| *at);
            let Some(at) = next else {
                self.earlier.notified().await;
                continue;
            };
            let now = clock.now();
            if at > now {
                let wait = Duration::from_millis(at - now);
                // Both mean to look again.
                let _ = tokio::time::timeout(wait, self.earlier.notified()).await;
                continue;
            }
            let entry = self.due.lock().pop_first();
            if let Some(map) = entry.and_then(|(_, map)| map.upgrade()) {
                map.timer_rang();
            }
        }
    }
}
