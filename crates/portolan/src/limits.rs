//! The bounds and delays of a node, each with its reason.

use std::time::Duration;

pub(crate) use portolan_core::limits::{
    MAX_DOCUMENTS_PER_CONNECTION, MAX_FRAME_BYTES, MAX_NAME_BYTES,
};

/// Changes that wait for one watcher before it is given a snapshot instead: some ten megabytes of
/// small values.
pub(crate) const WATCH_QUEUE: usize = 65_536;
/// Bytes that wait for the store before connections stop reading: what comes faster than the disk
/// takes it must wait at the sender.
pub(crate) const STORE_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
/// Bytes handed to a connection between two flushes: enough to fill segments, little to hold.
pub(crate) const FLUSH_BYTES: usize = 256 * 1024;
/// How long a connection may be silent before it is asked for a sign of life.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection attempt may take, name resolution and TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First wait before connecting again; it doubles, with jitter, …
pub(crate) const MIN_BACK_OFF: Duration = Duration::from_millis(100);
/// … to this: a fleet that lost its server must not return all at once, nor minutes late.
pub(crate) const MAX_BACK_OFF: Duration = Duration::from_secs(15);
/// How long leaving peers are given to take the last frames when a node closes.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);
/// Broken rules about single maps that a connection survives.
pub(crate) const MAX_STRIKES: u32 = 8;
/// Names of maps in one message of the directory; more take several messages.
pub(crate) const NAMES_PER_MESSAGE: usize = 1_000;
