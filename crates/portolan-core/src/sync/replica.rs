//! One document with its sessions, the gate of its store and its events.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use bytes::Bytes;

use super::bus::{Bus, Mark};
use super::config::Config;
use super::error::{ErrorCode, ProtocolError};
use super::event::{CloseReason, Event};
use super::frame::{self, Access, Hello, MAX_RANGE_BYTES, MAX_VERSION_BYTES, PROTOCOL};
use super::loans::{Borrowing, Pool};
use super::members::Members;
use super::outbound::CatchUp;
use super::presence::Presences;
use super::session::{Anew, Phase, Session, SessionId, SessionStatus};
use crate::codec::put_dots;
use crate::compact::Contexts;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::error::Error;
use crate::replica::ReplicaId;
use crate::transaction::Transaction;

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Counts up by one from 1 for each [`Replica`].
    pub number: u64,
    /// The bytes of a [`Delta`](crate::Delta).
    pub delta: Bytes,
    /// Whether it is the whole state and takes the place of everything stored before it, which
    /// must not be read again. Rare: after [`Replica::change_replica`] and after a repair.
    pub replaces: bool,
    /// In place of a delta, which is empty then: what is to be kept of the members, in place of
    /// what was kept before; [`Replica::restore_members`] takes it back.
    pub members: Option<Bytes>,
}

/// One document with its sessions, the gate of its store and its events.
///
/// `now` is always in milliseconds since the Unix epoch. Delays are measured with it too: let it
/// follow a monotonic clock, so that it does not jump back.
#[derive(Debug)]
pub struct Replica {
    name: String,
    pub(super) handle: u32,
    pub(super) document: Document,
    pub(super) durable: bool,
    pub(super) config: Config,
    /// The document's version.
    pub(super) version: Version,
    /// What live updates are told against.
    pub(super) contexts: Contexts,
    /// Own operations up to this one were there at the start, or were done under this id since.
    pub(super) loaded_seq: u64,
    /// Own operations up to this one were told of since, as far as anybody listened.
    pub(super) told: u64,
    /// Own operations up to this one may be told of.
    pub(super) own_stored: u64,
    pub(super) last_write: u64,
    pub(super) stored_write: u64,
    writes: VecDeque<Write>,
    /// The operations of each write that is not stored yet.
    unstored: VecDeque<(u64, DotSet)>,
    /// Own deltas that wait for the store.
    withheld: VecDeque<Withheld>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    pub(super) ready: VecDeque<SessionId>,
    pub(super) events: VecDeque<Event>,
    observed: bool,
    pub(super) timers: BTreeSet<(u64, Timer)>,
    digest_at: Option<u64>,
    /// Sessions that are owed an acknowledgement once nothing up to a mark can be lost any more.
    pub(super) owing: VecDeque<(Mark, SessionId)>,
    /// Sessions whose catch-up waits for the store.
    pub(super) gated: Vec<SessionId>,
    /// The latest catch-up, for the next peer that lacks the same.
    pub(super) catch_up: Option<CatchUp>,
    pub(super) digest_frame: Option<Bytes>,
    pub(super) presences: Presences,
    pub(super) members: Members,
    reused: bool,
    pub(super) repaired: u64,
    pub(super) pool: Pool,
    pub(super) borrowing: Borrowing,
    pub(super) bus: Option<Bus>,
}

#[derive(Debug)]
struct Withheld {
    write: u64,
    dots: DotSet,
    delta: Bytes,
    update: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Hello(SessionId),
    Ack(SessionId),
    Want(SessionId),
    Search(SessionId),
    Digest,
    Members,
    Loan,
    Bus,
}

impl Replica {
    /// A replica of the document `name`, which it calls `handle` on all its connections.
    ///
    /// `durable` says that there is a store: [`poll_write`](Self::poll_write) gives what it must
    /// hold (what `document` holds now is taken to be stored), and own operations wait for it.
    pub fn new(name: &str, handle: u32, document: Document, durable: bool, config: Config) -> Self {
        let own_seq = document.own_seq();
        let borrows = config.borrows && !durable;
        let version = document.version();
        let mut contexts = Contexts::new(name);
        contexts.catch_up(&document, &version);
        let mut replica = Self {
            name: name.to_owned(),
            handle,
            durable,
            config,
            version,
            contexts,
            loaded_seq: own_seq,
            told: 0,
            own_stored: own_seq,
            last_write: 0,
            stored_write: if durable { 0 } else { u64::MAX },
            writes: VecDeque::new(),
            unstored: VecDeque::new(),
            withheld: VecDeque::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            ready: VecDeque::new(),
            events: VecDeque::new(),
            observed: false,
            timers: BTreeSet::new(),
            digest_at: None,
            owing: VecDeque::new(),
            gated: Vec::new(),
            catch_up: None,
            digest_frame: None,
            presences: Presences::default(),
            members: Members::default(),
            reused: false,
            repaired: 0,
            pool: Pool::default(),
            borrowing: Borrowing::new(borrows, &document),
            bus: None,
            document,
        };
        replica.assume_members();
        replica
    }

