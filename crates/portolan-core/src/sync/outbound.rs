//! What leaves: live frames to everybody, catch-ups to those who lack something, and the small
//! frames in between.

use alloc::sync::Arc;

use bytes::Bytes;

use super::event::Event;
use super::frame::{self, Digest, MAX_CHUNK_BYTES, Part, Purpose};
use super::replica::{Replica, Timer};
use super::search::Searching;
use super::session::{Live, Phase, SessionId, Transfer};
use crate::dots::DotSet;

/// A delta computed for a peer that caught up, and for whom it does.
#[derive(Debug)]
pub(super) struct CatchUp {
    dots: DotSet,
    delta: Bytes,
    gate: u64,
}

impl Replica {
    /// A session that has something to send; not named again before
    /// [`poll_frame`](Self::poll_frame) has given `None` for it.
    pub fn poll_ready(&mut self) -> Option<SessionId> {
        loop {
            let id = self.ready.pop_front()?;
            if self.sessions.get(&id).is_some_and(|s| s.awake && !s.on_bus) {
                return Some(id);
            }
        }
    }

    /// The next frame of a session. The frame counts as sent: pass it to the link or drop the link.
    ///
    /// A live frame costs a reference count; a catch-up is computed here, in time proportional to
    /// what the peer lacks.
    pub fn poll_frame(&mut self, session: SessionId, now: u64) -> Option<Bytes> {
        let streaming = self.sessions.get_mut(&session)?;
        // The usual case, without looking the session up again.
        if streaming.streams()
            && let Some(live) = streaming.pop()
        {
            return Some(live.frame.clone());
        }
        if streaming.rests() {
            streaming.awake = false;
            return None;
        }
        let frame = self.next_frame(session, now);
        if frame.is_none()
            && let Some(session) = self.sessions.get_mut(&session)
        {
            session.awake = false;
        }
        frame
    }

    fn next_frame(&mut self, id: SessionId, now: u64) -> Option<Bytes> {
        let session = self.sessions.get_mut(&id)?;
        if let Some(frame) = session.control.pop_front() {
            return Some(frame);
        }
        if session.phase != Phase::Open {
            return None;
        }
        if core::mem::take(&mut session.members_due)
            && let Some(frame) = self.members_frame(id)
        {
            return Some(frame);
        }
        let session = self.sessions.get_mut(&id)?;
        if session.anew.is_some() {
            if core::mem::take(&mut session.want_due) {
                return Some(frame::want(self.handle, &self.published()));
            }
            if core::mem::take(&mut session.whole_due) {
                let delta = Bytes::from(self.document.encode());
                self.transfer(id, DotSet::new(), delta, self.gate(), Purpose::Anew);
            }
            return self.transfer_frame(id);
        }
        if session.ack_due
            && let Some(frame) = self.ack_frame(id, now)
        {
            return Some(frame);
        }
        let session = self.sessions.get_mut(&id)?;
        if session.want_due {
            session.want_due = false;
            return Some(frame::want(self.handle, &self.published()));
        }
        if let Some(frame) = session.answer.take().or_else(|| session.question.take()) {
            return Some(frame);
        }
        if let Some(frame) = self.presence_frame(id) {
            return Some(frame);
        }
        if let Some(frame) = self.transfer_frame(id) {
            return Some(frame);
        }
        let session = self.sessions.get_mut(&id)?;
        // What comes after a catch-up may presuppose it, and waits with it for the store.
        if session.transfer.is_some() {
            return None;
        }
        if let Some(live) = session.pop() {
            return Some(live.frame.clone());
        }
        if self.withholds() {
            // What is computed now would show own operations.
            return None;
        }
        let session = self.sessions.get_mut(&id)?;
        if let Some(dots) = session.repair_due.take() {
            self.begin_repair(id, &dots);
            return self.transfer_frame(id);
        }
        if session.searches() {
            return None;
        }
        if !session.missing.is_empty() {
            self.begin_transfer(id, now);
            let session = self.sessions.get_mut(&id)?;
            let question = session.question.take();
            return question.or_else(|| self.transfer_frame(id));
        }
        if session.digest_due {
            session.digest_due = false;
            return Some(self.digest_frame());
        }
        None
    }

