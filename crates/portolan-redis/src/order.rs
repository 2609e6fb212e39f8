//! The order of mutations: which of them the replica holds, and whether any is missing.
//!
//! A machine without I/O. Redis delivers messages in the order of their revisions and, on one
//! connection, without a gap, or ends the connection. So:
//!
//! * While the map is live, a message has the revision after the last one. Anything else, and a
//!   mark that tells other than what was heard, means that something was lost or that the hash is
//!   another one than it was, and the map is read again.
//! * A reading counts only if between a mark before and a mark after it each revision was heard,
//!   and it is of one of these revisions. A hash that is deleted and made anew begins at revision
//!   1, which breaks the row. So a reading that counts and the messages after its revision are the
//!   map, whatever was written meanwhile.
//! * What this node wrote is applied as soon as Redis has answered, where it is next in order; the
//!   echo in the stream is then known. Where it is not next, the writer waits for the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::events::Events;
use crate::key::Key;
use crate::limits::MAX_HEARD_BYTES;
use crate::message::{Message, Mutation, Published};
use crate::replica::Replica;
use crate::snapshot::Snapshot;
use crate::watch::{Batch, Change, Kind, Origin};

/// What Redis said of a map, in line with its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) revision: u64,
    /// Entries, the reserved ones left out.
    pub(crate) entries: usize,
    /// Milliseconds until the hash expires; negative where it does not.
    pub(crate) left: i64,
}

/// A reading of the hash.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) revision: u64,
    /// The last mutation's kind.
    pub(crate) kind: Option<Bytes>,
    pub(crate) entries: Vec<(Key, Bytes)>,
}

/// The map has to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Revisions are missing, or the hash is another one than it was.
    OutOfOrder,
    /// The server has other entries than this replica.
    Differs,
    /// More came in than is kept while the map is read.
    TooMuch,
    /// What came is not of the format.
    Unreadable,
}

/// When a write was begun.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    revision: u64,
    joined: u64,
}

/// Whether this replica holds a write that Redis has answered.
#[derive(Debug)]
pub(crate) enum Seen {
    Now,
    /// When others' have come that are before it.
    Soon(oneshot::Receiver<()>),
    /// When the map was read again, from now on.
    Afresh(oneshot::Receiver<()>),
}

#[derive(Debug)]
pub(crate) struct Order {
    replica: Arc<Replica>,
    pub(crate) events: Events,
    phase: Phase,
    /// The last connection, and whether it is listened to; what comes from others is late.
    generation: u64,
    is_connected: bool,
    /// Of the replica.
    revision: u64,
    /// Of the last message. Behind the replica while echoes of this node's writes are under way.
    heard: u64,
    /// Answered writes of this node that are not next.
    early: BTreeMap<u64, Mutation>,
    /// What was applied while writes of this node were under way: an answer whose revision was
    /// heard already must be one of these, or it is of another hash.
    applied: BTreeMap<u64, Mutation>,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    /// Readings begun, and the one that the replica is built on.
    begun: u64,
    joined: u64,
    /// Who waits for a reading of at least this number.
    afresh: Vec<(u64, oneshot::Sender<()>)>,
    marks: HashMap<u64, oneshot::Sender<Mark>>,
    next_mark: u64,
    /// When Redis was last known to agree.
    agreed: SystemTime,
}

#[derive(Debug)]
enum Phase {
    Adrift,
    Joining { heard: Vec<Heard>, bytes: usize },
    Live,
}

#[derive(Debug)]
enum Heard {
    Mutation(u64, Mutation),
    Mark(Mark),
}

