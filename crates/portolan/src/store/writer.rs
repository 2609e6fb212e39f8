//! The thread that owns the database.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::database::{Addition, Database};
use super::medium::Medium;
use super::{Desk, Load, Order, Target};
use crate::error::{Error, Result};
use crate::limits::STORE_BACKLOG_BYTES;

/// Bytes in one commit, about: more would let the first of them wait for the last.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// How long to wait before a disk that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    path: PathBuf,
    medium: Box<dyn Medium>,
    /// Taken away by a failed commit, after which it must be opened again.
    database: Option<Database>,
    desk: Arc<Desk>,
}

/// One map's part in a commit.
struct Part {
    target: Arc<dyn Target>,
    addition: Addition,
    last: u64,
    count: u64,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        medium: Box<dyn Medium>,
        database: Database,
        desk: Arc<Desk>,
    ) -> Self {
        Self {
            path,
            medium,
            database: Some(database),
            desk,
        }
    }

    /// Serves orders until told to stop and nothing is left, or what is left cannot be stored.
    pub(super) fn run(mut self) {
        let mut waiting: Vec<Order> = Vec::new();
        while let Some(stop) = self.next_orders(&mut waiting) {
            while !waiting.is_empty() {
                let parts = gather(&mut waiting);
                if !self.commit(parts, &waiting) {
                    return;
                }
                self.serve_loads();
            }
            if stop {
                return;
            }
        }
    }

    /// Waits for orders; whether to stop after them, or `None` to stop at once.
    fn next_orders(&self, waiting: &mut Vec<Order>) -> Option<bool> {
        self.serve_loads();
        let mut orders = self.desk.orders.lock();
        while orders.writes.is_empty() && orders.loads.is_empty() && !orders.stop {
            self.desk.arrived.wait(&mut orders);
        }
        waiting.append(&mut orders.writes);
        let done = orders.stop && waiting.is_empty() && orders.loads.is_empty();
        (!done).then_some(orders.stop && orders.loads.is_empty())
    }

    fn serve_loads(&self) {
        let loads = std::mem::take(&mut self.desk.orders.lock().loads);
        for Load { name, answer } in loads {
            let loaded = match &self.database {
                Some(database) => database.load(&name),
                None => Err(self.desk.failure.lock().clone().unwrap_or(Error::Closed)),
            };
            // Who asked may have gone.
            let _ = answer.send(loaded);
        }
    }

    /// Stores the parts, however often it takes; false where that is hopeless, or where the store
    /// is to be closed meanwhile.
    fn commit(&mut self, parts: Vec<Part>, waiting: &[Order]) -> bool {
        let (targets, additions): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|part| {
                let target = (part.target, part.last, part.count, part.bytes);
                (target, part.addition)
            })
            .unzip();
        while let Err(error) = self.store(&additions) {
            let hopeless = matches!(error, Error::StoreDamaged { .. } | Error::StoreNewer { .. });
            tracing::error!(%error, "the store takes no writes");
            *self.desk.failure.lock() = Some(error);
            self.desk.failed.store(true, Ordering::Release);
            let others = waiting.iter().map(|order| &order.target);
            targets
                .iter()
                .map(|target| &target.0)
                .chain(others)
                .for_each(|it| it.disturbed());
            if !self.pause(hopeless) {
                return false;
            }
        }
        if self.desk.failed.swap(false, Ordering::AcqRel) {
            *self.desk.failure.lock() = None;
            tracing::info!("the store takes writes again");
        }
        let bytes: usize = targets.iter().map(|target| target.3).sum();
        let count: u64 = targets.iter().map(|target| target.2).sum();
        self.desk.commits.fetch_add(1, Ordering::Relaxed);
        self.desk.writes.fetch_add(count, Ordering::Relaxed);
        self.desk
            .written_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        for (target, last, ..) in &targets {
            target.clone().stored(*last);
        }
        let mut orders = self.desk.orders.lock();
        orders.backlog -= bytes;
        let room = orders.backlog <= STORE_BACKLOG_BYTES;
        drop(orders);
        if room {
            self.desk.room.notify_waiters();
        }
        for ((target, ..), addition) in targets.iter().zip(&additions) {
            self.compact(&**target, addition);
        }
        true
    }

    /// One attempt, on a database that is opened again if need be.
    fn store(&mut self, additions: &[Addition]) -> Result<()> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.path, &*self.medium, None)?,
        };
        database.add(additions)?;
        self.database = Some(database);
        Ok(())
    }

    /// Waits before the next attempt; false when told to stop.
    fn pause(&self, hopeless: bool) -> bool {
        let mut orders = self.desk.orders.lock();
        loop {
            if orders.stop {
                return false;
            }
            if hopeless {
                self.desk.arrived.wait(&mut orders);
            } else if self.desk.arrived.wait_for(&mut orders, RETRY).timed_out() {
                return true;
            }
            if !orders.loads.is_empty() {
                drop(orders);
                self.serve_loads();
                orders = self.desk.orders.lock();
            }
        }
    }

    /// Puts a snapshot in the place of a log that has grown long. A failure is left to the next
    /// write, which meets it too.
    fn compact(&mut self, target: &dyn Target, addition: &Addition) {
        let wanted = |database: &Database| database.wants_compaction(&addition.name);
        if !self.database.as_ref().is_some_and(wanted) {
            return;
        }
        let whole = target.snapshot();
        let replacement = Addition {
            name: addition.name.clone(),
            replica: addition.replica,
            whole: Some(whole.delta),
            deltas: Vec::new(),
            members: None,
        };
        match self.store(&[replacement]) {
            Ok(()) => drop(self.desk.compactions.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::warn!(%error, map = &*addition.name, "no compaction"),
        }
    }
}

/// Takes orders from the front, as many as make one commit.
fn gather(waiting: &mut Vec<Order>) -> Vec<Part> {
    let mut total = 0;
    let count = waiting.iter().take_while(|order| {
        let room = total < COMMIT_BYTES;
        total += order.write.delta.len();
        room
    });
    let count = count.count();
    let mut parts: BTreeMap<Arc<str>, Part> = BTreeMap::new();
    for order in waiting.drain(..count) {
        let part = parts.entry(order.name.clone()).or_insert_with(|| Part {
            target: order.target,
            addition: Addition {
                name: order.name,
                replica: order.replica,
                whole: None,
                deltas: Vec::new(),
                members: None,
            },
            last: 0,
            count: 0,
            bytes: 0,
        });
        part.last = order.write.number;
        part.count += 1;
        part.bytes += order.write.delta.len();
        part.addition.replica = order.replica;
        if let Some(members) = order.write.members {
            part.addition.members = Some(members);
        } else if order.write.replaces {
            part.addition.deltas.clear();
            part.addition.whole = Some(order.write.delta);
        } else {
            part.addition.deltas.push(order.write.delta);
        }
    }
    parts.into_values().collect()
}
