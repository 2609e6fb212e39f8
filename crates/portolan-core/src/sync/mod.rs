//! Synchronisation as a machine without I/O: frames and time go in; frames, writes, events and
//! timers come out.
//!
//! A [`Replica`] is one [`Document`](crate::Document) with its sessions (one for each peer), the
//! gate of its store, and what its owner should be told. It never waits, reads no clock and draws
//! no random number: the host moves bytes and passes the time in. Same inputs, same bytes.
//!
//! What the host does, in any order and as often as it likes:
//!
//! * opens sessions with [`Replica::connect`], or decodes a peer's [`Hello`] and answers it with
//!   [`Replica::accept`];
//! * passes what arrives to [`Replica::receive`];
//! * sends what [`Replica::poll_frame`] gives for the sessions that [`Replica::poll_ready`] names;
//! * stores what [`Replica::poll_write`] gives, and says so with [`Replica::stored`];
//! * handles [`Replica::poll_event`], and calls [`Replica::handle_timeout`] when
//!   [`Replica::timeout`] is reached.
//!
//! What holds:
//!
//! * **Persist before publish.** No frame tells of an own operation, or of what it did to others,
//!   before the store has it. Operations of others are passed on at once, and acknowledged when
//!   stored.
//! * **Whole or not at all.** A delta is applied in one piece, however many frames it took.
//! * **Frames may be lost, doubled and reordered** between hello and close: what is missing is
//!   noticed and asked for.
//! * **Bounded.** A peer that does not read costs a bounded queue, and the set of what it lacks as
//!   ranges; a peer that sends nonsense costs one frame.

mod bus;
mod config;
mod error;
mod event;
mod frame;
mod inbound;
mod loans;
mod members;
mod news;
mod outbound;
mod presence;
mod replica;
mod search;
mod session;

pub use bus::{BusFault, Joined};
pub use config::Config;
pub use error::{ErrorCode, ProtocolError};
pub use event::{CloseReason, Event};
pub use frame::{Access, ErrorFrame, Frame, Hello, PROTOCOL};
pub use members::{MemberStatus, Standing};
pub use replica::{Replica, Write};
pub use session::{SessionId, SessionStatus};
