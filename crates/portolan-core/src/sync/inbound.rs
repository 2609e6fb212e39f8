//! What arrives: each kind of frame, checked and taken in.

use alloc::vec::Vec;

use bytes::Bytes;

use super::error::ProtocolError;
use super::event::{CloseReason, Event};
use super::frame::{self, Digest, ErrorFrame, Frame, Hello, Message, Part, Purpose};
use super::replica::Replica;
use super::session::{Anew, Phase, Session, SessionId, Staging};
use crate::anew::Misfit;
use crate::compact::Expansion;
use crate::delta::Delta;
use crate::dots::{DotSet, Version};
use crate::replica::Dot;

/// What a delta was computed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One transaction: for everybody.
    Live,
    /// What this replica lacked.
    CatchUp,
    /// What the peer holds where states differ.
    Repair,
    /// The peer's whole state, to go on from.
    Anew,
}

/// Updates that a session holds until what they presuppose is here, which others may bring.
const MAX_HELD: usize = 32;
/// Bytes of them.
const MAX_HELD_BYTES: usize = 64 * 1024;

impl Replica {
    /// Takes in a frame of a session.
    ///
    /// On an error the document is untouched and the session is over: send what
    /// [`poll_frame`](Self::poll_frame) still gives (the error frame), then
    /// [`close`](Self::close). What still arrives for a session that is over is ignored.
    pub fn receive(
        &mut self,
        session: SessionId,
        now: u64,
        frame: Frame,
    ) -> Result<(), ProtocolError> {
        let taken = match self.sessions.get(&session).map(|s| s.phase) {
            None => return Err(ProtocolError::Closed),
            // The peer does not know yet.
            Some(Phase::Closed) => return Ok(()),
            Some(Phase::Opening) => self.receive_answer(session, now, frame.message),
            Some(Phase::Open) => self.receive_open(session, now, frame.message),
        };
        if let Err(error) = &taken {
            self.fail(session, error.clone());
        }
        taken
    }

    fn receive_answer(
        &mut self,
        id: SessionId,
        now: u64,
        message: Message,
    ) -> Result<(), ProtocolError> {
        match message {
            Message::Hello(hello) => self.receive_hello(id, now, &hello),
            Message::Error(error) => {
                self.receive_error(id, error);
                Ok(())
            }
            _ => Err(ProtocolError::DataBeforeHello),
        }
    }

    fn receive_open(
        &mut self,
        id: SessionId,
        now: u64,
        message: Message,
    ) -> Result<(), ProtocolError> {
        // One side is about to begin anew: what else was under way is of no use.
        let anew = self.sessions.get(&id).and_then(|s| s.anew);
        if anew == Some(Anew::There)
            && matches!(message, Message::Digest(_))
            && self.may_repair(id, now)
        {
            // It goes on as if nothing were: the state was lost on the way.
            self.send_whole(id)?;
        }
        if anew.is_some()
            && matches!(
                message,
                Message::Delta { .. }
                    | Message::Digest(_)
                    | Message::Repair(_)
                    | Message::Compare(_)
                    | Message::Compared(_)
            )
        {
            return Ok(());
        }
        match message {
            Message::Hello(_) => Err(ProtocolError::DuplicateHello),
            Message::Delta { delta, bytes } => {
                self.receive_delta(id, now, &delta, &bytes, None, Kind::Live)?;
                self.contexts.note(&delta);
                self.release(id, now)
            }
            Message::Update(update) => {
                self.receive_update(id, now, &update)?;
                self.release(id, now)
            }
            Message::Contexts(contexts) => {
                if !self.open(id)?.receives() {
                    return Err(ProtocolError::NotWritable);
                }
                self.contexts.take(&self.document, contexts);
                self.release(id, now)
            }
            Message::Part(part) => {
                self.receive_part(id, now, &part)?;
                self.release(id, now)
            }
            Message::Ack(dots) => self.receive_ack(id, &dots),
            Message::Want(version) => self.receive_want(id, &version),
            Message::Digest(digest) => self.receive_digest(id, now, &digest),
            Message::Repair(dots) => self.receive_repair(id, now, &dots),
            Message::Anew => self.receive_anew(id),
            Message::Members(news) => self.receive_news(id, now, news),
            Message::Missed => self.receive_missed(id, now),
            Message::Compare(question) => self.receive_compare(id, now, question),
            Message::Compared(answer) => self.receive_compared(id, now, &answer),
            Message::Presence(presence) => {
                self.receive_presence(id, presence);
                Ok(())
            }
            Message::Credentials(credentials) => {
                self.events.push_back(Event::Credentials {
                    session: id,
                    credentials,
                });
                Ok(())
            }
            Message::Error(error) => {
                self.receive_error(id, error);
                Ok(())
            }
            Message::Loan(message) => self.receive_loan(id, now, message),
        }
    }

