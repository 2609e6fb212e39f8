//! The bounds and delays of synchronisation, each with its reason.

use crate::limits::{MAX_CLOCK_AHEAD_MILLIS, MAX_QUEUE_BYTES};

/// The bounds and delays of a [`Replica`](super::Replica). Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most bytes of live frames that wait for one peer (8 MiB). Past it they are dropped, and the
    /// peer catches up by version.
    pub queue_bytes: usize,
    /// Largest piece of a delta in one frame (256 KiB). Larger deltas are cut, so that other
    /// documents of the same connection get their turn in between; at most 4 MiB less a little.
    pub chunk_bytes: usize,
    /// Longest delta that a peer may send in pieces (256 MiB): it is held until it is whole, and
    /// decoding it can take a hundred times its length.
    pub staged_bytes: usize,
    /// Ranges of dead dots that a catch-up names at the most (2,048, some 8 kB) before it first
    /// searches for what the peer still holds live; and values of a document at the most that a
    /// repair sends whole.
    pub brief_ranges: usize,
    /// How far ahead of this replica's clock an operation may be stamped (one hour); `u64::MAX`
    /// accepts all.
    pub clock_ahead: u64,
    /// How long a peer may take to answer a hello (10 s).
    pub hello_timeout: u64,
    /// How long a gap in the dots may stay before the peer is asked for what is missing (200 ms):
    /// longer than frames overtake each other, shorter than a person waits.
    pub gap_delay: u64,
    /// How long a peer may say nothing in the middle of a catch-up before it is asked again (5 s).
    pub stall_delay: u64,
    /// Longest wait between two requests for the same thing (30 s); it doubles from `gap_delay`.
    pub max_want_delay: u64,
    /// Shortest time between two acknowledgements of a peer's own operations (5 ms). The first
    /// goes at once, so that a flush is quick.
    pub ack_interval: u64,
    /// How long acknowledgements that nobody waits for are gathered (2 s): those of operations
    /// that the peer only passed on.
    pub ack_delay: u64,
    /// Time between two exchanges of digests (30 s).
    pub digest_period: u64,
    /// Shortest time between two tables of members (10 s), which tell who has stored what. What is
    /// deleted goes after some three of them.
    pub gossip_interval: u64,
    /// Most bytes a second of these tables to each peer on average (16): where many members store
    /// something all the time, they are told less often.
    pub gossip_rate: u64,
    /// How long a replica may be silent before it is forgotten (seven days): what is deleted, and
    /// it may still refer to, goes then. `u64::MAX` waits for ever.
    pub forget_after: u64,
    /// Most bytes of presence that one session may bring in (16 MiB); what exceeds it is not seen.
    pub presence_bytes: usize,
    /// Time between two signs of life of a server on a bus at which somebody is present (5 s).
    /// After three without one nobody is taken to be present there any more.
    pub presence_period: u64,
    /// Whether a replica without a store asks the peers that it connects to for an id that others
    /// have given back (no), so that not every client that ever wrote has an entry in the version.
    /// Own operations then wait until one is found, a round trip, or `hello_timeout` at the most.
    pub borrows: bool,
    /// How long the answer to such a question is waited for before it is asked again (1 s).
    pub ask_delay: u64,
    /// How long a replica that borrows may write nothing before it gives its id back (1 min): if
    /// its process is killed after that, no id is lost.
    pub id_idle: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_bytes: MAX_QUEUE_BYTES,
            chunk_bytes: 256 * 1024,
            staged_bytes: 256 * 1024 * 1024,
            brief_ranges: 2048,
            clock_ahead: MAX_CLOCK_AHEAD_MILLIS,
            hello_timeout: 10_000,
            gap_delay: 200,
            stall_delay: 5_000,
            max_want_delay: 30_000,
            ack_interval: 5,
            ack_delay: 2_000,
            digest_period: 30_000,
            gossip_interval: 10_000,
            gossip_rate: 16,
            forget_after: 7 * 24 * 60 * 60 * 1000,
            presence_bytes: 16 * 1024 * 1024,
            presence_period: 5_000,
            borrows: false,
            ask_delay: 1_000,
            id_idle: 60_000,
        }
    }
}
