//! Finding what differs from a peer: the questions and answers of a reconciliation, and what
//! follows from them.
//!
//! Two uses. A *catch-up* where the log of removals does not tell what the peer must let go of:
//! the sending side searches the operations that the peer has for those that it still holds live
//! and that are dead here, and sends one ordinary delta. The operations that the delta is for are
//! pinned when the search begins; what is applied meanwhile is added at its end, from the log. And
//! a *repair* of states that differ at equal versions: the side that notices searches, then each
//! sends the other what it holds where they differ.
//!
//! A lost frame, a peer that answers no more, or more differences than are worth asking for: what
//! was not found equal counts as different, which costs bytes and is right.

use alloc::vec::Vec;

use bytes::Bytes;

use super::error::ProtocolError;
use super::frame;
use super::replica::{Replica, Timer};
use super::session::{Session, SessionId};
use crate::delta::Delta;
use crate::dots::DotSet;
use crate::error::DecodeError;
use crate::reconcile::{Domain, Part, Search, unequal};

/// Live operations in a span that a catch-up does not cut: naming the gaps between so many costs
/// less than another question.
const CATCH_UP_GRAIN: u64 = 16;
/// The same for a repair, which sends what is live.
const REPAIR_GRAIN: u64 = 1;

/// A part of a search, asked or answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compare {
    /// Numbers the searches of a session, from 1.
    pub(super) search: u64,
    /// Numbers the questions of a search, from 1.
    pub(super) round: u32,
    /// What is searched: told with the first question.
    pub(super) domain: Option<DotSet>,
    /// Spans of the domain with their fingerprints.
    pub(super) parts: Vec<Part>,
}

/// The answer: which of the parts are not what the sender holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compared {
    pub(super) search: u64,
    pub(super) round: u32,
    /// Places in the question, ascending.
    pub(super) unequal: Vec<u32>,
}

/// A search that this side conducts.
#[derive(Debug)]
pub(super) struct Searching {
    number: u64,
    search: Search,
    purpose: Purpose,
    /// When it is given up, unless an answer comes.
    deadline: u64,
    /// Whether there is nothing more to ask.
    pub(super) over: bool,
}

impl Searching {
    /// Whether it takes the peer to have any of these.
    pub(super) fn presupposes(&self, dots: &DotSet) -> bool {
        self.search.domain().dots().intersects(dots)
    }

    pub(super) fn is_catch_up(&self) -> bool {
        matches!(self.purpose, Purpose::CatchUp { .. })
    }
}

#[derive(Debug)]
enum Purpose {
    /// To be sent these operations, of which the peer is not known to have any.
    CatchUp {
        operations: DotSet,
    },
    Repair,
}

