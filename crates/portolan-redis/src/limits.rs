//! Bounds on what is written, and on what is kept while others write.

use std::time::Duration;

/// Longest name of a map, in characters: the format's.
pub const MAX_NAME_CHARS: usize = 512;

/// Longest key that is written here, in bytes. Longer ones of others are read.
pub const MAX_KEY_BYTES: usize = 4 * 1024;

/// Longest value that is written here, in bytes. Longer ones of others are read.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Most entries of one `set_many`, or tests of one `compare_and_reset`: the server does nothing
/// else while it works on them.
pub const MAX_ENTRIES: usize = 10_000;

/// Most bytes of messages that are kept while the map is read; beyond, it is read again.
pub(crate) const MAX_HEARD_BYTES: usize = 64 * 1024 * 1024;

/// How long a map may take to come over, at least: a large one is not a silent server.
pub(crate) const READ_PATIENCE: Duration = Duration::from_mins(1);

/// Most questions of other nodes that wait for an answer; who is not answered asks again.
pub(crate) const MAX_QUESTIONS: usize = 1024;

/// First and longest wait before a connection is tried again, without the jitter.
pub(crate) const BACK_OFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_secs(2));

/// How often a node that waits for others asks again: one that came back in between was not asked.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(250);
