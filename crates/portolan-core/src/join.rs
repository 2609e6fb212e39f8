//! Joining what comes from outside, and becoming somebody else.

use alloc::vec::Vec;

use crate::few::{SmallVec, smallvec};

use crate::births::LARGE;
use crate::change::Origin;
use crate::clock::Timestamp;
use crate::codec::{put_key, put_value};
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::dots::DotSet;
use crate::journal::Journal;
use crate::key::Key;
use crate::nested::Nested;
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::groups;
use crate::sequence::Spot;
use crate::slab::{BIRTH, Entry, NONE, Slot};
use crate::sorting::sort;

/// Changes of id after which elements are still found by the ids that they had before.
const MAX_RENAMINGS: usize = 1024;

impl Document {
    /// Joins a delta in; returns the operations that were new here.
    ///
    /// Joins commute, associate and are idempotent. Costs the size of the delta and of what it
    /// removes here.
    pub fn apply(&mut self, delta: &Delta) -> DotSet {
        self.apply_at(0, delta)
    }

    /// As [`apply`](Self::apply), with the time: removals that come with no value carry none, and
    /// are remembered as done when they came. In milliseconds since the Unix epoch.
    pub fn apply_at(&mut self, now: u64, delta: &Delta) -> DotSet {
        if !crate::SMALL && self.join_next(delta) {
            return delta.applied.clone();
        }
        let mut journal = Journal::new(self);
        let new = self.join(delta, &mut journal);
        if new.is_empty() {
            return new;
        }
        let timestamp = match delta.latest() {
            none if none == Timestamp::default() => {
                self.clock.last().max(Timestamp::from_millis(now))
            }
            latest => latest,
        };
        self.note_past(Origin::Remote, &new, timestamp, &journal);
        if journal.is_observed() {
            self.record_batch(Origin::Remote, &new, journal);
        }
        self.containers.sweep();
        new
    }

    /// Joins a delta in that is one value in the root, of an operation that removed nothing and
    /// follows all that is here of its replica: what most deltas are. False, and nothing, where it
    /// is another one. Nothing goes, so there is nothing to tell but to who observes.
    #[inline]
    fn join_next(&mut self, delta: &Delta) -> bool {
        let ([entry], [range], None) = (
            delta.entries.as_slice(),
            delta.applied.ranges(),
            &delta.nested,
        ) else {
            return false;
        };
        if range.first != range.last || !delta.dead.is_empty() || self.recorder.is_some() {
            return false;
        }
        let number = self.replicas.intern(range.replica);
        let known = self.replicas.get_mut(number);
        // proof: the dot of an entry is always among the applied ones, here the only one.
        let seq = range.first;
        if known.applied.last_seq(range.replica) >= seq || !known.early.is_empty() {
            return false;
        }
        known.applied.insert_range(range.replica, seq, seq);
        if number == self.own {
            self.loaded = seq;
        }
        self.clock.observe(entry.timestamp);
        let fresh = Entry {
            key: entry.key.clone(),
            value: entry.value.clone(),
            timestamp: entry.timestamp,
            seq,
            replica: number,
            container: ROOT,
            hash: self.index.hash(ROOT, entry.key.borrowed()),
            next: NONE,
        };
        self.restore(fresh, NONE);
        true
    }

    fn join(&mut self, delta: &Delta, journal: &mut Journal) -> DotSet {
        let new = self.replicas.intern_new(&delta.applied);
        if new.is_empty() {
            return new; // what these operations removed is dead here already
        }
        let whole = new == delta.applied;
        self.clock.observe(delta.latest());
        let containers = self.intern_containers(delta);
        let mut dead = DotSet::new();
        if !whole {
            self.kill_superseded(delta, journal);
        }
        if !delta.dead.is_empty() {
            self.kill_named(delta, journal);
            // Those too that others had removed here before: whoever is given one of these
            // operations later may lack the others.
            dead.union_with(&delta.dead);
        }
        let mut placed = self.place_entries(delta, &containers, journal);
        if let Some(nested) = &delta.nested {
            placed += self.place_positions(nested, &containers, journal);
        }
        if let [_] = new.ranges() {
            self.note_applied(&new);
        } else {
            groups(&new).for_each(|(_, dots)| self.note_applied(&dots));
        }
        if placed < new.len() {
            dead.union_with(&self.dead_among(&new));
        }
        if !whole {
            // What the new operations removed may have been dead here before, by others; whoever
            // is given the new ones later may lack those.
            dead.union_with(&self.dead_among(&delta.applied.difference(&new)));
        }
        self.log.note_all(&new, dead, self.live());
        self.settle(journal);
        new
    }

