//! The writers heard lately, with the context of what each wrote last.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::Context;
use crate::clock::Timestamp;
use crate::key::Key;
use crate::limits::MAX_CONTEXTS;
use crate::replica::{Dot, ReplicaId};
use crate::spotmap::SpotHash;

#[derive(Clone, Debug)]
struct Heard {
    writer: ReplicaId,
    context: Context,
    /// When, in updates.
    at: u64,
}

/// At most [`MAX_CONTEXTS`] of them, so that chosen ids which collide cost little.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers {
    heard: Vec<Heard>,
    /// Where each stands.
    places: HashMap<ReplicaId, u32, SpotHash>,
    /// Each place once, with when its writer was heard as it came in here. Who was heard since comes
    /// in again before he is forgotten, so hearing somebody costs constant time on average.
    queue: VecDeque<(u32, u64)>,
    /// How many updates were heard.
    updates: u64,
    /// The place of who wrote the last one.
    latest: u32,
}

impl Writers {
    /// What a writer wrote last.
    pub(super) fn context(&self, writer: ReplicaId) -> Option<&Context> {
        match self.latest() {
            Some((latest, context)) if latest == writer => Some(context),
            _ => {
                let place = *self.places.get(&writer)?;
                Some(&self.heard[place as usize].context)
            }
        }
    }

    /// The one heard last, and what it wrote.
    #[inline]
    pub(super) fn latest(&self) -> Option<(ReplicaId, &Context)> {
        let heard = self.heard.get(self.latest as usize)?;
        Some((heard.writer, &heard.context))
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Context)> {
        let heard = self.heard.iter();
        heard.map(|heard| (heard.writer, &heard.context))
    }

    /// Notes that a writer wrote in the root.
    pub(super) fn follow(&mut self, dot: Dot, timestamp: Timestamp, key: &Key) {
        let known = self.latest().map(|(writer, _)| writer) == Some(dot.replica);
        if !known {
            let Some(place) = self.places.get(&dot.replica) else {
                let mut context = Context::bare(dot.seq);
                context.follow(dot.seq, timestamp, key);
                return self.come_in(dot.replica, context);
            };
            self.latest = *place;
        }
        self.follow_latest(dot.seq, timestamp, key);
    }

    /// Notes that the one heard last has written in the root.
    #[inline]
    pub(super) fn follow_latest(&mut self, seq: u64, timestamp: Timestamp, key: &Key) {
        if let Some(heard) = self.heard.get_mut(self.latest as usize) {
            self.updates += 1;
            heard.at = self.updates;
            heard.context.follow(seq, timestamp, key);
        }
    }

    /// Notes what a writer wrote.
    pub(super) fn hear(&mut self, writer: ReplicaId, context: Context) {
        let Some(place) = self.places.get(&writer) else {
            return self.come_in(writer, context);
        };
        self.updates += 1;
        self.latest = *place;
        self.heard[*place as usize] = Heard {
            writer,
            context,
            at: self.updates,
        };
    }

    /// Notes what a writer wrote that was not heard lately. Of too many the one is forgotten that
    /// was silent for longest.
    fn come_in(&mut self, writer: ReplicaId, context: Context) {
        self.updates += 1;
        let at = self.updates;
        let heard = Heard {
            writer,
            context,
            at,
        };
        self.latest = if self.heard.len() < MAX_CONTEXTS {
            self.heard.push(heard);
            (self.heard.len() - 1) as u32
        } else {
            let place = self.forget_one();
            self.heard[place as usize] = heard;
            place
        };
        self.places.insert(writer, self.latest);
        self.queue.push_back((self.latest, at));
    }

    /// Gives a place free, the one of who was silent for longest.
    fn forget_one(&mut self) -> u32 {
        while let Some((place, at)) = self.queue.pop_front() {
            let heard = &self.heard[place as usize];
            if heard.at == at {
                self.places.remove(&heard.writer);
                return place;
            }
            self.queue.push_back((place, heard.at));
        }
        // proof: every place is in the queue, and who is put at its end again is heard no later.
        unreachable!("a writer that was silent for longest")
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
