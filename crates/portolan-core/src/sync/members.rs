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
//! what he had before it takes nothing that refers to what is sealed. Nor from one who has taken
//! an id meanwhile: he lacks some of what is sealed, which everybody has who was waited for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::bus::Bus;
use super::replica::Replica;
use super::session::SessionId;
use crate::codec::{Reader, check_checksum, put_checksum};
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};

mod comeback;
mod gossip;
mod stability;
mod table;

use gossip::Revisions;
use stability::Pending;
pub use table::Standing;
pub(super) use table::{MAX_MEMBERS, MAX_TABLE_RANGES, Member, Table, put_table, read_table};

/// The most members of whom a hello tells how far they were: more than have stored something at one
/// time that has not come.
const MAX_HEARD: usize = 10_000;

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
    /// The last of its own operations that it has told to be stored there.
    pub stored: u64,
}

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
    /// Who had left before anything was heard of him here, and when that was told.
    gone: BTreeMap<ReplicaId, u64>,
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
            stored: member.acknowledged.last_seq(*id),
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
    ///
    /// On a bus only the log is told: who is there has met all who took over from it what this
    /// replica had. Its peers have not, and hear of it from them.
    pub fn leave(&mut self, now: u64) {
        self.refresh_own(now);
        let own = self.document.replica();
        if let Some(member) = self.members.table.members.get_mut(&own) {
            member.leave(Standing::Gone);
            self.members.revisions.note(own, None);
        }
        self.members.changed();
        if !self.bus.as_mut().is_some_and(Bus::leave_for_good) {
            self.tell_members(now);
        }
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
        // Its own operations it has told to nobody else so far, and may be a backup.
        let own = DotSet::from_range(peer, 1, version.last_seq(peer).max(1));
        let member = Member::new(generation, version.difference(&own));
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

    /// What positions were let go of by is called otherwise: where this replica was alone with it,
    /// nobody else could ever have what it asks for.
    pub(super) fn rename_required(&mut self, renaming: Option<Renaming>) {
        let required = &mut self.members.table.required;
        if let Some(renaming) = renaming
            && !required.is_empty()
        {
            *required = renaming.dots(required);
            self.members.revisions.required = self.members.revisions.last + 1;
            self.members.changed();
        }
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

    /// Of members the last operation that they have told to be stored, where it is not here. So
    /// whoever comes back without it hears so before he has told anything else under its name.
    pub(super) fn heard(&self) -> DotSet {
        let mut heard = DotSet::new();
        for (id, member) in &self.members.table.members {
            let last = member.acknowledged.last_seq(*id);
            if last > self.version.last_seq(*id) && heard.ranges().len() < MAX_HEARD {
                heard.insert(Dot::new(*id, last));
            }
        }
        heard
    }

    /// The own entry is about to be told, and with it which own operations are stored.
    pub(super) fn note_told_own(&mut self) {
        let own = self.document.replica();
        if let Some(member) = self.members.table.members.get(&own) {
            self.told = self.told.max(member.acknowledged.last_seq(own));
        }
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
