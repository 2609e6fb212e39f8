//! Counters that can be reset without losing what was added concurrently.
//!
//! A replica that adds keeps one live operation for each counter: the sum of what it has added
//! since its *epoch* began, that is since it last found nothing of its own, or was started: what
//! it then finds in its store may be an old backup, and the epoch have gone on elsewhere. The key
//! of the operation is the epoch's first dot. Whoever resets the counter removes the sums it has
//! seen, and notes how far it has seen them: of a sum that has grown meanwhile, only what came
//! after counts. After Weidner and Almeida, *An oblivious observed-resettable embeddable replicated
//! counter* (PaPoC 2022), with the notes in place of FIFO delivery.

use alloc::vec;
use alloc::vec::Vec;

use crate::clock::Timestamp;
use crate::delta::DeltaEntry;
use crate::document::Document;
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{Key, KeyRef};
use crate::replica::Dot;
use crate::slab::{NONE, Slot};
use crate::transaction::Transaction;
use crate::value::Value;

/// Whether a value is a sum, or the note of a reset: the number of the operation that was seen,
/// and its sum.
pub(crate) fn is_count(value: &Value) -> bool {
    matches!(value, Value::Int(_)) || note(value).is_some()
}

/// The note of a reset.
fn note(value: &Value) -> Option<(i64, i64)> {
    match value {
        Value::List(list) => match list.as_ref() {
            [Value::Int(seq), Value::Int(sum)] => Some((*seq, *sum)),
            _ => None,
        },
        _ => None,
    }
}

/// What is known of one epoch of one replica.
#[derive(Default)]
struct Epoch {
    /// The live sum, where there is one: its number and slot.
    sum: Option<(i64, u64, Slot)>,
    /// What resets have seen, at the most.
    seen: Option<(i64, i64)>,
}

impl Epoch {
    /// The live sum where a reset has seen it or one after it: it counts nothing, and goes when
    /// what replaced it comes.
    fn is_spent(&self) -> bool {
        match (self.sum, self.seen) {
            (Some((_, seq, _)), Some((seen, _))) => {
                u64::try_from(seen).is_ok_and(|seen| seen >= seq)
            }
            _ => false,
        }
    }
}

/// An addition that can be done.
struct Addition {
    /// The epoch that goes on; `None` where one begins.
    epoch: Option<Dot>,
    sum: i64,
    /// What it takes the place of.
    spent: Vec<Slot>,
}

impl Transaction<'_> {
    /// Adds to a counter; where that fails, no operation is used up.
    pub(crate) fn add(&mut self, counter: u32, n: i64) -> Result<(), Error> {
        let addition = self.document.addition(counter, n)?;
        let (seq, timestamp) = self.next();
        let journal = &mut self.journal;
        self.document
            .add_to(counter, addition, seq, timestamp, journal);
        Ok(())
    }
}

impl Document {
    fn epoch(&self, counter: u32, epoch: Dot) -> Epoch {
        let mut found = Epoch::default();
        let Some(head) = self.find(counter, KeyRef::Element(epoch)) else {
            return found;
        };
        for slot in self.chain(head) {
            let entry = self.slab.operation(slot);
            if let Value::Int(sum) = *entry.value {
                if found.sum.is_none_or(|(_, seq, _)| seq < entry.seq) {
                    found.sum = Some((sum, entry.seq, slot));
                }
            } else if let Some(seen) = note(entry.value) {
                found.seen = found.seen.max(Some(seen));
            }
        }
        found
    }

    /// The notes of resets of an epoch.
    pub(crate) fn notes(&self, counter: u32, epoch: Dot) -> Vec<DeltaEntry> {
        let head = self.find(counter, KeyRef::Element(epoch));
        let slots = head.into_iter().flat_map(|head| self.chain(head));
        let notes = slots.filter(|slot| note(&self.slab[*slot].value).is_some());
        notes.map(|slot| self.delta_entry(slot)).collect()
    }

