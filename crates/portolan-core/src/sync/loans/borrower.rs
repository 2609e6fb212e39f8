//! The side that borrows: a replica without a store, and the id under which it writes.

use alloc::vec::Vec;

use crate::hashing::xxh3_64_with_seed;
use bytes::Bytes;

use super::super::event::Event;
use super::super::replica::{Replica, Timer};
use super::super::session::{Phase, Session, SessionId};
use super::{Back, MAX_SEQ, Message, Rename, Spare, encode};
use crate::clock::Timestamp;
use crate::document::Document;
use crate::dots::DotSet;
use crate::replica::ReplicaId;

/// How a replica comes by its id.
#[derive(Debug)]
pub(in crate::sync) struct Borrowing {
    /// Whether it asks others for ids at all.
    on: bool,
    /// Whether own operations may be told of: the id stays until it is given back.
    settled: bool,
    /// When the first operation under this id was done that nobody has heard of, and the last.
    first: Timestamp,
    latest: Timestamp,
    asking: Option<Asking>,
    /// The number of the last question.
    asked: u64,
    /// How many ids this replica has had.
    renames: u64,
    /// The id it started under, of which later ones are made: nobody else makes the same.
    seed: ReplicaId,
    /// When the question is asked again, or the id given back.
    due: Option<u64>,
    /// When something was last written.
    wrote_at: u64,
}

/// A question that is not answered, or whose answer cannot be taken so far.
#[derive(Debug)]
struct Asking {
    session: SessionId,
    number: u64,
    offered: Option<Spare>,
    /// When it is given up.
    until: u64,
}

impl Borrowing {
    /// Where there are own operations already, others may know of them.
    pub(in crate::sync) fn new(on: bool, document: &Document) -> Self {
        Self {
            on,
            settled: !on || document.own_seq() > 0,
            first: Timestamp::default(),
            latest: document.latest(),
            asking: None,
            asked: 0,
            renames: 0,
            seed: document.replica(),
            due: None,
            wrote_at: 0,
        }
    }

    /// The replica took a fresh id, which is not asked about.
    pub(in crate::sync) fn settle(&mut self) {
        self.asking = None;
        self.settled = true;
    }
}

impl Replica {
    /// Whether there are own operations that are told to nobody because the id is not settled.
    pub(in crate::sync) fn withholds(&self) -> bool {
        !self.borrowing.settled && self.document.own_seq() > 0
    }

    /// Whether nothing was told under the own id, and another one is taken before anything is.
    pub(in crate::sync) fn is_visitor(&self) -> bool {
        !self.borrowing.settled && self.bus.is_none()
    }

    /// Whether own operations may be told of as they are done.
    pub(in crate::sync) fn is_settled(&self) -> bool {
        self.borrowing.settled
    }

    /// A session is over: what was offered through it is not taken any more.
    pub(in crate::sync) fn note_lender_lost(&mut self, session: SessionId) {
        let asked = |asking: &mut Asking| asking.session == session;
        if self.borrowing.asking.take_if(asked).is_some() {
            // Another may be asked, as soon as it is known what time it is.
            self.arm_loan(0);
        }
    }

    /// An own operation was done.
    pub(in crate::sync) fn note_written(&mut self, now: u64, before: u64) {
        let latest = self.document.latest();
        if before == 0 {
            self.borrowing.first = latest;
        }
        self.borrowing.latest = latest;
        self.borrowing.wrote_at = now;
        if self.borrowing.on && self.borrowing.due.is_none() {
            self.arm_loan(self.idle_at());
        }
    }

    /// Goes on under the own id if there is something to tell: those who come to a server do not
    /// wait for others.
    pub(in crate::sync) fn settle_kept(&mut self) {
        if self.withholds() {
            self.settle_id();
        }
    }

