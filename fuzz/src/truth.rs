//! A naive reference of the document: every operation ever made, and what each removed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Document, Dot, Key, ReplicaId, Timestamp, Value};

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it wrote, and when; a removal wrote nothing.
    pub written: Option<(Key, Value, Timestamp)>,
    /// The operations whose values it removed or replaced.
    pub removed: Vec<Dot>,
}

/// Every operation that any replica has made.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    operations: BTreeMap<Dot, Operation>,
}

/// A sibling as a document shows it, in the order of siblings.
type Shown = (Reverse<(Timestamp, ReplicaId, u64)>, Value);

impl Truth {
    /// Takes note of an operation.
    pub fn note(&mut self, dot: Dot, operation: Operation) {
        self.operations.insert(dot, operation);
    }

    /// Checks what a replica shows, whatever it has heard and in whatever order: every value of
    /// its version that nobody removed, and no value that an operation of its version removed.
    /// A value whose removal it may have heard of without the removing operation may be there.
    pub fn assert_shown(&self, document: &Document) {
        let version = document.version();
        let shown = shown(document);
        let removed_by = |all: bool| -> BTreeSet<Dot> {
            let counted = |dot: &&Dot| all || version.contains(**dot);
            let operations = self.operations.keys().filter(counted);
            let removed = operations.flat_map(|dot| &self.operations[dot].removed);
            removed.copied().collect()
        };
        let must = self.values(document, &removed_by(true));
        let may = self.values(document, &removed_by(false));
        for (key, siblings) in &must {
            let there = shown.get(key);
            let missing = |s: &&Shown| there.is_none_or(|there| !there.contains(s));
            assert_eq!(siblings.iter().find(missing), None, "lost at {key:?}");
        }
        for (key, siblings) in &shown {
            let allowed = may.get(key);
            let revived = |s: &&Shown| allowed.is_none_or(|allowed| !allowed.contains(s));
            assert_eq!(siblings.iter().find(revived), None, "revived at {key:?}");
        }
    }

    /// Checks that a replica that has every operation shows exactly what nobody removed.
    pub fn assert_whole(&self, document: &Document) {
        let version = document.version();
        assert!(self.operations.keys().all(|dot| version.contains(*dot)));
        let removed = self.operations.values().flat_map(|o| &o.removed);
        let removed = removed.copied().collect();
        assert_eq!(shown(document), self.values(document, &removed));
    }

    /// The values of the operations that a replica has applied, but for the `removed`.
    fn values(&self, document: &Document, removed: &BTreeSet<Dot>) -> BTreeMap<Key, Vec<Shown>> {
        let version = document.version();
        let mut values: BTreeMap<Key, Vec<Shown>> = BTreeMap::new();
        for (dot, operation) in &self.operations {
            let Some((key, value, time)) = &operation.written else {
                continue;
            };
            if version.contains(*dot) && !removed.contains(dot) {
                let rank = Reverse((*time, dot.replica, dot.seq));
                let siblings = values.entry(key.clone()).or_default();
                siblings.push((rank, value.clone()));
            }
        }
        for siblings in values.values_mut() {
            siblings.sort_by_key(|(rank, _)| *rank);
        }
        values
    }
}

/// All that a document shows.
fn shown(document: &Document) -> BTreeMap<Key, Vec<Shown>> {
    let mut shown = BTreeMap::new();
    for (key, siblings) in document {
        let rank =
            |s: &portolan_core::Sibling<'_>| Reverse((s.timestamp, s.dot.replica, s.dot.seq));
        let siblings: Vec<Shown> = siblings.map(|s| (rank(&s), s.value.clone())).collect();
        assert!(!siblings.is_empty() && siblings.is_sorted_by_key(|(rank, _)| *rank));
        assert_eq!(document.get(key), siblings.first().map(|(_, value)| value));
        shown.insert(key.clone(), siblings);
    }
    assert_eq!(shown.len(), document.len());
    shown
}