    /// What a counter shows: the sum of all additions that no reset has seen. Costs the replicas
    /// that have added. Held to the range of 64 bits.
    ///
    /// Operations may come in any order. A sum that is no later than what a reset has seen counts
    /// nothing; nor do the earlier ones of an epoch, where the last has not removed them here.
    pub(crate) fn count(&self, counter: u32) -> i64 {
        let epochs = self.containers.get(counter).epochs.iter();
        let counts = epochs.map(|epoch| {
            let known = self.epoch(counter, *epoch);
            match (known.sum, known.seen) {
                (None, _) => 0,
                _ if known.is_spent() => 0,
                (Some((sum, ..)), Some((_, seen))) => i128::from(sum) - i128::from(seen),
                (Some((sum, ..)), None) => i128::from(sum),
            }
        });
        let all: i128 = counts.sum();
        all.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// What an addition replaces, and the sum that it makes.
    fn addition(&self, counter: u32, n: i64) -> Result<Addition, Error> {
        let replica = self.replica();
        let epochs = self.containers.get(counter).epochs.iter();
        let (mut live, mut over) = (None, Vec::new());
        for epoch in epochs.filter(|epoch| epoch.replica == replica) {
            match self.epoch(counter, *epoch).sum {
                Some((sum, _, slot)) if epoch.seq > self.loaded => live = Some((*epoch, sum, slot)),
                Some(_) => {}
                None => over.extend(self.find(counter, KeyRef::Element(*epoch))),
            }
        }
        let before = live.map_or(0, |(_, sum, _)| sum);
        let sum = before.checked_add(n).ok_or(Error::CounterOverflow)?;
        Ok(match live {
            Some((epoch, _, slot)) => Addition {
                epoch: Some(epoch),
                sum,
                spent: vec![slot],
            },
            // A new epoch: whatever resets noted of the own ones before it has had its effect.
            None => Addition {
                epoch: None,
                sum,
                spent: over.into_iter().flat_map(|head| self.chain(head)).collect(),
            },
        })
    }

    /// Does an addition with the dot `own:seq`.
    fn add_to(
        &mut self,
        counter: u32,
        addition: Addition,
        seq: u64,
        timestamp: Timestamp,
        journal: &mut Journal,
    ) {
        let Addition { epoch, sum, spent } = addition;
        let replica = self.replica();
        let key = Key::Element(epoch.unwrap_or(Dot::new(replica, seq)));
        self.count_before(counter, journal);
        self.put_beside(counter, key, Value::Int(sum), seq, timestamp);
        for entry in self.kill(spent) {
            if let Some((seen, _)) = note(&entry.value) {
                journal.spent.push((seq, Dot::new(replica, seen as u64)));
            }
            journal.removed(seq, entry);
        }
    }

    /// Whether a reset would take anything back.
    pub(crate) fn is_reset(&self, counter: u32) -> bool {
        let epochs = self.containers.get(counter).epochs.iter();
        let mut known = epochs.map(|epoch| self.epoch(counter, *epoch));
        known.all(|epoch| epoch.sum.is_none() || epoch.is_spent())
    }

    /// Removes all additions that are seen here. `next` gives the dot of each note that this
    /// takes; none is needed for a sum that the note of another reset covers.
    pub(crate) fn reset(
        &mut self,
        counter: u32,
        killer: u64,
        mut next: impl FnMut(&mut Self) -> (u64, Timestamp),
        journal: &mut Journal,
    ) {
        self.count_before(counter, journal);
        let own = self.replica();
        for epoch in self.containers.get(counter).epochs.clone() {
            let known = self.epoch(counter, epoch);
            let Some((sum, seen_seq, _)) = known.sum else {
                continue;
            };
            if known.is_spent() {
                let head = self.find(counter, KeyRef::Element(epoch)).unwrap_or(NONE);
                let mut sums: Vec<Slot> = self.chain(head).collect();
                sums.retain(|slot| matches!(self.slab[*slot].value, Value::Int(_)));
                for entry in self.kill(sums) {
                    journal.removed(killer, entry);
                }
                continue;
            }
            if epoch.replica == own && epoch.seq > self.loaded {
                // Nobody adds to it concurrently: this replica is here.
                if let Some(head) = self.find(counter, KeyRef::Element(epoch)) {
                    self.take_values(head, killer, journal);
                }
                continue;
            }
            let (seq, timestamp) = next(self);
            let note = Value::from(vec![Value::Int(seen_seq as i64), Value::Int(sum)]);
            let removed = &mut journal.removed;
            self.put(counter, Key::Element(epoch), note, seq, timestamp, removed);
        }
    }
}