    /// Asks for an id, if there is something to tell and somebody to ask.
    pub(in crate::sync) fn seek_id(&mut self, now: u64) {
        if !self.withholds() {
            return;
        }
        let told = |s: &Session| s.is_open() && s.sends();
        if self.sessions.values().any(|s| told(s) && !s.opened) {
            return self.settle_kept();
        }
        if self.borrowing.asking.is_some() {
            return;
        }
        let Some((id, _)) = self.sessions.iter().find(|(_, s)| told(s)) else {
            return;
        };
        let session = *id;
        self.borrowing.asked += 1;
        self.borrowing.asking = Some(Asking {
            session,
            number: self.borrowing.asked,
            offered: None,
            until: now.saturating_add(self.config.hello_timeout),
        });
        self.ask_for_id(now);
    }

    fn ask_for_id(&mut self, now: u64) {
        let Some(asking) = &self.borrowing.asking else {
            return;
        };
        let (session, number) = (asking.session, asking.number);
        let first = self.borrowing.first;
        self.say(session, &Message::Ask { number, first });
        self.arm_loan(now.saturating_add(self.config.ask_delay));
    }

    fn say(&mut self, session: SessionId, message: &Message) {
        let frame = encode(self.handle, message);
        if let Some(session) = self.sessions.get_mut(&session)
            && session.phase != Phase::Closed
        {
            session.control.push_back(frame);
        }
        self.wake(session);
    }

    fn arm_loan(&mut self, at: u64) {
        self.borrowing.due = Some(at);
        self.timers.insert((at, Timer::Loan));
    }

    pub(in crate::sync) fn loan_timeout(&mut self, at: u64, now: u64) {
        if self.borrowing.due != Some(at) {
            return;
        }
        self.borrowing.due = None;
        if let Some(asking) = &self.borrowing.asking {
            let asked = self.sessions.get(&asking.session);
            // In the middle of a catch-up the answer can be taken when it is over.
            let stalls = asked
                .filter(|s| asking.offered.is_some() && !s.ready)
                .map_or(0, |s| s.heard.saturating_add(self.config.stall_delay));
            let until = asking.until.max(stalls);
            if now >= until {
                self.settle_id();
            } else if asking.offered.is_some() {
                self.arm_loan(until);
            } else {
                self.ask_for_id(now);
            }
            return;
        }
        self.seek_id(now);
        let idle = self.idle_at();
        if now >= idle {
            self.give_back();
        }
        if self.document.own_seq() > 0 && self.borrowing.due.is_none() {
            let again = now.saturating_add(self.config.id_idle.max(1));
            self.arm_loan(if now < idle { idle } else { again });
        }
    }

    /// When the id is given back if nothing is written until then.
    fn idle_at(&self) -> u64 {
        let idle = self.config.id_idle.max(1);
        self.borrowing.wrote_at.saturating_add(idle)
    }

    pub(super) fn receive_offer(
        &mut self,
        id: SessionId,
        now: u64,
        number: u64,
        spare: Option<Spare>,
    ) {
        let waits = |asking: &&mut Asking| {
            (asking.session, asking.number) == (id, number) && asking.offered.is_none()
        };
        let Some(asking) = self.borrowing.asking.as_mut().filter(waits) else {
            return; // late, or twice
        };
        let Some(spare) = spare else {
            self.borrowing.asking = None;
            return self.settle_id();
        };
        asking.offered = Some(spare);
        let until = asking.until;
        self.take_offer();
        if self.borrowing.asking.is_some() {
            self.arm_loan(until.max(now.saturating_add(1)));
        }
    }