    /// The document's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that stands for the document on every frame from here.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The document, to read.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The operations applied; as [`Document::version`] without the cost of building it.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether [`Event::Changed`] is given; off at first.
    pub fn observe(&mut self, on: bool) {
        self.observed = on;
        self.document.observe(on);
    }

    /// Several operations as one; where the closure fails, none. Visible here at once; sent to
    /// the peers as one delta, with a store only when it has it.
    pub fn transact<T, E>(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.document.own_seq();
        let result = self.document.transact(now, f)?;
        if self.document.own_seq() > before {
            self.wrote(before, now);
            self.tend(now);
        }
        Ok(result)
    }

    /// As [`Document::undo`].
    pub fn undo(&mut self, now: u64, operations: RangeInclusive<u64>) -> Result<(), Error> {
        let before = self.document.own_seq();
        self.document.undo(now, operations)?;
        if self.document.own_seq() > before {
            self.wrote(before, now);
            self.tend(now);
        }
        Ok(())
    }

    /// Opens a session; its hello is ready to be sent.
    ///
    /// Credentials are at most 16 KiB; the peer refuses more.
    pub fn connect(&mut self, now: u64, access: Access, credentials: Option<Bytes>) -> SessionId {
        let session = Session::new(true, access, self.config.gap_delay);
        self.open_session(now, session, credentials)
    }

    /// As [`connect`](Self::connect), to another server on the bus.
    pub(super) fn connect_by_bus(&mut self, now: u64) -> SessionId {
        let mut session = Session::new(true, Access::ALL, self.config.gap_delay);
        session.on_bus = true;
        self.open_session(now, session, None)
    }

    fn open_session(
        &mut self,
        now: u64,
        session: Session,
        credentials: Option<Bytes>,
    ) -> SessionId {
        let access = session.access;
        let id = self.insert(session);
        self.greet(id, false, access, credentials);
        let deadline = now.saturating_add(self.config.hello_timeout);
        self.timers.insert((deadline, Timer::Hello(id)));
        id
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
        self.accept_from(now, hello, granted, false)
    }

    pub(super) fn accept_from(
        &mut self,
        now: u64,
        hello: &Hello,
        granted: Access,
        on_bus: bool,
    ) -> Result<SessionId, ProtocolError> {
        if hello.reply {
            return Err(ProtocolError::HelloDirection);
        }
        let access = granted.and(hello.access);
        if access == Access::default() {
            return Err(ProtocolError::Refused(
                "neither read nor write access to this document".to_owned(),
            ));
        }
        // Who may not write could invent what it has seen, and make every session restart.
        let checked = self.check_hello(hello);
        if let Err(ProtocolError::ReplicaReused { .. }) = checked
            && access.write
        {
            self.report_reuse();
        }
        checked?;
        if access.read {
            // The answer tells of all that the peer is going to be sent.
            self.settle_kept();
        }
        let mut session = Session::new(false, access, self.config.gap_delay);
        session.on_bus = on_bus;
        let id = self.insert(session);
        self.greet(id, true, access, None);
        self.establish(id, now, hello);
        Ok(id)
    }

    /// Ends a session in good order: its last frame, queued now, tells the peer why. For leaving a
    /// document while the connection stays, and for access that was revoked.
    pub fn end(&mut self, session: SessionId, code: ErrorCode, message: &str) {
        let frame = frame::error(self.handle, code, &self.name, message);
        self.shut(session, Some(frame));
    }

    /// The session's link is gone: forgets the session.
    pub fn close(&mut self, session: SessionId) {
        self.shut(session, None);
        self.sessions.remove(&session);
    }

