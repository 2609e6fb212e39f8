//! A bus: a log for each map that several nodes write to and read in order, so that they share the
//! map without knowing each other.

mod append;
mod inbox;
mod keeper;
mod meter;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use self::keeper::keep;
pub(crate) use self::meter::Meter;

/// What the functions of a [`Bus`] return.
pub type BusFuture<'a, T> = BoxFuture<'a, Result<T, BusError>>;

/// Keeps the logs of maps, where other processes find them: for a node, see
/// [`Builder::bus`](crate::Builder::bus).
///
/// The log of a map has an *epoch*, a random number that changes when it is begun anew; entries,
/// numbered from 1 without a gap; and perhaps a snapshot, which stands for all entries up to its
/// place. The node brings the meaning: an implementation moves bytes. All functions may be called
/// again after they failed, and a call that failed may have been done.
pub trait Bus: Debug + Send + Sync + 'static {
    /// What it is called in status and log: an address without secrets.
    fn address(&self) -> String;

    /// How often to look whether a log is as it was read: what no message tells is noticed so late.
    fn digest_period(&self) -> Duration;

    /// Has `listener` told of the entries of a map's log as they are appended, best effort, in
    /// their order; in the place of one that was told before.
    fn follow(&self, map: &str, listener: Arc<dyn Listener>);

    /// Ends that; does nothing where another has taken the listener's place.
    fn unfollow(&self, map: &str, listener: &Arc<dyn Listener>);

    /// How a log stands, and entries of it from the number `first` on: as many as make a good
    /// answer, one at least. `None` where there is no log, and [`BusError::Damaged`] where what says
    /// how it stands is lost: then [`renew`](Self::renew) takes it for none.
    fn read<'a>(&'a self, map: &'a str, first: u64) -> BusFuture<'a, Option<Reading>>;

    /// Appends an entry, and gives its number; `None` where the log has another epoch.
    fn append<'a>(&'a self, map: &'a str, epoch: u64, entry: Bytes) -> BusFuture<'a, Option<u64>>;

    /// Begins a log anew, with this entry as the first, then the entries of the old one above
    /// `read`. False where its epoch is not `old`, or where there is one and `old` is `None`.
    fn renew<'a>(&'a self, map: &'a str, renewal: Renewal) -> BusFuture<'a, bool>;

    /// The snapshot of a log; `None` where there is none that is whole.
    fn snapshot<'a>(&'a self, map: &'a str) -> BusFuture<'a, Option<Snapshot>>;

    /// Gives one node the right to save a snapshot, for some seconds, where the latest is that of
    /// this place.
    fn claim<'a>(&'a self, map: &'a str, latest: u64) -> BusFuture<'a, bool>;

    /// Saves a snapshot and lets go of the entries below `keep`; false where the log has another
    /// epoch, or a newer snapshot.
    fn save<'a>(
        &'a self,
        map: &'a str,
        epoch: u64,
        snapshot: Snapshot,
        keep: u64,
    ) -> BusFuture<'a, bool>;

    /// Passes a message on to all who follow a map, best effort: it is kept nowhere, and may be lost;
    /// but it overtakes no other, and no entry that was appended before.
    fn tell<'a>(&'a self, map: &'a str, message: Bytes) -> BusFuture<'a, ()>;

    /// The maps that have a log, and makes sure that these `known` ones are among them.
    fn maps(&self, known: Vec<Arc<str>>) -> BusFuture<'_, Vec<String>>;
}

/// Who is told of a log's entries.
pub trait Listener: Send + Sync {
    /// An entry was appended; its bytes, unless they are to be read.
    fn heard(&self, epoch: u64, number: u64, entry: Option<Bytes>);

    /// Another has told something, or this node itself.
    fn told(&self, message: Bytes);

    /// Entries may have been appended that were not told: the connection broke, or is there again.
    fn disturbed(&self);
}

/// How a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its epoch.
    pub epoch: u64,
    /// The number of its latest entry.
    pub last: u64,
    /// The place of its snapshot; 0 where there is none.
    pub snapshot: u64,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How the log stood.
    pub log: Log,
    /// Entries with their numbers, ascending.
    pub entries: Vec<(u64, Bytes)>,
}

/// How to begin a log anew.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The epoch that the log has; `None` where there is none.
    pub old: Option<u64>,
    /// Entries of it above this number go over into the new one.
    pub read: u64,
    /// The new epoch.
    pub epoch: u64,
    /// The first entry.
    pub entry: Bytes,
}

/// What stands for the entries up to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the last of these entries.
    pub place: u64,
    /// Its content.
    pub bytes: Bytes,
}

/// Why a bus did not do something. The node goes on, and tries again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// It does not answer.
    #[error("the bus cannot be reached: {0}; see that it runs and that the address is right")]
    Unreachable(String),
    /// It does not allow it: permissions, memory, something else under the name.
    #[error("the bus refuses: {0}; see its permissions, its memory, and who else writes there")]
    Refused(String),
    /// What it holds of a map does not fit together; the log is begun anew.
    #[error("the log of the map is damaged: {0}; it is begun anew from what the nodes hold")]
    Damaged(String),
    /// What it holds was written by a newer release.
    #[error("the bus holds a log of a newer release: {0}; upgrade this one")]
    Newer(String),
}