impl Order {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            events: Events::default(),
            phase: Phase::Adrift,
            generation: 0,
            is_connected: false,
            revision: 0,
            heard: 0,
            early: BTreeMap::new(),
            applied: BTreeMap::new(),
            waiting: BTreeMap::new(),
            begun: 0,
            joined: 0,
            afresh: Vec::new(),
            marks: HashMap::new(),
            next_mark: 0,
            agreed: SystemTime::now(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    pub(crate) fn agreed(&self) -> SystemTime {
        self.agreed
    }

    /// Whether somebody waits for a reading that has not begun.
    pub(crate) fn is_asked_again(&self) -> bool {
        !self.afresh.is_empty()
    }

    pub(crate) fn snapshot(&self, wanted: impl Fn(&Key) -> bool) -> Snapshot {
        let mut entries = Vec::new();
        self.replica.each(|key, value| {
            if wanted(key) {
                entries.push((key.clone(), value.clone()));
            }
        });
        Snapshot::new(self.revision, entries)
    }

    /// Listens to a new connection; returns its number.
    pub(crate) fn connect(&mut self) -> u64 {
        self.lose();
        self.generation += 1;
        self.is_connected = true;
        self.generation
    }

    pub(crate) fn is_heard(&self, generation: u64) -> bool {
        self.is_connected && self.generation == generation
    }

    /// Nothing comes any more.
    pub(crate) fn disconnect(&mut self) {
        self.is_connected = false;
        self.lose();
    }

    /// Nothing that comes can be trusted to be complete from here on.
    pub(crate) fn lose(&mut self) {
        self.phase = Phase::Adrift;
        self.marks.clear();
    }

    /// A reading begins.
    pub(crate) fn begin(&mut self) {
        self.begun += 1;
        self.phase = Phase::Joining {
            heard: Vec::new(),
            bytes: 0,
        };
    }

    /// Expects a mark; returns its number, and where it will be told. The receiver fails once it
    /// cannot come any more.
    pub(crate) fn expect_mark(&mut self) -> (u64, oneshot::Receiver<Mark>) {
        self.next_mark += 1;
        let (tell, told) = oneshot::channel();
        self.marks.retain(|_, waiting| !waiting.is_closed());
        if self.is_connected {
            self.marks.insert(self.next_mark, tell);
        }
        (self.next_mark, told)
    }

    /// A message came.
    pub(crate) fn hear(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Adrift => Ok(()),
            Phase::Joining { heard, bytes } => {
                *bytes += message.size();
                heard.push(Heard::Mutation(message.revision, message.owned()));
                if *bytes > MAX_HEARD_BYTES {
                    return self.fault(Fault::TooMuch);
                }
                Ok(())
            }
            Phase::Live if message.revision != self.heard + 1 => self.fault(Fault::OutOfOrder),
            Phase::Live => {
                self.heard = message.revision;
                if message.revision <= self.revision {
                    return Ok(());
                }
                if self.is_quiet() {
                    self.apply(message);
                } else {
                    self.advance(message.revision, message.owned(), None);
                    self.advance_early();
                }
                Ok(())
            }
        }
    }

    /// Whether nobody here looks at changes, or writes any: then what is heard is of no other use
    /// than to be applied.
    fn is_quiet(&mut self) -> bool {
        self.early.is_empty()
            && self.waiting.is_empty()
            && self.events.writing_since().is_none()
            && !self.events.is_watched()
    }

    /// Applies the next mutation without a copy of it, where it is all that is to be done.
    fn apply(&mut self, message: &Message<'_>) {
        self.revision = message.revision;
        match message.mutation {
            Published::Set(key, value) => self.replica.set_copied(key, value),
            Published::Delete(key) => drop(self.replica.delete(key)),
            Published::Clear => drop(self.replica.clear()),
        }
    }