    /// The next thing to store, in order; nothing without a store.
    pub fn poll_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    /// All writes up to `number` are in the store, and will be there after a crash.
    pub fn stored(&mut self, number: u64, now: u64) {
        let number = number.min(self.last_write);
        if !self.durable || number <= self.stored_write {
            return;
        }
        self.stored_write = number;
        self.digest_frame = None;
        while self.unstored.front().is_some_and(|(n, _)| *n <= number) {
            self.unstored.pop_front();
        }
        while self.withheld.front().is_some_and(|w| w.write <= number) {
            let Some(withheld) = self.withheld.pop_front() else {
                break;
            };
            self.own_stored = withheld.dots.last_seq(self.document.replica());
            let Withheld {
                dots,
                delta,
                update,
                ..
            } = withheld;
            self.owe_bus(&dots, &delta, false);
            self.publish(&dots, &delta, update.as_ref(), None, false);
        }
        self.open_gates();
        self.tend(now);
        self.settle_owing(now);
    }

    /// Acknowledges what cannot be lost any more.
    pub(super) fn settle_owing(&mut self, now: u64) {
        let safe = self.safe_mark();
        while let Some((_, session)) = self.owing.pop_front_if(|(mark, _)| mark.is_within(safe)) {
            self.schedule_ack(session, now);
        }
    }

    /// The whole state, to take the place of everything stored up to its number (compaction).
    pub fn snapshot(&self) -> Write {
        Write {
            number: self.last_write,
            delta: Bytes::from(self.document.encode()),
            replaces: true,
            members: None,
        }
    }

    /// How many writes were made that are not known to be stored.
    pub fn unstored(&self) -> u64 {
        self.last_write.saturating_sub(self.stored_write)
    }

