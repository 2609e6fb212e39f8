//! What led from one state to another: the difference, or one transaction after the other.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::change::{Change, Place};
use crate::clock::Timestamp;
use crate::delta::Delta;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::key::Key;
use crate::past::PastValue;
use crate::replica::{Dot, ReplicaId};
use crate::slab::{BIRTH, Slot};
use crate::value::Value;

/// What led from the state at one version to that at another, taken out of a document, so that
/// it can be gone through while the document goes on.
#[derive(Clone, Debug)]
pub struct Timeline {
    replica: ReplicaId,
    hash_seed: u64,
    /// The state at its beginning.
    start: Delta,
    /// From there to its end.
    difference: Delta,
    /// Where the steps begin: at the start where that was asked for, else at the earliest state
    /// that is known.
    first: Option<Delta>,
    /// In the order of time.
    steps: Vec<Group>,
}

/// Operations of which it is known what they did together.
#[derive(Clone, Debug)]
struct Group {
    delta: Delta,
    by: Option<ReplicaId>,
    timestamp: Timestamp,
}

/// What one transaction did; or several that came together, where it is not known which of them
/// replaced what.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The operations.
    pub operations: DotSet,
    /// Whose they are; `None` where several replicas did them.
    pub by: Option<ReplicaId>,
    /// When the latest of them was done. Removals carry no time: of those that others have done
    /// and that came with no value, it is when they came.
    pub timestamp: Timestamp,
    /// In the order of a [`Batch`](crate::Batch).
    pub changes: Vec<Change>,
}

impl Document {
    /// What led from one version to another. `None` as `since` is the beginning, and the steps
    /// start at the [earliest state known](Self::known_since); `None` as `until` is now. `None` is
    /// the answer where the state at one of the versions is not known any more, or `until` lacks
    /// something that `since` has.
    ///
    /// Costs the whole state.
    pub fn timeline(&self, since: Option<&Version>, until: Option<&Version>) -> Option<Timeline> {
        let now = self.version();
        let until = until.unwrap_or(&now);
        if !self.can_recall(until) {
            return None;
        }
        let nothing = Version::new();
        let earliest = match (since, self.known_since()) {
            (Some(since), _) => since.clone(),
            (None, None) => nothing.clone(),
            (None, Some(known)) => self.version_at(known)?.intersection(until),
        };
        let (asked, since) = (since, since.unwrap_or(&nothing));
        if !until.covers(since) {
            return None;
        }
        let known = self.can_recall(&earliest);
        let start = match asked {
            Some(since) => self.snapshot_of(since)?,
            None => Delta::default(),
        };
        let differs = earliest != *since;
        let first = (differs && known).then(|| self.snapshot_of(&earliest));
        Some(Timeline {
            replica: self.replica(),
            hash_seed: self.index.seed(),
            start,
            difference: self.difference(since, until),
            first: first.flatten(),
            steps: if known {
                self.groups(&earliest, until)
            } else {
                Vec::new()
            },
        })
    }

    /// The concise list of changes that lead from one version to another: what was written and
    /// replaced in between is left out. `None` stands for the beginning, or for now. `None` is
    /// also the answer where the state at one of the versions is not known any more.
    ///
    /// Costs the whole state.
    pub fn history(&self, since: Option<&Version>, until: Option<&Version>) -> Option<Vec<Change>> {
        Some(self.timeline(since, until)?.changes())
    }

    /// What leads at once from one version to a later one.
    fn difference(&self, since: &Version, until: &Version) -> Delta {
        let (mut dead, mut alive) = (DotSet::new(), Vec::new());
        for removal in self.past.removals() {
            let done = until.intersects(&removal.killers);
            for value in &removal.values {
                if done && since.contains(value.dot) {
                    dead.insert(value.dot);
                } else if !done && until.contains(value.dot) && !since.contains(value.dot) {
                    alive.push(value);
                }
            }
        }
        self.compose_past(until.difference(since), dead, alive.into_iter())
    }

