//! Who watches a map, and who wrote what they are told.
//!
//! The echo of a write often comes before its answer. So what the stream tells waits until each
//! write of this node that was under way has been answered; then it is known whose it is.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::watch::{Batch, Origin, Queue};

#[derive(Debug, Default)]
pub(crate) struct Events {
    queues: Vec<Arc<Queue>>,
    /// Of the last batch in the order of events. Revisions would not do: they begin anew with a
    /// hash that is made anew.
    place: u64,
    undecided: VecDeque<Undecided>,
    /// Writes of this node that are not answered, with the revision at which they were begun.
    under_way: BTreeMap<u64, u64>,
    next_write: u64,
}

#[derive(Debug)]
struct Undecided {
    place: u64,
    batch: Batch,
    /// Writes from this number on were begun later; 0 where the origin is known.
    before: u64,
}

impl Events {
    pub(crate) fn add(&mut self, queue: Arc<Queue>) {
        self.queues.push(queue);
    }

    pub(crate) fn place(&self) -> u64 {
        self.place
    }

    pub(crate) fn is_watched(&mut self) -> bool {
        // Whoever watched and went is not held by anybody else.
        self.queues.retain(|queue| Arc::strong_count(queue) > 1);
        !self.queues.is_empty()
    }

    /// The revision at which the oldest write was begun that is not answered.
    pub(crate) fn writing_since(&self) -> Option<u64> {
        self.under_way
            .first_key_value()
            .map(|(_, revision)| *revision)
    }

    pub(crate) fn tell(&mut self, batch: Batch, is_origin_known: bool) {
        self.place += 1;
        let before = if is_origin_known { 0 } else { self.next_write };
        self.undecided.push_back(Undecided {
            place: self.place,
            batch,
            before,
        });
        self.tell_decided();
    }

    pub(crate) fn begin_write(&mut self, revision: u64) -> u64 {
        let number = self.next_write;
        self.next_write += 1;
        self.under_way.insert(number, revision);
        number
    }

    pub(crate) fn end_write(&mut self, number: u64) {
        self.under_way.remove(&number);
        self.tell_decided();
    }

    /// These revisions are of this node.
    pub(crate) fn claim(&mut self, revisions: RangeInclusive<u64>) {
        for undecided in &mut self.undecided {
            if revisions.contains(&undecided.batch.revision) && undecided.before > 0 {
                undecided.batch.origin = Origin::Here;
                undecided.before = 0;
            }
        }
    }

    /// What nobody has claimed by now is of others.
    pub(crate) fn decide_all(&mut self) {
        for undecided in &mut self.undecided {
            undecided.before = 0;
        }
        self.tell_decided();
    }

    /// Nothing follows.
    pub(crate) fn end(&mut self) {
        self.decide_all();
        for queue in self.queues.drain(..) {
            queue.end();
        }
    }

    fn tell_decided(&mut self) {
        let oldest = self.under_way.keys().next().copied().unwrap_or(u64::MAX);
        while let Some(undecided) = self.undecided.pop_front_if(|next| next.before <= oldest) {
            let batch = Arc::new(undecided.batch);
            for queue in &self.queues {
                queue.push(undecided.place, &batch);
            }
        }
    }
}
