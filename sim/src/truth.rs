//! The naive reference: every operation ever made, and what a replica that has applied some of
//! them must show.
//!
//! A write is kept with the transaction that made it, a transaction with the writes that it
//! removed: transactions travel whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Dot, DotSet, Key, ReplicaId, Timestamp, Value, Version};

use crate::shown::{Path, Shown};

/// Where in its container something was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// Under a key of a map, or the id of an element.
    Key(Key),
    /// A member of a set.
    Member(Value),
    /// What was added to a counter.
    Count,
}

/// One value written.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) path: Path,
    pub(crate) leaf: Leaf,
    pub(crate) value: Value,
    /// Of members and additions, number 0: these have names of their own nowhere.
    pub(crate) dot: Dot,
    pub(crate) time: Timestamp,
    /// By its number; that of the one under way comes next.
    pub(crate) transaction: usize,
    /// Own operations that its replica had found in its store, when it was started.
    pub(crate) loaded: u64,
    /// Of what undoing wrote again, the write that it was at first.
    pub(crate) origin: usize,
    /// Of an image, the write that it is of.
    pub(crate) image_of: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) replica: ReplicaId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Under dots that name other operations elsewhere: its replica does not know so far that it
    /// is a backup.
    pub(crate) shadow: bool,
    /// Nobody knows of it any more.
    pub(crate) lost: bool,
    /// What its replica had applied.
    pub(crate) seen: Version,
    /// Writes that it removed.
    pub(crate) removed: Vec<usize>,
    /// Elements that it appended, and those that it moved.
    pub(crate) appended: Vec<Dot>,
    pub(crate) moved: Vec<Dot>,
    pub(crate) undone: bool,
}

/// What a replica has applied.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its version.
    pub version: Version,
    /// The last of its own operations that were there when it was started.
    pub loaded: u64,
    /// Of a backup that does not know that it is one: its id, and the last of its operations that
    /// others know by the same dots.
    pub backup: Option<(ReplicaId, u64)>,
}

/// A transaction under way.
#[derive(Debug)]
pub struct Draft {
    replica: ReplicaId,
    first: u64,
    seen: Seen,
    pub(crate) writes: usize,
    /// Whether everything that the applied operations had seen is applied.
    pub(crate) closed: bool,
    pub(crate) live: BTreeSet<usize>,
    pub(crate) removed: Vec<usize>,
    pub(crate) appended: Vec<Dot>,
    pub(crate) moved: Vec<Dot>,
}

/// Every operation ever made.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub(crate) writes: Vec<Write>,
    pub(crate) transactions: Vec<Transaction>,
}