    /// What was done between two versions, in groups.
    fn groups(&self, since: &Version, until: &Version) -> Vec<Group> {
        let mut rest = until.difference(since);
        let mut groups: Vec<(Timestamp, usize, DotSet)> = Vec::new();
        // Of each value that was removed in between, by which group.
        let mut killed: BTreeMap<Dot, usize> = BTreeMap::new();
        for (at, removal) in self.past.removals().enumerate() {
            let killers = removal.killers.intersection(&rest);
            if killers.is_empty() {
                continue;
            }
            rest = rest.difference(&killers);
            let values = removal.values.iter();
            killed.extend(values.map(|value| (value.dot, groups.len())));
            groups.push((removal.timestamp, at + 1, killers));
        }
        // Those that removed nothing: a transaction has one replica and one time.
        let mut single: BTreeMap<(Timestamp, ReplicaId), DotSet> = BTreeMap::new();
        let mut values: BTreeMap<Dot, &PastValue> = BTreeMap::new();
        for value in self.past.removals().flat_map(|removal| &removal.values) {
            if rest.contains(value.dot) {
                let group = single.entry((value.timestamp, value.dot.replica));
                group.or_default().insert(value.dot);
            }
            values.insert(value.dot, value);
        }
        for (dot, timestamp) in self.times_of(&rest) {
            let group = single.entry((timestamp, dot.replica)).or_default();
            group.insert(dot);
        }
        let single = single.into_iter();
        groups.extend(single.map(|((timestamp, _), dots)| (timestamp, 0, dots)));

        let mut dead = vec![DotSet::new(); groups.len()];
        for (dot, group) in &killed {
            if !groups[*group].2.contains(*dot) {
                dead[*group].insert(*dot);
            }
        }
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|group| (groups[*group].0, groups[*group].1, *group));
        let steps = order.into_iter().map(|group| {
            let (timestamp, _, dots) = core::mem::take(&mut groups[group]);
            let ranges = dots.ranges().iter();
            let past = ranges.flat_map(|range| {
                let first = Dot::new(range.replica, range.first);
                values.range(first..=Dot::new(range.replica, range.last))
            });
            // What the group removed itself came and went.
            let past = past.filter(|(dot, _)| killed.get(dot) != Some(&group));
            let past: Vec<&PastValue> = past.map(|(_, value)| *value).collect();
            let dead = core::mem::take(&mut dead[group]);
            Group {
                by: sole_replica(&dots),
                timestamp,
                delta: self.compose_past(dots, dead, past.into_iter()),
            }
        });
        steps.collect()
    }

    /// When those of the operations were done that are live, or made a position.
    fn times_of(&self, operations: &DotSet) -> Vec<(Dot, Timestamp)> {
        let mut times = Vec::new();
        for range in operations.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            let time = |slot: Slot| match slot & BIRTH {
                0 => self.slab.stamp(slot).timestamp,
                _ => self.elements[slot & !BIRTH].timestamp(),
            };
            let live = known.live.range(range.first, range.last);
            times.extend(live.map(|(seq, slot)| (Dot::new(range.replica, seq), time(slot))));
            let placed = known.placed.range(range.first, range.last);
            times.extend(placed.map(|(seq, spot)| {
                let timestamp = self.elements[spot].timestamp();
                (Dot::new(range.replica, seq), timestamp)
            }));
        }
        times
    }
}

impl Timeline {
    /// The operations that were done in between.
    pub fn operations(&self) -> &DotSet {
        self.difference.applied()
    }

    /// What is different at the end: the concise list of changes, in the order of a
    /// [`Batch`](crate::Batch). Who removed something, and when, is told as far as it is known.
    pub fn changes(&self) -> Vec<Change> {
        let mut last: BTreeMap<Subject, (Option<ReplicaId>, Timestamp)> = BTreeMap::new();
        for step in self.steps() {
            for change in &step.changes {
                last.insert(Subject::of(change), (change.by, change.timestamp));
            }
        }
        let mut then = self.document(&self.start);
        then.observe(true);
        then.apply(&self.difference);
        let batches = then.take_changes().into_iter();
        let mut changes: Vec<Change> = batches.flat_map(|batch| batch.changes).collect();
        for change in &mut changes {
            if let Some(known) = last.get(&Subject::of(change)) {
                (change.by, change.timestamp) = *known;
            }
        }
        changes
    }

    /// One transaction after the other, in the order of time: applied to the first state in this
    /// order, their changes lead to the last. Those that changed nothing are left out.
    pub fn steps(&self) -> Vec<Step> {
        let mut then = self.document(self.first.as_ref().unwrap_or(&self.start));
        then.observe(true);
        let mut steps = Vec::with_capacity(self.steps.len());
        for group in &self.steps {
            then.apply(&group.delta);
            let batches = then.take_changes().into_iter();
            let mut changes: Vec<Change> = batches.flat_map(|batch| batch.changes).collect();
            if changes.is_empty() {
                continue;
            }
            for change in &mut changes {
                // Values have a time of their own.
                if change.new.is_none() || change.place == Place::Count {
                    change.timestamp = group.timestamp;
                    change.by = change.by.or(group.by);
                }
            }
            steps.push(Step {
                operations: group.delta.applied().clone(),
                by: group.by,
                timestamp: group.timestamp,
                changes,
            });
        }
        steps
    }

    fn document(&self, state: &Delta) -> Document {
        let mut document = Document::with_hash_seed(self.replica, self.hash_seed);
        document.keep_past(0);
        document.apply(state);
        document
    }
}

/// The replica of all these operations, if it is one.
fn sole_replica(operations: &DotSet) -> Option<ReplicaId> {
    let mut replicas = operations.ranges().iter().map(|range| range.replica);
    let first = replicas.next()?;
    replicas.all(|other| other == first).then_some(first)
}

/// What a change is about, whatever became of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Key(Vec<Key>),
    Element(Vec<Key>, Dot),
    Member(Vec<Key>, Vec<u8>),
    Count(Vec<Key>),
}

impl Subject {
    fn of(change: &Change) -> Self {
        let path = change.path.clone();
        match change.place {
            Place::Key => Self::Key(path),
            Place::Element { id, .. } => Self::Element(path, id),
            Place::Count => Self::Count(path),
            Place::Member => {
                let member = change.new.as_ref().or(change.old.as_ref());
                let mut bytes = Vec::new();
                crate::codec::put_value(&mut bytes, member.unwrap_or(&Value::Null));
                Self::Member(path, bytes)
            }
        }
    }
}