    /// What the owner should be told, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn timeout(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: u64) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            match timer {
                Timer::Hello(id) => {
                    let opening = |s: &Session| s.phase == Phase::Opening;
                    if self.sessions.get(&id).is_some_and(opening) {
                        let waited = self.config.hello_timeout;
                        self.fail(id, ProtocolError::HelloTimeout(waited));
                    }
                }
                Timer::Ack(id) => self.ack_timeout(id, at),
                Timer::Want(id) => self.want_timeout(id, at, now),
                Timer::Search(id) => self.search_timeout(id, at),
                Timer::Digest => self.digest_timeout(now),
                Timer::Members => self.members_timeout(now, at),
                Timer::Loan => self.loan_timeout(at, now),
                Timer::Bus => self.bus_timeout(at, now),
            }
        }
    }

    /// As [`Document::prune_log`].
    pub fn prune_log(&mut self, stable: &Version) {
        self.document.prune_log(stable);
    }

    /// Sets what the peers are told of this replica's presence, at most 64 KiB; `None` ends it.
    pub fn set_presence(&mut self, now: u64, state: Option<Bytes>) -> Result<(), ProtocolError> {
        self.presences.set_own(now, state)?;
        let own = self.document.replica();
        self.tell_presence(own, None);
        Ok(())
    }

    /// The presence of others, in the order of their ids.
    pub fn presences(&self) -> impl Iterator<Item = (ReplicaId, &Bytes)> {
        self.presences.others()
    }

    /// Presents new credentials to the peer of a session that this side opened; to a peer that has
    /// not answered the hello yet, too.
    pub fn refresh(&mut self, session: SessionId, credentials: &[u8]) {
        let frame = frame::credentials(self.handle, credentials);
        let known = self.sessions.get_mut(&session);
        if let Some(s) = known.filter(|s| s.phase != Phase::Closed) {
            s.control.push_back(frame);
            self.wake(session);
        }
    }

    /// Continues under a fresh id, after [`Event::ReplicaReused`]. All sessions end and are to be
    /// opened again; a store is given the whole state anew.
    ///
    /// Own operations done since this `Replica` was made are done again under the new id; older
    /// ones are taken to be what the others know under their dots.
    pub fn change_replica(&mut self, replica: ReplicaId) {
        self.end_all(&CloseReason::ReplicaChanged);
        self.rename_member(self.document.replica(), replica, false);
        let renaming = self.document.take_name(replica, self.loaded_seq);
        self.rename_required(renaming);
        self.borrowing.settle();
        self.reused = false;
        self.loaded_seq = 0;
        self.own_stored = 0;
        self.told = 0;
        self.forsake_writes();
        self.version = self.document.version();
        self.forsake_bus();
        self.changed();
        let own_seq = self.document.own_seq();
        if !self.durable {
            self.own_stored = own_seq;
            return;
        }
        let mut dots = self.unstored_dots().intersection(&self.version);
        if own_seq > 0 {
            dots.insert_range(replica, 1, own_seq);
        }
        let state = Bytes::from(self.document.encode());
        self.write_anew(state, dots, own_seq, &DotSet::new());
    }

    /// What waits for the store, or to be stored, is not to be: the whole state will be.
    pub(super) fn forsake_writes(&mut self) {
        self.withheld.clear();
        self.writes.clear();
    }

    /// Stores the whole state anew, and tells then of the own operations that are not stored yet,
    /// and of those `beside` them that belong together with these.
    pub(super) fn write_anew(&mut self, state: Bytes, dots: DotSet, own_seq: u64, beside: &DotSet) {
        self.unstored.clear();
        let write = self.write(state, dots, true);
        let before = self.own_stored;
        if own_seq > before {
            let own = self.document.replica();
            let dots = DotSet::from_range(own, before + 1, own_seq).union(beside);
            let delta = Bytes::from(self.document.delta_of(&dots).encode());
            self.withheld.push_back(Withheld {
                write,
                dots,
                delta,
                update: None,
            });
        }
    }

    /// Ends all sessions, to be opened again.
    pub(super) fn end_all(&mut self, reason: &CloseReason) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            if self.sessions[&id].phase != Phase::Closed {
                self.events.push_back(Event::Closed {
                    session: id,
                    reason: reason.clone(),
                });
                self.end(id, ErrorCode::Restart, &reason.to_string());
            }
        }
    }

    /// What each connected peer that is sent operations has stored, as far as it has said; costs
    /// the size of the version for each.
    pub fn acknowledged(&self) -> impl Iterator<Item = (SessionId, ReplicaId, Version)> {
        let published = self.published();
        let open = self
            .sessions
            .iter()
            .filter(|(_, s)| s.is_open() && s.sends() && s.anew.is_none());
        open.filter_map(move |(id, s)| Some((*id, s.peer?, published.difference(&s.unacked))))
    }

    /// Whether all connected peers that accept operations of this replica have stored its own
    /// operations up to `own_seq`. True where there is no such peer.
    pub fn is_flushed(&self, own_seq: u64) -> bool {
        let mut ids = self.sessions.keys();
        ids.all(|id| self.is_flushed_to(*id, own_seq) != Some(false))
    }

    /// As [`is_flushed`](Self::is_flushed), for one peer; `None` where the session is not
    /// connected or sends nothing.
    pub fn is_flushed_to(&self, session: SessionId, own_seq: u64) -> Option<bool> {
        let session = self.sessions.get(&session)?;
        let own = self.document.replica();
        (session.is_open() && session.sends() && !session.on_bus).then(|| {
            let stored = own_seq <= self.own_stored && session.has_stored(own, own_seq);
            stored && session.anew.is_none()
        })
    }

    /// How many values were damaged or missing here, and taken from a peer.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// How a session stands.
    pub fn session(&self, session: SessionId) -> Option<SessionStatus> {
        Some(self.sessions.get(&session)?.status(session))
    }

    /// How all sessions stand, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus> {
        self.sessions.iter().map(|(id, s)| s.status(*id))
    }

    /// The operations that may be told of: all but own ones that are not stored.
    pub(super) fn published(&self) -> Version {
        let own_seq = self.document.own_seq();
        if own_seq <= self.own_stored {
            return self.version.clone();
        }
        let own = self.document.replica();
        self.version
            .difference(&DotSet::from_range(own, self.own_stored + 1, own_seq))
    }

    /// The operations that would be lost in a crash.
    pub(super) fn unstored_dots(&self) -> DotSet {
        let mut dots = DotSet::new();
        for (_, unstored) in &self.unstored {
            dots.union_with(unstored);
        }
        dots
    }

    /// The operations that would be lost in a crash, or with this machine where others are to have
    /// them too.
    pub(super) fn unsafe_dots(&self) -> DotSet {
        let mut dots = self.unstored_dots();
        if let Some(bus) = &self.bus {
            dots.union_with(&bus.unpublished);
        }
        dots
    }

    /// The operations that would not be lost so.
    pub(super) fn stored_version(&self) -> Version {
        self.published().difference(&self.unsafe_dots())
    }

    /// Own operations above `before` are new: stores them, and tells of them when that is done.
    fn wrote(&mut self, before: u64, now: u64) {
        let (own, own_seq) = (self.document.replica(), self.document.own_seq());
        let dots = DotSet::from_range(own, before + 1, own_seq);
        self.version.insert_range(own, before + 1, own_seq);
        self.changed();
        if !self.durable {
            self.note_written(now, before);
            if !self.is_settled() {
                return self.seek_id(now);
            }
        }
        let listened = !self.sessions.is_empty();
        if !self.durable {
            self.own_stored = own_seq;
            if !listened && self.bus.is_none() {
                return;
            }
        }
        let delta = self.document.own_since(before);
        let bytes = Bytes::from(delta.encode());
        let update = if listened {
            self.contexts.compact(&self.document, &delta)
        } else {
            None
        };
        let (delta, update) = (bytes, update.map(Bytes::from));
        if self.durable {
            let write = self.write(delta.clone(), dots.clone(), false);
            self.withheld.push_back(Withheld {
                write,
                dots,
                delta,
                update,
            });
        } else {
            self.owe_bus(&dots, &delta, false);
            self.publish(&dots, &delta, update.as_ref(), None, false);
        }
    }

    /// Queues a write; returns its number. Without a store, does nothing.
    pub(super) fn write(&mut self, delta: Bytes, dots: DotSet, replaces: bool) -> u64 {
        if self.durable {
            self.last_write += 1;
            self.writes.push_back(Write {
                number: self.last_write,
                delta,
                replaces,
                members: None,
            });
            self.unstored.push_back((self.last_write, dots));
        }
        self.last_write
    }

    /// Queues a write of what is to be kept of the members.
    pub(super) fn write_members(&mut self, record: Bytes) {
        self.last_write += 1;
        self.writes.push_back(Write {
            number: self.last_write,
            delta: Bytes::new(),
            replaces: false,
            members: Some(record),
        });
    }

    /// The document is not what it was.
    pub(super) fn changed(&mut self) {
        self.catch_up = None;
        self.digest_frame = None;
        if self.observed {
            let batches = self.document.take_changes();
            self.events.extend(batches.into_iter().map(Event::Changed));
        }
    }

    fn insert(&mut self, session: Session) -> SessionId {
        let id = self.next_session();
        self.sessions.insert(id, session);
        id
    }

    pub(super) fn next_session(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        id
    }

    /// Queues a hello, or the answer to one.
    fn greet(&mut self, id: SessionId, reply: bool, access: Access, credentials: Option<Bytes>) {
        let hello = Hello {
            protocol: PROTOCOL,
            reply,
            document: self.name.clone(),
            replica: self.document.replica(),
            access,
            visits: self.is_visitor(),
            incomplete: self.is_incomplete(),
            version: self.stored_version(),
            required: self.members.table.required.clone(),
            heard: self.heard(),
            credentials,
        };
        let frame = frame::hello(self.handle, &hello);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.control.push_back(frame);
            session.greeted = (hello.version, hello.required);
        }
        self.wake(id);
    }

    /// Whether a hello fits this replica.
    pub(super) fn check_hello(&self, hello: &Hello) -> Result<(), ProtocolError> {
        if hello.document != self.name {
            return Err(ProtocolError::WrongDocument {
                ours: self.name.clone(),
                theirs: hello.document.clone(),
            });
        }
        if hello.replica == self.document.replica() {
            return Err(ProtocolError::SameReplica(hello.replica));
        }
        self.check_own(&hello.version)?;
        self.check_own(&hello.heard)
    }

    /// Whether the peer knows no own operation that was never told of.
    pub(super) fn check_own(&self, theirs: &DotSet) -> Result<(), ProtocolError> {
        let own = self.document.replica();
        let last = theirs.last_seq(own);
        let ours = self.loaded_seq.max(self.told);
        if last > ours {
            return Err(ProtocolError::ReplicaReused {
                replica: own,
                ours,
                theirs: last,
            });
        }
        Ok(())
    }

    /// Whether the version stays small enough to be told in a frame once these are applied.
    pub(super) fn check_version(&self, dots: &DotSet) -> Result<(), ProtocolError> {
        let most = self.version.ranges().len() + dots.ranges().len();
        if most <= MAX_VERSION_BYTES / MAX_RANGE_BYTES {
            return Ok(());
        }
        let mut bytes = Vec::new();
        put_dots(&mut bytes, &self.version.union(dots));
        let (found, limit) = (bytes.len(), MAX_VERSION_BYTES);
        if found > limit {
            return Err(ProtocolError::VersionTooLong { found, limit });
        }
        Ok(())
    }

    pub(super) fn report_reuse(&mut self) {
        if !self.reused {
            self.reused = true;
            self.events.push_back(Event::ReplicaReused);
        }
    }

    /// Both sides have said hello.
    pub(super) fn establish(&mut self, id: SessionId, now: u64, hello: &Hello) {
        let published = self.published();
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.phase = Phase::Open;
        session.peer = Some(hello.replica);
        session.heard = now;
        session.required = hello.required.clone();
        session.digest_due = session.on_bus;
        let (version, required) = &session.greeted;
        // Who has let go of as much himself holds nothing of it, though it may not be stored yet.
        let here = !required.covers(&hello.required) && is_left_behind(version, &hello.required);
        let there = !hello.required.covers(required) && is_left_behind(&hello.version, required);
        // Where both have let go of something, who opened the session gives way.
        let anew = match (here, there, session.opened) {
            (false, false, _) => None,
            (true, false, _) | (true, true, true) => Some(Anew::Here),
            (false, true, _) | (true, true, false) => Some(Anew::There),
        };
        if session.sends() {
            session.missing = published.difference(&hello.version);
            session.unacked = session.missing.clone();
        }
        if session.receives() {
            session.lacking = hello.version.difference(&self.version);
            session.promised = session.lacking.clone();
            session.incomplete = hello.incomplete;
        }
        if let Some(side) = anew {
            session.set_anew(side);
            let may = match side {
                Anew::Here => session.receives(),
                Anew::There => session.sends(),
            };
            if !may {
                return self.fail(id, ProtocolError::LeftBehind);
            }
        }
        self.events.push_back(Event::Connected {
            session: id,
            replica: hello.replica,
            access: session.access,
        });
        if session.is_ready_now() {
            self.events.push_back(Event::Ready(id));
        } else {
            self.arm_want(id, now.saturating_add(self.config.stall_delay));
        }
        if self.digest_at.is_none() {
            self.arm_digest(now);
        }
        self.greet_presence(id);
        if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.receives()) {
            session.visits = hello.visits;
            // Who comes to one of several servers and lacks what is sealed here was not waited for
            // either: he has written since he visited, at another one.
            let behind = is_left_behind(&hello.version, self.document.sealed_at());
            let moved = behind && !session.opened;
            session.visited = hello.visits || moved;
            if !hello.visits {
                self.greet_member(now, hello.replica, &hello.version);
            }
        }
        self.owe_members(id);
        self.wake(id);
        self.note_holder(id);
        self.seek_id(now);
    }

    /// Ends a session over a broken rule.
    pub(super) fn fail(&mut self, id: SessionId, error: ProtocolError) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let trusted = session.opened || session.access.write;
        if matches!(error, ProtocolError::ReplicaReused { .. }) && trusted {
            self.report_reuse();
        }
        self.end(id, error.code(), &error.to_string());
        self.events.push_back(Event::Closed {
            session: id,
            reason: error.into(),
        });
    }

    /// Drops all that a session holds; `last` is the one frame left to send.
    pub(super) fn shut(&mut self, id: SessionId, last: Option<Bytes>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.phase == Phase::Closed {
            return;
        }
        let presences = core::mem::take(&mut session.carried.replicas);
        self.note_offer_lost(id);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.clear();
        session.control.extend(last);
        self.lose_presences(id, &presences);
        self.wake(id);
        self.note_lender_lost(id);
    }

    fn arm_digest(&mut self, now: u64) {
        let at = now.saturating_add(self.config.digest_period.max(1));
        self.digest_at = Some(at);
        self.timers.insert((at, Timer::Digest));
    }

    fn digest_timeout(&mut self, now: u64) {
        // What was kept for peers that come at the same time is not kept for ever.
        self.catch_up = None;
        self.digest_at = None;
        let open: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in open {
            if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) {
                session.digest_due = true;
                self.wake(id);
            }
        }
        if !self.sessions.is_empty() {
            self.arm_digest(now);
        }
    }
}

/// Whether a replica of this version may hold what others let go of when all had what is required.
/// One that has nothing of that holds nothing of it.
pub(super) fn is_left_behind(version: &Version, required: &Version) -> bool {
    required.intersects(version) && !version.covers(required)
}
