//! Loans: replica ids of short-lived clients are used again, so that a version does not get an
//! entry for each that ever wrote.
//!
//! An id is a token: either one replica holds it and may write under it, or one lender has it in
//! its *pool*, with the number of its last operation. A replica without a store starts under a
//! random id of its own. With its first operation it asks a peer for an id out of the pool, and
//! keeps the operation back until the answer is there; then it does under the lent id what it has
//! done so far, of which nobody has heard. Where there is no such id it goes on under its own.
//! Once all that it wrote is stored at a peer it gives its id back there, when it leaves or has
//! not written for a while, and is somebody new, who has written nothing.
//!
//! What holds, whatever frames are lost, doubled or late, and whoever crashes: **no dot ever names
//! two operations**, because nothing makes a second token of one. A lender hands an id out once
//! for each question; a borrower answers each offer once, and gives an id back to one lender, in
//! one numbered frame; where anything is not as it should be the token is lost: nobody writes
//! under that id any more. A pool is not stored, for what is lent after a crash must not depend on
//! a store that may be a backup: a lender that restarts loses the ids that lay in its pool, at
//! most as many as were in use at one time.

mod borrower;
mod lender;
mod message;

pub(super) use borrower::Borrowing;
pub(super) use lender::{Claim, Pool};
pub(super) use message::{Back, Message, Rename, Spare, encode, read};

/// An id that was used so often is not lent any more: numbers must not run out.
const MAX_SEQ: u64 = 1 << 48;