    fn receive_hello(
        &mut self,
        id: SessionId,
        now: u64,
        hello: &Hello,
    ) -> Result<(), ProtocolError> {
        if !hello.reply {
            return Err(ProtocolError::HelloDirection);
        }
        self.check_hello(hello)?;
        let session = self.open(id)?;
        session.access = session.access.and(hello.access);
        self.establish(id, now, hello);
        Ok(())
    }

    fn receive_delta(
        &mut self,
        id: SessionId,
        now: u64,
        delta: &Delta,
        bytes: &Bytes,
        update: Option<&Bytes>,
        kind: Kind,
    ) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if !session.receives() {
            return Err(ProtocolError::NotWritable);
        }
        let visited = session.visited;
        let limit = self.config.clock_ahead;
        let ahead = delta.latest().millis().saturating_sub(now);
        if ahead > limit {
            return Err(ProtocolError::ClockAhead { ahead, limit });
        }
        let dots = delta.applied();
        self.check_own(dots)?;
        self.check_own(&delta.dead)?;
        if kind == Kind::Anew {
            self.check_version(dots)?;
            self.begin_anew(id, now, delta);
            return Ok(());
        }
        if kind == Kind::Repair {
            self.join_repair(id, now, delta);
            return Ok(());
        }
        self.check_version(dots)?;

