//! Looking back: values that were replaced or removed lately, and the states that they were in.

use std::collections::{BTreeMap, VecDeque};

use crate::change::Change;
use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::journal::Journal;
use crate::key::Key;
use crate::limits::{MAX_PAST_VALUES, PAST_VALUE_BYTES};
use crate::nested::DeltaContainer;
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};
use crate::slab::BIRTH;
use crate::value::Value;

/// The way from the root to a container.
pub(crate) type Path = Vec<(Key, Form)>;

/// A value that is live no more.
#[derive(Clone, Debug)]
pub(crate) struct PastValue {
    pub(crate) path: Path,
    /// Under which it stood in its container; of an element that was born with it, the id.
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) dot: Dot,
    pub(crate) timestamp: Timestamp,
    /// Whether an element of an array was born with it.
    pub(crate) born: bool,
}

impl PastValue {
    fn weight(&self) -> usize {
        let path: usize = self.path.iter().map(|(key, _)| 24 + key.byte_len()).sum();
        size_of::<Self>() + self.key.byte_len() + self.value.weight() + path
    }
}

/// What some operations removed together.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) killers: DotSet,
    pub(crate) timestamp: Timestamp,
    pub(crate) values: Vec<PastValue>,
}

/// The latest removals.
#[derive(Debug)]
pub(crate) struct Past {
    removals: VecDeque<Removal>,
    values: usize,
    bytes: usize,
    limit: usize,
    /// States without all of this are gone: what it removed is not known any more.
    since: Version,
    /// Of what undoing wrote again, the operation that wrote it first.
    again: BTreeMap<Dot, Dot>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            removals: VecDeque::new(),
            values: 0,
            bytes: 0,
            limit: MAX_PAST_VALUES,
            since: Version::new(),
            again: BTreeMap::new(),
        }
    }
}

impl Past {
    pub(crate) fn is_kept(&self) -> bool {
        self.limit > 0
    }

    pub(crate) fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.iter()
    }

    /// Whether it is known what these operations removed.
    pub(crate) fn reaches(&self, operations: &DotSet) -> bool {
        self.is_kept() && !self.since.intersects(operations)
    }

    /// Notes operations some of which came without what they had written: states between them are
    /// not known, nor is what those of `own` removed.
    pub(crate) fn note_untold(&mut self, operations: &DotSet, own: ReplicaId) {
        let last = operations.last_seq(own);
        if last > 0 {
            self.since.insert_range(own, 1, last);
        }
        self.note(Removal {
            killers: operations.clone(),
            timestamp: Timestamp::default(),
            values: Vec::new(),
        });
        while self.removals.len() > self.limit.max(1) {
            self.drop_oldest();
        }
    }

    /// Notes that `dot` wrote again what `first` had written.
    pub(crate) fn note_again(&mut self, dot: Dot, first: Dot) {
        let first = self.first_of(first);
        self.again.insert(dot, first);
        if self.again.len() > self.limit {
            self.again.pop_first();
        }
    }

    /// The operation that wrote first what this one did.
    pub(crate) fn first_of(&self, dot: Dot) -> Dot {
        self.again.get(&dot).copied().unwrap_or(dot)
    }

    /// What was written again of these operations.
    pub(crate) fn written_again(&self, first: &DotSet) -> impl Iterator<Item = Dot> {
        let again = self.again.iter();
        again.filter_map(|(dot, origin)| first.contains(*origin).then_some(*dot))
    }

    /// Own operations are called otherwise: what they removed, and wrote, is theirs as before.
    pub(crate) fn rename(&mut self, renaming: &Renaming) {
        for removal in &mut self.removals {
            removal.killers = renaming.dots(&removal.killers);
            for value in &mut removal.values {
                value.dot = renaming.dot(value.dot);
                renaming.key(&mut value.key);
                value.path.iter_mut().for_each(|(key, _)| renaming.key(key));
            }
        }
        self.since = renaming.dots(&self.since);
        let again = std::mem::take(&mut self.again).into_iter();
        self.again = again
            .map(|(dot, first)| (renaming.dot(dot), renaming.dot(first)))
            .collect();
    }

    /// Notes a removal.
    fn note(&mut self, removal: Removal) {
        self.values += removal.values.len();
        self.bytes += removal.values.iter().map(PastValue::weight).sum::<usize>();
        self.removals.push_back(removal);
        while self.values > self.limit || self.bytes > self.limit.saturating_mul(PAST_VALUE_BYTES) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.removals.pop_front() else {
            return;
        };
        self.values -= oldest.values.len();
        self.bytes -= oldest.values.iter().map(PastValue::weight).sum::<usize>();
        // With all before them, so that there are no more ranges than replicas.
        for range in oldest.killers.ranges() {
            self.since.insert_range(range.replica, 1, range.last);
        }
    }

    /// Forgets everything before this moment.
    fn clear(&mut self, now: Version) {
        self.removals = VecDeque::new();
        self.again = BTreeMap::new();
        (self.values, self.bytes, self.since) = (0, 0, now);
    }

    /// Whether the state at a version can be told: whatever was removed since is still known, and
    /// each removal was either done then, or not begun.
    fn tells(&self, version: &Version) -> bool {
        version.covers(&self.since)
            && self.removals.iter().all(|removal| {
                version.covers(&removal.killers) || !version.intersects(&removal.killers)
            })
    }
}

