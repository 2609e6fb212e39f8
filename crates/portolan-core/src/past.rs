//! Looking back: values that were replaced or removed lately, and the states that they were in.

#[cfg(feature = "digest")]
mod digest;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::change::Origin;
use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::dots::{DotRange, DotSet, Version};
use crate::journal::Journal;
use crate::key::Key;
use crate::limits::{MAX_PAST_VALUES, PAST_VALUE_BYTES};
use crate::nested::DeltaContainer;
use crate::renaming::Renaming;
use crate::replica::Dot;
use crate::slab::BIRTH;
use crate::value::Value;

/// How many of the latest removals are looked through for the time of an operation.
const LATEST_REMOVALS: usize = 256;

/// From how many ranges on nobody asks when their operations were done.
const MANY_RANGES: usize = 64;

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
    /// When: that of the latest of the operations as far as they carry one, or when they came.
    pub(crate) timestamp: Timestamp,
    pub(crate) values: Vec<PastValue>,
    /// Where some of the operations came without what they had written: when these were done at
    /// the earliest. States between this and the timestamp are not known.
    untold: Option<Timestamp>,
}

impl Removal {
    /// Whether the state at a moment is not known for it.
    fn hides(&self, moment: Timestamp) -> bool {
        self.untold.is_some_and(|from| from < moment) && moment < self.timestamp
    }
}

/// Notes what operations have done.
type Note = fn(&mut Document, Origin, &DotSet, Timestamp, &Journal);

/// The latest removals.
#[derive(Debug)]
pub(crate) struct Past {
    removals: VecDeque<Removal>,
    values: usize,
    bytes: usize,
    limit: usize,
    /// [`Document::note_done`], while anything is kept. Where nothing ever is, nothing leads there,
    /// and a program for pages is smaller.
    note: Option<Note>,
    /// States without all of this are gone: what it removed is not known any more.
    since: Version,
    /// When the last of that was done.
    forgotten: Timestamp,
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
            note: Some(Document::note_done),
            since: Version::new(),
            forgotten: Timestamp::default(),
            again: BTreeMap::new(),
        }
    }
}

impl Past {
    /// Of a document that keeps none.
    pub(crate) fn unkept() -> Self {
        Self {
            removals: VecDeque::new(),
            values: 0,
            bytes: 0,
            limit: 0,
            note: None,
            since: Version::new(),
            forgotten: Timestamp::default(),
            again: BTreeMap::new(),
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.limit > 0
    }

    pub(crate) fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.iter()
    }

    /// Whether it is known what these operations removed.
    pub(crate) fn reaches(&self, operations: &DotSet) -> bool {
        let untold = self
            .removals
            .iter()
            .filter(|removal| removal.untold.is_some());
        let mut gone = untold.map(|removal| &removal.killers).chain([&self.since]);
        self.is_kept() && gone.all(|gone| !gone.intersects(operations))
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
        let again = core::mem::take(&mut self.again).into_iter();
        self.again = again
            .map(|(dot, first)| (renaming.dot(dot), renaming.dot(first)))
            .collect();
    }

    /// Notes a removal.
    fn note(&mut self, removal: Removal) {
        // One that came without what it removed counts as well. The oldest goes first, so that no
        // room is made for more than there may be.
        while self.removals.len() >= self.limit.max(1) {
            self.drop_oldest();
        }
        self.values += removal.values.len();
        self.bytes += removal.values.iter().map(PastValue::weight).sum::<usize>();
        self.removals.push_back(removal);
        let bytes = self.limit.saturating_mul(PAST_VALUE_BYTES);
        while self.values > self.limit || self.bytes > bytes {
            self.drop_oldest();
        }
    }

