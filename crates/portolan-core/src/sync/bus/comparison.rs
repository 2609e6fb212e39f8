//! Servers on a bus compare what they hold, and repair it where it differs.
//!
//! Each tells now and then how far it has read the log, its version, and a digest: one of them for
//! all, where the others hold the same. Who has written or read more since compares what he held
//! at that version, as far as he can recall it; who lacks some of it waits for it first. What was on the log up to a place, everybody has who has
//! read up to there. Who lacks some of it (an entry was lost, or had no place there), or holds
//! something else at an equal version (damage, a mistake in the program), opens a session with who
//! told it, whose frames go by the bus: there the usual ways of catching up, of repair, and of
//! beginning anew lead to equal states. It ends when both hold the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::message::{Digest, Line, Word};
use crate::dots::DotSet;
use crate::sync::error::ErrorCode;
use crate::sync::frame::{self, Access, Frame};
use crate::sync::replica::Replica;
use crate::sync::session::{Phase, Session, SessionId};

/// Most sessions by the bus at once: what differs at one server, it compares with one other.
const MAX_LINES: usize = 16;
/// How long such a session may take in periods of digests, and at the least, in milliseconds.
const PATIENCE: (u64, u64) = (2, 10_000);

/// Until both sides of a session by the bus compare again.
const ASK_AGAIN: u64 = 1_000;

/// How a replica is in comparing.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// When the own digest is told if nobody tells the same before, and whether it is due.
    at: Option<u64>,
    due: bool,
    /// A digest of somebody who has read further or has more, and his address.
    ahead: Option<(u64, Digest)>,
    lines: BTreeMap<SessionId, End>,
    /// The number of the last session that was opened here.
    opened: u64,
    /// How many were opened, for that something differed.
    differences: u64,
}

/// This end of a session by the bus.
#[derive(Debug)]
struct End {
    peer: u64,
    number: u64,
    opened: bool,
    /// When it is given up.
    until: u64,
    /// When it is compared again.
    asks_at: u64,
    /// What the peer has told that it holds, more than is here so far.
    ahead: Option<frame::Digest>,
    /// Whether it ends as soon as all is sent.
    ends: bool,
}

impl Comparison {
    pub(super) fn awaits_entries(&self) -> bool {
        self.ahead.is_some() || self.lines.values().any(|end| end.ahead.is_some())
    }
}

impl Replica {
    /// How often something differed between this replica and another on the bus, which none of
    /// them should have seen: each time it is repaired, and told as
    /// [`Event::Diverged`](crate::sync::Event::Diverged).
    pub fn bus_differences(&self) -> u64 {
        let bus = self.bus.as_ref();
        bus.map_or(0, |bus| bus.comparison.differences)
    }

