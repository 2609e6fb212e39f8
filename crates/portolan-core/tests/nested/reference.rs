//! What all operations ever made amount to, naively: each write is kept with the transaction that
//! made it, each transaction with the writes that it removed.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Dot, Key, ReplicaId, Timestamp, Value, Version};

use crate::shown::{Path, Shown};

/// Where in its container something was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    /// Under a key of a map, or the id of an element.
    Key(Key),
    Member(Value),
    Count,
}

#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) path: Path,
    pub(crate) leaf: Leaf,
    pub(crate) value: Value,
    /// By its number; that of the one under way comes next.
    transaction: usize,
}

#[derive(Clone, Debug)]
struct Transaction {
    /// Its last operation: transactions travel whole.
    last: Dot,
    timestamp: Timestamp,
    /// Transactions that its replica had applied.
    seen: BTreeSet<usize>,
    /// Writes that it removed.
    removed: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    writes: Vec<Write>,
    transactions: Vec<Transaction>,
    /// Elements born by appending, and those that moved.
    pub(crate) appended: BTreeSet<Dot>,
    pub(crate) moved: BTreeSet<Dot>,
}

/// A transaction under way.
#[derive(Debug)]
pub(crate) struct Draft {
    replica: ReplicaId,
    seen: BTreeSet<usize>,
    live: BTreeSet<usize>,
    removed: BTreeSet<usize>,
}

impl Reference {
    /// The transactions that a version covers.
    fn applied(&self, version: &Version) -> BTreeSet<usize> {
        let numbers = 0..self.transactions.len();
        numbers
            .filter(|number| version.contains(self.transactions[*number].last))
            .collect()
    }

    fn live(&self, applied: &BTreeSet<usize>) -> BTreeSet<usize> {
        let writes = 0..self.writes.len();
        let mut live: BTreeSet<usize> = writes
            .filter(|write| applied.contains(&self.writes[*write].transaction))
            .collect();
        for transaction in applied {
            for write in &self.transactions[*transaction].removed {
                live.remove(write);
            }
        }
        live
    }

    pub(crate) fn begin(&self, replica: ReplicaId, version: &Version) -> Draft {
        let seen = self.applied(version);
        let live = self.live(&seen);
        let removed = BTreeSet::new();
        Draft {
            replica,
            seen,
            live,
            removed,
        }
    }

    /// How much there is, to come back to.
    pub(crate) fn mark(&self) -> Self {
        self.clone()
    }

    pub(crate) fn write(&mut self, draft: &mut Draft, path: &Path, leaf: Leaf, value: Value) {
        draft.live.insert(self.writes.len());
        self.writes.push(Write {
            path: path.clone(),
            leaf,
            value,
            transaction: self.transactions.len(),
        });
    }

    /// Removes the live writes that `gone` tells; whether there are any. What was added to a
    /// counter goes with all that its replica had added before.
    pub(crate) fn remove(&self, draft: &mut Draft, gone: impl Fn(&Write) -> bool) -> bool {
        let found: Vec<usize> = draft.live.iter().copied().collect();
        let found: Vec<usize> = found
            .into_iter()
            .filter(|write| gone(&self.writes[*write]))
            .collect();
        for number in &found {
            draft.live.remove(number);
            draft.removed.insert(*number);
            let write = &self.writes[*number];
            if write.leaf == Leaf::Count {
                let by = self.replica_of(write, draft);
                for earlier in 0..*number {
                    let other = &self.writes[earlier];
                    let same = other.leaf == Leaf::Count && other.path == write.path;
                    if same && self.replica_of(other, draft) == by {
                        draft.live.remove(&earlier);
                        draft.removed.insert(earlier);
                    }
                }
            }
        }
        !found.is_empty()
    }

    fn replica_of(&self, write: &Write, draft: &Draft) -> ReplicaId {
        let known = self.transactions.get(write.transaction);
        known.map_or(draft.replica, |known| known.last.replica)
    }

    pub(crate) fn commit(&mut self, draft: Draft, last: Dot, timestamp: Timestamp) {
        self.transactions.push(Transaction {
            last,
            timestamp,
            seen: draft.seen,
            removed: draft.removed,
        });
    }

