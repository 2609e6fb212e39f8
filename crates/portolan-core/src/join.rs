//! Joining what comes from outside, and becoming somebody else.

use crate::change::Origin;
use crate::clock::Timestamp;
use crate::codec::{put_key, put_value};
use crate::delta::Delta;
use crate::document::{Document, ROOT};
use crate::dots::DotSet;
use crate::journal::Journal;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::groups;
use crate::slab::{NONE, Slot};

impl Document {
    /// Joins a delta in; returns the operations that were new here.
    ///
    /// Joins commute, associate and are idempotent. Costs the size of the delta and of what it
    /// removes here.
    pub fn apply(&mut self, delta: &Delta) -> DotSet {
        let new = self.replicas.split(&delta.applied, false);
        if new.is_empty() {
            return new; // what these operations removed is dead here already
        }
        self.clock.observe(delta.latest());
        let mut journal = Journal {
            observed: self.batches.is_some(),
            ..Journal::default()
        };
        let mut dead = DotSet::new();
        if new != delta.applied {
            dead = self.kill_superseded(delta, &mut journal);
        }
        if !delta.dead.is_empty() {
            dead.union_with(&self.kill_named(delta, &mut journal));
        }
        let placed = self.place_entries(delta, &mut journal);
        for (id, dots) in groups(&new) {
            let number = self.replicas.intern(id);
            let known = self.replicas.get_mut(number);
            known.applied.union_with(&dots);
            if !known.early.is_empty() {
                known.early = known.early.difference(&dots);
            }
        }
        if placed < new.len() {
            dead.union_with(&self.dead_among(&new));
        }
        self.log.note_all(&new, dead, self.live());
        if journal.observed {
            self.record_batch(Origin::Remote, &new, journal);
        }
        new
    }

