//! One peer, as a replica sees it.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::bus::Mark;
use super::frame::{Access, Purpose};
use super::loans::Claim;
use super::presence::Carried;
use super::search::Searching;
use crate::dots::{DotRange, DotSet, Version};
use crate::reconcile::Domain;
use crate::replica::ReplicaId;

/// Names a session; never used twice by one [`Replica`](super::Replica).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

impl SessionId {
    /// The number behind it, for logs.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a session stands, for status pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub struct SessionStatus {
    /// Which session.
    pub id: SessionId,
    /// The peer; `None` before its hello.
    pub peer: Option<ReplicaId>,
    /// What this side may do at the peer (opened) or the peer here (accepted).
    pub access: Access,
    /// Whether this side opened it.
    pub opened: bool,
    /// Whether all is here that the peer had when it said hello.
    pub ready: bool,
    /// Whether the peer lacks what it should have: it has not read it from its bus so far. What it
    /// has then counts as what it had when it said hello.
    pub incomplete: bool,
    /// Whether it is over and waits for [`Replica::close`](super::Replica::close).
    pub closed: bool,
    /// Bytes that wait to be sent: live frames and the rest of a catch-up.
    pub queued_bytes: usize,
    /// Bytes of a catch-up that have arrived, of how many in all.
    pub staged: Option<(u64, u64)>,
    /// Operations that were not sent yet, because the peer does not keep up or has just come.
    pub missing: u64,
    /// Operations that the peer has not acknowledged.
    pub unacknowledged: u64,
}

/// A session's state. It holds sets of dots, as ranges, and queues; nothing in it grows with the
/// document.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Session {
    pub(super) opened: bool,
    pub(super) phase: Phase,
    pub(super) peer: Option<ReplicaId>,
    /// What the opener may do, and before the answer what it asks for.
    pub(super) access: Access,
    /// Whether its frames go by the bus, where the peer reads the same log: it is told of no
    /// operations but those that it lacks at first.
    pub(super) on_bus: bool,
    /// Named by `poll_ready` and not drained since.
    pub(super) awake: bool,
    /// Frames that go before everything else.
    pub(super) control: VecDeque<Bytes>,
    /// Live frames, oldest first.
    pub(super) queue: VecDeque<Arc<Live>>,
    pub(super) queued_bytes: usize,
    /// The catch-up on its way.
    pub(super) transfer: Option<Transfer>,
    /// How many transfers were begun.
    pub(super) transfers: u64,
    /// Operations that are to be told of and in neither `queue` nor `transfer`: the next catch-up.
    pub(super) missing: DotSet,
    /// Operations that were told of, or are to be, and that the peer is not known to have stored.
    pub(super) unacked: DotSet,
    /// Operations that the peer has, or should have, and that are not here.
    pub(super) lacking: DotSet,
    /// Those among them that the peer had at its hello: with the last one this side is ready.
    pub(super) promised: DotSet,
    pub(super) ready: bool,
    /// Whether the peer lacks what it should have: this side is not ready before.
    pub(super) incomplete: bool,
    pub(super) staging: Option<Staging>,
    /// Updates that tell of operations by others that are not here.
    pub(super) held: Vec<Bytes>,
    /// The last transfer of the peer that is over, however it ended.
    pub(super) finished_transfer: u64,
    /// A piece of a delta was lost: what is missing is not known, and asked for all the same.
    pub(super) broken: bool,
    /// When the peer last sent operations.
    pub(super) heard: u64,
    pub(super) want_due: bool,
    pub(super) want_at: Option<u64>,
    pub(super) want_delay: u64,
    /// Operations received and not acknowledged, each set with what must be safe before.
    pub(super) receipts: VecDeque<(Mark, DotSet)>,
    /// Operations to be acknowledged with the next frame that does.
    pub(super) owed: DotSet,
    /// Whether the peer's own operations are among them: it may be waiting.
    pub(super) awaited: bool,
    pub(super) ack_due: bool,
    pub(super) ack_at: Option<u64>,
    pub(super) acked_at: Option<u64>,
    pub(super) digest_due: bool,
    /// Whether news of the members are to be told.
    pub(super) members_due: bool,
    /// The revision of the table that was told, and what was acknowledged here then.
    pub(super) news_told: (u64, Arc<Version>),
    /// The revision of the peer's that it has told, and what it had then.
    pub(super) news_heard: (u64, Version),
    /// Whether nobody need wait for the peer under its present id.
    pub(super) visits: bool,
    /// Whether nobody had waited for the peer when it came.
    pub(super) visited: bool,
    /// Whether the peer has told its own.
    pub(super) told_members: bool,
    /// What this side had and asked for when it said hello.
    pub(super) greeted: (Version, Version),
    /// What the peer asks for.
    pub(super) required: Version,
    /// Whether one side is about to begin anew from the other's state: nothing else is sent.
    pub(super) anew: Option<Anew>,
    /// The whole state is to be sent, to go on from.
    pub(super) whole_due: bool,
    /// Whether the last comparison showed a difference, or that there is none.
    pub(super) diverged: bool,
    pub(super) equal: bool,
    /// When the whole state was last asked for or promised.
    pub(super) repaired_at: Option<u64>,
    /// When a whole state of the peer was last joined.
    pub(super) took_repair_at: Option<u64>,
    /// What is live of these operations is to be sent as a state to repair with.
    pub(super) repair_due: Option<DotSet>,
    /// Values repaired here since the last comparison that showed a difference.
    pub(super) repaired: u64,
    /// Comparisons in a row that showed a difference.
    pub(super) unequal: u32,
    /// When the fingerprints here were last counted anew, or trusted once more.
    pub(super) recounted_at: Option<u64>,
    /// The search that this side conducts.
    pub(super) searching: Option<Searching>,
    /// How many searches were begun.
    pub(super) searches: u64,
    /// Its question, to be sent.
    pub(super) question: Option<Bytes>,
    /// The search that the peer conducts, and what it searches.
    pub(super) searched: Option<(u64, Domain)>,
    /// The answer to its last question, to be sent.
    pub(super) answer: Option<Bytes>,
    /// Whose presence is to be told.
    pub(super) presence_due: BTreeSet<ReplicaId>,
    /// Whose presence came from here.
    pub(super) carried: Carried,
    /// The ids that the peer has asked for.
    pub(super) claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The hello is not answered yet.
    Opening,
    Open,
    /// Over; an error frame may be left to send.
    Closed,
}