impl Replica {
    /// Begins to search for what the peer holds live and is dead here, where a delta for these
    /// operations cannot tell it in few words. False where it can, or the peer would not answer.
    pub(super) fn search_before(&mut self, id: SessionId, operations: &DotSet, now: u64) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        let brief = self.config.brief_ranges;
        if !session.answers() || self.document.tells_briefly(operations, brief) {
            return false;
        }
        let Some(domain) = Domain::new(self.version.difference(operations)) else {
            return false;
        };
        self.document.hash_births();
        let search = Search::new(domain, CATCH_UP_GRAIN, &self.document);
        let operations = operations.clone();
        self.search(id, now, search, Purpose::CatchUp { operations });
        true
    }

    /// The delta for these operations and those that the search was begun for, now that it is
    /// over.
    pub(super) fn delta_found(&self, searching: Searching, operations: &DotSet) -> Delta {
        let Purpose::CatchUp { operations: known } = searching.purpose else {
            return self.document.delta_of(operations);
        };
        let domain = searching.search.domain().dots().clone();
        let suspects = searching.search.suspects();
        let all = operations.union(&known);
        self.document
            .delta_after_search(all, &domain, &known, &suspects)
    }

    /// Begins to search for what differs at equal versions. Where there is little to search, all
    /// of it counts as different at once.
    pub(super) fn search_repair(&mut self, id: SessionId, now: u64) {
        let small = self.document.live() <= self.config.brief_ranges;
        let answers = self.sessions.get(&id).is_some_and(Session::answers);
        let domain = Domain::new(self.version.clone()).filter(|_| answers && !small);
        match domain {
            Some(domain) => {
                self.document.hash_births();
                let search = Search::new(domain, REPAIR_GRAIN, &self.document);
                self.search(id, now, search, Purpose::Repair);
            }
            None => self.exchange(id, self.version.clone()),
        }
    }

    fn search(&mut self, id: SessionId, now: u64, search: Search, purpose: Purpose) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.searches += 1;
        session.searching = Some(Searching {
            number: session.searches,
            search,
            purpose,
            deadline: 0,
            over: false,
        });
        self.ask(id, now);
    }

    /// Asks the next question of a search, or ends it.
    fn ask(&mut self, id: SessionId, now: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(searching) = &mut session.searching else {
            return;
        };
        let Some(parts) = searching.search.ask(&self.document) else {
            return self.conclude(id);
        };
        let round = searching.search.round();
        let domain = searching.search.domain();
        let question = Compare {
            search: searching.number,
            round,
            domain: (round == 1).then(|| domain.dots().clone()),
            parts,
        };
        searching.deadline = now.saturating_add(self.config.stall_delay);
        self.timers.insert((searching.deadline, Timer::Search(id)));
        session.question = Some(frame::compare(self.handle, &question));
        self.wake(id);
    }

    /// There is nothing more to ask.
    fn conclude(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.question = None;
        let catch_up = session
            .searching
            .as_ref()
            .is_some_and(Searching::is_catch_up);
        if catch_up {
            // It may have got from others meanwhile what it lacked.
            let searching = session.searching.take();
            session.searching = searching.filter(|_| !session.missing.is_empty());
            if let Some(searching) = &mut session.searching {
                searching.over = true;
            }
        } else if let Some(searching) = session.searching.take() {
            let suspects = searching.search.suspects();
            if !suspects.is_empty() {
                self.exchange(id, suspects);
            }
        }
        self.wake(id);
    }

    /// Asks the peer for what it holds live of these operations, and sends it what is live here.
    fn exchange(&mut self, id: SessionId, dots: DotSet) {
        let frame = frame::repair(self.handle, &dots);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.control.push_back(frame);
            session.repair_due = Some(dots).filter(|_| session.sends());
        }
        self.wake(id);
    }

    /// No answer came in time.
    pub(super) fn search_timeout(&mut self, id: SessionId, at: u64) {
        if let Some(session) = self.sessions.get_mut(&id)
            && let Some(searching) = &mut session.searching
            && searching.deadline == at
            && !searching.over
        {
            searching.search.give_up();
            self.conclude(id);
        }
    }

    pub(super) fn receive_compare(
        &mut self,
        id: SessionId,
        now: u64,
        question: Compare,
    ) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if !session.may_ask() {
            return Err(ProtocolError::NotReadable);
        }
        session.heard = now;
        if let Some(dots) = question.domain {
            if !self.version.covers(&dots) {
                // The peer is wrong about what is here.
                self.open(id)?.want_due = true;
                self.wake(id);
                return Ok(());
            }
            let domain = Domain::new(dots).ok_or_else(|| malformed("a search of nothing"))?;
            self.open(id)?.searched = Some((question.search, domain));
        }
        let session = self.sessions.get(&id).ok_or(ProtocolError::Closed)?;
        let Some((number, domain)) = &session.searched else {
            return Ok(());
        };
        if *number != question.search {
            return Ok(());
        }
        let end = question.parts.last().map_or(0, |part| part.span.end);
        if end > domain.len() {
            return Err(malformed("a span outside of what is searched").into());
        }
        self.document.hash_births();
        let answer = Compared {
            search: question.search,
            round: question.round,
            unequal: unequal(domain, &question.parts, &self.document),
        };
        let frame: Bytes = frame::compared(self.handle, &answer);
        self.open(id)?.answer = Some(frame);
        self.wake(id);
        Ok(())
    }

    pub(super) fn receive_compared(
        &mut self,
        id: SessionId,
        now: u64,
        answer: &Compared,
    ) -> Result<(), ProtocolError> {
        let waits = |s: &&mut Searching| {
            !s.over && (s.number, s.search.round()) == (answer.search, answer.round)
        };
        let Some(searching) = self.open(id)?.searching.as_mut().filter(waits) else {
            return Ok(()); // late, or twice
        };
        if !searching.search.hear(&answer.unequal) {
            return Err(malformed("an answer to what was not asked").into());
        }
        self.ask(id, now);
        Ok(())
    }
}

fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { at: 0, what }
}
