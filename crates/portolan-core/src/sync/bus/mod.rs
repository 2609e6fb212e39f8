//! A log that several servers of a document write to and read in order: the *bus*.
//!
//! The host keeps the log (in a Redis, say): *entries*, numbered without a gap, and now and then a
//! *snapshot* that stands for all entries up to one. Deltas join in any order and any number of
//! times, so all that must hold is:
//!
//! * An entry counts as *published* when it was read back in its place, with all before it.
//! * Whoever joins appends an entry that names himself ([`Replica::join_entry`]) before he reads
//!   anything, and takes in the snapshot and the entries up to his own as one step
//!   ([`Replica::join_bus`]). The first thing he appends then is all that the log lacks of what he
//!   has, as one entry.
//! * What is not published is not acknowledged: not to the peers, and not among the members.
//!
//! With that, the reasoning at the head of `members` holds beside a log, where who tells does not
//! meet who is told. Let a deletion first stand in the log at some place. Whoever acknowledges it
//! has read up to there, or had both it and what it deletes before he joined, and then published
//! them together. So he has met everybody who joined before that place, and tells of them with
//! his acknowledgement; and whoever joins behind that place has read the deletion before he does
//! anything with what it deletes.
//!
//! Where the log loses entries, somebody may hold the document who had named himself in these
//! alone. Whoever notices lets go of nothing until he was met ([`Replica::distrust_bus`]).
//!
//! Beside the log servers exchange *messages*, which may be lost: what they hold, to find where it
//! differs (`comparison`), and who is present (`presence`).
//!
//! Entries and snapshots are [sections](entry).

mod comparison;
mod entry;
mod joining;
mod message;
mod presence;
mod unread;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use self::comparison::Comparison;
use self::entry::{CATCH_UP, Content, LIVE, MEMBERS, put_section};
use self::message::{Message, Word};
use self::presence::Neighbours;
use super::error::ProtocolError;
use super::members::Table;
use super::replica::{Replica, Timer, is_left_behind};
use crate::anew::Misfit;
use crate::delta::Delta;
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;

/// Bytes of deltas after which an entry takes no more: a few hundred writes.
const ENTRY_BYTES: usize = 64 * 1024;

/// How much is safe: in the store, and on the bus. Both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    write: u64,
    publication: u64,
}

impl Mark {
    pub(super) fn is_within(self, safe: Mark) -> bool {
        self.write <= safe.write && self.publication <= safe.publication
    }
}

/// A replica's part in the log.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Bus {
    /// Whether it is known what the log holds, so that something may be appended.
    joined: bool,
    /// Whether reading on is not enough to go on.
    outdated: bool,
    /// Counts what is to be published.
    last: u64,
    /// All of it up to here is published.
    published: u64,
    /// Transactions to be published one by one.
    queue: VecDeque<(Bytes, DotSet)>,
    queued_bytes: usize,
    /// Whether all that is not published is to be, by one delta.
    lacks: bool,
    /// That delta, while it waits for the store.
    staged: Option<Staged>,
    /// The entry that was appended and not read back.
    flight: Option<Flight>,
    /// Operations applied here that are not known to be on the log.
    pub(super) unpublished: DotSet,
    /// Operations of entries that had no place here: their writer does them again.
    refused: DotSet,
    /// Whether the table of members is to be published.
    pub(super) members_due: bool,
    /// The generation in which this replica named itself when it joined.
    named: u64,
    /// Whether it was ever joined.
    shared: bool,
    /// Whether nothing was here when it came, and what the log holds was not read since.
    unread: bool,
    /// What it is called in messages.
    address: u64,
    comparison: Comparison,
    pub(super) neighbours: Neighbours,
    /// When something is to be looked at.
    due_at: Option<u64>,
    /// Whether it has left and will not come back: its peers are not told so by itself.
    left: bool,
}

#[derive(Debug)]
struct Staged {
    delta: Bytes,
    flight: Flight,
    /// The own operation that must be stored before.
    gate: u64,
}

#[derive(Debug, Default)]
struct Flight {
    /// What is published with it.
    number: u64,
    dots: DotSet,
    members: bool,
}

/// What came of [`Replica::join_bus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Entries, or parts of them, that make no sense here: damaged, or of a newer release.
    pub unreadable: usize,
    /// The log is older than what this replica has let go of: begin a new one with
    /// [`Replica::whole_entry`].
    pub is_behind: bool,
}