/// Who begins anew from the other's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anew {
    Here,
    There,
}

/// A live frame, shared by all sessions that it waits in.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) frame: Bytes,
    /// The operations that it tells of.
    pub(super) dots: DotSet,
}

/// A delta on its way to one peer, cut into frames as they are sent.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) number: u64,
    pub(super) delta: Bytes,
    pub(super) offset: usize,
    /// The operations that it was computed for.
    pub(super) dots: DotSet,
    /// The own operation that must be stored before it may leave; 0 where there is none.
    pub(super) gate: u64,
    pub(super) purpose: Purpose,
    /// The frame that follows it, where live updates may be told against what it does not show.
    pub(super) contexts: Option<Bytes>,
}

/// A delta that has arrived in part.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) transfer: u64,
    pub(super) total: u64,
    pub(super) purpose: Purpose,
    pub(super) bytes: Vec<u8>,
}

impl Session {
    pub(super) fn new(opened: bool, access: Access, gap_delay: u64) -> Self {
        Self {
            opened,
            phase: Phase::Opening,
            peer: None,
            access,
            on_bus: false,
            awake: false,
            control: VecDeque::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            transfer: None,
            transfers: 0,
            missing: DotSet::new(),
            unacked: DotSet::new(),
            lacking: DotSet::new(),
            promised: DotSet::new(),
            ready: false,
            incomplete: false,
            staging: None,
            held: Vec::new(),
            finished_transfer: 0,
            broken: false,
            heard: 0,
            want_due: false,
            want_at: None,
            want_delay: gap_delay,
            receipts: VecDeque::new(),
            owed: DotSet::new(),
            awaited: false,
            ack_due: false,
            ack_at: None,
            acked_at: None,
            digest_due: false,
            members_due: false,
            news_told: Default::default(),
            news_heard: Default::default(),
            visits: false,
            visited: false,
            told_members: false,
            greeted: Default::default(),
            required: Version::new(),
            anew: None,
            whole_due: false,
            diverged: false,
            equal: false,
            repaired_at: None,
            took_repair_at: None,
            repair_due: None,
            repaired: 0,
            unequal: 0,
            recounted_at: None,
            searching: None,
            searches: 0,
            question: None,
            searched: None,
            answer: None,
            presence_due: BTreeSet::new(),
            carried: Carried::default(),
            claim: Claim::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn is_equal(&self) -> bool {
        self.is_open() && self.equal
    }

    /// Has one side begin anew: what waits to be sent is not to be sent.
    pub(super) fn set_anew(&mut self, side: Anew) {
        self.anew = Some(side);
        self.whole_due = side == Anew::There;
        self.queue.clear();
        self.queued_bytes = 0;
        (self.missing, self.unacked) = (DotSet::new(), DotSet::new());
        (self.transfer, self.repair_due) = (None, None);
        (self.searching, self.question) = (None, None);
    }

    /// Whether the peer is told of operations.
    pub(super) fn sends(&self) -> bool {
        if self.opened {
            self.access.write
        } else {
            self.access.read
        }
    }

    /// Whether the peer's operations are taken.
    pub(super) fn receives(&self) -> bool {
        if self.opened {
            self.access.read
        } else {
            self.access.write
        }
    }

    /// Whether the peer answers questions about what it holds.
    pub(super) fn answers(&self) -> bool {
        !self.opened || self.access.read
    }

    /// Whether the peer's questions about what is held here are answered. Who opened a session
    /// keeps nothing from the other; the other tells only who may read.
    pub(super) fn may_ask(&self) -> bool {
        self.opened || self.access.read
    }

    /// The peer does not have these: a search that presupposes any of them is of no use.
    pub(super) fn doubt(&mut self, lost: &DotSet) {
        if let Some(searching) = &self.searching
            && searching.presupposes(lost)
        {
            self.searching = None;
            self.question = None;
        }
    }

    /// Whether a catch-up waits for the end of a search.
    pub(super) fn searches(&self) -> bool {
        self.searching
            .as_ref()
            .is_some_and(|searching| searching.is_catch_up() && !searching.over)
    }

    /// Whether nothing goes before the live frames.
    pub(super) fn streams(&self) -> bool {
        self.is_open()
            && self.control.is_empty()
            && !self.ack_due
            && !self.want_due
            && !self.members_due
            && self.presence_due.is_empty()
            && self.question.is_none()
            && self.answer.is_none()
            && self.transfer.is_none()
    }

    /// Whether there is nothing to send.
    pub(super) fn rests(&self) -> bool {
        self.streams()
            && self.queue.is_empty()
            && self.missing.is_empty()
            && self.repair_due.is_none()
            && !self.whole_due
            && (!self.digest_due || self.anew.is_some())
    }

    /// Queues a live frame. Past `limit` bytes everything that waits is dropped, to be sent as one
    /// catch-up once the peer reads again.
    #[inline]
    pub(super) fn push(&mut self, live: &Arc<Live>, limit: usize) {
        if !self.missing.is_empty() {
            self.missing.union_with(&live.dots);
        } else if self.queued_bytes + live.frame.len() > limit {
            self.fall_behind();
            self.missing.union_with(&live.dots);
        } else {
            self.queued_bytes += live.frame.len();
            self.queue.push_back(Arc::clone(live));
        }
    }

    /// Drops the live frames that wait, and remembers what they would have told of.
    pub(super) fn fall_behind(&mut self) {
        for live in self.queue.drain(..) {
            self.missing.union_with(&live.dots);
        }
        self.queued_bytes = 0;
    }

    /// Next live frame that says something new to the peer.
    pub(super) fn pop(&mut self) -> Option<Arc<Live>> {
        loop {
            let live = self.queue.pop_front()?;
            self.queued_bytes -= live.frame.len();
            if self.unacked.intersects(&live.dots) {
                return Some(live);
            }
        }
    }

    /// The operations of `lost` that nothing underway brings to the peer are to be sent again.
    pub(super) fn resend(&mut self, mut lost: DotSet) {
        if let Some(transfer) = &self.transfer {
            lost = lost.difference(&transfer.dots);
        }
        if !lost.is_empty() && !self.queue.is_empty() {
            let queued = self.queue.iter().flat_map(|live| live.dots.ranges());
            let mut queued: Vec<DotRange> = queued.copied().collect();
            queued.sort_unstable();
            lost = lost.difference(&queued.into_iter().collect());
        }
        self.unacked.union_with(&lost);
        self.missing.union_with(&lost);
    }

    /// The peer has these.
    pub(super) fn known(&mut self, dots: &DotSet) {
        if !self.missing.is_empty() {
            self.missing = self.missing.difference(dots);
        }
    }

    /// The peer has stored these; whether there were any of `own` among those it had not.
    pub(super) fn acknowledged(&mut self, dots: &DotSet, own: ReplicaId) -> bool {
        self.known(dots);
        let before = first_seq(&self.unacked, own);
        if !self.unacked.is_empty() {
            self.unacked = self.unacked.difference(dots);
        }
        before != first_seq(&self.unacked, own)
    }

    /// Whether the peer has stored the operations of `own` up to `seq`, as far as they were sent.
    pub(super) fn has_stored(&self, own: ReplicaId, seq: u64) -> bool {
        first_seq(&self.unacked, own).is_none_or(|first| first > seq)
    }

    /// These have arrived; whether with them all is here that the peer had at its hello.
    pub(super) fn learn(&mut self, dots: &DotSet) -> bool {
        if !self.lacking.is_empty() {
            self.lacking = self.lacking.difference(dots);
        }
        if self.ready || !self.is_open() {
            return false;
        }
        self.promised = self.promised.difference(dots);
        self.is_ready_now()
    }

    /// All is here that was promised, if it is.
    pub(super) fn is_ready_now(&mut self) -> bool {
        let now = !self.ready && !self.incomplete && self.promised.is_empty();
        self.ready |= now;
        now
    }

    /// Remembers to acknowledge `dots` once all up to `mark` is safe; whether they are the first
    /// that wait for it.
    pub(super) fn receipt(&mut self, mark: Mark, dots: &DotSet) -> bool {
        match self.receipts.back_mut() {
            Some((last, known)) if *last == mark => {
                known.union_with(dots);
                false
            }
            _ => {
                self.receipts.push_back((mark, dots.clone()));
                true
            }
        }
    }

    /// Owes the peer the acknowledgement of all that waited for no more than is safe.
    pub(super) fn owe(&mut self, safe: Mark) {
        while let Some((_, dots)) = self.receipts.pop_front_if(|(mark, _)| mark.is_within(safe)) {
            self.awaited |= self.peer.is_some_and(|peer| dots.last_seq(peer) > 0);
            self.owed.union_with(&dots);
        }
    }

    /// Leaves nothing but what `control` still holds.
    pub(super) fn clear(&mut self) {
        let old = core::mem::replace(self, Session::new(self.opened, self.access, 0));
        self.peer = old.peer;
        self.ready = old.ready;
        self.awake = old.awake;
        self.phase = Phase::Closed;
    }

    pub(super) fn status(&self, id: SessionId) -> SessionStatus {
        let left = self
            .transfer
            .as_ref()
            .map_or(0, |t| t.delta.len() - t.offset);
        let staged = self.staging.as_ref();
        SessionStatus {
            id,
            peer: self.peer,
            access: self.access,
            opened: self.opened,
            ready: self.ready,
            incomplete: self.incomplete,
            closed: self.phase == Phase::Closed,
            queued_bytes: self.queued_bytes + left,
            staged: staged.map(|s| (s.bytes.len() as u64, s.total)),
            missing: self.missing.len(),
            unacknowledged: self.unacked.len(),
        }
    }
}

/// The lowest number of a replica's operations in a set.
fn first_seq(dots: &DotSet, replica: ReplicaId) -> Option<u64> {
    let at = dots.ranges().partition_point(|r| r.replica < replica);
    let range = dots.ranges().get(at).filter(|r| r.replica == replica);
    range.map(|r| r.first)
}
