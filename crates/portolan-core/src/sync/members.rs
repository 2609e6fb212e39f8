//! Who holds the document, and what follows from what all of them have.
//!
//! The *member table* has an entry for each replica that this one has met or heard of: what it has
//! stored (*acknowledged*), and what it has sealed, that is up to which version nothing that is
//! deleted comes back from it. Tables are joined: of two entries of one replica the one of the
//! larger generation counts; within one it can only leave, and versions only grow.
//!
//! An own entry is told only with all the members that its replica had met before, for tables are
//! told whole. So a table in which everybody has acknowledged a deletion holds everybody who may
//! have used what was deleted: he got it from somebody who had met him before he acknowledged the
//! deletion, and so on back to who made it. Once all that these had acknowledged is applied here,
//! nobody uses it any more: it is *stable*, and sealed. And once everybody has sealed it, nobody
//! lacks what others had done beside it: it is *settled*, and goes.
//!
//! Who has not written under an id of his own is a *visitor*, and in nobody's table. The peer that
//! he visits answers for him: it acknowledges nothing that he lacks, and from one that comes with
//! what he had before it takes nothing that refers to what is sealed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::error::ProtocolError;
use super::event::{CloseReason, Event};
use super::frame;
use super::news::News;
use super::replica::{Replica, Timer};
use super::session::SessionId;
use crate::codec::{Reader, check_checksum, put_checksum, put_dots, put_varint, read_dots};
use crate::delta::Delta;
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;
use crate::limits::MAX_FRAME_BYTES;
use crate::replica::ReplicaId;

/// Whether a replica is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// Nothing is let go of that it may still need.
    Member = 0,
    /// It was not heard of for too long, or was told to be forgotten. It may return, and begins
    /// anew from the state of the others where these have let go of something; what it has written
    /// meanwhile is not lost.
    Forgotten = 1,
    /// It has left in good order, and will not return under this id.
    Gone = 2,
}

impl Standing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            0 => Ok(Self::Member),
            1 => Ok(Self::Forgotten),
            2 => Ok(Self::Gone),
            _ => Err(reader.malformed("an unknown standing of a member").into()),
        }
    }
}

/// How a replica stands, for status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub replica: ReplicaId,
    /// Whether it is waited for.
    pub standing: Standing,
    /// How long ago a sign of life came from it, in milliseconds. Signs come with what it stores,
    /// and otherwise eight times within [`Config::forget_after`](super::Config::forget_after).
    pub silent: u64,
    /// Operations applied here that it has not told to be stored there.
    pub missing: u64,
}

/// What is told of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Grows when it comes back after it was forgotten.
    pub(super) generation: u64,
    pub(super) standing: Standing,
    /// Grows with each sign of life.
    pub(super) beat: u64,
    pub(super) acknowledged: Version,
    pub(super) sealed: Version,
}

impl Member {
    fn new(generation: u64, acknowledged: Version) -> Self {
        Self {
            generation,
            standing: Standing::Member,
            beat: 0,
            acknowledged,
            sealed: Version::new(),
        }
    }

    /// Joins in what another table says; whether that is news.
    fn join(&mut self, other: &Member) -> bool {
        if other.generation != self.generation {
            let newer = other.generation > self.generation;
            if newer {
                *self = other.clone();
            }
            return newer;
        }
        if self.standing != Standing::Member || other.standing != Standing::Member {
            let news = other.standing > self.standing;
            if news {
                self.leave(other.standing);
            }
            return news;
        }
        let news = other.beat > self.beat
            || !self.acknowledged.covers(&other.acknowledged)
            || !self.sealed.covers(&other.sealed);
        if news {
            self.beat = self.beat.max(other.beat);
            self.acknowledged.union_with(&other.acknowledged);
            self.sealed.union_with(&other.sealed);
        }
        news
    }

    /// It is not waited for any more: what it had does not matter.
    fn leave(&mut self, standing: Standing) {
        self.standing = standing;
        self.acknowledged = Version::new();
        self.sealed = Version::new();
    }
}

