//! What a transaction or a delta has done so far: for taking it back, and for telling of it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::change::{Batch, Change, Origin, Place};
use crate::clock::Timestamp;
use crate::containers::Form;
use crate::document::Document;
use crate::dots::DotSet;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
use crate::sequence::Spot;
use crate::sets::member_of;
use crate::slab::Entry;
use crate::value::Value;
use crate::visibility::Visibility;

/// What went, each with the number of the own operation that removed it (0 for those of others),
/// and the keys of what came.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) removed: Vec<(u64, Entry)>,
    /// Elements that lost the value they were born with.
    pub(crate) births: Vec<(u64, Spot, Value)>,
    /// Sums of counters that are dead already, of which own operations removed the notes: who has
    /// not heard of the reset must not count the sum anew without its note.
    pub(crate) spent: Vec<(u64, Dot)>,
    pub(crate) added: Vec<(u32, Key)>,
    /// Elements that came to show or to show no more, one after the other.
    pub(crate) steps: Vec<Step>,
    /// Elements whose positions have been found: what is in them may have come before.
    pub(crate) found: Vec<Spot>,
    /// What counters showed before each change.
    pub(crate) counts: Vec<(u32, i64)>,
    /// What notes what only events need, where somebody wants them.
    observer: Option<&'static Observer>,
}

/// What only events need. Where nothing ever observes, nothing leads there, and a program for pages
/// is a tenth smaller.
#[derive(Debug)]
struct Observer {
    /// [`Document::record`].
    record: fn(&mut Document, Origin, &DotSet, Journal),
    /// [`Document::observe_step`].
    step: fn(&Document, Spot, bool, &mut Journal),
    /// [`Document::count`].
    count: fn(&Document, u32) -> i64,
}

static OBSERVER: Observer = Observer {
    record: Document::record,
    step: Document::observe_step,
    count: Document::count,
};

/// An element that came to show at an index, or that showed there and shows no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) array: u32,
    pub(crate) element: Dot,
    pub(crate) index: usize,
    pub(crate) shown: bool,
}

impl Step {
    fn place(&self) -> Place {
        Place::Element {
            id: self.element,
            index: self.index,
        }
    }
}

impl Journal {
    pub(crate) fn new(document: &Document) -> Self {
        Self {
            observer: document.recorder.as_ref().map(|recorder| recorder.observer),
            ..Self::default()
        }
    }

    /// Of what one operation removed, where nobody observes.
    pub(crate) fn of_removed(removed: Vec<(u64, Entry)>) -> Self {
        Self {
            removed,
            ..Self::default()
        }
    }

    /// Whether somebody wants events.
    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    #[inline]
    pub(crate) fn removed(&mut self, killer: u64, entry: Entry) {
        self.removed.push((killer, entry));
    }

    /// The position of an element has been found.
    #[inline]
    pub(crate) fn found(&mut self, element: Spot) {
        if self.is_observed() {
            self.found.push(element);
        }
    }

    #[inline]
    pub(crate) fn added(&mut self, container: u32, key: &Key) {
        if self.is_observed() {
            self.added.push((container, key.clone()));
        }
    }
}

/// The batches that nobody has taken so far.
pub(crate) struct Recorder {
    batches: Vec<Batch>,
    observer: &'static Observer,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            batches: Vec::new(),
            observer: &OBSERVER,
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Batch> {
        core::mem::take(&mut self.batches)
    }
}

/// A value with what orders it among siblings.
pub(crate) type Ranked = (Timestamp, ReplicaId, u64, Value);

/// What the journal tells of one key.
#[derive(Default)]
struct Touched {
    /// Values that stood before, with what orders them.
    removed: Vec<Ranked>,
    /// A value that came and went.
    passed: Option<Value>,
}

/// What all changes of a batch have in common.
pub(crate) struct Cause<'a> {
    origin: Origin,
    /// The operations that were applied.
    new: &'a DotSet,
    /// Their replica, if it is one.
    sole: Option<ReplicaId>,
}

impl Cause<'_> {
    fn is_new(&self, (_, replica, seq, _): &Ranked) -> bool {
        self.new.contains(Dot::new(*replica, *seq))
    }

    /// The winner before, by what is there now and what was removed.
    fn winner_before(&self, now: &[Ranked], removed: &[Ranked]) -> Option<Value> {
        let stayed = now.iter().filter(|value| !self.is_new(value));
        let rank = |(timestamp, replica, seq, _): &&Ranked| (*timestamp, *replica, *seq);
        let winner = stayed.chain(removed).max_by_key(rank);
        winner.map(|(.., value)| value.clone())
    }
}

impl Document {
    /// Records the batch of changes that the journal and the present state amount to; `new` are
    /// the operations that were applied.
    pub(crate) fn record_batch(&mut self, origin: Origin, new: &DotSet, journal: Journal) {
        if let Some(recorder) = &self.recorder {
            (recorder.observer.record)(self, origin, new, journal);
        }
    }

