//! The naive reference: every operation ever made, and what a replica that has applied some of
//! them must show.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Document, Dot, Key, ReplicaId, Timestamp, Value, Version};

/// What a replica shows: for each key its siblings, the winner first.
pub(crate) type Shown = BTreeMap<Key, Vec<Value>>;

pub(crate) struct Operation {
    /// What it wrote; nothing where it only removed.
    pub(crate) wrote: Option<(Key, Value, Timestamp)>,
    pub(crate) removed: Vec<Dot>,
}

#[derive(Default)]
pub(crate) struct Truth {
    operations: BTreeMap<Dot, Operation>,
    /// The first and the last operation of each.
    transactions: Vec<(Dot, Dot)>,
}

impl Truth {
    pub(crate) fn add(&mut self, dot: Dot, operation: Operation) {
        let before = self.operations.insert(dot, operation);
        assert!(before.is_none(), "the dot {dot} was used twice");
    }

    pub(crate) fn note_transaction(&mut self, first: Dot, last: Dot) {
        self.transactions.push((first, last));
    }

    /// Checks that of every transaction `version` names all operations or none.
    pub(crate) fn check_transactions(&self, version: &Version) {
        for (first, last) in &self.transactions {
            let parts = [first, last].map(|dot| version.contains(*dot));
            assert_eq!(parts[0], parts[1], "{first} to {last} is seen in part");
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Operations that nobody knows any more never happened: a crash took them before they were
    /// stored or told of.
    pub(crate) fn retain_known(&mut self, known: &Version) {
        self.operations.retain(|dot, _| known.contains(*dot));
        self.transactions
            .retain(|(first, last)| known.contains(*first) || known.contains(*last));
    }

    pub(crate) fn contains(&self, dot: Dot) -> bool {
        self.operations.contains_key(&dot)
    }

    /// A replica continues under a new id: its operations since it was started, whose dots others
    /// know as something else (`shadow`) or do not know, are operations of the new id now. What
    /// they removed stays removed.
    pub(crate) fn rename(
        &mut self,
        old: Dot,
        shadow: Vec<Operation>,
        others: &Version,
        document: &Document,
    ) {
        let again = |dot: &Dot| dot.replica == old.replica && dot.seq > old.seq;
        let mut redone = shadow;
        let own: Vec<Dot> = self.operations.keys().copied().filter(again).collect();
        for dot in own.into_iter().filter(|dot| !others.contains(*dot)) {
            redone.extend(self.operations.remove(&dot));
        }
        let removed = redone.into_iter().flat_map(|operation| operation.removed);
        let mut removed: Vec<Dot> = removed.filter(|dead| !again(dead)).collect();
        self.transactions.retain(|(first, _)| !again(first));
        let new = document.replica();
        for seq in 1..=document.own_seq() {
            let removed = std::mem::take(&mut removed);
            self.add(
                Dot::new(new, seq),
                Operation {
                    wrote: None,
                    removed,
                },
            );
        }
        for (key, siblings) in document {
            for sibling in siblings.filter(|sibling| sibling.dot.replica == new) {
                let wrote = (key.clone(), sibling.value.clone(), sibling.timestamp);
                let operation = self.operations.get_mut(&sibling.dot).expect("made above");
                operation.wrote = Some(wrote);
            }
        }
    }

    /// What a replica that has applied `version` must show.
    pub(crate) fn shown(&self, version: &Version) -> Shown {
        let applied = || {
            self.operations
                .iter()
                .filter(|(dot, _)| version.contains(**dot))
        };
        let dead: BTreeSet<Dot> = applied()
            .flat_map(|(_, op)| op.removed.iter().copied())
            .collect();
        let mut keys: BTreeMap<Key, Vec<(Timestamp, ReplicaId, u64, Value)>> = BTreeMap::new();
        for (dot, operation) in applied().filter(|(dot, _)| !dead.contains(dot)) {
            if let Some((key, value, time)) = &operation.wrote {
                let sibling = (*time, dot.replica, dot.seq, value.clone());
                keys.entry(key.clone()).or_default().push(sibling);
            }
        }
        keys.into_iter()
            .map(|(key, mut siblings)| {
                siblings.sort_by_key(|s| std::cmp::Reverse((s.0, s.1, s.2)));
                (key, siblings.into_iter().map(|s| s.3).collect())
            })
            .collect()
    }

    /// Checks that `version` names operations that were made and no others.
    pub(crate) fn check_version(&self, version: &Version) {
        for dot in version.iter() {
            assert!(
                self.operations.contains_key(&dot),
                "{dot} is known and was lost or never made"
            );
        }
    }
}

/// What a document shows.
pub(crate) fn shown(document: &Document) -> Shown {
    let values =
        |siblings: portolan_core::Siblings<'_>| siblings.map(|s| s.value.clone()).collect();
    document
        .iter()
        .map(|(key, siblings)| (key.clone(), values(siblings)))
        .collect()
}