/// Why an entry was not taken in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BusFault {
    /// It makes no sense: it is damaged, or of a newer release. Nothing of it was taken in.
    #[error("an entry of the bus cannot be read: {0}")]
    Unreadable(#[from] DecodeError),
    /// It cannot be placed: join again.
    #[error("the bus holds what this replica has no place for: it joins again")]
    LeftBehind,
    /// Who appended it refers to what all others have let go of, and will do it again.
    #[error("an entry of the bus refers to what was let go of: who wrote it begins anew")]
    Outdated,
    /// It tells of own operations that this replica does not know:
    /// [`Event::ReplicaReused`](super::Event::ReplicaReused) follows.
    #[error(transparent)]
    Reused(ProtocolError),
}

impl Replica {
    /// From now on all that is done or learned here is to be on a log that others read, and what
    /// is not is not acknowledged. To be called before anything else.
    ///
    /// Where nothing is here, no peer is told to be ready before the log was
    /// [joined](Self::join_bus), or there is [none](Self::bus_is_read).
    ///
    /// The `address` is a random number: what this replica is called in
    /// [messages](Self::poll_message) as long as it lives.
    pub fn attach_bus(&mut self, address: u64) {
        self.bus = Some(Bus {
            address,
            last: u64::from(!self.version.is_empty()),
            lacks: true,
            outdated: true,
            unread: self.version.is_empty(),
            // It is not known what the log holds.
            unpublished: self.version.clone(),
            ..Bus::default()
        });
    }

    /// Whether [`attach_bus`](Self::attach_bus) was called.
    pub fn has_bus(&self) -> bool {
        self.bus.is_some()
    }

    /// Whether all that is here, the members included, was appended and read back.
    pub fn rests_on_bus(&self) -> bool {
        let rests = |bus: &Bus| bus.flight.is_none() && bus.unpublished.is_empty();
        self.bus.as_ref().is_none_or(rests) && !self.wants_bus()
    }