    /// A mark came.
    pub(crate) fn hear_mark(&mut self, mark: Mark) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Adrift => {
                self.marks.remove(&mark.number);
                return Ok(());
            }
            Phase::Joining { heard, .. } => heard.push(Heard::Mark(mark)),
            Phase::Live if mark.revision != self.heard => return self.fault(Fault::OutOfOrder),
            // The entries can be compared only where nothing of this node is ahead of the stream.
            Phase::Live if self.revision == self.heard && mark.entries != self.replica.len() => {
                return self.fault(Fault::Differs);
            }
            Phase::Live => self.agreed = SystemTime::now(),
        }
        if let Some(tell) = self.marks.remove(&mark.number) {
            // Who asked may have given up.
            let _ = tell.send(mark);
        }
        Ok(())
    }

    pub(crate) fn fault(&mut self, fault: Fault) -> Result<(), Fault> {
        self.lose();
        Err(fault)
    }

    /// The reading between two marks has ended. Where it counts, the map is live.
    pub(crate) fn finish(&mut self, reading: Reading, first: u64, last: u64) -> Result<(), Fault> {
        let Phase::Joining { heard, .. } = &mut self.phase else {
            return Err(Fault::OutOfOrder);
        };
        let heard = std::mem::take(heard);
        let Some(after) = check(heard, &reading, first, last) else {
            return self.fault(Fault::OutOfOrder);
        };
        self.phase = Phase::Live;
        self.joined = self.begun;
        self.agreed = SystemTime::now();
        self.early.clear();
        self.applied.clear();
        self.install(reading);
        for (revision, mutation) in after {
            if revision > self.revision {
                self.advance(revision, mutation, None);
            }
        }
        self.heard = self.revision;
        // Who waits for a revision was told of it by the server that was lost since.
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            tell_all(waiting);
        }
        let joined = self.joined;
        let (now, later) = std::mem::take(&mut self.afresh)
            .into_iter()
            .partition(|(need, _)| *need <= joined);
        self.afresh = later;
        let now: Vec<(u64, oneshot::Sender<()>)> = now;
        tell_all(now.into_iter().map(|(_, tell)| tell));
        Ok(())
    }

    /// Tells when the map was read again, from now on; the caller sees to it that it is.
    pub(crate) fn read_afresh(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.afresh.retain(|(_, waiting)| !waiting.is_closed());
        self.afresh.push((self.begun + 1, tell));
        told
    }

    /// A write of this node is about to be sent.
    pub(crate) fn begin_write(&mut self) -> Ticket {
        Ticket {
            number: self.events.begin_write(self.revision),
            revision: self.revision,
            joined: self.joined,
        }
    }

    /// What became of it is not known, or it changed nothing.
    pub(crate) fn end_write(&mut self, ticket: &Ticket) {
        self.events.end_write(ticket.number);
        let since = self.events.writing_since().unwrap_or(u64::MAX);
        while let Some(oldest) = self.applied.first_entry() {
            if *oldest.key() > since {
                break;
            }
            oldest.remove();
        }
    }

    /// Redis has done it; its last mutation has this revision. Fails where the hash turns out to
    /// be another one than it was.
    pub(crate) fn written(
        &mut self,
        ticket: &Ticket,
        last: u64,
        mutations: Vec<Mutation>,
    ) -> (Seen, Result<(), Fault>) {
        let first = (last + 1).saturating_sub(mutations.len() as u64);
        let mut fault = Ok(());
        // Every revision that was known when the write was sent is before it, and one that was heard
        // since is its echo.
        let mut heard = (first..).zip(&mutations);
        let is_next = first > ticket.revision
            && heard.all(|(revision, mutation)| {
                revision > self.revision || self.applied.get(&revision) == Some(mutation)
            });
        if self.is_live() && self.joined == ticket.joined && !is_next {
            fault = self.fault(Fault::OutOfOrder);
        }
        if !self.is_live() || self.joined != ticket.joined {
            self.end_write(ticket);
            return (Seen::Afresh(self.read_afresh()), fault);
        }
        self.events.claim(first..=last);
        for (revision, mutation) in (first..).zip(mutations) {
            if revision > self.revision {
                self.early.insert(revision, mutation);
            }
        }
        self.advance_early();
        self.end_write(ticket);
        if last <= self.revision {
            return (Seen::Now, Ok(()));
        }
        let (tell, told) = oneshot::channel();
        self.waiting.entry(last).or_default().push(tell);
        (Seen::Soon(told), Ok(()))
    }

    /// Applies what waited for its turn.
    fn advance_early(&mut self) {
        while let Some(early) = self.early.first_entry() {
            let revision = *early.key();
            if revision > self.revision + 1 {
                break;
            }
            let mutation = early.remove();
            if revision > self.revision {
                self.advance(revision, mutation, Some(Origin::Here));
            }
        }
        while let Some(waiting) = self.waiting.first_entry() {
            if *waiting.key() > self.revision {
                break;
            }
            tell_all(waiting.remove());
        }
    }

    /// Applies the next mutation. Without an origin it came by the stream.
    fn advance(&mut self, revision: u64, mutation: Mutation, origin: Option<Origin>) {
        let origin = match origin {
            None if self.early.contains_key(&revision) => Some(Origin::Here),
            origin => origin,
        };
        self.revision = revision;
        if self.events.writing_since().is_some() {
            self.applied.insert(revision, mutation.clone());
        }
        let watched = self.events.is_watched();
        let mut changes = Vec::new();
        match mutation {
            Mutation::Set(key, value) if watched => {
                let old = self.replica.set(key.clone(), value.clone());
                let new = Some(value);
                changes.push(change(key, old, new, Kind::Set));
            }
            Mutation::Set(key, value) => drop(self.replica.set(key, value)),
            Mutation::Delete(key) => {
                let old = self.replica.delete(key.as_bytes());
                if old.is_some() {
                    changes.push(change(key, old, None, Kind::Delete));
                }
            }
            Mutation::Clear => {
                let gone = self.replica.clear();
                if watched {
                    let removal = |(key, old)| change(key, Some(old), None, Kind::Reset);
                    changes = gone.into_iter().map(removal).collect();
                }
            }
        }
        self.tell(changes, origin);
    }

    /// Makes the replica what was read; what differs is told as changes.
    fn install(&mut self, reading: Reading) {
        self.events.decide_all();
        let removal = match reading.kind.as_deref() {
            None => Kind::Expired,
            Some(b"reset" | b"destroy") if reading.entries.is_empty() => Kind::Reset,
            Some(_) => Kind::Delete,
        };
        self.revision = reading.revision;
        let watched = self.events.is_watched();
        let mut changes = Vec::new();
        if self.replica.len() > 0 {
            let read: std::collections::HashSet<&Key> =
                reading.entries.iter().map(|(key, _)| key).collect();
            let mut gone = Vec::new();
            self.replica.each(|key, _| {
                if !read.contains(key) {
                    gone.push(key.clone());
                }
            });
            for key in gone {
                let old = self.replica.delete(key.as_bytes());
                changes.push(change(key, old, None, removal));
            }
        } else {
            self.replica.reserve(reading.entries.len());
        }
        for (key, value) in reading.entries {
            if !watched {
                self.replica.set(key, value);
                continue;
            }
            let old = self.replica.set(key.clone(), value.clone());
            if old.as_ref() != Some(&value) {
                changes.push(change(key, old, Some(value), Kind::Set));
            }
        }
        self.tell(changes, Some(Origin::Elsewhere));
    }

    fn tell(&mut self, changes: Vec<Change>, origin: Option<Origin>) {
        if changes.is_empty() || !self.events.is_watched() {
            return;
        }
        let batch = Batch {
            revision: self.revision,
            origin: origin.unwrap_or(Origin::Elsewhere),
            changes,
        };
        self.events.tell(batch, origin.is_some());
    }
}

