//! The store: one thread that owns the database and commits for all maps together.

mod database;
mod medium;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use portolan_core::sync::Write;
use portolan_core::{Delta, Document, ReplicaId};
use tokio::sync::{Notify, oneshot};

use self::database::{Database, Stored};
use self::medium::{Directory, Medium, Untouched};
use crate::error::{Error, Result};
use crate::limits::STORE_BACKLOG_BYTES;
use crate::status::StoreStatus;

/// A map as its store sees it.
pub(crate) trait Target: Send + Sync {
    /// All writes up to this number are on disk.
    fn stored(self: Arc<Self>, number: u64);

    /// The store does not take writes now, or takes them again; who waits should look.
    fn disturbed(&self);

    /// The whole state, to take the place of all that is stored up to its number.
    fn snapshot(&self) -> Write;
}

/// A store that is open. Dropping it closes it, after what it was given.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    replica: ReplicaId,
    names: Vec<Arc<str>>,
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where orders for the thread are left, and what it tells.
#[derive(Debug, Default)]
struct Desk {
    orders: Mutex<Orders>,
    /// There are orders.
    arrived: Condvar,
    /// There is room for more.
    room: Notify,
    /// Why writes are not taken now.
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    commits: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    compactions: AtomicU64,
}

#[derive(Debug, Default)]
struct Orders {
    writes: Vec<Order>,
    /// Bytes of writes that were ordered and are not on disk.
    backlog: usize,
    loads: Vec<Load>,
    stop: bool,
}

/// A question for all that is stored of a map.
#[derive(Debug)]
struct Load {
    name: Arc<str>,
    answer: oneshot::Sender<Result<Option<Stored>>>,
}

/// A write of one map.
struct Order {
    target: Arc<dyn Target>,
    name: Arc<str>,
    /// The id under which the map is written here.
    replica: ReplicaId,
    write: Write,
}

impl Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "write {} of `{}`", self.write.number, self.name)
    }
}

impl Store {
    /// Opens the store in a directory; creates it, for a node with the id `fresh`, where there is
    /// none. Reads the records of all maps, and no map: waits for the disk.
    pub(crate) fn open(path: &Path, fresh: ReplicaId) -> Result<Self> {
        let locked = Directory::lock(path, true);
        let locked = locked.map_err(|error| database::io_error(path.to_owned(), error))?;
        let directory = locked.ok_or_else(|| Error::StoreInUse {
            path: path.to_owned(),
        })?;
        Self::open_medium(path, Box::new(directory), fresh)
    }

    fn open_medium(path: &Path, medium: Box<dyn Medium>, fresh: ReplicaId) -> Result<Self> {
        let path = path.to_owned();
        let database = Database::open(&path, &*medium, Some(fresh))?;
        let desk = Arc::new(Desk::default());
        let (replica, names) = (database.replica(), database.names().cloned().collect());
        let writer = writer::Writer::new(path.clone(), medium, database, desk.clone());
        let thread = std::thread::Builder::new().name("portolan-store".into());
        let thread = thread.spawn(move || writer.run());
        let thread = thread.map_err(|error| database::io_error(path.clone(), error))?;
        Ok(Self {
            path,
            replica,
            names,
            desk,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The id under which its node writes.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The maps that it had when it was opened.
    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Orders a write. Writes of one map are stored in the order in which they are ordered.
    pub(crate) fn write(
        &self,
        target: Arc<dyn Target>,
        name: &Arc<str>,
        replica: ReplicaId,
        write: Write,
    ) {
        let mut orders = self.desk.orders.lock();
        orders.backlog += write.delta.len();
        orders.writes.push(Order {
            target,
            name: name.clone(),
            replica,
            write,
        });
        drop(orders);
        self.desk.arrived.notify_one();
    }

    /// All that is stored of a map; `None` where there is nothing.
    pub(crate) async fn load(&self, name: &Arc<str>) -> Result<Option<Stored>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut orders = self.desk.orders.lock();
            if orders.stop {
                return Err(Error::Closed);
            }
            let name = name.clone();
            orders.loads.push(Load { name, answer });
        }
        self.desk.arrived.notify_one();
        answered.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits while more is to be stored than should wait in memory.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.desk.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.desk.orders.lock().backlog <= STORE_BACKLOG_BYTES {
                return;
            }
            room.await;
        }
    }