/// What is told of everybody, and what a peer must have to go on from what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) members: BTreeMap<ReplicaId, Member>,
    /// What everybody had when positions were last let go of: who has some of it and lacks some
    /// may hold what nobody else knows the place of.
    pub(super) required: Version,
}

/// With more sessions than this what is new is written once for all, and who has told some of it is
/// told that again.
const FEW_SESSIONS: usize = 4;

/// The most members of a table.
pub(super) const MAX_MEMBERS: usize = 100_000;

/// Appends a table. Versions are told as what they lack of one, and what they have beyond it.
pub(super) fn put_table(out: &mut Vec<u8>, table: &Table, base: &Version) {
    let put_version = |out: &mut Vec<u8>, version: &Version| {
        put_dots(out, &base.difference(version));
        put_dots(out, &version.difference(base));
    };
    put_dots(out, base);
    put_version(out, &table.required);
    put_varint(out, table.members.len() as u64);
    for (id, member) in &table.members {
        out.extend_from_slice(&id.get().to_le_bytes());
        put_varint(out, member.generation);
        out.push(member.standing as u8);
        put_varint(out, member.beat);
        if member.standing == Standing::Member {
            put_version(out, &member.acknowledged);
            put_version(out, &member.sealed);
        }
    }
}

/// Reads what [`put_table`] wrote.
pub(super) fn read_table(reader: &mut Reader<'_>) -> Result<(Table, Version), DecodeError> {
    fn read_version(reader: &mut Reader<'_>, base: &Version) -> Result<Version, DecodeError> {
        let (lacks, beyond) = (read_dots(reader)?, read_dots(reader)?);
        if !base.covers(&lacks) || base.intersects(&beyond) {
            return Err(reader
                .malformed("a version that contradicts what it is told by")
                .into());
        }
        Ok(base.difference(&lacks).union(&beyond))
    }
    let base = read_dots(reader)?;
    let required = read_version(reader, &base)?;
    let count = reader.bounded("the number of members", MAX_MEMBERS as u64)?;
    // Versions are told by what they lack: what they take is bounded together.
    let mut room = MAX_TABLE_RANGES;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let id = ReplicaId::new(reader.u64_le()?);
        if members
            .last_key_value()
            .is_some_and(|(last, _)| *last >= id)
        {
            return Err(reader.malformed("members out of order").into());
        }
        let generation = reader.varint()?;
        let standing = Standing::read(reader)?;
        let beat = reader.varint()?;
        let (mut acknowledged, mut sealed) = (Version::new(), Version::new());
        if standing == Standing::Member {
            acknowledged = read_version(reader, &base)?;
            sealed = read_version(reader, &base)?;
        }
        let ranges = acknowledged.ranges().len() + sealed.ranges().len();
        room = room.checked_sub(ranges).ok_or(DecodeError::Limit {
            what: "the versions of a member table",
            found: (MAX_TABLE_RANGES - room + ranges) as u64,
            limit: MAX_TABLE_RANGES as u64,
        })?;
        members.insert(
            id,
            Member {
                generation,
                standing,
                beat,
                acknowledged,
                sealed,
            },
        );
    }
    Ok((Table { members, required }, base))
}

/// Ranges of all versions of a table together: sixty megabytes. A thousand members of a
/// document that a thousand have written take two million.
pub(super) const MAX_TABLE_RANGES: usize = 2_500_000;

/// The members that a replica knows, and how far it is in letting go.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Members {
    pub(super) table: Table,
    /// When the last sign of life came, by the clock here.
    heard: BTreeMap<ReplicaId, u64>,
    /// What can be let go of once all is here that the members had when it was found out.
    pending: Option<Pending>,
    /// What is sealed, to be told once all is stored that had been done here before.
    sealing: Option<(Version, Version)>,
    /// Peers that have sent operations and did not tell whom they know.
    untold: BTreeSet<ReplicaId>,
    /// Whether it was found out what is stable since the table last changed.
    weighed: bool,
    /// Whether the table is not what the store has.
    unstored: bool,
    /// Whether it is not what the peers were told last.
    untold_news: bool,
    /// Whether there is something in it that the bus did not tell, and was not told.
    pub(super) bus_news: bool,
    /// When news were last told, and when some are due.
    told_at: Option<u64>,
    due_at: Option<u64>,
    beat_at: u64,
    /// Until then nothing is let go of: somebody may use it of whom a lost log alone had told.
    pub(super) holds_until: u64,
    revisions: Revisions,
}