    fn record(&mut self, origin: Origin, new: &DotSet, journal: Journal) {
        let mut writers = new.ranges().iter().map(|range| range.replica);
        let sole = writers
            .next()
            .filter(|first| writers.all(|other| other == *first));
        let cause = Cause { origin, new, sole };
        let changes = self.changes(&cause, journal);
        if let (false, Some(recorder)) = (changes.is_empty(), &mut self.recorder) {
            recorder.batches.push(Batch { origin, changes });
        }
    }

    /// Notes that a shown element comes or goes.
    #[inline]
    pub(crate) fn note_step(&self, element: Spot, shown: bool, journal: &mut Journal) {
        if let Some(observer) = journal.observer {
            (observer.step)(self, element, shown, journal);
        }
    }

    fn observe_step(&self, element: Spot, shown: bool, journal: &mut Journal) {
        let array = self.elements[element].array();
        let index = self
            .sequence(array)
            .and_then(|sequence| sequence.index_of(&self.elements, element));
        if let Some(index) = index {
            journal.steps.push(Step {
                array,
                element: self.dot_at(element),
                index,
                shown,
            });
        }
    }

    /// Notes what a counter shows before it is changed.
    #[inline]
    pub(crate) fn count_before(&self, counter: u32, journal: &mut Journal) {
        let last = journal.counts.last();
        if let Some(observer) = journal.observer
            && last.is_none_or(|(last, _)| *last != counter)
        {
            journal
                .counts
                .push((counter, (observer.count)(self, counter)));
        }
    }

    fn changes(&self, cause: &Cause<'_>, mut journal: Journal) -> Vec<Change> {
        let mut visibility = Visibility::new(self, &journal);
        let mut touched: BTreeMap<(u32, Key), Touched> = BTreeMap::new();
        let mut went = |container, key, ranked: Ranked| {
            let key: &mut Touched = touched.entry((container, key)).or_default();
            let came_and_went =
                cause.origin == Origin::Local && cause.new.contains(Dot::new(ranked.1, ranked.2));
            if came_and_went {
                key.passed = Some(ranked.3);
            } else {
                key.removed.push(ranked);
            }
        };
        for (_, entry) in journal.removed {
            let dot = self.dot_of(&entry);
            let ranked = (entry.timestamp, dot.replica, dot.seq, entry.value);
            went(entry.container, entry.key, ranked);
        }
        for (_, spot, value) in journal.births {
            let (dot, element) = (self.dot_at(spot), &self.elements[spot]);
            let ranked = (element.timestamp(), dot.replica, dot.seq, value);
            went(element.array(), Key::Element(dot), ranked);
        }
        for key in journal.added {
            touched.entry(key).or_default();
        }
        let mut changes = Vec::with_capacity(touched.len());
        let steps = journal.steps.iter().enumerate();
        let stepped: BTreeMap<Dot, usize> = steps.map(|(at, step)| (step.element, at)).collect();
        // Of elements that came, with which winner.
        let mut told: BTreeMap<Dot, Value> = BTreeMap::new();
        for (at, step) in journal.steps.into_iter().enumerate() {
            if !visibility.is_told(step.array) {
                continue;
            }
            let touched = touched.get(&(step.array, Key::Element(step.element)));
            let last = stepped.get(&step.element) == Some(&at);
            let change = if step.shown {
                self.coming(step, last, touched, cause)
            } else {
                let told = told.remove(&step.element);
                self.going(step, told, touched, cause)
            };
            if let Some(new) = &change.new {
                told.insert(step.element, new.clone());
            }
            changes.push(change);
        }
        let revealed = visibility.revealed(cause);
        changes.extend(revealed.elements);
        changes.extend(revealed.others);
        for ((container, key), touched) in touched {
            if !visibility.is_told(container) {
                continue;
            }
            let form = self.containers.get(container).form;
            let stepped = matches!(&key, Key::Element(id) if stepped.contains_key(id));
            match form {
                Form::Map => changes.extend(self.change_of(container, key, &touched, cause)),
                Form::Set => changes.extend(self.member_change(container, &key, &touched, cause)),
                Form::Array if !stepped => {
                    changes.extend(self.change_of(container, key, &touched, cause));
                }
                Form::Array | Form::Counter | Form::Moves => {}
            }
        }
        // Of each counter the first.
        journal.counts.sort_by_key(|(counter, _)| *counter);
        journal.counts.dedup_by_key(|(counter, _)| *counter);
        for (counter, before) in journal.counts {
            if !visibility.is_told(counter) {
                continue;
            }
            let now = self.count(counter);
            if now != before {
                changes.push(self.count_change(counter, before, now, cause));
            }
        }
        changes
    }

