//! The bounds that the engine holds everybody to, each with its reason.
//!
//! They are checked once, where something enters: in a [`Transaction`](crate::Transaction) for
//! what the program writes, in the decoders for what comes from outside.

/// Longest name of a document, in bytes: names appear in URLs, files and logs.
pub const MAX_NAME_BYTES: usize = 512;
/// Longest key, in bytes: keys are held by every replica and sent with every write.
pub const MAX_KEY_BYTES: usize = 4 * 1024;
/// Largest value, in encoded bytes: a write travels whole, so it must fit a frame beside others.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Deepest nesting of lists and maps in one value: decoding is recursive, and the stack is finite.
pub const MAX_VALUE_DEPTH: usize = 64;
/// Deepest nesting of containers: paths are walked by recursion, and sent with what is in them.
pub const MAX_DEPTH: usize = 64;
/// Largest frame between two peers, in bytes; larger deltas are cut into chunks.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that wait for one peer; past it the peer catches up by version.
pub const MAX_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Most documents open on one connection.
pub const MAX_DOCUMENTS_PER_CONNECTION: usize = 1024;
/// How far ahead of the receiver's clock an operation may be stamped, in milliseconds: one hour.
pub const MAX_CLOCK_AHEAD_MILLIS: u64 = 60 * 60 * 1000;
/// Removed dots that the log keeps at the least, before the oldest are pruned; a document with
/// more live values keeps as many as it has values.
pub const MIN_LOG_DOTS: usize = 1_000_000;
/// Replaced or removed values that are kept for looking back, unless told otherwise: enough to take
/// back what somebody has just done, and little beside the document.
pub const MAX_PAST_VALUES: usize = 256;
/// Bytes that a value kept for looking back may take, on average; where they take more, fewer are
/// kept.
pub const PAST_VALUE_BYTES: usize = 1024;
/// Steps that a replicated data type by itself remembers, so that histories can end at them.
pub const MAX_PAST_STEPS: usize = 256;
/// Writers whose last operation is remembered for their compact updates; of others, the live value
/// of the last one serves as well.
pub const MAX_CONTEXTS: usize = 256;
/// Bytes of path and key that are remembered of one operation.
pub const MAX_CONTEXT_BYTES: usize = 256;
/// Operations in one compact update: where there are more, a delta takes little more room.
pub const MAX_COMPACT_OPERATIONS: u64 = 64;
/// Ranges of removed dots in one compact update.
pub const MAX_COMPACT_RANGES: usize = 16;