/// How often the table has changed, and what of it when.
#[derive(Debug)]
struct Revisions {
    /// The number of the latest change.
    last: u64,
    /// Of each member the latest change, and the session that told exactly what it is now.
    members: BTreeMap<ReplicaId, (u64, Option<SessionId>)>,
    required: u64,
    /// The one that all sessions have been told, or are about to be.
    told: u64,
    /// What was acknowledged here at the latest.
    base: Option<Arc<Version>>,
    /// The news since some revisions, as frames, for sessions that lack the same.
    frames: Vec<(u64, Bytes)>,
    /// The longest that was sent since news were last told, and the one before that.
    longest: [usize; 2],
}

impl Default for Revisions {
    fn default() -> Self {
        Self {
            last: 1,
            members: BTreeMap::new(),
            required: 1,
            told: 0,
            base: None,
            frames: Vec::new(),
            longest: [0; 2],
        }
    }
}

impl Revisions {
    /// What is about to change in the entry of a member.
    fn note(&mut self, member: ReplicaId, source: Option<SessionId>) {
        self.members.insert(member, (self.last + 1, source));
    }

    /// Whether a member has changed since a revision, by what others than a session have told.
    fn is_news(&self, member: ReplicaId, since: u64, to: Option<SessionId>) -> bool {
        let known = self.members.get(&member).copied();
        let (at, source) = known.unwrap_or((1, None));
        at > since && (source.is_none() || source != to)
    }
}

#[derive(Debug)]
struct Pending {
    /// All that any member had.
    union: Version,
    stable: Version,
    settled: Version,
}

impl Members {
    /// Something is new in the table.
    fn changed(&mut self) {
        (self.weighed, self.unstored, self.untold_news) = (false, true, true);
        self.bus_news = true;
        self.revisions.last += 1;
        self.revisions.frames.clear();
        self.revisions.base = None;
    }

    fn members(&self) -> impl Iterator<Item = (ReplicaId, &Member)> {
        let members = self.table.members.iter();
        let members = members.filter(|(_, member)| member.standing == Standing::Member);
        members.map(|(id, member)| (*id, member))
    }

    /// Finds out what is stable and settled as soon as all is applied that the members had.
    /// A replica that is `alone` waits for nobody.
    fn weigh(&mut self, alone: &Version) {
        self.weighed = true;
        let mut members = self.members();
        let first = members.next().map(|(_, first)| first);
        let mut pending = Pending {
            union: first.map_or(alone, |first| &first.acknowledged).clone(),
            stable: first.map_or(alone, |first| &first.acknowledged).clone(),
            settled: first.map_or(alone, |first| &first.sealed).clone(),
        };
        for (_, member) in members {
            // The usual case is that of equal versions.
            if member.acknowledged != pending.union || pending.stable != pending.union {
                pending.union.union_with(&member.acknowledged);
                pending.stable = pending.stable.intersection(&member.acknowledged);
            }
            if member.sealed != pending.settled {
                pending.settled = pending.settled.intersection(&member.sealed);
            }
        }
        self.pending = Some(pending);
    }

    /// Whether nobody is left behind by what becomes of additions to counters by this replica.
    fn has_heard_all(&self, replica: ReplicaId) -> bool {
        let known = self.table.members.get(&replica);
        known.is_some_and(|member| member.standing != Standing::Forgotten)
    }
}