    /// As [`note`](Self::note), of a removal of more values than may be kept.
    fn note_too_many(&mut self, killers: &DotSet, timestamp: Timestamp) {
        self.removals.push_back(Removal {
            killers: killers.clone(),
            timestamp,
            values: Vec::new(),
            untold: None,
        });
        while !self.removals.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.removals.pop_front() else {
            return;
        };
        self.values -= oldest.values.len();
        self.bytes -= oldest.values.iter().map(PastValue::weight).sum::<usize>();
        self.forgotten = self.forgotten.max(oldest.timestamp);
        // With all before them, so that there are no more ranges than replicas.
        for range in oldest.killers.ranges() {
            self.since.insert_range(range.replica, 1, range.last);
        }
    }

    /// Forgets everything before this moment.
    fn clear(&mut self, version: Version, now: Timestamp) {
        self.removals = VecDeque::new();
        self.again = BTreeMap::new();
        (self.values, self.bytes) = (0, 0);
        (self.since, self.forgotten) = (version, now);
    }

    /// Forgets what cannot be shown any more without the positions of these elements, and all
    /// before it.
    pub(crate) fn forget_elements(&mut self, gone: &DotSet) {
        let needs = |key: &Key| matches!(key, Key::Element(id) if gone.contains(*id));
        let needed = |value: &PastValue| {
            gone.contains(value.dot)
                || needs(&value.key)
                || value.path.iter().any(|(key, _)| needs(key))
        };
        let affected = |removal: &Removal| removal.values.iter().any(needed);
        if let Some(last) = self.removals.iter().rposition(affected) {
            (0..=last).for_each(|_| self.drop_oldest());
        }
    }

    /// From when on states are known; `None` where nothing was ever forgotten.
    fn known_since(&self) -> Option<Timestamp> {
        let forgotten = (!self.since.is_empty()).then_some(self.forgotten);
        let whenever = |removal: &&Removal| removal.untold == Some(Timestamp::default());
        let untold = self.removals.iter().filter(whenever);
        let mut known = forgotten.max(untold.map(|removal| removal.timestamp).max())?;
        while let Some(gap) = self.removals.iter().find(|gap| gap.hides(known)) {
            known = gap.timestamp;
        }
        Some(known)
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
        let (before, held) = (self.past.limit, self.past.values);
        self.past.limit = values;
        self.past.note = (values > 0).then_some(Document::note_done);
        if held > values || before == 0 {
            self.forget_past();
        }
    }

    /// What [`keep_past`](Self::keep_past) was told.
    pub(crate) fn past_limit(&self) -> usize {
        self.past.limit
    }

    /// Forgets what was replaced or removed before now.
    pub fn forget_past(&mut self) {
        let (version, now) = (self.version(), self.clock.last());
        self.past.clear(version, now);
    }

    /// From when on the past is known; `None` where nothing was ever forgotten. Of operations that
    /// came together after some of what they wrote had been replaced, it is known what they did
    /// together.
    pub fn known_since(&self) -> Option<Timestamp> {
        if self.past.is_kept() {
            return self.past.known_since();
        }
        Some(self.clock.last()).filter(|_| !self.version().is_empty())
    }

    /// Notes what operations have done, where that is kept.
    pub(crate) fn note_past(
        &mut self,
        origin: Origin,
        new: &DotSet,
        timestamp: Timestamp,
        journal: &Journal,
    ) {
        if let Some(note) = self.past.note {
            note(self, origin, new, timestamp, journal);
        }
    }

    fn note_done(&mut self, origin: Origin, new: &DotSet, timestamp: Timestamp, journal: &Journal) {
        let mut untold = None;
        if origin == Origin::Remote && new.len() > 1 {
            // What was stamped with or after the one before it is bounded by that.
            let before = |range: &DotRange| Dot::new(range.replica, range.first - 1);
            let earliest = |dead: &DotSet| {
                let before = dead.ranges().iter().map(before);
                before
                    .map(|dot| self.time_of(dot).unwrap_or_default())
                    .min()
            };
            untold = match self.few_dead_among(new, MANY_RANGES) {
                Some(dead) => earliest(&dead),
                None => Some(Timestamp::default()),
            };
        }
        self.note_removal(new, timestamp, untold, journal);
    }