    /// Whether everything that the operations of a version had seen is in it.
    pub(crate) fn is_closed(&self, version: &Version) -> bool {
        let applied = self.applied(version);
        let mut all = applied.iter();
        all.all(|number| self.transactions[*number].seen.is_subset(&applied))
    }

    /// Values that were ever written under the id of an element.
    pub(crate) fn ever_held(&self, id: Dot) -> Vec<Value> {
        let here = Leaf::Key(Key::Element(id));
        let writes = self.writes.iter().filter(|write| write.leaf == here);
        writes.map(|write| write.value.clone()).collect()
    }

    /// All elements ever born in an array.
    pub(crate) fn born_in(&self, path: &Path) -> Vec<Dot> {
        let mut born = Vec::new();
        for write in self.writes.iter().filter(|write| write.path == *path) {
            if let Leaf::Key(Key::Element(id)) = &write.leaf
                && !born.contains(id)
            {
                born.push(*id);
            }
        }
        born
    }

    /// Operations of `old` above `after` are done by `new` now.
    pub(crate) fn rename(&mut self, from: usize, old: ReplicaId, after: u64, new: ReplicaId) {
        let renamed = |dot: &mut Dot| {
            if dot.replica == old && dot.seq > after {
                *dot = Dot::new(new, dot.seq - after);
            }
        };
        let fresh: BTreeSet<Dot> = self
            .writes
            .iter()
            .filter(|write| write.transaction >= from)
            .filter_map(|write| match &write.leaf {
                Leaf::Key(Key::Element(id)) => Some(*id),
                _ => None,
            })
            .collect();
        for transaction in &mut self.transactions[from..] {
            renamed(&mut transaction.last);
        }
        let sets = [&mut self.appended, &mut self.moved];
        for set in sets {
            *set = std::mem::take(set)
                .into_iter()
                .map(|mut dot| {
                    if fresh.contains(&dot) {
                        renamed(&mut dot);
                    }
                    dot
                })
                .collect();
        }
        for write in self.writes.iter_mut().filter(|w| w.transaction >= from) {
            for (key, _) in &mut write.path {
                if let Key::Element(id) = key {
                    renamed(id);
                }
            }
            if let Leaf::Key(Key::Element(id)) = &mut write.leaf {
                renamed(id);
            }
        }
    }

    pub(crate) fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Lets go of what a replica does not remember: its numbers name other operations from now on.
    pub(crate) fn forget_above(&mut self, replica: ReplicaId, after: u64) {
        let lost = |dot: &mut Dot| {
            if dot.replica == replica && dot.seq > after {
                *dot = Dot::new(ReplicaId::new(0), dot.seq);
            }
        };
        for transaction in &mut self.transactions {
            lost(&mut transaction.last);
        }
        for set in [&mut self.appended, &mut self.moved] {
            let dots = std::mem::take(set).into_iter();
            set.extend(dots.map(|mut dot| {
                lost(&mut dot);
                dot
            }));
        }
        for write in &mut self.writes {
            let leaf = match &mut write.leaf {
                Leaf::Key(key) => Some(key),
                _ => None,
            };
            for key in write.path.iter_mut().map(|(key, _)| key).chain(leaf) {
                if let Key::Element(id) = key {
                    lost(id);
                }
            }
        }
    }

    /// Takes over the transactions from a number on.
    pub(crate) fn take_from(&mut self, other: &Self, from: usize) {
        let transactions = &other.transactions[from..];
        self.transactions.extend_from_slice(transactions);
        let writes = &other.writes[self.writes.len()..];
        self.writes.extend_from_slice(writes);
        self.appended.extend(&other.appended);
        self.moved.extend(&other.moved);
    }