impl Replica {
    /// Who holds the document, as far as this replica has heard, itself left out.
    pub fn members(&self, now: u64) -> impl Iterator<Item = MemberStatus> {
        let own = self.document.replica();
        let others = self.members.table.members.iter();
        let others = others.filter(move |(id, _)| **id != own);
        others.map(move |(id, member)| MemberStatus {
            replica: *id,
            standing: member.standing,
            silent: now.saturating_sub(self.members.heard.get(id).copied().unwrap_or(now)),
            missing: self.version.difference(&member.acknowledged).len(),
        })
    }

    /// How many others stand so.
    pub fn count_members(&self, standing: Standing) -> usize {
        let own = self.document.replica();
        let members = self.members.table.members.iter();
        members
            .filter(|(id, member)| **id != own && member.standing == standing)
            .count()
    }

    /// Waits for a replica no longer; false where it is no member. Should it return, it will, where
    /// something was let go of meanwhile, begin anew from the state of the others, and do again
    /// what they do not have.
    pub fn forget(&mut self, now: u64, replica: ReplicaId) -> bool {
        let known = self.members.table.members.get_mut(&replica);
        let Some(member) = known.filter(|member| member.standing == Standing::Member) else {
            return false;
        };
        if replica == self.document.replica() {
            return false;
        }
        member.leave(Standing::Forgotten);
        self.members.revisions.note(replica, None);
        self.members.pending = None;
        self.members.heard.insert(replica, now);
        self.members.changed();
        // Whoever commands it may wait until it is stored.
        self.store_members();
        self.tend(now);
        true
    }

    /// Tells the peers that this replica will not come back under its id, so that nobody waits for
    /// it: for one without a store that ends. What it wrote should be acknowledged before.
    pub fn leave(&mut self, now: u64) {
        self.refresh_own(now);
        let own = self.document.replica();
        if let Some(member) = self.members.table.members.get_mut(&own) {
            member.leave(Standing::Gone);
            self.members.revisions.note(own, None);
        }
        self.members.changed();
        self.tell_members(now);
    }

    /// What a store kept of the members, given back before anything else is done.
    pub fn restore_members(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(check_checksum(bytes)?);
        let (table, _) = read_table(&mut reader)?;
        reader.finish()?;
        let own = self.document.replica();
        if let Some(member) = table.members.get(&own) {
            self.document.seal_all(&member.sealed);
        }
        self.members.table = table;
        Ok(())
    }

    /// The bytes for [`restore_members`](Self::restore_members).
    pub(super) fn members_record(&self) -> Bytes {
        let mut out = Vec::new();
        put_table(&mut out, &self.members.table, &self.published());
        put_checksum(&mut out);
        Bytes::from(out)
    }

    /// Without a record of the members: everybody who has written may come back.
    pub(super) fn assume_members(&mut self) {
        let writers = self.version.ranges().iter().map(|range| range.replica);
        for id in writers {
            let member = || Member::new(0, Version::new());
            self.members.table.members.entry(id).or_insert_with(member);
        }
    }

    /// A peer has said hello, and is about to be told of operations.
    pub(super) fn greet_member(&mut self, now: u64, peer: ReplicaId, version: &Version) {
        let table = &mut self.members.table;
        let generation = match table.members.get(&peer) {
            Some(member) if member.standing == Standing::Member => {
                self.members.heard.insert(peer, now);
                return self.tend(now);
            }
            Some(member) => member.generation + 1,
            None => 0,
        };
        let member = Member::new(generation, version.clone());
        table.members.insert(peer, member);
        self.members.revisions.note(peer, None);
        self.members.heard.insert(peer, now);
        self.members.pending = None;
        self.members.changed();
        self.tend(now);
    }

