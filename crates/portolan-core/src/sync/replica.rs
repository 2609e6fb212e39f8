//! One document with its sessions, the gate of its store and its events.

use bytes::Bytes;

use super::config::Config;
use super::error::{ErrorCode, ProtocolError};
use super::event::Event;
use super::frame::{Access, Frame, Hello};
use super::session::{SessionId, SessionStatus};
use crate::document::{Document, Transaction};
use crate::dots::Version;
use crate::replica::ReplicaId;

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Counts up by one from 1 for each [`Replica`].
    pub number: u64,
    /// The bytes of a [`Delta`](crate::Delta).
    pub delta: Bytes,
    /// Whether it is the whole state and takes the place of everything stored before it, which
    /// must not be read again. Rare: after [`Replica::change_replica`].
    pub replaces: bool,
}

/// One document with its sessions, the gate of its store and its events.
///
/// `now` is always in milliseconds since the Unix epoch.
#[derive(Debug)]
pub struct Replica {}

impl Replica {
    /// A replica of the document `name`, which it calls `handle` on all its connections.
    ///
    /// `durable` says that there is a store: [`poll_write`](Self::poll_write) gives what it must
    /// hold (what `document` holds now is taken to be stored), and own operations wait for it.
    pub fn new(name: &str, handle: u32, document: Document, durable: bool, config: Config) -> Self {
        let _ = (name, handle, document, durable, config);
        todo!()
    }

    /// The document's name.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// The number that stands for the document on every frame from here.
    pub fn handle(&self) -> u32 {
        todo!()
    }

    /// The document, to read.
    pub fn document(&self) -> &Document {
        todo!()
    }

    /// The operations applied; as [`Document::version`] without the cost of building it.
    pub fn version(&self) -> &Version {
        todo!()
    }

    /// Whether [`Event::Changed`] is given; off at first.
    pub fn observe(&mut self, on: bool) {
        let _ = on;
        todo!()
    }

    /// Several operations as one; where the closure fails, none. Visible here at once; sent to
    /// the peers as one delta, with a store only when it has it.
    pub fn transact<T, E>(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _ = (now, f);
        todo!()
    }

    /// Opens a session; its hello is ready to be sent.
    ///
    /// Credentials are at most 16 KiB; the peer refuses more.
    pub fn connect(&mut self, now: u64, access: Access, credentials: Option<Bytes>) -> SessionId {
        let _ = (now, access, credentials);
        todo!()
    }

    /// Answers a peer's hello, to which the host grants `granted` of what it asks for.
    ///
    /// On an error there is no session: send [`ProtocolError::to_frame`].
    pub fn accept(
        &mut self,
        now: u64,
        hello: &Hello,
        granted: Access,
    ) -> Result<SessionId, ProtocolError> {
        let _ = (now, hello, granted);
        todo!()
    }

    /// Takes in a frame of a session.
    ///
    /// On an error the document is untouched and the session is over: send what
    /// [`poll_frame`](Self::poll_frame) still gives (the error frame), then [`close`](Self::close).
    pub fn receive(
        &mut self,
        session: SessionId,
        now: u64,
        frame: Frame,
    ) -> Result<(), ProtocolError> {
        let _ = (session, now, frame);
        todo!()
    }

    /// Ends a session in good order: its last frame, queued now, tells the peer why. For leaving a
    /// document while the connection stays, and for access that was revoked.
    pub fn end(&mut self, session: SessionId, code: ErrorCode, message: &str) {
        let _ = (session, code, message);
        todo!()
    }

    /// The session's link is gone: forgets the session.
    pub fn close(&mut self, session: SessionId) {
        let _ = session;
        todo!()
    }

    /// A session that has something to send; not named again before
    /// [`poll_frame`](Self::poll_frame) has given `None` for it.
    pub fn poll_ready(&mut self) -> Option<SessionId> {
        todo!()
    }

    /// The next frame of a session. The frame counts as sent: pass it to the link or drop the link.
    ///
    /// A live frame costs a reference count; a catch-up is computed here, in time proportional to
    /// what the peer lacks.
    pub fn poll_frame(&mut self, session: SessionId, now: u64) -> Option<Bytes> {
        let _ = (session, now);
        todo!()
    }

    /// The next thing to store, in order; nothing without a store.
    pub fn poll_write(&mut self) -> Option<Write> {
        todo!()
    }

    /// All writes up to `number` are in the store, and will be there after a crash.
    pub fn stored(&mut self, number: u64, now: u64) {
        let _ = (number, now);
        todo!()
    }

    /// The whole state, to take the place of everything stored up to its number (compaction).
    pub fn snapshot(&self) -> Write {
        todo!()
    }

    /// How many writes were made that are not known to be stored.
    pub fn unstored(&self) -> u64 {
        todo!()
    }

    /// What the owner should be told, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn timeout(&self) -> Option<u64> {
        todo!()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: u64) {
        let _ = now;
        todo!()
    }

    /// Sets what the peers are told of this replica's presence, at most 64 KiB; `None` ends it.
    pub fn set_presence(&mut self, now: u64, state: Option<Bytes>) -> Result<(), ProtocolError> {
        let _ = (now, state);
        todo!()
    }

    /// The presence of others, in the order of their ids.
    pub fn presences(&self) -> impl Iterator<Item = (ReplicaId, &Bytes)> {
        std::iter::empty()
    }

    /// Presents new credentials to the peer of a session that this side opened.
    pub fn refresh(&mut self, session: SessionId, credentials: Bytes) {
        let _ = (session, credentials);
        todo!()
    }

    /// Continues under a fresh id, after [`Event::ReplicaReused`]. All sessions end and are to be
    /// opened again; a store is given the whole state anew.
    pub fn change_replica(&mut self, replica: ReplicaId, now: u64) {
        let _ = (replica, now);
        todo!()
    }

    /// What each connected peer has stored, as far as it has said; costs the size of the version
    /// for each.
    pub fn acknowledged(&self) -> impl Iterator<Item = (SessionId, ReplicaId, Version)> {
        std::iter::empty()
    }

    /// Whether all connected peers that accept operations of this replica have stored its own
    /// operations up to `own_seq`. True where there is no such peer.
    pub fn is_flushed(&self, own_seq: u64) -> bool {
        let _ = own_seq;
        todo!()
    }

    /// As [`is_flushed`](Self::is_flushed), for one peer; `None` where the session does not exist
    /// or sends nothing.
    pub fn is_flushed_to(&self, session: SessionId, own_seq: u64) -> Option<bool> {
        let _ = (session, own_seq);
        todo!()
    }

    /// How a session stands.
    pub fn session(&self, session: SessionId) -> Option<SessionStatus> {
        let _ = session;
        todo!()
    }

    /// How all sessions stand, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus> {
        std::iter::empty()
    }
}
