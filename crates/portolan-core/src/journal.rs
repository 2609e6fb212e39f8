//! What a transaction or a delta has done so far: for taking it back, and for telling of it.

use std::collections::BTreeMap;

use crate::change::{Batch, Change, Origin};
use crate::clock::Timestamp;
use crate::document::Document;
use crate::dots::DotSet;
use crate::key::Key;
use crate::replica::ReplicaId;
use crate::slab::Entry;
use crate::value::Value;

/// Entries that went, each with the number of the own operation that removed it (0 for those of
/// others), and the keys of those that came.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) removed: Vec<(u64, Entry)>,
    pub(crate) added: Vec<(u32, Key)>,
    /// Whether to note the keys of what came.
    pub(crate) observed: bool,
}

impl Journal {
    #[inline]
    pub(crate) fn removed(&mut self, killer: u64, entry: Entry) {
        self.removed.push((killer, entry));
    }

    #[inline]
    pub(crate) fn added(&mut self, container: u32, key: &Key) {
        if self.observed {
            self.added.push((container, key.clone()));
        }
    }
}

/// What the journal tells of one key.
#[derive(Default)]
struct Touched {
    /// Values that stood before, with what orders them.
    removed: Vec<(Timestamp, ReplicaId, u64, Value)>,
}

impl Document {
    /// Records the batch of changes that the journal and the present state amount to; `new` are
    /// the operations that were applied.
    pub(crate) fn record_batch(&mut self, origin: Origin, new: &DotSet, journal: Journal) {
        if self.batches.is_none() {
            return;
        }
        let mut touched: BTreeMap<(u32, Key), Touched> = BTreeMap::new();
        for (_, entry) in journal.removed {
            let dot = self.dot_of(&entry);
            let key = touched.entry((entry.container, entry.key)).or_default();
            let came_and_went = origin == Origin::Local && new.contains(dot);
            if !came_and_went {
                key.removed
                    .push((entry.timestamp, dot.replica, dot.seq, entry.value));
            }
        }
        for key in journal.added {
            touched.entry(key).or_default();
        }
        let mut writers = new.ranges().iter().map(|range| range.replica);
        let sole = writers
            .next()
            .filter(|first| writers.all(|other| other == *first));
        let mut changes = Vec::with_capacity(touched.len());
        for ((container, key), touched) in touched {
            changes.extend(self.change_of(container, key, touched, new, sole));
        }
        if let (false, Some(batches)) = (changes.is_empty(), &mut self.batches) {
            batches.push(Batch { origin, changes });
        }
    }

    fn change_of(
        &self,
        container: u32,
        key: Key,
        touched: Touched,
        new: &DotSet,
        sole: Option<ReplicaId>,
    ) -> Option<Change> {
        let head = self.find(container, key.borrowed());
        let now = || {
            head.into_iter()
                .flat_map(|head| self.chain(head))
                .map(|slot| &self.slab[slot])
        };
        let stayed = now().filter(|entry| !new.contains(self.dot_of(entry)));
        let before = stayed.map(|entry| {
            let dot = self.dot_of(entry);
            (entry.timestamp, dot.replica, dot.seq, entry.value.clone())
        });
        let came = now().any(|entry| new.contains(self.dot_of(entry)));
        if !came && touched.removed.is_empty() {
            return None; // set and removed again by the same transaction
        }
        let rank = |(timestamp, replica, seq, _): &(Timestamp, ReplicaId, u64, Value)| {
            (*timestamp, *replica, *seq)
        };
        let old = before.chain(touched.removed).max_by_key(rank);
        let mut values = now().map(|entry| entry.value.clone());
        let winner = head.map(|head| &self.slab[head]);
        Some(Change {
            path: vec![key],
            old: old.map(|(.., value)| value),
            new: values.next(),
            siblings: values.collect(),
            by: match winner {
                Some(winner) if new.contains(self.dot_of(winner)) => {
                    Some(self.dot_of(winner).replica)
                }
                _ => sole,
            },
            timestamp: winner.map_or(self.clock.last(), |winner| winner.timestamp),
        })
    }
}
