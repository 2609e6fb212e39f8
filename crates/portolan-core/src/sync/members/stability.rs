//! What is stable and settled, and goes; and who is waited for no longer.

use crate::dots::Version;
use crate::replica::ReplicaId;
use crate::sync::event::Event;
use crate::sync::replica::{Replica, Timer};

use super::{Member, Members, Standing};

#[derive(Debug)]
pub(super) struct Pending {
    /// All that any member had.
    union: Version,
    stable: Version,
    settled: Version,
}

impl Members {
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

    /// Whether nobody is left behind by what becomes of additions to counters by this replica. Who
    /// is not in the table may return, unless it was told that he is gone.
    fn has_heard_all(&self, replica: ReplicaId) -> bool {
        match self.table.members.get(&replica) {
            Some(member) => member.standing != Standing::Forgotten,
            None => self.gone.contains_key(&replica),
        }
    }
}

impl Replica {
    /// Has it looked at before long what is to be told, and what can be let go of.
    pub(in crate::sync) fn tend(&mut self, now: u64) {
        let soon = now.saturating_add(self.config.gossip_interval.max(1) / 8);
        self.arm_members(self.tell_at().max(soon));
    }

    fn arm_members(&mut self, at: u64) {
        if self.members.due_at.is_none_or(|due| at < due) {
            self.members.due_at = Some(at);
            self.timers.insert((at, Timer::Members));
        }
    }

    pub(in crate::sync) fn members_timeout(&mut self, now: u64, at: u64) {
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
            gone,
            ..
        } = &mut self.members;
        gone.retain(|_, heard| heard.saturating_add(after) > now);
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
    pub(in crate::sync) fn refresh_own(&mut self, now: u64) {
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
}
