//! A document as one side of a reconciliation: what ranges of its operations amount to, and the
//! deltas that follow from what differs.

use alloc::vec::Vec;

use crate::births::birth_fingerprint;
use crate::containers::ROOT;
use crate::delta::Delta;
use crate::document::Document;
use crate::dots::{DotRange, DotSet};
use crate::key::KeyRef;
use crate::live::PAGE;
use crate::reconcile::{Holdings, unit};
use crate::registers::fingerprint;
use crate::slab::BIRTH;
use crate::tally::Tally;

impl Holdings for Document {
    fn tally(&self, range: DotRange) -> Tally {
        let Some(known) = self.replicas.by_id(range.replica) else {
            return Tally::default();
        };
        let mut scratch = Vec::new();
        let mut print = |slot| {
            if slot & BIRTH == 0 {
                return fingerprint(
                    &mut scratch,
                    known.id,
                    &self.containers,
                    self.slab.operation(slot),
                );
            }
            let element = &self.elements[slot & !BIRTH];
            birth_fingerprint(&mut scratch, known.id, &self.containers, element)
        };
        if self.unhashed.is_empty() {
            return known.live.tally(range.first, range.last, print);
        }
        // The sums of pages and blocks do not have all that is live yet.
        let mut tally = Tally::default();
        for (_, slot) in known.live.range(range.first, range.last) {
            tally += Tally::of(print(slot));
        }
        tally
    }

    fn units(&self, range: DotRange, quota: u64, each: &mut dyn FnMut(u64, u64)) {
        let Some(known) = self.replicas.by_id(range.replica) else {
            return;
        };
        let live = &known.live;
        match unit(quota) {
            1 => live
                .range(range.first, range.last)
                .for_each(|(seq, _)| each(seq, 1)),
            PAGE => live
                .pages(range.first, range.last)
                .for_each(|(end, count)| each(end.min(range.last), count)),
            _ => live
                .blocks(range.first, range.last)
                .for_each(|(end, count)| each(end.min(range.last), count)),
        }
    }
}

impl Document {
    /// Whether what a delta for these of the applied operations must name as dead takes no more
    /// than about `limit` ranges; where it does, a search for what the other side really holds
    /// live is cheaper. Costs the blocks of what is live.
    pub(crate) fn tells_briefly(&self, operations: &DotSet, limit: usize) -> bool {
        if let Some(removed) = self.log.removed_by(operations) {
            let few = (limit as u64).saturating_add(operations.len().saturating_mul(4));
            if removed.ranges().len() as u64 <= few {
                return true;
            }
        }
        let mut gaps = 0;
        for range in self.version().difference(operations).ranges() {
            if let Some(known) = self.replicas.by_id(range.replica) {
                known.live.gaps(range.first, range.last, |_, _| {
                    gaps += 1;
                    gaps <= limit
                });
            }
        }
        gaps <= limit
    }

    /// What stands for these of the applied operations, for a replica that has applied all of
    /// `domain`, and was found to hold nothing live of it, outside of the `suspects`, that was dead
    /// here when what was applied was `domain` and `known`.
    ///
    /// `operations` holds all of `known`, and all that was applied since.
    pub(crate) fn delta_after_search(
        &self,
        operations: DotSet,
        domain: &DotSet,
        known: &DotSet,
        suspects: &DotSet,
    ) -> Delta {
        let since = operations.difference(known).difference(domain);
        let by_since = self.log.removed_by(&since);
        let by_since = by_since.unwrap_or_else(|| self.dead_among(domain));
        // What both have got from others meanwhile may have been dead here before it came.
        let both = self.version().difference(domain).difference(&operations);
        let dead = self.dead_among(&suspects.union(&both)).union(&by_since);
        let dead = dead.union(&self.replicas.early()).difference(&operations);
        let slots = self.live_among(&operations);
        self.compose(operations, dead, slots)
    }

    /// The live ones of these operations as a state to repair with: it names all that is applied
    /// here, but what it does not show is not dead.
    pub(crate) fn state_among(&self, dots: &DotSet) -> Delta {
        let slots = self.live_among(dots);
        let mut state = self.compose(dots.clone(), DotSet::new(), slots);
        state.applied = self.version();
        state
    }

    /// Loses the winner under a key as a damaged memory might: no operation, no trace. For tests of
    /// what finds and repairs it. False where there is nothing.
    #[doc(hidden)]
    pub fn damage<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> bool {
        let Some(slot) = self.find(ROOT, key.into()) else {
            return false;
        };
        self.kill([slot]).len() == 1
    }

    /// Counts the fingerprints of all live operations anew; whether the digest is another one
    /// then, because memory was damaged. Linear.
    pub(crate) fn recount(&mut self) -> bool {
        self.hash_births();
        let (slab, elements, containers) = (&self.slab, &self.elements, &self.containers);
        let mut scratch = Vec::new();
        let mut digest = 0u128;
        for known in self.replicas.iter_mut() {
            let id = known.id;
            let sum = known.live.recount(|slot| {
                if slot & BIRTH == 0 {
                    return fingerprint(&mut scratch, id, containers, slab.operation(slot));
                }
                birth_fingerprint(&mut scratch, id, containers, &elements[slot & !BIRTH])
            });
            digest = digest.wrapping_add(sum);
        }
        core::mem::replace(&mut self.digest, digest) != digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::ReplicaId;

    #[test]
    fn damaged_fingerprints_are_counted_anew() {
        let mut document = Document::new(ReplicaId::new(1));
        for i in 0..1_000i64 {
            document.set(1, i, i).expect("within limits");
        }
        let digest = document.digest();
        assert!(!document.recount());
        document.digest ^= 1 << 100;
        assert!(document.recount());
        assert_eq!(document.digest(), digest);
    }
}
