//! Operations that are called otherwise since their replica took another id.

use crate::dots::DotSet;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};

/// The operations of `old` from `after` + 1 to `last` are those of `new` from `base` + 1 on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renaming {
    pub(crate) old: ReplicaId,
    pub(crate) after: u64,
    pub(crate) last: u64,
    pub(crate) new: ReplicaId,
    pub(crate) base: u64,
}

impl Renaming {
    /// One operation is done again as another.
    pub(crate) fn one(old: Dot, new: Dot) -> Self {
        Self {
            old: old.replica,
            after: old.seq - 1,
            last: old.seq,
            new: new.replica,
            base: new.seq - 1,
        }
    }

    pub(crate) fn dot(&self, dot: Dot) -> Dot {
        if dot.replica == self.old && (self.after + 1..=self.last).contains(&dot.seq) {
            Dot::new(self.new, dot.seq - self.after + self.base)
        } else {
            dot
        }
    }

    /// Range by range: one may hold more operations than there is memory for.
    pub(crate) fn dots(&self, dots: &DotSet) -> DotSet {
        let whole = DotSet::from_range(self.old, self.after + 1, self.last);
        let mut renamed = dots.difference(&whole);
        for range in dots.intersection(&whole).ranges() {
            let [first, last] = [range.first, range.last].map(|seq| seq - self.after + self.base);
            renamed.insert_range(self.new, first, last);
        }
        renamed
    }

    /// The key, where it is an element's id.
    pub(crate) fn key(&self, key: &mut Key) {
        if let Key::Element(id) = key {
            *id = self.dot(*id);
        }
    }
}