    /// Tells all peers but `source` of operations, whose delta has these bytes; by the update
    /// where there is one.
    ///
    /// The frame is built once. For each session it costs a few words: its dots among those not
    /// acknowledged, a reference in the queue.
    ///
    /// Where the delta was computed for this replica (`catch_up`), it may show as dead what
    /// operations have removed that others do not have: they are sent one of their own.
    pub(super) fn publish(
        &mut self,
        dots: &DotSet,
        delta: &Bytes,
        update: Option<&Bytes>,
        source: Option<SessionId>,
        catch_up: bool,
    ) {
        if self.sessions.is_empty() {
            return;
        }
        let large = catch_up || update.unwrap_or(delta).len() > self.chunk_bytes();
        let live = Arc::new(Live {
            frame: match update {
                _ if large => Bytes::new(),
                Some(update) => frame::update(self.handle, update),
                None => frame::delta(self.handle, delta),
            },
            dots: dots.clone(),
        });
        if large && !catch_up {
            self.catch_up = Some(CatchUp {
                dots: dots.clone(),
                delta: delta.clone(),
                gate: 0,
            });
        }
        let last_own = dots.last_seq(self.document.replica());
        let (limit, ready, events) = (self.config.queue_bytes, &mut self.ready, &mut self.events);
        for (id, session) in &mut self.sessions {
            if session.learn(dots) {
                events.push_back(Event::Ready(*id));
            }
            let told =
                session.is_open() && session.sends() && session.anew.is_none() && !session.on_bus;
            if Some(*id) == source || !told {
                continue;
            }
            self.told = self.told.max(last_own);
            session.unacked.union_with(dots);
            if large {
                session.missing.union_with(dots);
            } else {
                session.push(&live, limit);
            }
            if !session.awake {
                session.awake = true;
                ready.push_back(*id);
            }
        }
    }

    pub(super) fn wake(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.awake
        {
            session.awake = true;
            self.ready.push_back(id);
        }
    }

    /// Wakes the sessions whose catch-up waited for what is stored now.
    pub(super) fn open_gates(&mut self) {
        let mut gated = core::mem::take(&mut self.gated);
        gated.retain(|id| {
            let transfer = self.sessions.get(id).and_then(|s| s.transfer.as_ref());
            let closed = transfer.is_some_and(|t| t.gate > self.own_stored);
            if !closed {
                self.wake(*id);
            }
            closed
        });
        self.gated = gated;
    }