impl Document {
    /// How many replaced or removed values to keep for looking back; 256 at first, and never more
    /// than take 1 KiB each on average. Zero forgets those there are.
    pub fn keep_past(&mut self, values: usize) {
        self.past.limit = values;
        if self.past.values > values {
            let now = self.version();
            self.past.clear(now);
        }
    }

    /// Forgets what was replaced or removed before now.
    pub fn forget_past(&mut self) {
        let now = self.version();
        self.past.clear(now);
    }

    /// Notes what the operations `killers` removed, which are applied.
    pub(crate) fn note_past(&mut self, killers: &DotSet, timestamp: Timestamp, journal: &Journal) {
        let anything = !journal.removed.is_empty() || !journal.births.is_empty();
        if !self.past.is_kept() || !anything {
            return;
        }
        let mut values = Vec::with_capacity(journal.removed.len() + journal.births.len());
        for (_, entry) in &journal.removed {
            values.push(PastValue {
                path: self.path_of(entry.container),
                key: entry.key.clone(),
                value: entry.value.clone(),
                dot: self.dot_of(entry),
                timestamp: entry.timestamp,
                born: false,
            });
        }
        for (_, spot, value) in &journal.births {
            let (element, dot) = (&self.elements[*spot], self.dot_at(*spot));
            values.push(PastValue {
                path: self.path_of(element.array()),
                key: Key::Element(dot),
                value: value.clone(),
                dot,
                timestamp: element.timestamp(),
                born: true,
            });
        }
        let removal = Removal {
            killers: killers.clone(),
            timestamp,
            values,
        };
        self.past.note(removal);
    }

    /// The way from the root to a container.
    pub(crate) fn path_of(&self, container: u32) -> Path {
        let mut path = Path::new();
        let mut at = container;
        while at != ROOT {
            let known = self.containers.get(at);
            path.push((known.key.clone(), known.form));
            at = known.parent;
        }
        path.reverse();
        path
    }