    /// Whether there is something to say about it.
    pub(super) fn compares(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| {
            let awake = |id| self.sessions.get(id).is_none_or(|session| session.awake);
            bus.comparison.due && bus.joined || bus.comparison.lines.keys().any(awake)
        })
    }

    /// From now on digests are told.
    pub(super) fn begin_to_compare(&mut self, now: u64) {
        let period = self.config.digest_period.max(1);
        if let Some(bus) = &mut self.bus
            && bus.comparison.at.is_none()
        {
            // Not all at once: the first one speaks for all.
            let at = now + period / 2 + bus.address % (period / 2 + 1);
            bus.comparison.at = Some(at);
            self.arm_bus(at);
        }
    }

    pub(super) fn comparison_timeout(&mut self, now: u64) -> Option<u64> {
        let period = self.config.digest_period.max(1);
        let bus = self.bus.as_mut()?;
        if bus.comparison.at.is_some_and(|at| at <= now) {
            bus.comparison.due = true;
            bus.comparison.at = Some(now + period);
        }
        let lines = bus.comparison.lines.keys().copied();
        for id in lines.collect::<Vec<_>>() {
            self.ask_line(id, now);
        }
        let bus = self.bus.as_mut()?;
        let overdue = bus.comparison.lines.iter();
        let overdue = overdue.filter(|(_, end)| end.until <= now);
        let overdue = overdue.map(|(id, _)| *id);
        for id in overdue.collect::<Vec<_>>() {
            self.end(id, ErrorCode::Timeout, "not equal for too long");
        }
        let comparison = &self.bus.as_ref()?.comparison;
        let ends = comparison.lines.values();
        let ends = ends.flat_map(|end| [end.until, end.asks_at]);
        ends.filter(|until| *until > now).chain(comparison.at).min()
    }

    /// Keeps what the peer of a session by the bus holds until it is here too; whether that is to
    /// be waited for.
    pub(in crate::sync) fn compares_later(
        &mut self,
        id: SessionId,
        theirs: &frame::Digest,
    ) -> bool {
        let later = !self.version.covers(&theirs.version);
        let lines = self.bus.as_mut().map(|bus| &mut bus.comparison.lines);
        let end = lines.and_then(|lines| lines.get_mut(&id));
        end.is_some_and(|end| {
            end.ahead = later.then(|| theirs.clone());
            later
        })
    }

    fn compare_late(&mut self, id: SessionId, now: u64) {
        let lines = self.bus.as_mut().map(|bus| &mut bus.comparison.lines);
        let end = lines.and_then(|lines| lines.get_mut(&id));
        let version = &self.version;
        let here = |digest: &mut frame::Digest| version.covers(&digest.version);
        if let Some(digest) = end.and_then(|end| end.ahead.take_if(here)) {
            // Whatever is wrong with it, it was said when it came.
            let _ = self.compare(id, now, &digest);
            self.end_if_equal(id);
        }
    }

    /// While all write, both sides hold the same for moments only: they are compared again and
    /// again.
    fn ask_line(&mut self, id: SessionId, now: u64) {
        let lines = self.bus.as_mut().map(|bus| &mut bus.comparison.lines);
        let end = lines.and_then(|lines| lines.get_mut(&id));
        let Some(end) = end.filter(|end| end.asks_at <= now && !end.ends) else {
            return;
        };
        end.asks_at = now + ASK_AGAIN;
        if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) {
            session.digest_due = true;
        }
        self.wake(id);
    }

    /// What is to be said, having read the log up to a place.
    pub(super) fn comparison_word(&mut self, now: u64, at: (u64, u64)) -> Option<Word> {
        let bus = self.bus.as_mut()?;
        let version = &self.version;
        let reached = |(_, digest): &mut (u64, Digest)| {
            let read = digest.at.1 <= at.1 && version.covers(&digest.version);
            digest.at.0 != at.0 || read
        };
        if let Some((from, digest)) = bus.comparison.ahead.take_if(reached) {
            self.receive_bus_digest(now, at, from, digest);
        }
        let ids = self.bus.as_ref()?.comparison.lines.keys().copied();
        for id in ids.collect::<Vec<_>>() {
            self.compare_late(id, now);
            if let Some(frame) = self.line_frame(id, now) {
                return Some(frame);
            }
        }
        let bus = self.bus.as_mut()?;
        if bus.joined && core::mem::take(&mut bus.comparison.due) {
            let unpublished = bus.unpublished.clone();
            return Some(Word::Digest(self.bus_digest(at, &unpublished)));
        }
        None
    }

    fn bus_digest(&mut self, at: (u64, u64), unpublished: &DotSet) -> Digest {
        self.document.hash_births();
        let version = self.published();
        Digest {
            at,
            unpublished: unpublished.intersection(&version),
            fingerprint: self.document.digest_at(&version),
            version,
        }
    }

    pub(super) fn receive_bus_digest(
        &mut self,
        now: u64,
        at: (u64, u64),
        from: u64,
        theirs: Digest,
    ) {
        let published = self.published();
        let period = self.config.digest_period.max(1);
        let Some(bus) = self.bus.as_mut().filter(|bus| bus.joined) else {
            return;
        };
        if theirs.at.0 != at.0 {
            return;
        }
        if theirs.at.1 > at.1 {
            bus.comparison.ahead = Some((from, theirs));
            return;
        }
        let on_log = theirs.version.difference(&theirs.unpublished);
        if !self.version.covers(&on_log) {
            return self.open_line(now, from);
        }
        if !self.version.covers(&theirs.version) {
            // The rest is under way.
            bus.comparison.ahead = Some((from, theirs));
            return;
        }
        self.document.hash_births();
        let ours = self.document.digest_at(&theirs.version);
        if let Some((ours, theirs)) = ours.zip(theirs.fingerprint)
            && ours != theirs
        {
            return self.open_line(now, from);
        }
        if theirs.version == self.version {
            if theirs.fingerprint.is_none() {
                return;
            }
            bus.comparison.due = false;
            let at = now + period + bus.address % (period / 4 + 1);
            bus.comparison.at = Some(at);
            return self.arm_bus(at);
        }
        // Who told it lacks something: he finds it by a digest from here.
        let ours = published.difference(&bus.unpublished);
        bus.comparison.due |= theirs.at.1 == at.1 && !theirs.version.covers(&ours);
    }

    /// Something differs: opens a session with the server of this address.
    fn open_line(&mut self, now: u64, peer: u64) {
        let patience = self.line_patience(now);
        let comparison = self.bus.as_mut().map(|bus| &mut bus.comparison);
        let Some(comparison) = comparison else {
            return;
        };
        if comparison.lines.values().any(|end| end.opened) {
            return;
        }
        comparison.differences += 1;
        // Another one than before a restart.
        comparison.opened = now.max(comparison.opened + 1);
        let end = End {
            peer,
            number: comparison.opened,
            opened: true,
            until: patience,
            asks_at: now + ASK_AGAIN,
            ahead: None,
            ends: false,
        };
        let id = self.connect_by_bus(now);
        self.note_line(id, end);
        self.note_divergence(id);
    }

    fn note_line(&mut self, id: SessionId, end: End) {
        let asks_at = end.asks_at;
        if let Some(bus) = &mut self.bus {
            bus.comparison.lines.insert(id, end);
        }
        self.arm_bus(asks_at);
    }

    fn line_patience(&self, now: u64) -> u64 {
        let (periods, least) = PATIENCE;
        now + least.max(self.config.digest_period.saturating_mul(periods))
    }

    pub(super) fn receive_line(&mut self, now: u64, from: u64, line: Line, bytes: &Bytes) {
        let Some(bus) = self.bus.as_ref().filter(|bus| bus.address == line.to) else {
            return;
        };
        let lines = &bus.comparison.lines;
        let known = lines.iter().find(|(_, end)| {
            (end.peer, end.number, end.opened) == (from, line.number, !line.opener)
        });
        let (known, count) = (known.map(|(id, _)| *id), lines.len());
        let Ok(frame) = Frame::decode(bytes.clone()) else {
            return;
        };
        match (known, frame.hello()) {
            (Some(id), _) => {
                // Whatever is wrong with it, the session is over, and the other side is told so.
                let _ = self.receive(id, now, frame);
                self.end_if_equal(id);
            }
            (None, Some(hello)) if line.opener && count < MAX_LINES => {
                let end = End {
                    peer: from,
                    number: line.number,
                    opened: false,
                    until: self.line_patience(now),
                    asks_at: now + ASK_AGAIN,
                    ahead: None,
                    ends: false,
                };
                if let Ok(id) = self.accept_from(now, hello, Access::ALL, true) {
                    self.note_line(id, end);
                }
            }
            _ => {}
        }
    }

    /// Both sides hold the same: the session that was opened here ends, once the other knows it
    /// too.
    fn end_if_equal(&mut self, id: SessionId) {
        let equal = self.sessions.get(&id).is_some_and(Session::is_equal);
        let Some(bus) = self.bus.as_mut().filter(|_| equal) else {
            return;
        };
        if let Some(end) = bus.comparison.lines.get_mut(&id)
            && end.opened
            && !end.ends
        {
            end.ends = true;
            if let Some(session) = self.sessions.get_mut(&id) {
                session.digest_due = true;
            }
            self.wake(id);
        }
    }

    /// The next frame of a session by the bus.
    fn line_frame(&mut self, id: SessionId, now: u64) -> Option<Word> {
        let frame = self.poll_frame(id, now).or_else(|| {
            let ends = self.bus.as_ref()?.comparison.lines.get(&id)?.ends;
            let open = self.sessions.get(&id)?.is_open();
            if ends && open {
                self.end(id, ErrorCode::Closing, "both sides hold the same");
            }
            self.poll_frame(id, now)
        });
        let comparison = &mut self.bus.as_mut()?.comparison;
        if let Some(frame) = frame {
            let end = comparison.lines.get(&id)?;
            let line = Line {
                to: end.peer,
                opener: end.opened,
                number: end.number,
            };
            return Some(Word::Frame(line, frame));
        }
        let over = |session: &Session| session.phase == Phase::Closed;
        if self.sessions.get(&id).is_none_or(over) {
            comparison.lines.remove(&id);
            self.close(id);
        }
        None
    }
}