    /// Acknowledges soon what is stored of what came through a session: at once where the peer may
    /// wait for it, gathered otherwise.
    pub(super) fn schedule_ack(&mut self, id: SessionId, now: u64) {
        let safe = self.safe_mark();
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) else {
            return;
        };
        session.owe(safe);
        let at = match session.acked_at {
            _ if !session.awaited => now.saturating_add(self.config.ack_delay),
            None => now,
            Some(last) => now.max(last.saturating_add(self.config.ack_interval)),
        };
        if at <= now {
            session.ack_due = true;
            self.wake(id);
        } else if session.ack_at.is_none_or(|armed| at < armed) {
            session.ack_at = Some(at);
            self.timers.insert((at, Timer::Ack(id)));
        }
    }

    pub(super) fn ack_timeout(&mut self, id: SessionId, at: u64) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.ack_at == Some(at)
        {
            session.ack_at = None;
            session.ack_due = true;
            self.wake(id);
        }
    }

    fn ack_frame(&mut self, id: SessionId, now: u64) -> Option<Bytes> {
        let session = self.sessions.get_mut(&id)?;
        session.ack_due = false;
        session.ack_at = None;
        session.awaited = false;
        let dots = core::mem::take(&mut session.owed);
        if dots.is_empty() {
            return None;
        }
        session.acked_at = Some(now);
        Some(frame::ack(self.handle, &dots))
    }

    /// Asks the peer for what is lacking at `at`, if it still lacks then.
    pub(super) fn arm_want(&mut self, id: SessionId, at: u64) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.want_at.is_none_or(|armed| at < armed)
        {
            session.want_at = Some(at);
            self.timers.insert((at, Timer::Want(id)));
        }
    }

    pub(super) fn want_timeout(&mut self, id: SessionId, at: u64, now: u64) {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) else {
            return;
        };
        if session.want_at != Some(at) {
            return;
        }
        session.want_at = None;
        // Others may have brought meanwhile what held updates presuppose.
        if let Err(error) = self.release(id, now) {
            return self.fail(id, error);
        }
        let config = &self.config;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let stalls = session.heard.saturating_add(config.stall_delay);
        // In the middle of a catch-up nothing is lost before the peer has fallen silent.
        let underway = !session.ready && !session.incomplete || session.staging.is_some();
        if underway && !session.broken && now < stalls {
            return self.arm_want(id, stalls);
        }
        if let Some(staging) = session.staging.take() {
            session.finished_transfer = staging.transfer;
            session.broken = true;
        }
        // What could not be told of is in the answer.
        session.broken |= !session.held.is_empty();
        session.held.clear();
        if session.lacking.is_empty() && !session.broken {
            session.want_delay = config.gap_delay;
            return;
        }
        session.broken = false;
        session.want_due = true;
        let doubled = session.want_delay.saturating_mul(2);
        session.want_delay = doubled.min(config.max_want_delay).max(1);
        let next = now.saturating_add(session.want_delay);
        self.arm_want(id, next);
        self.wake(id);
    }

    fn chunk_bytes(&self) -> usize {
        self.config.chunk_bytes.clamp(1, MAX_CHUNK_BYTES)
    }

    /// Computes what a session lacks, as one delta; or begins the search that tells what must be
    /// in it.
    fn begin_transfer(&mut self, id: SessionId, now: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let searching = session.searching.take().filter(Searching::is_catch_up);
        // All that the peer is not known to have, what is on its way included: what the delta shows
        // as dead, an operation in it must have removed, or one that the peer surely has.
        let mut dots = session.missing.union(&session.unacked);
        // What is here shows what own operations did that are not stored yet: they go with it.
        if let gate @ 1.. = self.gate() {
            let own = self.document.replica();
            dots.insert_range(own, self.own_stored + 1, gate);
        }
        if let Some(searching) = searching {
            let delta = self.delta_found(searching, &dots);
            let (dots, delta) = (delta.applied.clone(), Bytes::from(delta.encode()));
            return self.transfer(id, dots, delta, self.gate(), Purpose::CatchUp);
        }
        let known = self.catch_up.take().filter(|known| known.dots == dots);
        if known.is_none() && self.search_before(id, &dots, now) {
            return;
        }
        let catch_up = known.unwrap_or_else(|| CatchUp {
            delta: Bytes::from(if dots == self.version {
                self.document.encode()
            } else {
                self.document.delta_of(&dots).encode()
            }),
            gate: self.gate(),
            dots,
        });
        let (dots, delta, gate) = (catch_up.dots.clone(), catch_up.delta.clone(), catch_up.gate);
        self.catch_up = Some(catch_up);
        self.transfer(id, dots, delta, gate, Purpose::CatchUp);
    }

    /// Sends what is live of these operations, to be joined with a state that differs where it
    /// should not.
    fn begin_repair(&mut self, id: SessionId, dots: &DotSet) {
        let delta = Bytes::from(if dots.covers(&self.version) {
            self.document.encode()
        } else {
            self.document.state_among(dots).encode()
        });
        let gate = self.gate();
        self.transfer(id, DotSet::new(), delta, gate, Purpose::Repair);
    }

    /// The own operation that must be stored before what the document shows now may be told of:
    /// even where a delta does not name it, it may show what it replaced.
    pub(super) fn gate(&self) -> u64 {
        let own_seq = self.document.own_seq();
        if own_seq > self.own_stored {
            own_seq
        } else {
            0
        }
    }

    fn transfer(&mut self, id: SessionId, dots: DotSet, delta: Bytes, gate: u64, purpose: Purpose) {
        let catch_up = purpose == Purpose::CatchUp;
        if gate > self.own_stored {
            self.gated.push(id);
        }
        let last_own = if catch_up {
            dots.last_seq(self.document.replica())
        } else {
            self.document.own_seq()
        };
        self.told = self.told.max(last_own);
        let contexts = self.contexts.not_live(&self.document, &dots);
        let contexts = Some(contexts).filter(|contexts| !contexts.is_empty() && catch_up);
        let contexts = contexts.map(|contexts| frame::contexts(self.handle, &contexts));
        if let Some(session) = self.sessions.get_mut(&id) {
            if catch_up {
                session.missing = DotSet::new();
            }
            session.transfers += 1;
            session.transfer = Some(Transfer {
                number: session.transfers,
                delta,
                offset: 0,
                dots,
                gate,
                purpose,
                contexts,
            });
        }
    }

    /// The next piece of the catch-up on its way, if it may leave.
    fn transfer_frame(&mut self, id: SessionId) -> Option<Bytes> {
        let chunk_bytes = self.chunk_bytes();
        let session = self.sessions.get_mut(&id)?;
        let transfer = session.transfer.as_mut()?;
        if transfer.gate > self.own_stored {
            return None;
        }
        let total = transfer.delta.len();
        let end = total.min(transfer.offset + chunk_bytes);
        let frame = frame::part(
            self.handle,
            &Part {
                transfer: transfer.number,
                purpose: transfer.purpose,
                total: total as u64,
                offset: transfer.offset as u64,
                bytes: transfer.delta.slice(transfer.offset..end),
            },
        );
        transfer.offset = end;
        if end == total {
            let transfer = session.transfer.take();
            session.control.extend(transfer.and_then(|t| t.contexts));
        }
        Some(frame)
    }

    /// One frame for all sessions to which everything was sent.
    fn digest_frame(&mut self) -> Bytes {
        if let Some(frame) = &self.digest_frame {
            return frame.clone();
        }
        self.document.hash_births();
        let version = self.published();
        let digest = Digest {
            unstored: self.unsafe_dots().intersection(&version),
            fingerprint: self.document.digest_at(&version),
            incomplete: self.is_incomplete(),
            members: self.told_revision(),
            version,
        };
        let frame = frame::digest(self.handle, &digest);
        self.digest_frame = Some(frame.clone());
        frame
    }
}