    /// What a replica of this version shows, is this.
    pub(crate) fn agree(&self, version: &Version, shown: &Shown) {
        let applied = self.applied(version);
        let closed = self.is_closed(version);
        let live = self.live(&applied);
        let elements = shown.elements();
        let seen = |key: &Key| match key {
            Key::Element(id) => elements.contains(id),
            _ => true,
        };
        let mut want = Shown::default();
        let mut bearing: BTreeMap<Path, BTreeSet<Dot>> = BTreeMap::new();
        for write in live.iter().map(|number| &self.writes[*number]) {
            let keys = write.path.iter().map(|(key, _)| key);
            let leaf = match &write.leaf {
                Leaf::Key(key) => Some(key),
                _ => None,
            };
            for (depth, key) in keys.clone().chain(leaf).enumerate() {
                if let Key::Element(id) = key {
                    let array = bearing.entry(write.path[..depth].to_vec()).or_default();
                    array.insert(*id);
                }
            }
            if !keys.chain(leaf).all(seen) {
                assert!(!closed, "{write:?} shows");
                continue;
            }
            let path = write.path.clone();
            let transaction = &self.transactions[write.transaction];
            match &write.leaf {
                Leaf::Key(key) => {
                    let values = want.values.entry((path, key.clone())).or_default();
                    let by = transaction.last.replica;
                    values.push((transaction.timestamp, by, write.value.clone()));
                    values.sort_by_key(|(time, by, _)| std::cmp::Reverse((*time, *by)));
                }
                Leaf::Member(member) => {
                    let members = want.members.entry(path).or_default();
                    if !members.contains(member) {
                        members.push(member.clone());
                    }
                }
                Leaf::Count => {
                    let n = write.value.as_int().expect("a count");
                    *want.counters.entry(path).or_default() += n;
                }
            }
        }
        let sorted = |members: &BTreeMap<Path, Vec<Value>>| -> BTreeMap<Path, Vec<String>> {
            let mut all = BTreeMap::new();
            for (path, members) in members {
                let mut texts: Vec<String> = members.iter().map(|m| format!("{m:?}")).collect();
                texts.sort();
                all.insert(path.clone(), texts);
            }
            all
        };
        assert_eq!(shown.values, want.values, "values at {version:?}");
        assert_eq!(
            sorted(&shown.members),
            sorted(&want.members),
            "members at {version:?}"
        );
        if closed {
            assert_eq!(shown.counters, want.counters, "counters at {version:?}");
            let arrays = shown.arrays.iter();
            let arrays: BTreeMap<Path, BTreeSet<Dot>> = arrays
                .map(|(path, ids)| (path.clone(), ids.iter().copied().collect()))
                .collect();
            assert_eq!(arrays, bearing, "elements at {version:?}");
        }
        for ids in shown.arrays.values() {
            self.agree_on_appended(ids);
        }
    }

    /// What was appended and never moved stands by timestamp, then replica id.
    fn agree_on_appended(&self, ids: &[Dot]) {
        let still = ids.iter();
        let still = still.filter(|id| self.appended.contains(id) && !self.moved.contains(id));
        let ranks = still.map(|id| {
            let here = Leaf::Key(Key::Element(*id));
            let birth = self.writes.iter().find(|write| write.leaf == here);
            let birth = birth.expect("its birth").transaction;
            (self.transactions[birth].timestamp, id.replica, id.seq)
        });
        assert!(ranks.is_sorted(), "appended in order: {ids:?}");
    }
}

/// Whether a write is at or under a key of a container.
pub(crate) fn beneath(write: &Write, path: &Path, key: &Key) -> bool {
    if write.path.len() == path.len() {
        return write.path == *path && write.leaf == Leaf::Key(key.clone());
    }
    write.path.starts_with(path) && write.path.get(path.len()).is_some_and(|(k, _)| k == key)
}

/// Whether the way from a container to a write leads through elements that show.
pub(crate) fn reachable(write: &Write, above: usize, shown: &BTreeSet<Dot>) -> bool {
    let leaf = match &write.leaf {
        Leaf::Key(key) => Some(key),
        _ => None,
    };
    let keys = write.path.iter().skip(above).map(|(key, _)| key);
    keys.chain(leaf).all(|key| match key {
        Key::Element(id) => shown.contains(id),
        _ => true,
    })
}