    /// The document as it was at a version, under the same replica id; `None` where that is not
    /// known any more, or never was here. Costs the whole state.
    pub fn as_of(&self, version: &Version) -> Option<Document> {
        if !self.covers(version) || !self.past.tells(version) {
            return None;
        }
        let live = self.live_among(version);
        let mut delta = self.compose(version.clone(), DotSet::new(), live);
        let past = self.past.removals.iter();
        let alive = past.filter(|removal| !version.intersects(&removal.killers));
        let alive = alive.flat_map(|removal| &removal.values);
        let (mut numbers, mut births) = (Numbers::of(&delta), BTreeMap::new());
        for value in alive.filter(|value| version.contains(value.dot)) {
            if value.born {
                births.insert(value.dot, value.value.clone());
                continue;
            }
            let container = numbers.number(&value.path);
            delta.entries.push(DeltaEntry {
                container,
                key: value.key.clone(),
                value: value.value.clone(),
                dot: value.dot,
                timestamp: value.timestamp,
            });
        }
        numbers.give(&mut delta);
        delta.sort();
        if let Some(nested) = &mut delta.nested {
            let runs = nested.runs.iter();
            let dots = runs.flat_map(|run| (0..run.length).map(|at| run.dot(at)));
            for (dot, birth) in dots.zip(&mut nested.births) {
                if let Some(value) = births.remove(&dot) {
                    *birth = Some(value);
                }
            }
        }
        let mut then = Document::with_hash_seed(self.replica(), self.replica().get());
        then.apply(&delta);
        then.forget_past();
        Some(then)
    }

    /// The dots among these that are not applied.
    pub(crate) fn not_applied(&self, dots: &DotSet) -> DotSet {
        self.replicas.split(dots, false)
    }

    /// The operations applied that were stamped until a moment, as far as that is known: an
    /// operation that is live no more counts as old where its time is forgotten.
    pub fn version_at(&self, moment: Timestamp) -> Version {
        let version = self.version();
        let mut later = DotSet::new();
        for range in version.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            for (seq, slot) in known.live.range(range.first, range.last) {
                let timestamp = match slot & BIRTH {
                    0 => self.slab[slot].timestamp,
                    _ => self.elements[slot & !BIRTH].timestamp(),
                };
                if timestamp > moment {
                    later.insert(Dot::new(range.replica, seq));
                }
            }
            for (seq, spot) in known.placed.range(range.first, range.last) {
                if self.elements[spot].timestamp() > moment {
                    later.insert(Dot::new(range.replica, seq));
                }
            }
        }
        for removal in &self.past.removals {
            if removal.timestamp > moment {
                later.union_with(&removal.killers);
            }
            let late = removal.values.iter().filter(|v| v.timestamp > moment);
            late.for_each(|value| later.insert(value.dot));
        }
        version.difference(&later)
    }

    /// The concise list of changes that lead from one version to another: what was written and
    /// replaced in between is left out. `None` stands for the beginning, or for now. `None` is
    /// also the answer where the state at one of the versions is not known any more.
    ///
    /// Costs the whole state.
    pub fn history(&self, since: Option<&Version>, until: Option<&Version>) -> Option<Vec<Change>> {
        let mut then = match since {
            Some(version) => self.as_of(version)?,
            None => Document::new(self.replica()),
        };
        let delta = match until {
            Some(version) => self.as_of(version)?.snapshot(),
            None => self.snapshot(),
        };
        then.observe(true);
        then.apply(&delta);
        let batches = then.take_changes().into_iter();
        Some(batches.flat_map(|batch| batch.changes).collect())
    }
}

/// The numbers of the containers of a delta, more of which may be wanted.
struct Numbers {
    containers: Vec<DeltaContainer>,
    numbers: BTreeMap<(u32, Key, Form), u32>,
}

impl Numbers {
    fn of(delta: &Delta) -> Self {
        let containers = delta.containers().to_vec();
        let numbered = (1..).zip(&containers);
        let numbers = numbered
            .map(|(number, c)| ((c.parent, c.key.clone(), c.form), number))
            .collect();
        Self {
            containers,
            numbers,
        }
    }

    fn number(&mut self, path: &Path) -> u32 {
        let mut at = ROOT;
        for (key, form) in path {
            let next = self.containers.len() as u32 + 1;
            let number = *self.numbers.entry((at, key.clone(), *form)).or_insert(next);
            if number == next {
                self.containers.push(DeltaContainer {
                    parent: at,
                    key: key.clone(),
                    form: *form,
                });
            }
            at = number;
        }
        at
    }

    /// Puts the containers into the delta: parents before what is in them.
    fn give(self, delta: &mut Delta) {
        if !self.containers.is_empty() {
            delta.nested.get_or_insert_default().containers = self.containers;
        }
    }
}