    /// A peer has sent operations: whom it got them from it must tell before anything follows from
    /// that.
    pub(super) fn note_source(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id)
            && !session.told_members
            && let Some(peer) = session.peer
        {
            self.members.untold.insert(peer);
        }
    }

    pub(super) fn receive_news(
        &mut self,
        id: SessionId,
        now: u64,
        news: News,
    ) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if !session.receives() {
            return Err(ProtocolError::NotWritable);
        }
        let (heard, base) = &session.news_heard;
        if news.to <= *heard {
            return Ok(()); // late, or twice
        }
        let before = match news.from {
            0 => &Version::new(),
            from if from == *heard => base,
            _ => {
                self.ask_for_table(id);
                return Ok(());
            }
        };
        let (to, has_required) = (news.to, news.has_required());
        let (table, base) = news.table(before)?;
        // Where somebody has stored own operations that are not known here, the store is an old
        // backup, though nobody may have them any more.
        let (own, ours) = (self.document.replica(), self.document.own_seq());
        let members = table.members.values();
        let last = members.map(|member| member.acknowledged.last_seq(own));
        if let Some(theirs) = last.max().filter(|last| *last > ours) {
            return Err(ProtocolError::ReplicaReused {
                replica: own,
                ours,
                theirs,
            });
        }
        let session = self.open(id)?;
        session.news_heard = (to, base);
        session.told_members = true;
        if has_required {
            session.required.clone_from(&table.required);
        }
        if let Some(peer) = session.peer {
            self.members.untold.remove(&peer);
        }
        self.join_members(now, table, Some(id));
        Ok(())
    }

    /// Something that a peer has told of the members was lost.
    pub(super) fn ask_for_table(&mut self, id: SessionId) {
        let frame = frame::missed(self.handle);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.control.push_back(frame);
        }
        self.wake(id);
    }

    /// A peer has lost something: with the next news it is told all.
    pub(super) fn receive_missed(&mut self, id: SessionId, now: u64) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if !session.sends() {
            return Err(ProtocolError::NotReadable);
        }
        session.news_told = Default::default();
        self.members.untold_news = true;
        self.tend(now);
        Ok(())
    }

    /// Joins in what another knows of the members; `source` is the session that told it.
    pub(super) fn join_members(&mut self, now: u64, table: Table, source: Option<SessionId>) {
        let own = self.document.replica();
        let Members {
            table: known,
            heard,
            revisions,
            ..
        } = &mut self.members;
        let (mut news, mut left, mut forgotten) = (false, false, false);
        for (id, theirs) in table.members {
            if id == own {
                let Some(here) = known.members.get_mut(&own) else {
                    continue;
                };
                let left = theirs.standing != Standing::Member;
                if theirs.generation >= here.generation + u64::from(!left) {
                    here.generation = theirs.generation + u64::from(left);
                    revisions.note(own, None);
                    (news, forgotten) = (true, theirs.standing == Standing::Forgotten);
                }
                continue;
            }
            let full = known.members.len() >= MAX_MEMBERS;
            let grows = match known.members.get_mut(&id) {
                Some(here) => {
                    let beat = (here.generation, here.beat);
                    let waited = here.standing == Standing::Member;
                    let grows = here.join(&theirs);
                    // What only it had may never come.
                    left |= waited && here.standing != Standing::Member;
                    if (here.generation, here.beat) != beat {
                        heard.insert(id, now);
                    }
                    if grows {
                        revisions.note(id, source.filter(|_| *here == theirs));
                    }
                    grows
                }
                // Who has left long ago is not heard of anew.
                None if theirs.standing == Standing::Gone => false,
                None if full => false,
                None => {
                    known.members.insert(id, theirs);
                    heard.insert(id, now);
                    revisions.note(id, source);
                    true
                }
            };
            news |= grows;
        }
        if self.version.covers(&table.required) && !known.required.covers(&table.required) {
            known.required.union_with(&table.required);
            revisions.required = revisions.last + 1;
            news = true;
        }
        if left {
            self.members.pending = None;
        }
        if news {
            self.members.changed();
        }
        if forgotten {
            self.return_to_peers();
        }
        self.tend(now);
    }

    /// The others have not waited for this replica: whether it can go on from what it has, the
    /// next hellos tell.
    fn return_to_peers(&mut self) {
        let reason = CloseReason::Forgotten;
        self.members.pending = None;
        self.forsake_bus();
        self.end_all(&reason);
    }

    /// The replica continues under another id: nobody need wait for the old one; nor for the new
    /// one where it only visits.
    pub(super) fn rename_member(&mut self, old: ReplicaId, new: ReplicaId, visits: bool) {
        let members = &mut self.members;
        if let Some(member) = members.table.members.get_mut(&old) {
            member.leave(Standing::Gone);
            members.revisions.note(old, None);
        }
        if !visits {
            let known = members.table.members.get(&new);
            let generation = known.map_or(0, |member| member.generation + 1);
            let member = Member::new(generation, Version::new());
            members.table.members.insert(new, member);
            members.revisions.note(new, None);
        }
        (members.pending, members.sealing) = (None, None);
        members.beat_at = 0;
        members.changed();
    }

    /// A peer that writes continues under another id: nobody need wait for the old one.
    pub(super) fn greet_renamed(
        &mut self,
        id: SessionId,
        now: u64,
        (old, new): (ReplicaId, ReplicaId),
        visits: bool,
    ) {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.receives()) else {
            return;
        };
        session.visits = visits;
        session.visited |= visits;
        let told = session.told_members;
        let members = &mut self.members;
        if members.untold.remove(&old) && !told {
            members.untold.insert(new);
        }
        let known = members.table.members.get_mut(&old);
        if let Some(member) = known.filter(|member| member.standing != Standing::Gone) {
            member.leave(Standing::Gone);
            members.revisions.note(old, None);
            members.heard.insert(old, now);
            members.pending = None;
            members.changed();
        }
        if visits {
            self.tend(now);
        } else {
            self.greet_member(now, new, &Version::new());
        }
    }

    /// A peer has sent operations; who has written his first ones does not only visit.
    pub(super) fn note_writer(&mut self, id: SessionId, now: u64, new: &DotSet) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.visits
            && let Some(peer) = session.peer
            && new.last_seq(peer) > 0
        {
            session.visits = false;
            self.greet_member(now, peer, &Version::new());
        }
    }

    /// Goes on from a peer's whole state.
    pub(super) fn begin_anew(&mut self, id: SessionId, now: u64, whole: &Delta) {
        let required = self
            .sessions
            .get(&id)
            .map(|session| session.required.clone());
        self.note_source(id);
        self.begin_anew_from(now, whole, required.unwrap_or_default());
    }

    /// Goes on from another's whole state, who asks for what is `required`.
    pub(super) fn begin_anew_from(&mut self, now: u64, whole: &Delta, required: Version) {
        let before = core::mem::take(&mut self.version);
        let again = self.document.begin_anew(whole, now);
        self.version = self.document.version();
        let own_seq = self.document.own_seq();
        let mut dots = self.unstored_dots();
        dots.union_with(&self.version.difference(&before));
        self.members.table.required = required;
        self.members.revisions.required = self.members.revisions.last + 1;
        (self.members.pending, self.members.sealing) = (None, None);
        self.members.changed();
        self.forsake_writes();
        if self.durable {
            let state = Bytes::from(self.document.encode());
            self.write_anew(state, dots, own_seq);
        } else if self.is_settled() {
            self.own_stored = own_seq;
        }
        self.forsake_bus();
        self.changed();
        self.events.push_back(Event::Resynced { again });
        self.end_all(&CloseReason::Resynced);
        self.tend(now);
    }

    /// Has it looked at before long what is to be told, and what can be let go of.
    pub(super) fn tend(&mut self, now: u64) {
        let soon = now.saturating_add(self.config.gossip_interval.max(1) / 8);
        self.arm_members(self.tell_at().max(soon));
    }

    /// When news may be told again: after the interval, or after the time for which the bytes of
    /// the last ones are enough.
    fn tell_at(&self) -> u64 {
        let interval = self.config.gossip_interval.max(1);
        let [latest, before] = self.members.revisions.longest;
        let bytes = latest.max(before) as u64;
        let worth = bytes.saturating_mul(1000) / self.config.gossip_rate.max(1);
        let told = self.members.told_at;
        told.map_or(0, |at| at.saturating_add(interval.max(worth)))
    }

    fn arm_members(&mut self, at: u64) {
        if self.members.due_at.is_none_or(|due| at < due) {
            self.members.due_at = Some(at);
            self.timers.insert((at, Timer::Members));
        }
    }

    pub(super) fn members_timeout(&mut self, now: u64, at: u64) {
        if self.members.due_at != Some(at) {
            return;
        }
        self.members.due_at = None;
        self.forget_silent(now);
        self.refresh_own(now);
        if now >= self.members.holds_until {
            self.let_go();
        }
        self.refresh_own(now);
        let tell_at = self.tell_at();
        if self.members.untold_news && tell_at <= now {
            self.tell_members(now);
        }
        self.store_members();
        let members = &self.members;
        let own = self.document.replica();
        let busy = !members.weighed
            || members.pending.is_some()
            || members.sealing.is_some()
            || self.document.has_past();
        let next = if busy {
            now.saturating_add(self.config.gossip_interval.max(1))
        } else {
            let silent = members.members().filter(|(id, _)| *id != own);
            let silent = silent.filter_map(|(id, _)| members.heard.get(&id));
            let deadlines = silent.map(|at| at.saturating_add(self.config.forget_after));
            deadlines.fold(members.beat_at, u64::min).max(now + 1)
        };
        let next = if self.members.untold_news {
            next.min(tell_at)
        } else {
            next
        };
        if next < u64::MAX {
            self.arm_members(next.max(now + 1));
        }
    }

    /// Waits no longer for those that were silent for too long, and drops what is known of those
    /// that left as long ago.
    fn forget_silent(&mut self, now: u64) {
        let (own, after) = (self.document.replica(), self.config.forget_after);
        let Members {
            table,
            heard,
            revisions,
            ..
        } = &mut self.members;
        let mut news = false;
        table.members.retain(|id, member| {
            let since = *heard.entry(*id).or_insert(now);
            if *id == own || since.saturating_add(after) > now {
                return true;
            }
            match member.standing {
                Standing::Member => {
                    member.leave(Standing::Forgotten);
                    revisions.note(*id, None);
                    heard.insert(*id, now);
                    self.events.push_back(Event::Forgotten(*id));
                    news = true;
                    true
                }
                Standing::Forgotten => true,
                Standing::Gone => {
                    heard.remove(id);
                    revisions.members.remove(id);
                    false
                }
            }
        });
        if news {
            self.members.pending = None;
            self.members.changed();
        }
    }

    /// Brings the own entry up to date.
    pub(super) fn refresh_own(&mut self, now: u64) {
        let mut stored = self.stored_version();
        // Of visitors the others hear nothing. So nothing is deleted for good that these may use.
        let sessions = self.sessions.values();
        for visitor in sessions.filter(|s| s.visits && s.is_open() && s.sends()) {
            if !visitor.unacked.is_empty() {
                stored = stored.difference(&visitor.unacked);
            }
        }
        let own = self.document.replica();
        let sealed = match self.members.sealing.take() {
            Some((done, sealed)) if stored.covers(&done) => Some(sealed),
            waiting => {
                self.members.sealing = waiting;
                None
            }
        };
        let interval = (self.config.forget_after / 8).max(1);
        if self.is_visitor() {
            self.members.beat_at = now.saturating_add(interval);
            return;
        }
        let members = &mut self.members.table.members;
        let known = members
            .entry(own)
            .or_insert_with(|| Member::new(0, Version::new()));
        let grown = !known.acknowledged.covers(&stored);
        if !grown && sealed.is_none() && now < self.members.beat_at {
            return;
        }
        known.acknowledged.union_with(&stored);
        if let Some(sealed) = sealed {
            known.sealed.union_with(&sealed);
        }
        known.beat = now.max(known.beat + 1);
        self.members.revisions.note(own, None);
        self.members.beat_at = now.saturating_add(interval);
        self.members.changed();
    }

    /// Lets go of what nobody can need any more.
    fn let_go(&mut self) {
        // Who is not waited for will not tell.
        let Members { table, untold, .. } = &mut self.members;
        let waits = |member: &Member| member.standing == Standing::Member;
        untold.retain(|id| table.members.get(id).is_some_and(waits));
        if !self.members.untold.is_empty() {
            return;
        }
        if self.members.pending.is_none() && !self.members.weighed {
            // What was done here and told to nobody will be called otherwise.
            let met = !self.members.table.members.is_empty();
            let alone = if met {
                self.published()
            } else {
                self.version.clone()
            };
            self.members.weigh(&alone);
        }
        let Some(pending) = self.members.pending.take() else {
            return;
        };
        if !self.version.covers(&pending.union) {
            self.members.pending = Some(pending);
            return;
        }
        let members = &self.members;
        let present = |id| members.has_heard_all(id);
        let document = &mut self.document;
        let positions = document.forget_stable_among(&pending.stable, &pending.settled, present);
        let own = self.document.replica();
        if positions {
            let stable = pending.stable.intersection(&self.published());
            self.members.table.required.union_with(&stable);
            self.members.revisions.required = self.members.revisions.last + 1;
            self.members.changed();
            self.changed();
        }
        let told = self.members.table.members.get(&own);
        let sealed = self.document.sealed_at();
        if self.members.sealing.is_none() && told.is_none_or(|own| !own.sealed.covers(sealed)) {
            self.members.sealing = Some((self.version.clone(), sealed.clone()));
        }
    }

    /// Has every peer told what is new.
    fn tell_members(&mut self, now: u64) {
        self.members.untold_news = false;
        self.members.told_at = Some(now);
        let [longest, _] = self.members.revisions.longest;
        self.members.revisions.longest = [0, longest];
        self.members.revisions.told = self.members.revisions.last;
        self.digest_frame = None;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.owe_members(id);
        }
        if let Some(bus) = &mut self.bus {
            bus.members_due |= core::mem::take(&mut self.members.bus_news);
        }
    }

    /// The revision of the table that all peers have been told, or are about to be.
    pub(super) fn told_revision(&self) -> u64 {
        self.members.revisions.told
    }

    /// Has a peer told what is new.
    pub(super) fn owe_members(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.is_open()
            && session.sends()
        {
            session.members_due = true;
            self.wake(id);
        }
    }

    /// What a session has not been told: one frame for all that lack the same. It does not fit
    /// where there are too many members: then nothing becomes stable.
    pub(super) fn members_frame(&mut self, id: SessionId) -> Option<Bytes> {
        let Members {
            table, revisions, ..
        } = &mut self.members;
        let shared = self.sessions.len() > FEW_SESSIONS;
        let session = self.sessions.get_mut(&id)?;
        let (from, before) = session.news_told.clone();
        let to = revisions.last;
        if from == to {
            return None;
        }
        let own = self.document.replica();
        let base = Arc::clone(revisions.base.get_or_insert_with(|| {
            let own = table.members.get(&own);
            Arc::new(own.map(|own| own.acknowledged.clone()).unwrap_or_default())
        }));
        let required = (revisions.required > from).then_some(&table.required);
        let known = revisions
            .frames
            .iter()
            .find(|(since, _)| shared && *since == from);
        let frame = if let Some((_, frame)) = known {
            frame.clone()
        } else {
            let to_whom = Some(id).filter(|_| !shared);
            let members = table.members.iter();
            let members = members.filter(|(id, _)| revisions.is_news(**id, from, to_whom));
            let members = members.map(|(id, member)| (*id, member));
            let news = News::new((from, &before), (to, &base), required, members);
            frame::members(self.handle, &news)
        };
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        if shared && known.is_none() {
            revisions.frames.push((from, frame.clone()));
        }
        if from > 0 {
            revisions.longest[0] = revisions.longest[0].max(frame.len());
        }
        session.news_told = (to, base);
        Some(frame)
    }

    fn store_members(&mut self) {
        // What never held anything leaves nothing.
        let worth = self.durable && !self.version.is_empty();
        if worth && core::mem::take(&mut self.members.unstored) {
            let record = self.members_record();
            self.write_members(record);
        }
    }
}
