//! How the members are told: what is new to each peer, and what the peers tell.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{MAX_MEMBERS, Members, Standing, Table};
use crate::dots::Version;
use crate::limits::MAX_FRAME_BYTES;
use crate::replica::ReplicaId;
use crate::sync::bus::Bus;
use crate::sync::error::ProtocolError;
use crate::sync::frame;
use crate::sync::news::News;
use crate::sync::replica::Replica;
use crate::sync::session::SessionId;

/// With more sessions than this what is new is written once for all, and who has told some of it is
/// told that again.
const FEW_SESSIONS: usize = 4;

/// How often the table has changed, and what of it when.
#[derive(Debug)]
pub(super) struct Revisions {
    /// The number of the latest change.
    pub(super) last: u64,
    /// Of each member the latest change, and the session that told exactly what it is now.
    pub(super) members: BTreeMap<ReplicaId, (u64, Option<SessionId>)>,
    pub(super) required: u64,
    /// The one that all sessions have been told, or are about to be.
    told: u64,
    /// What was acknowledged here at the latest.
    pub(super) base: Option<Arc<Version>>,
    /// The news since some revisions, as frames, for sessions that lack the same.
    pub(super) frames: Vec<(u64, Bytes)>,
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
    pub(super) fn note(&mut self, member: ReplicaId, source: Option<SessionId>) {
        self.members.insert(member, (self.last + 1, source));
    }

    /// Whether a member has changed since a revision, by what others than a session have told.
    fn is_news(&self, member: ReplicaId, since: u64, to: Option<SessionId>) -> bool {
        let known = self.members.get(&member).copied();
        let (at, source) = known.unwrap_or((1, None));
        at > since && (source.is_none() || source != to)
    }
}

impl Replica {
    pub(in crate::sync) fn receive_news(
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
    pub(in crate::sync) fn ask_for_table(&mut self, id: SessionId) {
        let frame = frame::missed(self.handle);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.control.push_back(frame);
        }
        self.wake(id);
    }

    /// A peer has lost something: with the next news it is told all.
    pub(in crate::sync) fn receive_missed(
        &mut self,
        id: SessionId,
        now: u64,
    ) -> Result<(), ProtocolError> {
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
    pub(in crate::sync) fn join_members(
        &mut self,
        now: u64,
        table: Table,
        source: Option<SessionId>,
    ) {
        let own = self.document.replica();
        let Members {
            table: known,
            heard,
            revisions,
            gone,
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
                // Who has left long ago is no news, and not told on.
                None if theirs.standing == Standing::Gone => {
                    gone.insert(id, now);
                    false
                }
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

    /// When news may be told again: after the interval, or after the time for which the bytes of
    /// the last ones are enough.
    pub(super) fn tell_at(&self) -> u64 {
        let interval = self.config.gossip_interval.max(1);
        let [latest, before] = self.members.revisions.longest;
        let bytes = latest.max(before) as u64;
        let worth = bytes.saturating_mul(1000) / self.config.gossip_rate.max(1);
        let told = self.members.told_at;
        told.map_or(0, |at| at.saturating_add(interval.max(worth)))
    }

    /// Has every peer told what is new.
    pub(super) fn tell_members(&mut self, now: u64) {
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
    pub(in crate::sync) fn told_revision(&self) -> u64 {
        self.members.revisions.told
    }

    /// Has a peer told what is new.
    pub(in crate::sync) fn owe_members(&mut self, id: SessionId) {
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
    pub(in crate::sync) fn members_frame(&mut self, id: SessionId) -> Option<Bytes> {
        if self.bus.as_ref().is_some_and(Bus::is_left) {
            return None;
        }
        self.note_told_own();
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
}