    /// Takes the id that was offered once all its operations are here.
    pub(in crate::sync) fn take_offer(&mut self) {
        let asking = self.borrowing.asking.as_ref();
        let Some(spare) = asking.and_then(|asking| asking.offered) else {
            return;
        };
        let Spare {
            replica,
            seq,
            latest,
        } = spare;
        let taken = self.sessions.values().any(|s| s.peer == Some(replica));
        let sound = (1..MAX_SEQ).contains(&seq)
            && self.version.last_seq(replica) <= seq
            && latest < self.borrowing.first
            && replica != self.document.replica()
            && !taken;
        if !sound {
            self.settle_id();
        } else if self.version.covers(&DotSet::from_range(replica, 1, seq)) {
            self.borrowing.asking = None;
            self.rename(replica, None);
            self.tell_kept();
        }
    }

    /// Goes on under the id that there is.
    fn settle_id(&mut self) {
        if let Some(asking) = self.borrowing.asking.take() {
            let number = asking.number;
            self.say(asking.session, &Message::Decline { number });
        }
        self.tell_kept();
    }

    /// Tells of the own operations that were kept back.
    fn tell_kept(&mut self) {
        self.borrowing.settled = true;
        let (own, last) = (self.document.replica(), self.document.own_seq());
        let first = self.own_stored + 1;
        self.own_stored = last;
        self.digest_frame = None;
        if self.borrowing.on && self.borrowing.due.is_none() {
            self.arm_loan(self.idle_at());
        }
        if first <= last {
            // They are sent with all that a peer lacks: what the log says that they removed may be
            // more, removed by others that were applied since.
            let dots = DotSet::from_range(own, first, last);
            self.contexts.catch_up(&self.document, &dots);
            self.publish(&dots, &Bytes::new(), None, None, true);
        }
        // What was computed for a peer would have told of them.
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.wake(id);
        }
    }

    /// Gives the own id back to a peer that can lend it to others, and goes on under a new one;
    /// false where that must wait until a connected peer has stored what was written here.
    ///
    /// For a replica that leaves, before its sessions end; one that has not written for a while
    /// does it by itself. Nothing happens where there is a store, nothing was written, or there
    /// is nobody to give it to. See [`Config::borrows`](super::super::Config::borrows).
    pub fn give_back(&mut self) -> bool {
        let own_seq = self.document.own_seq();
        let asked = |s: &Session| s.opened && s.is_open() && s.sends();
        let mut lenders = self.sessions.iter().filter(|(_, s)| asked(s)).peekable();
        if !self.borrowing.on || own_seq == 0 || lenders.peek().is_none() {
            return true;
        }
        if !self.borrowing.settled {
            return false;
        }
        let own = self.document.replica();
        let lender = lenders.find(|(_, s)| s.has_stored(own, own_seq));
        let Some((lender, _)) = lender else {
            return false;
        };
        let lender = *lender;
        self.borrowing.settled = false;
        let bytes = (self.borrowing.renames + 1).to_le_bytes();
        let fresh = ReplicaId::new(xxh3_64_with_seed(&bytes, self.borrowing.seed.get()));
        let back = Back {
            seq: own_seq,
            latest: self.borrowing.latest,
        };
        self.rename(fresh, Some((lender, back)));
        true
    }

    /// Goes on under another id, and tells the peers. What was done under the old one and told to
    /// nobody is done again under the new one.
    fn rename(&mut self, new: ReplicaId, back: Option<(SessionId, Back)>) {
        let old = self.document.replica();
        let after = if back.is_some() {
            self.document.own_seq()
        } else {
            0
        };
        let base = self.version.last_seq(new);
        self.rename_member(old, new, back.is_some());
        let renaming = self.document.take_name(new, after);
        self.rename_required(renaming);
        self.loaded_seq = base;
        self.told = 0;
        self.own_stored = base;
        self.version = self.document.version();
        self.changed();
        self.borrowing.renames += 1;
        let mut rename = Rename {
            number: self.borrowing.renames,
            old,
            new,
            back: None,
        };
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            rename.back = back.filter(|(to, _)| *to == id).map(|(_, back)| back);
            self.say(id, &Message::Rename(rename));
        }
        self.rename_presence(old);
        self.events.push_back(Event::Renamed { old, new, base });
    }
}