        let mut new = DotSet::new();
        if !self.version.covers(dots) {
            match self.document.misfit_of_peer(delta, visited) {
                None => {}
                Some(Misfit::Theirs) => return self.send_whole(id),
                Some(Misfit::Ours) => return self.ask_whole(id),
            }
            new = self.document.apply_at(now, delta);
            self.version.union_with(&new);
        }
        if !new.is_empty() {
            self.write(bytes.clone(), new.clone(), false);
            self.owe_bus(&new, bytes, kind != Kind::Live);
            self.changed();
            self.note_writer(id, now, &new);
            self.note_source(id);
            self.tend(now);
        }
        self.heard_of(id, now, dots)?;
        if !new.is_empty() {
            self.note_gaps(id, now, &new);
            self.take_offer();
            self.publish(&new, bytes, update, Some(id), kind != Kind::Live);
        }
        Ok(())
    }

    /// Takes in an update, or holds it where it does not fit what is here.
    ///
    /// One that was damaged on the way does not fit either: both are asked for by version, at the
    /// rate of all gaps.
    fn receive_update(
        &mut self,
        id: SessionId,
        now: u64,
        update: &Bytes,
    ) -> Result<(), ProtocolError> {
        if !self.open(id)?.receives() {
            return Err(ProtocolError::NotWritable);
        }
        match self.contexts.expand(&self.document, update)? {
            Expansion::New(delta) => {
                let bytes = Bytes::from(delta.encode());
                self.receive_delta(id, now, &delta, &bytes, Some(update), Kind::Live)
            }
            Expansion::Repeated(dots) => self.heard_of(id, now, &dots),
            // It may be of somebody else, and then the peer does not have these.
            Expansion::Behind(dots) => self.owe_receipt(id, now, &dots),
            Expansion::Unclear => self.hold(id, now, update),
        }
    }

    fn hold(&mut self, id: SessionId, now: u64, update: &Bytes) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        let bytes: usize = session.held.iter().map(Bytes::len).sum();
        if session.held.len() < MAX_HELD && bytes + update.len() <= MAX_HELD_BYTES {
            session.held.push(update.clone());
        } else {
            session.broken = true;
        }
        let delay = session.want_delay;
        self.arm_want(id, now.saturating_add(delay));
        Ok(())
    }

    /// Tries the updates once more that did not fit what was here.
    pub(super) fn release(&mut self, id: SessionId, now: u64) -> Result<(), ProtocolError> {
        loop {
            let held = match self.sessions.get_mut(&id) {
                Some(session) if !session.held.is_empty() => core::mem::take(&mut session.held),
                _ => return Ok(()),
            };
            for update in &held {
                self.receive_update(id, now, update)?;
            }
            let left = self.sessions.get(&id).map_or(0, |s| s.held.len());
            if left == held.len() {
                return Ok(());
            }
        }
    }

    /// The peer has these operations, and they are here too.
    fn heard_of(&mut self, id: SessionId, now: u64, dots: &DotSet) -> Result<(), ProtocolError> {
        let own = self.document.replica();
        let session = self.open(id)?;
        session.known(dots);
        // An echo of own operations does not say that they are stored.
        if session.unacked.intersects(dots) {
            let mut theirs = dots.clone();
            if let last @ 1.. = theirs.last_seq(own) {
                theirs = theirs.difference(&DotSet::from_range(own, 1, last));
            }
            session.unacked = session.unacked.difference(&theirs);
        }
        self.owe_receipt(id, now, dots)
    }

    /// Owes the peer the acknowledgement of operations that are here.
    fn owe_receipt(&mut self, id: SessionId, now: u64, dots: &DotSet) -> Result<(), ProtocolError> {
        let (mark, safe) = (self.last_mark(), self.safe_mark());
        let session = self.open(id)?;
        session.heard = now;
        let first = session.receipt(mark, dots);
        if mark.is_within(safe) {
            self.schedule_ack(id, now);
        } else if first {
            self.owing.push_back((mark, id));
        }
        Ok(())
    }

    /// Joins in what a peer of the same version holds, where the states differ. It brings no
    /// operation: what it names and is not applied here comes by itself, with what it removed.
    fn join_repair(&mut self, id: SessionId, now: u64, state: &Delta) {
        if !self.takes_repair(id, now) {
            return;
        }
        let values = self.document.repair(state) as u64;
        self.repaired += values;
        if values > 0 {
            if self.durable {
                // What was repaired is no operation: no delta brings it to the store.
                let state = Bytes::from(self.document.encode());
                self.write(state, DotSet::new(), true);
            }
            self.changed();
            self.note_divergence(id);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.heard = now;
            session.repaired += values;
            session.digest_due = true;
        }
        self.wake(id);
    }

    /// States differ where they should not: tells so, once until they are equal again.
    pub(super) fn note_divergence(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.diverged
        {
            session.diverged = true;
            self.events.push_back(Event::Diverged { session: id });
        }
    }

    /// Operations that others presuppose, and that are not here, should arrive soon.
    fn note_gaps(&mut self, id: SessionId, now: u64, new: &DotSet) {
        let version = &self.version;
        let gap =
            |first: u64, replica| first > 1 && !version.contains(Dot::new(replica, first - 1));
        if !new.ranges().iter().any(|r| gap(r.first, r.replica)) {
            return;
        }
        let mut presupposed = DotSet::new();
        for range in new.ranges() {
            presupposed.insert_range(range.replica, 1, range.last);
        }
        self.note_lacking(id, now, &presupposed);
    }

    /// The peer has, or should have, these operations; what is not here is asked for after a while.
    fn note_lacking(&mut self, id: SessionId, now: u64, theirs: &DotSet) {
        let lacking = theirs.difference(&self.version);
        if let Some(session) = self.sessions.get_mut(&id)
            && !lacking.is_empty()
        {
            session.lacking.union_with(&lacking);
            let delay = session.want_delay;
            self.arm_want(id, now.saturating_add(delay));
        }
    }

    fn receive_part(&mut self, id: SessionId, now: u64, part: &Part) -> Result<(), ProtocolError> {
        let limit = self.config.staged_bytes as u64;
        let gap_delay = self.config.gap_delay;
        let session = self.open(id)?;
        if !session.receives() {
            return Err(ProtocolError::NotWritable);
        }
        if part.total > limit {
            let found = part.total;
            return Err(ProtocolError::Staged { found, limit });
        }
        // Where both would send their state, who opened the session gives way.
        let yields = session.opened || session.anew != Some(Anew::There);
        let wanted = match part.purpose {
            Purpose::Anew => yields,
            _ => session.anew.is_none(),
        };
        if !wanted || part.transfer <= session.finished_transfer {
            return Ok(());
        }
        session.heard = now;
        if session
            .staging
            .as_ref()
            .is_none_or(|s| s.transfer < part.transfer)
        {
            session.staging = Some(Staging {
                transfer: part.transfer,
                total: part.total,
                purpose: part.purpose,
                bytes: Vec::new(),
            });
        }
        let Some(staging) = session
            .staging
            .as_mut()
            .filter(|s| s.transfer == part.transfer)
        else {
            return Ok(());
        };
        if (staging.total, staging.purpose) != (part.total, part.purpose) {
            let rule = "a piece that contradicts the one before it";
            return Err(crate::DecodeError::Malformed { at: 0, what: rule }.into());
        }
        match part.offset.cmp(&(staging.bytes.len() as u64)) {
            core::cmp::Ordering::Less => return Ok(()),
            core::cmp::Ordering::Greater => {
                // A piece is lost: there is no use in the others.
                session.finished_transfer = part.transfer;
                session.staging = None;
                session.broken = true;
                self.arm_want(id, now.saturating_add(gap_delay));
                return Ok(());
            }
            core::cmp::Ordering::Equal => staging.bytes.extend_from_slice(&part.bytes),
        }
        if (staging.bytes.len() as u64) < staging.total {
            let stall = now.saturating_add(self.config.stall_delay);
            self.arm_want(id, stall);
            return Ok(());
        }
        let Some(Staging {
            transfer,
            purpose,
            bytes,
            ..
        }) = session.staging.take()
        else {
            return Ok(());
        };
        session.finished_transfer = transfer;
        let delta = Delta::decode(&bytes)?;
        let kind = match purpose {
            Purpose::CatchUp => Kind::CatchUp,
            Purpose::Repair => Kind::Repair,
            Purpose::Anew => Kind::Anew,
        };
        self.receive_delta(id, now, &delta, &Bytes::from(bytes), None, kind)?;
        if kind != Kind::Repair {
            self.contexts.catch_up(&self.document, delta.applied());
        }
        Ok(())
    }

    fn receive_ack(&mut self, id: SessionId, dots: &DotSet) -> Result<(), ProtocolError> {
        let own = self.document.replica();
        if self.open(id)?.acknowledged(dots, own) {
            self.events.push_back(Event::Acknowledged(id));
        }
        Ok(())
    }

    fn receive_want(&mut self, id: SessionId, version: &Version) -> Result<(), ProtocolError> {
        self.check_own(version)?;
        let lost = self.published().difference(version);
        let session = self.open(id)?;
        if !session.sends() {
            return Err(ProtocolError::NotReadable);
        }
        if let Some(side) = session.anew {
            session.whole_due = side == Anew::There;
            session.transfer = None;
            self.wake(id);
            return Ok(());
        }
        session.doubt(&lost);
        session.known(version);
        session.resend(lost);
        self.wake(id);
        Ok(())
    }

    /// The peer refers to what was let go of here: it is sent the whole state, to go on from.
    fn send_whole(&mut self, id: SessionId) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if !session.sends() {
            return Err(ProtocolError::LeftBehind);
        }
        session.set_anew(Anew::There);
        session.repaired_at = Some(session.heard);
        self.wake(id);
        Ok(())
    }

    /// The peer has let go of what is held here: asks for its whole state, to go on from.
    fn ask_whole(&mut self, id: SessionId) -> Result<(), ProtocolError> {
        let frame = frame::anew(self.handle);
        let session = self.open(id)?;
        session.set_anew(Anew::Here);
        session.broken = true;
        session.control.push_back(frame);
        self.wake(id);
        Ok(())
    }

    fn receive_anew(&mut self, id: SessionId) -> Result<(), ProtocolError> {
        if self.open(id)?.anew == Some(Anew::There) {
            return Ok(());
        }
        self.send_whole(id)
    }

    fn receive_digest(
        &mut self,
        id: SessionId,
        now: u64,
        theirs: &Digest,
    ) -> Result<(), ProtocolError> {
        let mut stored = theirs.version.clone();
        if !theirs.unstored.is_empty() {
            stored = stored.difference(&theirs.unstored);
        }
        self.receive_ack(id, &stored)?;
        let session = self.open(id)?;
        let receives = session.receives();
        if receives && session.news_heard.0 < theirs.members {
            self.ask_for_table(id);
        }
        if receives {
            self.check_own(&theirs.version)?;
            // What the peer has not, it cannot send.
            self.open(id)?.lacking = DotSet::new();
            self.note_lacking(id, now, &theirs.version);
            if !theirs.incomplete {
                self.note_complete(id, &theirs.version);
            }
        }
        if self.compares_later(id, theirs) {
            return Ok(());
        }
        self.compare(id, now, theirs)
    }

    /// Whether the states of both sides are equal, as far as it can be told; repairs them otherwise.
    pub(super) fn compare(
        &mut self,
        id: SessionId,
        now: u64,
        theirs: &Digest,
    ) -> Result<(), ProtocolError> {
        let receives = self.open(id)?.receives();
        self.document.hash_births();
        let ours = self.digest_to_compare(id, &theirs.version);
        let Some((fingerprint, ours)) = theirs.fingerprint.zip(ours) else {
            return Ok(());
        };
        if fingerprint != ours {
            self.note_divergence(id);
            self.recount(id, now);
        }
        let own = self.document.replica();
        if self.digest_to_compare(id, &theirs.version) == Some(fingerprint) {
            let session = self.open(id)?;
            session.unequal = 0;
            session.equal = true;
            if core::mem::take(&mut session.diverged) {
                let values = core::mem::take(&mut session.repaired);
                let session = id;
                self.events.push_back(Event::Repaired { session, values });
            }
            return Ok(());
        }
        let session = self.open(id)?;
        session.equal = false;
        session.unequal = session.unequal.saturating_add(1);
        // One side is enough to search; where the other does not, this one does the next time.
        let mutual = receives && session.sends();
        if mutual && session.unequal == 1 && session.peer < Some(own) {
            session.digest_due = true;
            self.wake(id);
        } else if receives && self.may_repair(id, now) {
            self.search_repair(id, now);
        }
        Ok(())
    }

    /// What the digest was at this version. Servers on a bus recall it where more has come since:
    /// all write there, and are seldom at one version.
    fn digest_to_compare(&self, id: SessionId, version: &Version) -> Option<u128> {
        if *version == self.version {
            return Some(self.document.digest());
        }
        let on_bus = self.sessions.get(&id).is_some_and(|s| s.on_bus);
        on_bus.then(|| self.document.digest_at(version)).flatten()
    }

    fn receive_repair(
        &mut self,
        id: SessionId,
        now: u64,
        dots: &DotSet,
    ) -> Result<(), ProtocolError> {
        if !self.open(id)?.sends() {
            return Err(ProtocolError::NotReadable);
        }
        if self.may_repair(id, now) {
            let held = dots.intersection(&self.version);
            self.open(id)?.repair_due = Some(held);
            self.wake(id);
        }
        Ok(())
    }

    /// Where a repair did not help, makes sure that the fingerprints are those of what is held:
    /// what was damaged may be they.
    fn recount(&mut self, id: SessionId, now: u64) {
        let period = self.config.digest_period / 2;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let due = seldom(&mut session.recounted_at, period, now);
        if due && session.unequal > 0 && self.document.recount() {
            self.changed();
        }
    }

    /// Whether a whole state may be exchanged again: it is dear, and a peer could ask for ever.
    fn may_repair(&mut self, id: SessionId, now: u64) -> bool {
        let period = self.config.digest_period / 2;
        let session = self.sessions.get_mut(&id);
        session.is_some_and(|s| seldom(&mut s.repaired_at, period, now))
    }

    /// Whether a whole state may be joined again: storing the outcome is dear too.
    fn takes_repair(&mut self, id: SessionId, now: u64) -> bool {
        let period = self.config.digest_period / 2;
        let session = self.sessions.get_mut(&id);
        session.is_some_and(|s| seldom(&mut s.took_repair_at, period, now))
    }

    fn receive_error(&mut self, id: SessionId, error: ErrorFrame) {
        self.shut(id, None);
        self.events.push_back(Event::Closed {
            session: id,
            reason: CloseReason::Peer {
                code: error.code,
                message: error.message,
            },
        });
    }

    pub(super) fn open(&mut self, id: SessionId) -> Result<&mut Session, ProtocolError> {
        self.sessions.get_mut(&id).ok_or(ProtocolError::Closed)
    }
}

/// Whether the last time is a period ago; then it is now.
fn seldom(last: &mut Option<u64>, period: u64, now: u64) -> bool {
    let may = last.is_none_or(|at| at.saturating_add(period) <= now);
    if may {
        *last = Some(now);
    }
    may
}