    /// The values that stand under a key now, the winner first; an element's birth is one.
    pub(crate) fn present(&self, container: u32, key: &Key) -> Vec<Ranked> {
        let mut present: Vec<Ranked> = Vec::new();
        if let Some(head) = self.find(container, key.borrowed()) {
            present.extend(self.values(head).map(|entry| {
                let dot = self.replicas.dot(entry.replica, entry.seq);
                (entry.timestamp, dot.replica, dot.seq, entry.value.clone())
            }));
        }
        if let Key::Element(id) = key
            && let Some(spot) = self.element_in(container, *id)
            && let Some(value) = self.elements[spot].born()
        {
            let time = self.elements[spot].timestamp();
            let at =
                present.partition_point(|(t, r, s, _)| (*t, *r, *s) > (time, id.replica, id.seq));
            present.insert(at, (time, id.replica, id.seq, value.clone()));
        }
        present
    }

    fn change_of(
        &self,
        container: u32,
        key: Key,
        touched: &Touched,
        cause: &Cause<'_>,
    ) -> Option<Change> {
        let now = self.present(container, &key);
        let came = now.iter().any(|value| cause.is_new(value));
        if !came && touched.removed.is_empty() {
            return None; // set and removed again by the same transaction
        }
        let old = cause.winner_before(&now, &touched.removed);
        let mut path = self.containers.path(container);
        let form = self.containers.get(container).form;
        let place = if let (Form::Array, Key::Element(id)) = (form, &key) {
            let spot = self.element_in(container, *id)?;
            let sequence = self.sequence(container)?;
            Place::Element {
                id: *id,
                index: sequence.index_of(&self.elements, spot)?,
            }
        } else {
            path.push(key);
            Place::Key
        };
        let mut change = self.change(path, place, old, now, cause);
        if let Place::Element { .. } = place {
            // It showed before and does now: with containers alone, where there is no value.
            change.old.get_or_insert(Value::Null);
            change.new.get_or_insert(Value::Null);
        }
        Some(change)
    }

    /// A change to `now`, of which the first is the winner.
    pub(crate) fn change(
        &self,
        path: Vec<Key>,
        place: Place,
        old: Option<Value>,
        now: Vec<Ranked>,
        cause: &Cause<'_>,
    ) -> Change {
        let winner = now
            .first()
            .map(|(t, replica, seq, _)| (*t, Dot::new(*replica, *seq)));
        let mut values = now.into_iter().map(|(.., value)| value);
        Change {
            path,
            place,
            old,
            new: values.next(),
            siblings: values.collect(),
            by: match winner {
                Some((_, dot)) if cause.new.contains(dot) => Some(dot.replica),
                _ => cause.sole,
            },
            timestamp: winner.map_or(self.clock.last(), |(timestamp, _)| timestamp),
        }
    }

    /// An element has come to show; `last` where this is how the batch leaves it.
    fn coming(
        &self,
        step: Step,
        last: bool,
        touched: Option<&Touched>,
        cause: &Cause<'_>,
    ) -> Change {
        let now = self.present(step.array, &Key::Element(step.element));
        let passing = || touched.and_then(|key| key.passed.clone());
        let passing = (!last).then(passing).flatten();
        let path = self.containers.path(step.array);
        let mut change = self.change(path, step.place(), None, now, cause);
        // Where there is no value, it holds containers alone, or will be gone again.
        change
            .new
            .get_or_insert_with(|| passing.unwrap_or(Value::Null));
        change
    }

    /// An element shows no more; `told` is what it came with, where it came in the same batch.
    fn going(
        &self,
        step: Step,
        told: Option<Value>,
        touched: Option<&Touched>,
        cause: &Cause<'_>,
    ) -> Change {
        let before = || {
            let now = self.present(step.array, &Key::Element(step.element));
            let removed = touched.map_or(&[][..], |key| &key.removed);
            cause.winner_before(&now, removed).unwrap_or(Value::Null)
        };
        let path = self.containers.path(step.array);
        let old = Some(told.unwrap_or_else(before));
        self.change(path, step.place(), old, Vec::new(), cause)
    }

    fn member_change(
        &self,
        set: u32,
        key: &Key,
        touched: &Touched,
        cause: &Cause<'_>,
    ) -> Option<Change> {
        let now = self.present(set, key);
        let before = !touched.removed.is_empty() || now.iter().any(|value| !cause.is_new(value));
        let after = !now.is_empty();
        if before == after {
            return None;
        }
        let member = member_of(key)?;
        let mut change = self.change(
            self.containers.path(set),
            Place::Member,
            before.then(|| member.clone()),
            now,
            cause,
        );
        (change.new, change.siblings) = (after.then_some(member), Vec::new());
        Some(change)
    }

    pub(crate) fn count_change(
        &self,
        counter: u32,
        before: i64,
        now: i64,
        cause: &Cause<'_>,
    ) -> Change {
        let path = self.containers.path(counter);
        let mut change = self.change(path, Place::Count, None, Vec::new(), cause);
        (change.old, change.new) = (Some(before.into()), Some(now.into()));
        change
    }
}