fn tell_all(waiting: impl IntoIterator<Item = oneshot::Sender<()>>) {
    for tell in waiting {
        // Who waited may have gone.
        let _ = tell.send(());
    }
}

fn change(key: Key, old: Option<Bytes>, new: Option<Bytes>, kind: Kind) -> Change {
    Change {
        key,
        old,
        new,
        kind,
    }
}

/// The messages after the first mark, if the reading counts.
fn check(
    heard: Vec<Heard>,
    reading: &Reading,
    first: u64,
    last: u64,
) -> Option<Vec<(u64, Mutation)>> {
    let mut heard = heard.into_iter();
    let before = heard.find_map(|heard| match heard {
        Heard::Mark(mark) if mark.number == first => Some(mark.revision),
        _ => None,
    })?;
    let mut revision = before;
    let mut after = None;
    let mut messages = Vec::new();
    for heard in heard {
        match heard {
            Heard::Mutation(next, mutation) => {
                revision += 1;
                if next != revision {
                    return None;
                }
                messages.push((next, mutation));
            }
            Heard::Mark(mark) => {
                if mark.revision != revision {
                    return None;
                }
                if mark.number == last {
                    after = Some(mark.revision);
                }
            }
        }
    }
    (before..=after?)
        .contains(&reading.revision)
        .then_some(messages)
}

#[cfg(test)]
mod tests;