    /// Whether [`join_bus`](Self::join_bus) was done, and nothing since makes it necessary again.
    pub fn is_on_bus(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| bus.joined)
    }

    /// Whether there is something for the host to do: to join, or to append what
    /// [`poll_entry`](Self::poll_entry) gives.
    pub fn wants_bus(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| {
            let waits = bus.lacks && bus.last > bus.published;
            let some = waits || !bus.queue.is_empty() || bus.staged.is_some() || bus.members_due;
            if bus.joined {
                some && bus.flight.is_none()
            } else {
                // Who is present is told to those who follow a log, though it may hold nothing.
                !bus.unpublished.is_empty() || bus.neighbours.is_due()
            }
        })
    }

    /// The number of what was last done or learned here, to be compared with
    /// [`published`](Self::last_published); 0 without a bus.
    pub fn last_publication(&self) -> u64 {
        self.last_mark().publication
    }

    /// All up to this number is on the bus, and would be found there by others.
    pub fn last_published(&self) -> u64 {
        self.bus.as_ref().map_or(0, |bus| bus.published)
    }

    /// How many operations are not known to be on the bus.
    pub fn unpublished(&self) -> u64 {
        self.bus.as_ref().map_or(0, |bus| bus.unpublished.len())
    }

    /// The next entry to append. One at a time: what comes meanwhile is gathered in the one after
    /// it. Say [`entry_read`](Self::entry_read) when it was read back in its place, or
    /// [`entry_lost`](Self::entry_lost).
    pub fn poll_entry(&mut self, now: u64) -> Option<Bytes> {
        let waits = |bus: &Bus| bus.joined && bus.flight.is_none();
        self.bus.as_ref().filter(|bus| waits(bus))?;
        self.stage(now);
        let (own, own_stored) = (self.document.replica(), self.own_stored);
        let table = self.bus.as_ref().filter(|bus| bus.members_due);
        let table = table.map(|_| self.members_record());
        if table.is_some() {
            self.note_told_own();
        }
        let bus = self.bus.as_mut()?;
        let mut entry = Vec::new();
        let mut flight = Flight {
            number: bus.published,
            ..Flight::default()
        };
        if let Some(staged) = bus.staged.take_if(|staged| staged.gate <= own_stored) {
            put_section(&mut entry, CATCH_UP, &staged.delta);
            flight = staged.flight;
        } else if bus.staged.is_none() {
            while entry.len() < ENTRY_BYTES
                && let Some((delta, dots)) = bus.queue.pop_front()
            {
                put_section(&mut entry, LIVE, &delta);
                bus.queued_bytes -= delta.len();
                flight.dots.union_with(&dots);
            }
            flight.number = bus.last - bus.queue.len() as u64;
        }
        if let Some(table) = table {
            put_section(&mut entry, MEMBERS, &table);
            (bus.members_due, flight.members) = (false, true);
        }
        if entry.is_empty() {
            return None;
        }
        self.told = self.told.max(flight.dots.last_seq(own));
        bus.flight = Some(flight);
        Some(Bytes::from(entry))
    }

    /// The entry that [`poll_entry`](Self::poll_entry) gave was read back, in its place.
    pub fn entry_read(&mut self, now: u64) {
        let Some(bus) = &mut self.bus else {
            return;
        };
        if let Some(flight) = bus.flight.take() {
            bus.unpublished = bus.unpublished.difference(&flight.dots);
            bus.published = bus.published.max(flight.number);
            self.note_published(now);
        }
    }

    /// That entry may not have been appended: what was in it will be again.
    pub fn entry_lost(&mut self) {
        if let Some(bus) = &mut self.bus
            && let Some(flight) = bus.flight.take()
        {
            bus.lack();
            bus.members_due |= flight.members;
        }
    }

    /// Takes in an entry that another appended, or an own one that [`poll_entry`](Self::poll_entry)
    /// did not give last, in its place.
    pub fn receive_entry(&mut self, now: u64, entry: &[u8]) -> Result<(), BusFault> {
        let content = Content::read(entry)?;
        let mut outdated = false;
        for table in &content.tables {
            if !self.has_let_go_of(&table.required)
                && is_left_behind(&self.version, &table.required)
            {
                self.forsake_bus();
                return Err(BusFault::LeftBehind);
            }
        }
        for (delta, bytes, live) in &content.deltas {
            self.check_bus(delta)?;
            let Some(new) = self.take_delta(now, delta, bytes) else {
                outdated = true;
                continue;
            };
            let new = new?;
            self.contexts.note(delta);
            if !new.is_empty() {
                self.publish(&new, bytes, None, None, !live);
            }
            if let Some(bus) = &mut self.bus
                && bus.unpublished.intersects(&delta.applied)
            {
                bus.unpublished = bus.unpublished.difference(&delta.applied);
            }
        }
        self.take_tables(now, content.tables);
        if outdated {
            return Err(BusFault::Outdated);
        }
        Ok(())
    }

    /// The next message to pass on to all others that follow the log, where this replica has read
    /// it up to the entry `at` (its epoch, and the number). Best effort: nothing need be kept, and
    /// any of it may be lost, but in order.
    pub fn poll_message(&mut self, now: u64, at: (u64, u64)) -> Option<Bytes> {
        let word = match self.presence_word(now) {
            Some(word) => word,
            None => self.comparison_word(now, at)?,
        };
        let from = self.bus.as_ref()?.address;
        Some(Message { from, word }.encode())
    }

    /// Whether [`poll_message`](Self::poll_message) may have something to give once more entries
    /// were read: another has told what he holds, having read further.
    pub fn awaits_entries(&self) -> bool {
        let bus = self.bus.as_ref();
        bus.is_some_and(|bus| bus.comparison.awaits_entries())
    }

    /// Whether [`poll_message`](Self::poll_message) has something to give.
    pub fn has_messages(&self) -> bool {
        let bus = self.bus.as_ref();
        bus.is_some_and(|bus| bus.neighbours.is_due()) || self.compares()
    }

    /// Takes in a message that another has given, or this one itself. Entries that were appended
    /// before it was given should be [read](Self::receive_entry) before, as far as they have come.
    pub fn receive_message(
        &mut self,
        now: u64,
        at: (u64, u64),
        message: &Bytes,
    ) -> Result<(), BusFault> {
        let Message { from, word } = Message::decode(message)?;
        if self.bus.as_ref().is_none_or(|bus| bus.address == from) {
            return Ok(());
        }
        match word {
            Word::Digest(digest) => self.receive_bus_digest(now, at, from, digest),
            Word::Frame(line, frame) => self.receive_line(now, from, line, &frame),
            Word::Present(news) => self.receive_present(now, from, news),
            Word::Beat(revision) => self.receive_beat(now, from, revision),
            Word::Ask(to) => self.receive_presence_ask(to),
        }
        Ok(())
    }

    /// Whether the own operations up to this one are stored, or need not be.
    pub fn is_told(&self, own_seq: u64) -> bool {
        own_seq <= self.own_stored
    }

    /// What is there by now.
    pub(super) fn last_mark(&self) -> Mark {
        Mark {
            write: self.last_write,
            publication: self.bus.as_ref().map_or(0, |bus| bus.last),
        }
    }

    /// What cannot be lost any more.
    pub(super) fn safe_mark(&self) -> Mark {
        Mark {
            write: self.stored_write,
            publication: self.bus.as_ref().map_or(u64::MAX, |bus| bus.published),
        }
    }

    /// Has operations published that did not come from the bus.
    pub(super) fn owe_bus(&mut self, dots: &DotSet, delta: &Bytes, catch_up: bool) {
        let limit = self.config.queue_bytes;
        let Some(bus) = &mut self.bus else {
            return;
        };
        bus.last += 1;
        bus.unpublished.union_with(dots);
        if bus.lacks {
            return;
        }
        bus.queued_bytes += delta.len();
        bus.queue.push_back((delta.clone(), dots.clone()));
        if catch_up || bus.queued_bytes > limit {
            bus.lack();
        }
    }

    /// Computes the one delta of all that is not published.
    fn stage(&mut self, now: u64) {
        let Some(bus) = self.bus.as_mut().filter(|bus| bus.lacks) else {
            return;
        };
        let mut flight = Flight {
            number: bus.last,
            dots: bus.unpublished.clone(),
            members: false,
        };
        bus.lacks = false;
        if flight.dots.is_empty() {
            bus.published = bus.last;
            return self.note_published(now);
        }
        // What is here shows what own operations did that are not stored yet: they go with it.
        let gate = self.gate();
        if gate > 0 {
            let own = self.document.replica();
            flight.dots.insert_range(own, self.own_stored + 1, gate);
        }
        let delta = if flight.dots == self.version {
            self.document.encode()
        } else {
            self.document.delta_of(&flight.dots).encode()
        };
        if let Some(bus) = &mut self.bus {
            bus.staged = Some(Staged {
                delta: Bytes::from(delta),
                flight,
                gate,
            });
        }
    }

    fn arm_bus(&mut self, at: u64) {
        if let Some(bus) = &mut self.bus
            && bus.due_at.is_none_or(|due| at < due)
        {
            bus.due_at = Some(at);
            self.timers.insert((at, Timer::Bus));
        }
    }

    pub(super) fn bus_timeout(&mut self, at: u64, now: u64) {
        let due = |bus: &&mut Bus| bus.due_at == Some(at);
        let Some(bus) = self.bus.as_mut().filter(due) else {
            return;
        };
        bus.due_at = None;
        let next = [self.comparison_timeout(now), self.presence_timeout(now)];
        if let Some(next) = next.into_iter().flatten().min() {
            self.arm_bus(next.max(now + 1));
        }
    }

    fn note_published(&mut self, now: u64) {
        self.digest_frame = None;
        self.settle_owing(now);
        self.tend(now);
    }

    /// An own operation that was never told of: the store is an old one.
    fn check_bus(&mut self, delta: &Delta) -> Result<(), BusFault> {
        let checked = self.check_own(&delta.applied);
        checked
            .and_then(|()| self.check_own(&delta.dead))
            .map_err(|error| {
                self.report_reuse();
                BusFault::Reused(error)
            })
    }

    fn has_let_go_of(&self, required: &Version) -> bool {
        self.members.table.required.covers(required)
    }

    /// Applies a delta and has it stored; gives what was new, or nothing where its writer has been
    /// left behind.
    ///
    /// What refers to an entry that was refused is refused with it: it would wait here for a
    /// position that never comes, and whoever begins anew from what is here would take it over
    /// like that, and not do it again.
    fn take_delta(
        &mut self,
        now: u64,
        delta: &Delta,
        bytes: &Bytes,
    ) -> Option<Result<DotSet, BusFault>> {
        if self.version.covers(&delta.applied) {
            return Some(Ok(DotSet::new()));
        }
        let refused = match &mut self.bus {
            Some(bus) => &mut bus.refused,
            None => &mut DotSet::new(),
        };
        if !refused.is_empty() {
            *refused = refused.difference(&self.version); // some has come otherwise since
        }
        match self.document.misfit_of_peer(delta, refused, false) {
            None => {}
            Some(Misfit::Theirs) => {
                refused.union_with(&delta.applied.difference(&self.version));
                return None;
            }
            Some(Misfit::Ours) => {
                self.forsake_bus();
                return Some(Err(BusFault::LeftBehind));
            }
        }
        let new = self.document.apply_at(now, delta);
        self.version.union_with(&new);
        if !new.is_empty() {
            self.write(bytes.clone(), new.clone(), false);
            self.changed();
            self.tend(now);
        }
        Some(Ok(new))
    }

    /// What the bus tells of the members need not be told to it.
    fn take_tables(&mut self, now: u64, tables: Vec<Table>) {
        let news = self.members.bus_news;
        for table in tables {
            self.join_members(now, table, None);
        }
        self.members.bus_news = news;
    }
}

impl Bus {
    /// It leaves and will not come back; whether the log tells so, and the peers need not be told.
    pub(super) fn leave_for_good(&mut self) -> bool {
        (self.members_due, self.left) = (true, self.shared);
        self.left
    }

    pub(super) fn is_left(&self) -> bool {
        self.left
    }

    /// All that is not published is to be, by one delta.
    fn lack(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.staged = None;
        self.lacks = true;
    }
}