    /// Notes that operations are applied, all of them of one replica.
    #[inline]
    fn note_applied(&mut self, dots: &DotSet) {
        let Some(range) = dots.ranges().first() else {
            return;
        };
        let number = self.replicas.intern(range.replica);
        let known = self.replicas.get_mut(number);
        known.applied.union_with(dots);
        if number == self.own {
            self.loaded = known.applied.last_seq(range.replica);
        }
        if !known.early.is_empty() {
            known.early = known.early.difference(dots);
        }
    }

    /// The numbers here of a delta's containers, the root first.
    fn intern_containers(&mut self, delta: &Delta) -> SmallVec<[u32; 4]> {
        let mut numbers = smallvec![ROOT];
        for container in delta.containers() {
            // proof: parents come before what is in them.
            let parent: u32 = numbers[container.parent as usize];
            numbers.push(
                self.containers
                    .intern(parent, &container.key, container.form),
            );
        }
        numbers
    }

    /// Removes what is live here though the sender has applied it and does not hold it live.
    fn kill_superseded(&mut self, delta: &Delta, journal: &mut Journal) {
        let mut here: Vec<(Dot, Slot)> = Vec::new();
        for range in delta.applied.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            let live = known.live.range(range.first, range.last);
            here.extend(live.map(|(seq, slot)| (Dot::new(range.replica, seq), slot)));
        }
        if here.is_empty() {
            return;
        }
        let mut there: Vec<Dot> = delta.entries.iter().map(|entry| entry.dot).collect();
        if let Some(nested) = &delta.nested {
            nested.live_dots(&mut there);
        }
        sort(&mut there);
        here.retain(|(dot, _)| there.binary_search(dot).is_err());
        self.kill_live(here.into_iter().map(|(_, slot)| slot), journal);
    }

    /// Removes live operations of any kind, slots or spots.
    pub(crate) fn kill_live(&mut self, live: impl Iterator<Item = Slot>, journal: &mut Journal) {
        let (mut slots, mut spots) = (Vec::new(), Vec::new());
        for slot in live {
            if slot & BIRTH == 0 {
                slots.push(slot);
            } else {
                spots.push(slot & !BIRTH);
            }
        }
        if journal.is_observed() && !self.containers.is_flat() {
            for slot in &slots {
                let container = self.slab[*slot].container;
                if self.containers.get(container).form == Form::Counter {
                    self.count_before(container, journal);
                }
            }
        }
        for entry in self.kill(slots) {
            journal.removed(0, entry);
        }
        for spot in spots {
            self.kill_birth(spot, 0, journal);
        }
    }

    /// Removes what the delta names as dead; what has not been applied here is remembered.
    fn kill_named(&mut self, delta: &Delta, journal: &mut Journal) {
        let mut here: Vec<Slot> = Vec::new();
        for (id, dots) in groups(&delta.dead) {
            let number = self.replicas.intern(id);
            let known = self.replicas.get_mut(number);
            let early = dots.difference(&known.applied);
            known.early.union_with(&early);
            for range in dots.ranges() {
                let live = known.live.range(range.first, range.last);
                here.extend(live.map(|(_, slot)| slot));
            }
        }
        self.kill_live(here.into_iter(), journal);
    }

    /// Places the values of operations that are neither applied here nor dead; how many those are.
    fn place_entries(&mut self, delta: &Delta, containers: &[u32], journal: &mut Journal) -> u64 {
        let mut placed = 0;
        self.index.reserve(&self.slab, delta.entries.len());
        let mut last: Option<(ReplicaId, u32)> = None;
        // The sibling placed last, and its key: the next one stands behind it.
        let mut above: Option<(u32, &Key, Slot)> = None;
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
            let behind = above
                .filter(|(container, key, _)| *container == entry.container && **key == entry.key);
            let behind = behind.map_or(NONE, |(.., slot)| slot);
            let slot = self.place_entry(entry, number, containers, behind, journal);
            above = Some((entry.container, &entry.key, slot));
            placed += 1;
        }
        placed
    }

    fn place_entry(
        &mut self,
        entry: &DeltaEntry,
        replica: u32,
        containers: &[u32],
        behind: Slot,
        journal: &mut Journal,
    ) -> Slot {
        // proof: the numbers of containers are checked when a delta is decoded.
        let container = containers[entry.container as usize];
        if container != ROOT
            && journal.is_observed()
            && self.containers.get(container).form == Form::Counter
        {
            self.count_before(container, journal);
        }
        journal.added(container, &entry.key);
        let hash = self.index.hash(container, entry.key.borrowed());
        let fresh = Entry {
            key: entry.key.clone(),
            value: entry.value.clone(),
            timestamp: entry.timestamp,
            seq: entry.dot.seq,
            replica,
            container,
            hash,
            next: NONE,
        };
        self.restore(fresh, behind)
    }

    /// Places the positions that operations made which are not applied here, with the values that
    /// are not dead; how many operations those are.
    fn place_positions(
        &mut self,
        nested: &Nested,
        containers: &[u32],
        journal: &mut Journal,
    ) -> u64 {
        let mut placed = 0;
        let later = nested.births.len() >= LARGE;
        let (mut births, mut times) = (nested.births.as_slice(), nested.times.as_slice());
        for run in &nested.runs {
            let array = containers[run.container as usize];
            let replica = self.replicas.intern(run.replica);
            // proof: there are as many births and times as positions in all runs.
            let (values, behind) = births.split_at(run.length as usize);
            let (stamps, after) = times.split_at(run.length as usize);
            (births, times) = (behind, after);
            let known = self.replicas.get(replica);
            let dots = DotSet::from_range(run.replica, run.first, run.last());
            let several = run.length > 1 && !crate::SMALL;
            if several && !known.applied.intersects(&dots) && !known.early.intersects(&dots) {
                placed += self.place_run(array, run, replica, (values, stamps), later, journal);
                continue;
            }
            for (at, (value, timestamp)) in (0..run.length).zip(values.iter().zip(stamps)) {
                let dot = run.dot(at);
                let known = self.replicas.get(replica);
                if known.applied.contains(dot) {
                    continue;
                }
                let value = value.as_ref().filter(|_| !known.early.contains(dot));
                placed += u64::from(value.is_some());
                let origin = run.origin(at);
                let dot = (replica, dot.seq);
                let value = value.cloned();
                self.place_position(array, dot, *timestamp, origin, value, journal);
            }
        }
        placed
    }

    /// Takes in what a replica of the same version holds live and this one does not, or holds
    /// otherwise: for when equal versions have unequal digests, because memory or disk was
    /// damaged. What either holds survives on both; of two contents of one operation both keep
    /// the same one. What only operations have removed that the sender had not applied stays
    /// removed; where the log of these is gone, nothing is repaired. Returns how many values were.
    pub fn repair(&mut self, snapshot: &Delta) -> usize {
        let mut journal = Journal::new(self);
        let beyond = self.replicas.applied_beyond(&snapshot.applied);
        let Some(removed) = self.log.removed_by(&beyond) else {
            return 0;
        };
        let containers = self.intern_containers(snapshot);
        let mut births = DotSet::new();
        if let Some(nested) = &snapshot.nested {
            births = self.repair_positions(nested, &containers, &removed, &mut journal);
        }
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
            // proof: the numbers of containers are checked when a delta is decoded.
            if !self.may_stand(theirs, containers[theirs.container as usize]) {
                continue;
            }
            if let Some(slot) = known
                .live
                .get(theirs.dot.seq)
                .filter(|slot| slot & BIRTH == 0)
            {
                let ours = self.slab.operation(slot);
                let content = |key, value, time: Timestamp| {
                    let mut bytes = time.bits().to_be_bytes().to_vec();
                    put_key(&mut bytes, key);
                    put_value(&mut bytes, value);
                    bytes
                };
                let held = content(ours.key, ours.value, ours.timestamp);
                if held >= content(&theirs.key, &theirs.value, theirs.timestamp) {
                    continue;
                }
                damaged.push(slot);
            }
            repaired.push((number, theirs));
        }
        self.kill_live(damaged.into_iter(), &mut journal);
        let mut above: Option<(u32, &Key, Slot)> = None;
        for (number, theirs) in &repaired {
            self.clock.observe(theirs.timestamp);
            let behind = above.filter(|(container, key, _)| {
                *container == theirs.container && **key == theirs.key
            });
            let behind = behind.map_or(NONE, |(.., slot)| slot);
            let slot = self.place_entry(theirs, *number, &containers, behind, &mut journal);
            above = Some((theirs.container, &theirs.key, slot));
        }
        let mut repaired: DotSet = repaired.into_iter().map(|(_, theirs)| theirs.dot).collect();
        repaired.union_with(&births);
        self.log.revoke(&repaired);
        self.settle(&mut journal);
        let count = repaired.len() as usize;
        self.record_batch(Origin::Remote, &repaired, journal);
        self.containers.sweep();
        count
    }

    /// Whether an operation that holds this value can have made the position that it has here: a
    /// move has made one for the element in the array beside, any other has made none.
    fn may_stand(&self, entry: &DeltaEntry, container: u32) -> bool {
        let moves = self.containers.get(container);
        match (self.spot(entry.dot), moves.form == Form::Moves) {
            (None, moved) => !moved,
            (Some(_), false) => false,
            (Some(spot), true) => {
                let array = self.containers.get(self.elements[spot].array());
                let beside = (array.parent, &array.key) == (moves.parent, &moves.key);
                beside
                    && self.element_at_position(spot).map(Key::Element) == Some(entry.key.clone())
            }
        }
    }

    /// As [`repair`](Self::repair), for arrays: positions that are missing, and values that
    /// elements were born with.
    fn repair_positions(
        &mut self,
        nested: &Nested,
        containers: &[u32],
        removed: &DotSet,
        journal: &mut Journal,
    ) -> DotSet {
        let mut repaired = DotSet::new();
        let mut born = nested.births.iter().zip(&nested.times);
        for run in &nested.runs {
            for (at, (value, timestamp)) in (0..run.length).zip(born.by_ref()) {
                let dot = run.dot(at);
                let Some(number) = self.replicas.number(dot.replica) else {
                    continue;
                };
                let known = self.replicas.get(number);
                if !known.applied.contains(dot) || known.live.get(dot.seq).is_some() {
                    continue;
                }
                let value = value.as_ref().filter(|_| !removed.contains(dot));
                match (known.placed.get(dot.seq), value) {
                    (Some(_), None) => continue,
                    (Some(spot), Some(_)) if self.elements[spot].moved() => continue,
                    (Some(spot), Some(value)) => {
                        self.elements.set_value(spot, Some(value.clone()));
                        self.revive_birth(spot);
                    }
                    (None, value) => {
                        let origin = run.origin(at);
                        let array = containers[run.container as usize];
                        let dot = (number, dot.seq);
                        let value = value.cloned();
                        self.place_position(array, dot, *timestamp, origin, value, journal);
                    }
                }
                if value.is_some() {
                    repaired.insert(dot);
                }
            }
        }
        repaired
    }

    /// Takes a new id for what is written from now on. Own operations numbered above `after` are
    /// done again under the new id and forgotten under the old one, so that what others know by
    /// the old dots can be applied: for a replica that was restored from a backup, and learns
    /// that it has written more than it remembers.
    ///
    /// The id must be fresh, or one that nobody writes under any more and whose operations, all of
    /// them, are applied here. And nothing may be here of others who had seen more of the old id
    /// than `after`: positions of theirs may refer to operations that have the same dots as some of
    /// those done again, and would stand beside the wrong ones. The synchronisation machine sees to
    /// that: it takes nothing from a peer that knows more of this replica than itself. Costs the
    /// operations done again.
    pub fn change_replica(&mut self, id: ReplicaId, after: u64) {
        self.take_name(id, after);
    }

    /// As [`change_replica`](Self::change_replica); gives what is called otherwise now, if anything.
    pub(crate) fn take_name(&mut self, id: ReplicaId, after: u64) -> Option<Renaming> {
        let (old, old_id, last) = (self.own, self.replica(), self.own_seq());
        self.own = self.replicas.intern(id);
        self.loaded = self.own_seq();
        if last <= after {
            return None;
        }
        let again = DotSet::from_range(old_id, after + 1, last);
        let dead = match self.log.removed_by(&again) {
            Some(removed) => removed,
            None => self.dead_among(&self.version()),
        };
        let dead = dead.difference(&again);
        let live = self.live_among(&again);
        let mut delta = self.compose(again.clone(), dead.clone(), live);
        // Among siblings of one timestamp the new id may stand elsewhere than the old.
        let mut journal = Journal::new(self);
        self.forget(old, after + 1, last, &mut journal);
        let known = self.replicas.get_mut(old);
        known.applied = known.applied.difference(&again);
        self.log.revoke(&again);
        let renaming = Renaming {
            old: old_id,
            after,
            last,
            new: id,
            base: self.own_seq(),
        };
        delta.rename(&renaming);
        self.past.rename(&renaming);
        self.tombstones.rename(&renaming);
        self.note_renaming(renaming);
        // What they removed is dead here already, and stays so by other dots.
        delta.dead = DotSet::new();
        let new = self.join(&delta, &mut journal);
        self.log.note_all(&new, dead, self.live());
        self.record_batch(Origin::Local, &new, journal);
        self.containers.sweep();
        Some(renaming)
    }

    pub(crate) fn note_renaming(&mut self, renaming: Renaming) {
        if self.renamings.len() == MAX_RENAMINGS {
            self.renamings.remove(0);
        }
        self.renamings.push(renaming);
    }

    /// What an own operation is called now: under another dot where it was done again, because
    /// this replica took another id since, and so any element that this replica did again when it
    /// began anew. The latest 1,024 changes are remembered.
    pub fn current(&self, dot: Dot) -> Dot {
        let renamings = self.renamings.iter();
        renamings.fold(dot, |dot, renaming| renaming.dot(dot))
    }

    /// Takes operations out as if they had never been.
    pub(crate) fn forget(&mut self, replica: u32, first: u64, last: u64, journal: &mut Journal) {
        let known = self.replicas.get(replica);
        let live: Vec<Slot> = known.live.range(first, last).map(|(_, s)| s).collect();
        self.kill_live(live.into_iter(), journal);
        self.settle(journal);
        for (killer, spot, value) in journal.births.drain(..) {
            let (element, dot) = (&self.elements[spot], self.dot_at(spot));
            let entry = Entry {
                key: Key::Element(dot),
                value,
                timestamp: element.timestamp(),
                seq: element.seq(),
                replica: element.replica(),
                container: element.array(),
                hash: 0,
                next: NONE,
            };
            journal.removed.push((killer, entry));
        }
        let known = self.replicas.get(replica);
        let placed: Vec<Spot> = known.placed.range(first, last).map(|(_, s)| s).collect();
        // Backwards: a position goes before the one that it is a child of.
        for spot in placed.into_iter().rev() {
            self.hide(spot, journal);
            self.remove_position(spot);
        }
    }
}
