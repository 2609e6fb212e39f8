//! What can go wrong, and what to do about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bus::BusError;

/// Why something could not be done. Every message says what to do next.
///
/// Cheap to clone: a failure of the store is told to everyone who waits for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operation breaks a limit of the data model. Nothing was changed.
    #[error(transparent)]
    Operation(#[from] portolan_core::Error),

    /// The name of a map is empty or too long.
    #[error("a map's name has 1 to {limit} bytes, this one has {found}: choose another")]
    MapName {
        /// Its length.
        found: usize,
        /// The longest allowed.
        limit: usize,
    },

    /// The pattern cannot be read.
    #[error(
        "the pattern `{pattern}` is not valid: {reason}; write `\\` before a character that is meant literally"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },

    /// What the map held at a moment is not known any more, or never was at this node.
    #[error(
        "what the map held then is not known here{}: ask for a later moment, and keep more of the past",
        Since(*known_since)
    )]
    PastUnknown {
        /// From when on it is known; `None` where all of it is, and the moment is none of its.
        known_since: Option<portolan_core::Timestamp>,
    },

    /// The end of a history does not come after its beginning.
    #[error("the history would end before it begins: exchange the two")]
    PastOrder,

    /// A program's type and a value do not fit each other.
    #[error("the value does not fit the type: {0}")]
    Conversion(String),

    /// The address of a server cannot be used.
    #[error("`{url}` is no address of a server: {reason}; write for example ws://127.0.0.1:7117")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// No server of this address was given to the builder.
    #[error("the node has no server at {url}: give the address as the builder was given it")]
    UnknownServer {
        /// The address.
        url: String,
    },

    /// A token above the limit.
    #[error("a token has at most {limit} bytes, this one has {found}: ask for a shorter one")]
    Token {
        /// Its length.
        found: usize,
        /// The longest allowed.
        limit: usize,
    },

    /// A server could not be reached. The node goes on trying.
    #[error("could not reach {url}: {reason}; it is tried again, see that a server runs there")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },

    /// The connection of a peer that was served broke. The peer connects again.
    #[error("the connection broke: {0}; the peer may connect again")]
    Disconnected(String),

    /// A closure of the program that reads or writes the map ([`Map::read`](crate::Map::read),
    /// [`Map::transact`](crate::Map::transact)) wrote to it beside the transaction.
    #[error(
        "the map `{map}` is held by a closure further up on this thread: \
         write through its transaction, or when it has ended"
    )]
    Held {
        /// The map.
        map: String,
    },

    /// A node was to be spawned where its tasks cannot run.
    #[error(
        "a node needs a Tokio runtime with {lacks}: spawn it within one, \
         built with `enable_all()`"
    )]
    Runtime {
        /// What the runtime lacks, if there is one.
        lacks: &'static str,
    },

    /// The other side refused a map.
    #[error("the map `{map}` was refused: {reason}; ask for a token that allows it")]
    Refused {
        /// The map.
        map: String,
        /// Why, in the other side's words.
        reason: String,
    },

    /// The other side broke the protocol; the connection was dropped, the maps are untouched.
    #[error("the peer broke the protocol: {0}; see that both sides run a compatible release")]
    Protocol(String),

    /// Another process, or another node in this one, has the store open.
    #[error("the store {path} is in use by another process: stop it, or choose another directory")]
    StoreInUse {
        /// The store's directory.
        path: PathBuf,
    },

    /// The store's file is damaged. Nothing in it was changed.
    #[error(
        "the store {path} is damaged ({what}): nothing was changed; \
         copy it away, then restore a backup or start empty and synchronise from a peer"
    )]
    StoreDamaged {
        /// The store's directory.
        path: PathBuf,
        /// Where and how.
        what: String,
    },

    /// The store was written by a newer release.
    #[error("the store {path} has format {found}, this release knows up to {known}: upgrade it")]
    StoreNewer {
        /// The store's directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },

    /// There is no store where one is to be read.
    #[error("there is no store at {path}: check the directory")]
    StoreMissing {
        /// The directory.
        path: PathBuf,
    },

    /// No room is left for the store. What was acknowledged is safe; writes are refused until
    /// there is room, and what waits is then stored.
    #[error(
        "the disk of the store {path} is full: free some room; \
         writes are refused until then, nothing stored is lost"
    )]
    StoreFull {
        /// The store's directory.
        path: PathBuf,
    },

    /// The store cannot be opened, read or written for another reason. What could not be written
    /// is tried again, as with a full disk.
    #[error("the store {path} cannot be used: {source}; see the disk and the permissions")]
    StoreFailed {
        /// The store's directory.
        path: PathBuf,
        /// What the system says.
        source: Arc<std::io::Error>,
    },

    /// A presence state above the limit.
    #[error("the presence was not set: {0}; make it smaller")]
    Presence(String),

    /// What the bus has of a map is not known here: whether there is one at all, or what is in it.
    /// It is tried again.
    #[error("what the others have of the map is not known here: {0}")]
    Bus(#[from] BusError),

    /// The server has the map open, and lacks itself what it should have. It goes on trying, and
    /// takes writes meanwhile.
    #[error(
        "{url} has not read the map from its bus so far, and may show a part of it; \
         it is tried again, see how that server and its Redis stand"
    )]
    Incomplete {
        /// The address of the server.
        url: String,
    },

    /// Nothing is wrong so far, and what is waited for has not come.
    #[error("the map is being synchronised: wait a little longer")]
    Underway,

    /// The node was closed.
    #[error("the node is closed: spawn another")]
    Closed,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// From when on the past is known, for people.
struct Since(Option<portolan_core::Timestamp>);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(since) => write!(f, ", but from {} ms after 1970 on", since.millis()),
            None => Ok(()),
        }
    }
}