    /// Removes what is live here though the sender has applied it and does not hold it live.
    fn kill_superseded(&mut self, delta: &Delta, journal: &mut Journal) -> DotSet {
        let mut here: Vec<(Dot, Slot)> = Vec::new();
        for range in delta.applied.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            let live = known.live.range(range.first, range.last);
            here.extend(live.map(|(seq, slot)| (Dot::new(range.replica, seq), slot)));
        }
        if here.is_empty() {
            return DotSet::new();
        }
        let mut there: Vec<Dot> = delta.entries.iter().map(|entry| entry.dot).collect();
        there.sort_unstable();
        here.retain(|(dot, _)| there.binary_search(dot).is_err());
        for entry in self.kill(here.iter().map(|(_, slot)| *slot)) {
            journal.removed(0, entry);
        }
        here.into_iter().map(|(dot, _)| dot).collect()
    }

    /// Removes what the delta names as dead; what has not been applied here is remembered.
    fn kill_named(&mut self, delta: &Delta, journal: &mut Journal) -> DotSet {
        let mut dead = DotSet::new();
        let mut here: Vec<(Dot, Slot)> = Vec::new();
        for (id, dots) in groups(&delta.dead) {
            let number = self.replicas.intern(id);
            let known = self.replicas.get_mut(number);
            let early = dots.difference(&known.applied);
            known.early.union_with(&early);
            dead.union_with(&early);
            for range in dots.ranges() {
                let live = known.live.range(range.first, range.last);
                here.extend(live.map(|(seq, slot)| (Dot::new(id, seq), slot)));
            }
        }
        for entry in self.kill(here.iter().map(|(_, slot)| *slot)) {
            journal.removed(0, entry);
        }
        dead.union_with(&here.into_iter().map(|(dot, _)| dot).collect());
        dead
    }

    /// Places the values of operations that are neither applied here nor dead; how many those are.
    fn place_entries(&mut self, delta: &Delta, journal: &mut Journal) -> u64 {
        let mut placed = 0;
        self.reserve(delta.entries.len());
        let mut last: Option<(ReplicaId, u32)> = None;
        // The sibling placed last, and its key: the next one stands behind it.
        let mut above: Option<(&Key, Slot)> = None;
        for entry in &delta.entries {
            let number = match last {
                Some((id, number)) if id == entry.dot.replica => number,
                _ => self.replicas.intern(entry.dot.replica),
            };
            last = Some((entry.dot.replica, number));
            let known = self.replicas.get(number);
            if known.applied.contains(entry.dot) || known.early.contains(entry.dot) {
                continue;
            }
            journal.added(ROOT, &entry.key);
            let dot = (number, entry.dot.seq);
            let behind = above.filter(|(key, _)| **key == entry.key);
            let slot = self.place(
                ROOT,
                entry.key.clone(),
                entry.value.clone(),
                dot,
                entry.timestamp,
                behind.map_or(NONE, |(_, slot)| slot),
            );
            above = Some((&entry.key, slot));
            placed += 1;
        }
        placed
    }

    /// Takes in what a replica of the same version holds live and this one does not, or holds
    /// otherwise: for when equal versions have unequal digests, because memory or disk was
    /// damaged. What either holds survives on both; of two contents of one operation both keep
    /// the same one. What only operations have removed that the sender had not applied stays
    /// removed; where the log of these is gone, nothing is repaired. Returns how many values were.
    pub fn repair(&mut self, snapshot: &Delta) -> usize {
        let mut journal = Journal {
            observed: self.batches.is_some(),
            ..Journal::default()
        };
        let beyond = self.replicas.applied_beyond(&snapshot.applied);
        let Some(removed) = self.log.removed_by(&beyond) else {
            return 0;
        };
        let mut damaged = Vec::new();
        let mut repaired = Vec::new();
        for theirs in &snapshot.entries {
            let Some(number) = self.replicas.number(theirs.dot.replica) else {
                continue;
            };
            let known = self.replicas.get(number);
            if !known.applied.contains(theirs.dot) || removed.contains(theirs.dot) {
                continue;
            }
            if let Some(slot) = known.live.get(theirs.dot.seq) {
                let ours = &self.slab[slot];
                let content = |key, value, time: Timestamp| {
                    let mut bytes = time.bits().to_be_bytes().to_vec();
                    put_key(&mut bytes, key);
                    put_value(&mut bytes, value);
                    bytes
                };
                let held = content(&ours.key, &ours.value, ours.timestamp);
                if held >= content(&theirs.key, &theirs.value, theirs.timestamp) {
                    continue;
                }
                damaged.push(slot);
            }
            repaired.push((number, theirs));
        }
        for entry in self.kill(damaged) {
            journal.removed(0, entry);
        }
        let mut above: Option<(&Key, Slot)> = None;
        for (number, theirs) in &repaired {
            self.clock.observe(theirs.timestamp);
            journal.added(ROOT, &theirs.key);
            let behind = above.filter(|(key, _)| **key == theirs.key);
            let slot = self.place(
                ROOT,
                theirs.key.clone(),
                theirs.value.clone(),
                (*number, theirs.dot.seq),
                theirs.timestamp,
                behind.map_or(NONE, |(_, slot)| slot),
            );
            above = Some((&theirs.key, slot));
        }
        let repaired: DotSet = repaired.into_iter().map(|(_, theirs)| theirs.dot).collect();
        self.log.revoke(&repaired);
        let count = repaired.len() as usize;
        self.record_batch(Origin::Remote, &repaired, journal);
        count
    }

    /// Takes a new id for what is written from now on. Own operations numbered above `after` are
    /// done again under the new id and forgotten under the old one, so that what others know by
    /// the old dots can be applied: for a replica that was restored from a backup, and learns
    /// that it has written more than it remembers.
    ///
    /// The id must be fresh. Costs the operations done again.
    pub fn change_replica(&mut self, id: ReplicaId, after: u64) {
        let (old, old_id, last) = (self.own, self.replica(), self.own_seq());
        self.own = self.replicas.intern(id);
        if last <= after {
            return;
        }
        let again = DotSet::from_range(old_id, after + 1, last);
        let mut dead = match self.log.removed_by(&again) {
            Some(removed) => removed,
            None => self.dead_among(&self.version()),
        };
        dead = dead.difference(&again);
        let live = self.replicas.get(old).live.range(after + 1, last);
        let slots: Vec<Slot> = live.map(|(_, slot)| slot).collect();
        let mut entries = self.kill(slots);
        entries.sort_unstable_by_key(|entry| entry.seq);
        let known = self.replicas.get_mut(old);
        known.applied = known.applied.difference(&again);
        self.log.revoke(&again);
        let base = self.own_seq();
        // Removals alone need an operation too.
        let count = (entries.len() as u64).max(1);
        for (seq, mut entry) in (base + 1..).zip(entries) {
            (entry.replica, entry.seq) = (self.own, seq);
            self.restore(entry, NONE);
        }
        let new = DotSet::from_range(id, base + 1, base + count);
        self.replicas.get_mut(self.own).applied.union_with(&new);
        self.log.note_all(&new, dead, self.live());
    }
}