    /// Waits until everything ordered is stored, or writes are not taken.
    pub(crate) async fn drained(&self) {
        loop {
            let room = self.desk.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.desk.orders.lock().backlog == 0 || self.failure().is_some() {
                return;
            }
            room.await;
        }
    }

    /// Why writes are not taken now, if they are not.
    pub(crate) fn failure(&self) -> Option<Error> {
        if !self.desk.failed.load(Ordering::Acquire) {
            return None;
        }
        self.desk.failure.lock().clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStatus {
            path: self.path.clone(),
            commits: count(&self.desk.commits),
            writes: count(&self.desk.writes),
            written_bytes: count(&self.desk.written_bytes),
            compactions: count(&self.desk.compactions),
            backlog_bytes: self.desk.orders.lock().backlog as u64,
            failure: self.failure(),
        }
    }

    /// Whether nothing more will be stored.
    pub(crate) fn is_closed(&self) -> bool {
        let thread = self.thread.lock();
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stores what was ordered and closes the file; waits for the disk. An error says what could
    /// not be stored and why. The second call does nothing.
    pub(crate) fn close(&self) -> Result<()> {
        self.desk.orders.lock().stop = true;
        self.desk.arrived.notify_one();
        let thread = self.thread.lock().take();
        // The thread catches the panics of the database, and has none of its own.
        if let Some(Err(panic)) = thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Who wants to know calls `close` first.
        let _ = self.close();
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Format version of the store.
    pub format: u32,
    /// The id under which its node writes.
    pub replica: ReplicaId,
    /// The maps, in the order of their names.
    pub maps: Vec<MapReport>,
    /// Bytes of snapshots and logs.
    pub bytes: u64,
}

/// What [`verify`] found of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapReport {
    /// Its name.
    pub name: String,
    /// How many keys it has.
    pub keys: usize,
    /// How many operations it is made of.
    pub operations: u64,
    /// Fingerprint of its live state.
    pub digest: u128,
}

/// Reads a whole store, checks everything in it, and changes nothing: not even what the next
/// opening would repair after a crash. No node may have it open.
///
/// Blocks while it reads; takes the memory of the largest map.
pub fn verify(directory: impl AsRef<Path>) -> Result<Report> {
    let path = directory.as_ref();
    if !Directory::is_store(path) {
        return Err(Error::StoreMissing {
            path: path.to_owned(),
        });
    }
    let locked = Directory::lock(path, false);
    let locked = locked.map_err(|error| database::io_error(path.to_owned(), error))?;
    let directory = locked.ok_or_else(|| Error::StoreInUse {
        path: path.to_owned(),
    })?;
    let medium = Untouched(directory);
    let mut database = Database::open(path, &medium, None)?;
    database.check()?;
    let names: Vec<Arc<str>> = database.names().cloned().collect();
    let mut maps = Vec::with_capacity(names.len());
    for name in names {
        // A name that is listed has a record.
        let Some(stored) = database.load(&name)? else {
            continue;
        };
        let document = restore(path, &name, &stored, 0, 0)?;
        maps.push(MapReport {
            name: name.to_string(),
            keys: document.len(),
            operations: document.version().len(),
            digest: document.digest(),
        });
    }
    Ok(Report {
        format: record::FORMAT,
        replica: database.replica(),
        maps,
        bytes: database.bytes(),
    })
}

/// Builds a document from what is stored of it.
pub(crate) fn restore(
    path: &Path,
    name: &str,
    stored: &Stored,
    hash_seed: u64,
    past: usize,
) -> Result<Document> {
    let mut document = Document::with_hash_seed(stored.replica, hash_seed);
    document.keep_past(past);
    for bytes in &stored.deltas {
        let delta = Delta::decode(bytes).map_err(|error| Error::StoreDamaged {
            path: path.to_owned(),
            what: format!("map `{name}`: {error}"),
        })?;
        document.apply(&delta);
    }
    Ok(document)
}