impl Truth {
    /// How many operations there are.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let known = self.transactions.iter().filter(|t| !t.lost);
        known.map(|t| t.last - t.first + 1).sum()
    }

    /// Begins a transaction of a replica that has made `own` operations.
    #[must_use]
    pub fn begin(&self, replica: ReplicaId, own: u64, seen: Seen) -> Draft {
        let applied = self.applied(&seen);
        Draft {
            replica,
            first: own + 1,
            closed: self.is_closed(&seen, &applied),
            live: self.live(&applied),
            seen,
            writes: self.writes.len(),
            removed: Vec::new(),
            appended: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// The transaction was taken back.
    pub fn cancel(&mut self, draft: &Draft) {
        self.writes.truncate(draft.writes);
    }

    /// The transaction was done, and its last operation has this number. Gives its own number.
    pub fn commit(&mut self, draft: Draft, last: u64) -> Option<usize> {
        if last < draft.first {
            assert_eq!(self.writes.len(), draft.writes, "writes take operations");
            return None;
        }
        let shadow = draft.seen.backup.is_some();
        let range = DotSet::from_range(draft.replica, draft.first, last);
        let again = |other: &Transaction| {
            !other.lost && !other.shadow && range.intersects(&other.dots()) && !shadow
        };
        assert!(!self.transactions.iter().any(again), "dots are used twice");
        self.transactions.push(Transaction {
            replica: draft.replica,
            first: draft.first,
            last,
            shadow,
            lost: false,
            seen: draft.seen.version,
            removed: draft.removed,
            appended: draft.appended,
            moved: draft.moved,
            undone: false,
        });
        Some(self.transactions.len() - 1)
    }

    /// Notes a write of a transaction under way.
    pub(crate) fn write(
        &mut self,
        draft: &mut Draft,
        place: (&Path, Leaf),
        value: Value,
        (dot, time): (Dot, Timestamp),
    ) {
        let (path, leaf) = (place.0.clone(), place.1);
        let (number, transaction) = (self.writes.len(), self.transactions.len());
        draft.live.insert(number);
        self.writes.push(Write {
            path,
            leaf,
            value,
            dot,
            time,
            transaction,
            loaded: draft.seen.loaded,
            origin: number,
            image_of: None,
        });
    }

    /// Removes the live writes that `gone` tells; whether there are any. What was added to a
    /// counter goes with all that its replica had added before, since it was started.
    pub(crate) fn remove(&self, draft: &mut Draft, gone: impl Fn(&Write) -> bool) -> bool {
        let found = draft.live.iter().copied();
        let found: Vec<usize> = found.filter(|write| gone(&self.writes[*write])).collect();
        for number in &found {
            draft.live.remove(number);
            draft.removed.push(*number);
            let write = &self.writes[*number];
            if write.leaf == Leaf::Count {
                for (earlier, other) in self.writes[..*number].iter().enumerate() {
                    let same = other.leaf == Leaf::Count && other.path == write.path;
                    // A backup has not seen what was added under its id after it was made, though
                    // its store held as much as was found there before that.
                    let by = |write: &Write| {
                        let known = self.transactions.get(write.transaction);
                        let shadow = known.map_or(draft.seen.backup.is_some(), |t| t.shadow);
                        (write.dot.replica, write.loaded, shadow)
                    };
                    if same && by(other) == by(write) {
                        draft.live.remove(&earlier);
                        draft.removed.push(earlier);
                    }
                }
            }
        }
        !found.is_empty()
    }

    /// The operations of a transaction.
    #[must_use]
    pub fn operations_of(&self, transaction: usize) -> (ReplicaId, u64, u64) {
        let known = &self.transactions[transaction];
        (known.replica, known.first, known.last)
    }

    /// A transaction, for people.
    #[must_use]
    pub fn tell(&self, transaction: usize) -> String {
        let known = &self.transactions[transaction];
        let dots = format!("{}:{}-{}", known.replica, known.first, known.last);
        let place = |number: usize| {
            let write = &self.writes[number];
            format!(
                "{:?} {:?} {:?} of {}",
                write.path, write.leaf, write.value, write.transaction
            )
        };
        let wrote = (0..self.writes.len()).filter(|n| self.writes[*n].transaction == transaction);
        let wrote: Vec<String> = wrote.map(place).collect();
        let removed: Vec<String> = known.removed.iter().copied().map(place).collect();
        let moved = &known.moved;
        format!("{transaction} ({dots}): wrote {wrote:?}, removed {removed:?}, moved {moved:?}")
    }

    /// Whether a transaction was undone, or is one that undoes.
    #[must_use]
    pub fn is_undone(&self, transaction: usize) -> bool {
        self.transactions[transaction].undone
    }

    /// Notes that a transaction is not to be undone.
    pub fn keep(&mut self, transaction: usize) {
        self.transactions[transaction].undone = true;
    }

    /// Checks that of every transaction a version names all operations or none.
    pub fn check_transactions(&self, version: &Version) {
        for known in self.transactions.iter().filter(|t| !t.lost && !t.shadow) {
            let ends = [known.first, known.last];
            let [first, last] = ends.map(|seq| version.contains(Dot::new(known.replica, seq)));
            assert_eq!(first, last, "{known:?} is seen in part");
        }
    }

    /// Checks that a version names operations that were made and no others.
    pub fn check_version(&self, version: &Version) {
        let mut made = DotSet::new();
        for known in self.transactions.iter().filter(|t| !t.lost && !t.shadow) {
            made.union_with(&known.dots());
        }
        let strange = version.difference(&made);
        assert!(strange.is_empty(), "{strange:?} was lost or never made");
    }

    /// Operations that nobody knows any more never happened: a crash took them before they were
    /// stored or told of.
    pub fn retain_known(&mut self, known: &Version) {
        for transaction in &mut self.transactions {
            let last = Dot::new(transaction.replica, transaction.last);
            transaction.lost |= !transaction.shadow && !known.contains(last);
        }
    }

    /// A replica continues under a new id: its transactions since it was started are one of the
    /// new id now, from the number after `base` to `last`. What they removed stays removed.
    pub fn rename(
        &mut self,
        since: &[usize],
        old: (ReplicaId, u64),
        (new, base, last): (ReplicaId, u64, u64),
    ) {
        let since: BTreeSet<usize> = since.iter().copied().collect();
        let renamed = |dot: &mut Dot| {
            if dot.replica == old.0 && dot.seq > old.1 {
                *dot = Dot::new(new, dot.seq - old.1 + base);
            }
        };
        let Some(first) = since.first().copied() else {
            return;
        };
        let all: Vec<Transaction> = since
            .iter()
            .map(|t| self.transactions[*t].clone())
            .collect();
        for number in &since {
            self.transactions[*number].lost = true;
        }
        let mut seen = Version::new();
        let (mut removed, mut appended, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for transaction in all {
            seen.union_with(&transaction.seen);
            removed.extend(transaction.removed);
            appended.extend(transaction.appended);
            moved.extend(transaction.moved);
        }
        appended.iter_mut().chain(&mut moved).for_each(renamed);
        let again = DotSet::from_range(old.0, old.1 + 1, u64::MAX - 1);
        if last > base {
            let range = DotSet::from_range(new, base + 1, last);
            let again = |other: &Transaction| {
                !other.lost && !other.shadow && range.intersects(&other.dots())
            };
            assert!(!self.transactions.iter().any(again), "dots are used twice");
        }
        self.transactions[first] = Transaction {
            replica: new,
            first: base + 1,
            last,
            shadow: false,
            lost: last == base,
            seen: seen.difference(&again),
            removed,
            appended,
            moved,
            undone: true,
        };
        for write in &mut self.writes {
            if !since.contains(&write.transaction) {
                continue;
            }
            write.transaction = first;
            renamed(&mut write.dot);
            if write.dot.seq == 0 {
                write.dot.replica = new;
            }
            write.loaded = base;
            let leaf = match &mut write.leaf {
                Leaf::Key(key) => Some(key),
                _ => None,
            };
            for key in write.path.iter_mut().map(|(key, _)| key).chain(leaf) {
                if let Key::Element(id) = key {
                    renamed(id);
                }
            }
        }
    }

    /// Whether each transaction is applied.
    pub(crate) fn applied(&self, seen: &Seen) -> Vec<bool> {
        let applied = self.transactions.iter().map(|known| {
            let elsewhere = seen
                .backup
                .is_some_and(|(id, own)| known.replica == id && known.last > own && !known.shadow);
            let last = Dot::new(known.replica, known.last);
            let here = !known.shadow || seen.backup.is_some_and(|(id, _)| known.replica == id);
            !known.lost && !elsewhere && here && seen.version.contains(last)
        });
        applied.collect()
    }

    /// What the applied operations had seen and is not applied.
    #[must_use]
    pub fn missing(&self, seen: &Seen) -> Version {
        let mut missing = Version::new();
        let known = self.transactions.iter().zip(self.applied(seen));
        for (known, _) in known.filter(|(_, applied)| *applied) {
            missing.union_with(&known.seen.difference(&seen.version));
        }
        missing
    }

    /// Whether everything that the applied operations had seen is applied.
    fn is_closed(&self, seen: &Seen, applied: &[bool]) -> bool {
        let known = self.transactions.iter().zip(applied);
        let mut known = known.filter(|(_, applied)| **applied);
        known.all(|(known, _)| seen.version.covers(&known.seen))
    }

    pub(crate) fn live(&self, applied: &[bool]) -> BTreeSet<usize> {
        // A write of a transaction under way is not applied so far.
        let is_applied = |number: usize| applied.get(number).is_some_and(|applied| *applied);
        let mut live: Vec<bool> = self
            .writes
            .iter()
            .map(|write| is_applied(write.transaction))
            .collect();
        let known = self.transactions.iter().zip(applied);
        for (known, _) in known.filter(|(_, applied)| **applied) {
            known.removed.iter().for_each(|write| live[*write] = false);
        }
        let live = live.into_iter().enumerate();
        live.filter_map(|(number, live)| live.then_some(number))
            .collect()
    }

    /// All elements ever born in an array.
    pub(crate) fn born_in(&self, path: &Path) -> Vec<Dot> {
        let mut born = BTreeSet::new();
        for write in &self.writes {
            let known = self.transactions.get(write.transaction);
            if let Leaf::Key(Key::Element(id)) = &write.leaf
                && write.path == *path
                && known.is_none_or(|known| !known.lost)
            {
                born.insert(*id);
            }
        }
        born.into_iter().collect()
    }

    /// Whether a value was ever written under the id of an element.
    pub(crate) fn has_held(&self, id: Dot, value: &Value) -> bool {
        let here = Leaf::Key(Key::Element(id));
        let mut writes = self.writes.iter();
        writes.any(|write| write.leaf == here && write.value == *value)
    }

    /// Checks that what a replica shows is what the operations that it has applied amount to.
    /// Whether these had seen anything that is not applied: then counters may show additions that
    /// others built upon, and elements may wait for their positions.
    pub fn assert_shown(&self, seen: &Seen, shown: &Shown) -> bool {
        let applied = self.applied(seen);
        let closed = self.is_closed(seen, &applied);
        let elements = shown.elements();
        let shows = |key: &Key| match key {
            Key::Element(id) => elements.contains(id),
            _ => true,
        };
        let mut want = Shown::default();
        let mut bearing: BTreeMap<Path, BTreeSet<Dot>> = BTreeMap::new();
        for number in self.live(&applied) {
            let write = &self.writes[number];
            for (depth, key) in write.keys().enumerate() {
                if let Key::Element(id) = key {
                    let array = bearing.entry(write.path[..depth].to_vec()).or_default();
                    array.insert(*id);
                }
            }
            if !write.keys().all(shows) {
                assert!(!closed, "{write:?} does not show");
                continue;
            }
            let path = write.path.clone();
            match &write.leaf {
                Leaf::Key(key) => {
                    let values = want.values.entry((path, key.clone())).or_default();
                    values.push((write.time, write.dot, write.value.clone()));
                }
                Leaf::Member(member) => {
                    let members = want.members.entry(path).or_default();
                    members.insert(format!("{member:?}"));
                }
                Leaf::Count => {
                    let count = want.counters.entry(path).or_default();
                    *count += write.value.as_int().unwrap_or_default();
                }
            }
        }
        for values in want.values.values_mut() {
            values.sort_by_key(|(time, dot, _)| Reverse((*time, *dot)));
        }
        assert_eq!(shown.values, want.values, "values");
        assert_eq!(shown.members, want.members, "members");
        if closed {
            assert_eq!(shown.counters, want.counters, "counters");
            let arrays = shown.arrays.iter();
            let arrays: BTreeMap<Path, BTreeSet<Dot>> = arrays
                .map(|(path, ids)| (path.clone(), ids.iter().copied().collect()))
                .collect();
            assert_eq!(arrays, bearing, "elements");
        }
        self.assert_appended(shown);
        !closed
    }

    /// What was appended and never moved stands by timestamp, then replica id.
    fn assert_appended(&self, shown: &Shown) {
        let known = || self.transactions.iter().filter(|t| !t.lost);
        let moved = self.moved();
        let appended: BTreeSet<Dot> = known().flat_map(|t| t.appended.iter().copied()).collect();
        let births = self.writes.iter().filter_map(|write| match &write.leaf {
            Leaf::Key(Key::Element(id)) if *id == write.dot => Some((*id, write.time)),
            _ => None,
        });
        let births: BTreeMap<Dot, Timestamp> = births.collect();
        for ids in shown.arrays.values() {
            let still = |id: &&Dot| appended.contains(id) && !moved.contains(id);
            let ranks = ids.iter().filter(still);
            let ranks = ranks.map(|id| (births.get(id), *id));
            assert!(ranks.is_sorted(), "appended are out of order: {ids:?}");
        }
    }

    /// Whether undoing a transaction writes to a counter: what it added, or removed of what any
    /// replica had added, is not nothing.
    pub(crate) fn has_counted(&self, transaction: usize, path: &Path) -> bool {
        let mut sums: BTreeMap<(ReplicaId, u64), i64> = BTreeMap::new();
        let removed = self.transactions[transaction].removed.iter();
        let all = 0..self.writes.len();
        let wrote = all.filter(|number| self.writes[*number].transaction == transaction);
        for number in removed.copied().chain(wrote).collect::<BTreeSet<_>>() {
            let write = &self.writes[number];
            if write.leaf == Leaf::Count && write.path == *path {
                let sum = sums.entry((write.dot.replica, write.loaded)).or_default();
                *sum += write.value.as_int().unwrap_or_default();
            }
        }
        sums.values().any(|sum| *sum != 0)
    }

    /// Elements that were ever moved.
    fn moved(&self) -> BTreeSet<Dot> {
        let known = self.transactions.iter().filter(|t| !t.lost);
        known.flat_map(|t| t.moved.iter().copied()).collect()
    }

    /// Checks that two replicas, whatever each knows, have common elements in one order, but for
    /// those that were moved.
    pub fn assert_one_order(&self, a: &Shown, b: &Shown) {
        let moved = self.moved();
        for (path, there) in &a.arrays {
            let Some(here) = b.arrays.get(path) else {
                continue;
            };
            let places: BTreeMap<Dot, usize> =
                here.iter().enumerate().map(|(at, id)| (*id, at)).collect();
            let common = there.iter().filter(|id| !moved.contains(id));
            let common = common.filter_map(|id| places.get(id));
            assert!(
                common.is_sorted(),
                "two orders of {path:?}: {there:?}, {here:?}"
            );
        }
    }
}

impl Transaction {
    pub(crate) fn dots(&self) -> DotSet {
        DotSet::from_range(self.replica, self.first, self.last)
    }
}

impl Write {
    /// The keys from the root to what was written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let leaf = match &self.leaf {
            Leaf::Key(key) => Some(key),
            _ => None,
        };
        self.path.iter().map(|(key, _)| key).chain(leaf)
    }

    /// Whether it is in a container or in those beneath it.
    pub(crate) fn is_within(&self, path: &Path) -> bool {
        self.path.starts_with(path)
    }

    /// Whether it is under a key of a container: a value, or in containers there.
    pub(crate) fn is_beneath(&self, path: &Path, key: &Key) -> bool {
        if self.path.len() == path.len() {
            return self.path == *path && self.leaf == Leaf::Key(key.clone());
        }
        self.is_within(path) && self.path[path.len()].0 == *key
    }

    /// Whether the way to it leads through elements that show alone.
    pub(crate) fn is_reachable(&self, shown: &BTreeSet<Dot>) -> bool {
        self.keys().all(|key| match key {
            Key::Element(id) => shown.contains(id),
            _ => true,
        })
    }
}