    /// When an operation was done, if that is easily found.
    fn time_of(&self, dot: Dot) -> Option<Timestamp> {
        let known = self.replicas.by_id(dot.replica)?;
        if let Some(slot) = known.live.get(dot.seq) {
            return Some(match slot & BIRTH {
                0 => self.slab.stamp(slot).timestamp,
                _ => self.elements[slot & !BIRTH].timestamp(),
            });
        }
        let latest = self.past.removals.iter().rev().take(LATEST_REMOVALS);
        let mut values = latest.flat_map(|removal| &removal.values);
        let value = values.find(|value| value.dot == dot)?;
        Some(value.timestamp)
    }

    fn note_removal(
        &mut self,
        killers: &DotSet,
        timestamp: Timestamp,
        untold: Option<Timestamp>,
        journal: &Journal,
    ) {
        if journal.removed.is_empty() && journal.births.is_empty() && untold.is_none() {
            return;
        }
        let count = journal.removed.len() + journal.births.len();
        if count > self.past.limit {
            return self.past.note_too_many(killers, timestamp);
        }
        let mut values = Vec::with_capacity(count);
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
            untold,
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
        let mut then = Document::with_hash_seed(self.replica(), self.index.seed());
        then.apply(&self.snapshot_of(version)?);
        then.forget_past();
        Some(then)
    }

    /// The whole state as it was at a version, as [`as_of`](Self::as_of).
    pub(crate) fn snapshot_of(&self, version: &Version) -> Option<Delta> {
        if !self.can_recall(version) {
            return None;
        }
        let alive = self.past_values_at(version);
        Some(self.compose_past(version.clone(), DotSet::new(), alive))
    }

    /// What was live at a version that can be recalled, and is not now.
    fn past_values_at<'a>(&'a self, version: &'a Version) -> impl Iterator<Item = &'a PastValue> {
        let past = self.past.removals.iter();
        let alive = past.filter(|removal| !version.intersects(&removal.killers));
        let alive = alive.flat_map(|removal| &removal.values);
        alive.filter(|value| version.contains(value.dot))
    }

    /// Whether the state at a version is known.
    pub(crate) fn can_recall(&self, version: &Version) -> bool {
        let kept = self.past.is_kept() && self.past.tells(version);
        self.covers(version) && (kept || version.covers(&self.version()))
    }

    /// A delta of these operations with what of them is live now, and with past values of theirs.
    pub(crate) fn compose_past<'a>(
        &self,
        operations: DotSet,
        dead: DotSet,
        alive: impl Iterator<Item = &'a PastValue>,
    ) -> Delta {
        let live = self.live_among(&operations);
        let mut delta = self.compose(operations, dead, live);
        let (mut numbers, mut births) = (Numbers::of(&delta), BTreeMap::new());
        for value in alive {
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
        delta
    }

    /// The dots among these that are not applied.
    pub(crate) fn not_applied(&self, dots: &DotSet) -> DotSet {
        self.replicas.split(dots, false)
    }

    /// The operations applied that were stamped until a moment; `None` where it is not known any
    /// more which those are. Operations that came together, some of which had replaced others, are
    /// counted together. Costs the whole state.
    pub fn version_at(&self, moment: Timestamp) -> Option<Version> {
        if self.known_since().is_some_and(|known| moment < known)
            || self.past.removals.iter().any(|gap| gap.hides(moment))
        {
            return None;
        }
        let version = self.version();
        let mut later = DotSet::new();
        for range in version.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            for (seq, slot) in known.live.range(range.first, range.last) {
                let timestamp = match slot & BIRTH {
                    0 => self.slab.stamp(slot).timestamp,
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
        // In the order in which they came: whatever replaced what counts as later does so too.
        for removal in &self.past.removals {
            let late = removal.values.iter().filter(|v| v.timestamp > moment);
            late.for_each(|value| later.insert(value.dot));
            let replaced = |value: &PastValue| later.contains(value.dot);
            if removal.timestamp > moment || removal.values.iter().any(replaced) {
                later.union_with(&removal.killers);
            }
        }
        Some(version.difference(&later))
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
