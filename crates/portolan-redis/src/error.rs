//! What can go wrong, and what to do about it.

use std::time::Duration;

/// Why something could not be done. Every message says what to do next.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a map breaks the rules of the format.
    #[error(
        "`{name}` is no name of a map: {reason}; \
         a name has 1 to 512 characters, none of them a space, NUL, `*`, `?`, `[` or `]`"
    )]
    Name {
        /// The name, cut after 100 characters.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A key, a value or a number of them breaks the rules of the format or a limit.
    #[error("{what}: {reason}; nothing was written")]
    Limit {
        /// What it is about.
        what: String,
        /// The rule.
        reason: String,
    },

    /// An address cannot be used.
    #[error("`{url}` is no address of a Redis: {reason}; write for example redis://127.0.0.1:6379")]
    Address {
        /// The address, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The pattern cannot be read.
    #[error(transparent)]
    Pattern(#[from] portolan::Error),

    /// Redis does not answer. Nothing was written. The map goes on trying.
    #[error("Redis cannot be reached: {reason}; see that it runs and that the address is right")]
    Unreachable {
        /// What happened.
        reason: String,
    },

    /// The connection broke, or time ran out, while Redis had a write in hand.
    #[error(
        "it is not known whether Redis did the write: {reason}; \
         read the key once the map is live, and write again if need be"
    )]
    Unknown {
        /// What happened.
        reason: String,
    },

    /// Redis did the write, and this replica could not be brought up to it in time.
    #[error(
        "revision {revision} is written, and cannot be read here yet: wait until the map is live"
    )]
    Behind {
        /// The revision of the write.
        revision: u64,
    },

    /// Redis did the write, and not all nodes have told in time that they have it.
    #[error(
        "revision {revision} is written, and {told} of {of} nodes have told that they have it: \
         wait longer, or see which node hangs"
    )]
    Unconfirmed {
        /// The revision of the write.
        revision: u64,
        /// Nodes that have told.
        told: usize,
        /// Nodes that were asked.
        of: usize,
    },

    /// Redis does not allow it.
    #[error("Redis refuses: {reason}; see the user's permissions (ACL), or the server's state")]
    Refused {
        /// In its words.
        reason: String,
    },

    /// Something other than a hash is under the map's key.
    #[error("`{key}` holds no hash: take another name for the map, or see who wrote this key")]
    WrongType {
        /// The key in Redis.
        key: String,
    },

    /// The value is no list of strings, so nothing can be appended or removed. It is untouched.
    #[error(
        "`{key}` holds no list of strings but {found}: set it to one first, or take another key"
    )]
    NotAList {
        /// The key.
        key: String,
        /// The beginning of what it holds.
        found: String,
    },

    /// The value is no 64-bit integer. It is untouched.
    #[error("`{key}` holds no integer but {found}: set it to one first, or take another key")]
    NotAnInteger {
        /// The key.
        key: String,
        /// The beginning of what it holds.
        found: String,
    },

    /// The sum does not fit 64 bits. The value is untouched.
    #[error("`{key}` would leave 64 bits: add less, or set it anew")]
    Overflow {
        /// The key.
        key: String,
    },

    /// The server does not know a command that the operation needs.
    #[error("this Redis has no {command}: {advice}")]
    Unsupported {
        /// The command.
        command: &'static str,
        /// What helps.
        advice: &'static str,
    },

    /// Another node holds the lease.
    #[error("`{key}` is leased to {owner} for another {left:?}: wait, or ask its holder")]
    LeaseHeld {
        /// The key.
        key: String,
        /// Who holds it.
        owner: String,
        /// The time until it lapses by Redis's clock, unless it is renewed.
        left: Duration,
    },

    /// The lease has lapsed, or was lost with the server's data. Nothing was written.
    #[error("the lease of `{key}` with token {token} is lost: take it again before going on")]
    LeaseLost {
        /// The key.
        key: String,
        /// The fencing token of the lease that was lost.
        token: u64,
    },

    /// What Redis, or another node, sent is not of the format.
    #[error("not of the format: {what}; see which program writes under this name")]
    Format {
        /// What is wrong.
        what: String,
    },

    /// The map was left.
    #[error("this node has left the map: join it again")]
    Left,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The beginning of a value, for a message.
pub(crate) fn excerpt(value: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(&value[..value.len().min(SHOWN * 4)]).into_owned();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}
