//! The writers heard lately, with the context of what each wrote last.

use alloc::collections::VecDeque;

use hashbrown::HashMap;

use super::Context;
use crate::delta::DeltaEntry;
use crate::limits::MAX_CONTEXTS;
use crate::replica::ReplicaId;
use crate::spotmap::SpotHash;

#[derive(Clone, Debug)]
struct Heard {
    context: Context,
    /// When, in updates.
    at: u64,
}

/// At most [`MAX_CONTEXTS`] of them, so that chosen ids which collide cost little.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers {
    heard: HashMap<ReplicaId, Heard, SpotHash>,
    /// Each writer once, with when it was heard as it came in here. Who was heard since comes in
    /// again before he is forgotten, so hearing somebody costs constant time on average.
    queue: VecDeque<(ReplicaId, u64)>,
    /// How many updates were heard.
    updates: u64,
    /// The writer of the last one.
    latest: Option<ReplicaId>,
}

impl Writers {
    /// What a writer wrote last.
    pub(super) fn context(&self, writer: ReplicaId) -> Option<&Context> {
        self.heard.get(&writer).map(|heard| &heard.context)
    }

    /// The one heard last.
    pub(super) fn latest(&self) -> Option<ReplicaId> {
        self.latest
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Context)> {
        let heard = self.heard.iter();
        heard.map(|(writer, heard)| (*writer, &heard.context))
    }

    /// Notes that a writer wrote in the root. False, and nothing, where it was not heard lately.
    pub(super) fn follow(&mut self, entry: &DeltaEntry) -> bool {
        let Some(heard) = self.heard.get_mut(&entry.dot.replica) else {
            return false;
        };
        self.updates += 1;
        self.latest = Some(entry.dot.replica);
        heard.at = self.updates;
        heard.context.follow(entry);
        true
    }

    /// Notes what a writer wrote. Of too many the one is forgotten that was silent for longest.
    pub(super) fn hear(&mut self, writer: ReplicaId, context: Context) {
        self.updates += 1;
        self.latest = Some(writer);
        let at = self.updates;
        if let Some(heard) = self.heard.get_mut(&writer) {
            *heard = Heard { context, at };
            return;
        }
        if self.heard.len() >= MAX_CONTEXTS {
            self.forget_one();
        }
        self.heard.insert(writer, Heard { context, at });
        self.queue.push_back((writer, at));
    }

    fn forget_one(&mut self) {
        while let Some((writer, at)) = self.queue.pop_front() {
            match self.heard.get(&writer) {
                Some(heard) if heard.at > at => self.queue.push_back((writer, heard.at)),
                _ => {
                    self.heard.remove(&writer);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_heard_again_and_again_is_not_forgotten() {
        let mut writers = Writers::default();
        let id = ReplicaId::new;
        for n in 1..5 * MAX_CONTEXTS as u64 {
            writers.hear(id(0), Context::bare(n));
            writers.hear(id(n), Context::bare(n));
            assert_eq!(writers.context(id(0)), Some(&Context::bare(n)));
            assert_eq!(writers.context(id(n)), Some(&Context::bare(n)));
            assert_eq!(writers.queue.len(), writers.heard.len());
        }
        assert_eq!(writers.iter().count(), MAX_CONTEXTS);
        let latest = 4 * MAX_CONTEXTS as u64..5 * MAX_CONTEXTS as u64;
        let kept = latest.filter(|n| writers.context(id(*n)).is_some());
        assert_eq!(kept.count(), MAX_CONTEXTS - 1);
    }
}
