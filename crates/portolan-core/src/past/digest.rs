//! Fingerprints of past states: replicas of which each has written since they were last equal can
//! compare what they held then.

use alloc::vec::Vec;

use super::PastValue;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::replica::ReplicaId;

impl Document {
    /// The [`digest`](Self::digest) as it was at a version; `None` where that is not known any more,
    /// or never was here. Costs what was written since, and a look at all that is kept of the past.
    pub fn digest_at(&self, version: &Version) -> Option<u128> {
        let since = self.version().difference(version);
        if since.is_empty() && self.covers(version) {
            return Some(self.digest());
        }
        if !self.can_recall(version) {
            return None;
        }
        let alive: Vec<&PastValue> = self.past_values_at(version).collect();
        let mut dots = DotSet::new();
        for value in &alive {
            dots.insert_range(value.dot.replica, value.dot.seq, value.dot.seq);
        }
        // What was live then and is not now, without what is live now and was not then.
        let then = self.digest_of(dots, &alive);
        let now = self.digest_of(since, &[]);
        Some(self.digest().wrapping_add(then).wrapping_sub(now))
    }

    /// The digest of these operations alone, as far as they are live, and of these past values.
    fn digest_of(&self, operations: DotSet, past: &[&PastValue]) -> u128 {
        if operations.is_empty() {
            return 0;
        }
        let delta = self.compose_past(operations, DotSet::new(), past.iter().copied());
        let mut alone = Document::new(ReplicaId::new(0));
        alone.keep_past(0);
        alone.apply(&delta);
        alone.digest()
    }
}
