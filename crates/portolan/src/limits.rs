//! The bounds and delays of a node, each with its reason.

use std::time::Duration;

pub(crate) use portolan_core::limits::{
    MAX_DOCUMENTS_PER_CONNECTION, MAX_FRAME_BYTES, MAX_NAME_BYTES,
};

/// Changes that wait for one watcher before it is given a snapshot instead: some ten megabytes of
/// small values.
pub(crate) const WATCH_QUEUE: usize = 65_536;
/// Replaced or removed values that an open map keeps: some 200 kB for each map that is written to.
pub(crate) const HISTORY_VALUES: usize = 1_000;
/// Bytes that wait for the store before connections stop reading: what comes faster than the disk
/// takes it must wait at the sender.
pub(crate) const STORE_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that a connection takes from one map before it turns to the next, and so about what it
/// holds itself: enough to fill segments, little when thousands of peers are slow.
pub(crate) const TURN_BYTES: usize = 64 * 1024;
/// Largest piece of a delta in one frame: a connection's buffer grows to its longest frame, and
/// stays so when it rests again.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;
/// Notices that wait for a connection before it stops reading: a peer that asks and asks, and never
/// reads the answers, must not make them pile up.
pub(crate) const NOTICES: usize = 256;
/// Longest token: it comes with every map that is opened, and peers refuse longer ones.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Frames that a peer may send in a second: some times what a busy program writes, and a part of
/// what one processor takes in.
pub(crate) const RECEIVE_RATE: u32 = 20_000;
/// How much of the rate may be used at once: to catch up, and what a transaction a write brings, is
/// normal.
pub(crate) const BURST: Duration = Duration::from_secs(2);
/// Bytes that a frame may have to count as one: about as many take as long as a small frame does.
pub(crate) const FRAME_UNIT_BYTES: usize = 4 * 1024;
/// Frames that asking an authorizer counts as, who checks a signature.
pub(crate) const AUTHORIZATION_FRAMES: usize = 4;
/// Longest pause in reading from a peer that sends too much: shorter than it waits for a sign of
/// life.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long one frame may take to leave: a peer that reads nothing for so long is gone.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a map whose session was ended waits before the next one, on the same connection.
pub(crate) const REOPEN_DELAY: Duration = Duration::from_secs(2);
/// How long a connection may be silent before it is asked for a sign of life.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection attempt may take, name resolution and TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First wait before connecting again; it doubles, with jitter, …
pub(crate) const MIN_BACK_OFF: Duration = Duration::from_millis(100);
/// … to this: a fleet that lost its server must not return all at once, nor minutes late.
pub(crate) const MAX_BACK_OFF: Duration = Duration::from_secs(15);
/// How long who opens a map waits for what the bus has of it.
pub(crate) const BUS_PATIENCE: Duration = Duration::from_secs(5);
/// How long leaving peers are given to take the last frames when a node closes.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);
/// Broken rules about single maps that a connection survives.
pub(crate) const MAX_STRIKES: u32 = 8;
/// Names of maps in one message of the directory; more take several messages.
pub(crate) const NAMES_PER_MESSAGE: usize = 1_000;
