//! Sets of dots, as ranges: versions, and what is known to be dead.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use crate::few::{self, SmallVec};

use crate::replica::{Dot, ReplicaId};
use crate::sorting::sort;

/// Consecutive operations of one replica, `first` to `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DotRange {
    /// Whose operations.
    pub replica: ReplicaId,
    /// The first one's number, at least 1.
    pub first: u64,
    /// The last one's number, at least `first`.
    pub last: u64,
}

/// A set of dots, held as sorted ranges that neither overlap nor touch.
///
/// As a causal context it is a version vector (a replica's range that starts at 1) and a dot
/// cloud (every further range) in one. Memory and the cost of union, difference and comparison
/// are linear in the number of ranges, whatever the number of dots.
#[derive(PartialEq, Eq, Hash, Default)]
pub struct DotSet {
    ranges: SmallVec<[DotRange; 1]>,
}

/// In one piece, not range by range.
impl Clone for DotSet {
    #[inline]
    fn clone(&self) -> Self {
        match *self.ranges {
            [range] if !crate::SMALL => Self::of_range(range),
            ref many => {
                let mut ranges = SmallVec::<[DotRange; 1]>::new();
                ranges.extend_from_slice(many);
                Self { ranges }
            }
        }
    }
}

/// The operations that a replica has applied: what "up to date" means.
pub type Version = DotSet;

impl DotSet {
    /// No dots.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operations `first..=last` of one replica.
    #[inline]
    pub fn from_range(replica: ReplicaId, first: u64, last: u64) -> Self {
        Self::of_range(DotRange {
            replica,
            first,
            last,
        })
    }

    /// The operations of a range.
    #[inline]
    pub(crate) fn of_range(range: DotRange) -> Self {
        debug_assert!(1 <= range.first && range.first <= range.last);
        Self {
            ranges: few::one(range),
        }
    }

    /// Whether there are no dots in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many dots are in it.
    pub fn len(&self) -> u64 {
        let lens = self.ranges.iter().map(|r| r.last - r.first + 1);
        lens.fold(0, u64::saturating_add)
    }

    /// How many replicas have dots in it.
    pub fn replicas(&self) -> usize {
        self.by_replica().count()
    }

    /// Its ranges, in order of replica and number.
    pub fn ranges(&self) -> &[DotRange] {
        &self.ranges
    }

    /// Its ranges, replica by replica.
    #[inline]
    pub(crate) fn by_replica(&self) -> impl Iterator<Item = &[DotRange]> + Clone {
        self.ranges.chunk_by(|a, b| a.replica == b.replica)
    }

    /// Whether the dot is in it; logarithmic.
    pub fn contains(&self, dot: Dot) -> bool {
        let after = self
            .ranges
            .partition_point(|r| (r.replica, r.first) <= (dot.replica, dot.seq));
        after > 0 && {
            let range = self.ranges[after - 1];
            range.replica == dot.replica && dot.seq <= range.last
        }
    }

    /// The highest number of a replica in it, 0 where there is none.
    pub fn last_seq(&self, replica: ReplicaId) -> u64 {
        if let Some(end) = self.ranges.last().filter(|end| end.replica == replica) {
            return end.last;
        }
        let after = self.ranges.partition_point(|r| r.replica <= replica);
        match after.checked_sub(1).map(|i| self.ranges[i]) {
            Some(range) if range.replica == replica => range.last,
            _ => 0,
        }
    }

    /// Adds one dot; logarithmic where it extends a range.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_range(dot.replica, dot.seq, dot.seq);
    }

    /// Adds the operations `first..=last` of one replica.
    #[inline]
    pub fn insert_range(&mut self, replica: ReplicaId, first: u64, last: u64) {
        debug_assert!(1 <= first && first <= last);
        match self.ranges.last_mut() {
            // What comes in sequence extends the last range.
            Some(end) if end.replica == replica && first == end.last.saturating_add(1) => {
                end.last = last;
            }
            _ => self.melt_in(replica, first, last),
        }
    }

    fn melt_in(&mut self, replica: ReplicaId, first: u64, last: u64) {
        // The ranges from `from` up to `to` overlap or touch the new one and melt into it.
        let from = self.ranges.partition_point(|r| {
            r.replica < replica || (r.replica == replica && r.last < first - 1)
        });
        let touching = |r: &&DotRange| r.replica == replica && r.first <= last.saturating_add(1);
        let to = from + self.ranges[from..].iter().take_while(touching).count();
        let mut merged = DotRange {
            replica,
            first,
            last,
        };
        if from == to {
            self.ranges.insert(from, merged);
            return;
        }
        merged.first = merged.first.min(self.ranges[from].first);
        merged.last = merged.last.max(self.ranges[to - 1].last);
        self.ranges[from] = merged;
        self.ranges.drain(from + 1..to);
    }

    /// Takes one dot out; logarithmic, and linear in the ranges where it splits one.
    pub fn remove(&mut self, dot: Dot) {
        *self = self.difference(&DotSet::from_range(dot.replica, dot.seq, dot.seq));
    }

    /// Adds every dot of `other`.
    pub fn union_with(&mut self, other: &DotSet) {
        match other.ranges.as_slice() {
            [] => {}
            few if few.len() <= 4 => {
                for range in few {
                    self.insert_range(range.replica, range.first, range.last);
                }
            }
            _ => *self = self.union(other),
        }
    }

    /// The dots in either.
    #[must_use]
    pub fn union(&self, other: &DotSet) -> DotSet {
        let (mut a, mut b) = (
            self.ranges.iter().peekable(),
            other.ranges.iter().peekable(),
        );
        let mut out = DotSet::new();
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if (x.replica, x.first) <= (y.replica, y.first) => a.next(),
                (_, Some(_)) => b.next(),
                (_, None) => a.next(),
            };
            let Some(range) = next else { return out };
            out.push(*range);
        }
    }

    /// The dots in `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &DotSet) -> DotSet {
        let mut out = DotSet::new();
        let mut skip = other.ranges.iter().peekable();
        for range in &self.ranges {
            let mut first = range.first;
            while first <= range.last {
                while skip
                    .peek()
                    .is_some_and(|s| (s.replica, s.last) < (range.replica, first))
                {
                    skip.next();
                }
                let hole = skip
                    .peek()
                    .filter(|s| s.replica == range.replica && s.first <= range.last);
                let Some(hole) = hole else {
                    out.push(DotRange { first, ..*range });
                    break;
                };
                if first < hole.first {
                    out.push(DotRange {
                        first,
                        last: hole.first - 1,
                        ..*range
                    });
                }
                first = hole.last.saturating_add(1);
                if hole.last == u64::MAX {
                    break;
                }
            }
        }
        out
    }

    /// The dots in both.
    #[must_use]
    pub fn intersection(&self, other: &DotSet) -> DotSet {
        let (mut a, mut b) = (
            self.ranges.iter().peekable(),
            other.ranges.iter().peekable(),
        );
        let mut out = DotSet::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.replica == y.replica && x.first <= y.last && y.first <= x.last {
                let (first, last) = (x.first.max(y.first), x.last.min(y.last));
                out.push(DotRange {
                    replica: x.replica,
                    first,
                    last,
                });
            }
            if (x.replica, x.last) <= (y.replica, y.last) {
                a.next();
            } else {
                b.next();
            }
        }
        out
    }

    /// Whether every dot of `other` is in it.
    pub fn covers(&self, other: &DotSet) -> bool {
        let mut from = 0;
        other.ranges.iter().all(|want| {
            from += self.ranges[from..]
                .partition_point(|r| (r.replica, r.last) < (want.replica, want.last));
            let have = self.ranges.get(from);
            have.is_some_and(|have| have.replica == want.replica && have.first <= want.first)
        })
    }

    /// Whether they share a dot.
    pub fn intersects(&self, other: &DotSet) -> bool {
        let (few, many) = if self.ranges.len() <= other.ranges.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.ranges.iter().any(|want| {
            let at = many
                .ranges
                .partition_point(|r| (r.replica, r.last) < (want.replica, want.first));
            let have = many.ranges.get(at);
            have.is_some_and(|have| have.replica == want.replica && have.first <= want.last)
        })
    }

    /// Every dot in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.ranges
            .iter()
            .flat_map(|r| (r.first..=r.last).map(|seq| Dot::new(r.replica, seq)))
    }

    /// Appends a range that sorts at or after the last one.
    pub(crate) fn push(&mut self, range: DotRange) {
        match self.ranges.last_mut() {
            Some(last)
                if last.replica == range.replica && range.first <= last.last.saturating_add(1) =>
            {
                last.last = last.last.max(range.last);
            }
            _ => self.ranges.push(range),
        }
    }
}

impl FromIterator<Dot> for DotSet {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        Self::of(dots.into_iter().collect())
    }
}

impl DotSet {
    /// Of dots in any order.
    pub(crate) fn of(mut dots: Vec<Dot>) -> Self {
        sort(&mut dots);
        let mut set = DotSet::new();
        for dot in dots {
            set.push(DotRange {
                replica: dot.replica,
                first: dot.seq,
                last: dot.seq,
            });
        }
        set
    }
}

impl fmt::Debug for DotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                self.ranges
                    .iter()
                    .map(|r| format!("{}:{}..={}", r.replica, r.first, r.last)),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
        let dot = (1..4u64, 1..30u64).prop_map(|(r, seq)| Dot::new(ReplicaId::new(r), seq));
        prop::collection::btree_set(dot, 0..40)
    }

    fn set(dots: &BTreeSet<Dot>) -> DotSet {
        dots.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(a in dots(), b in dots()) {
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(x.union(&y), set(&(&a | &b)));
            prop_assert_eq!(x.difference(&y), set(&(&a - &b)));
            prop_assert_eq!(x.intersection(&y), set(&(&a & &b)));
            prop_assert_eq!(x.covers(&y), b.is_subset(&a));
            prop_assert!(x.union(&y).covers(&y));
            prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
            prop_assert_eq!(x.len(), a.len() as u64);
            prop_assert_eq!(x.iter().collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
            let mut joined = x.clone();
            joined.union_with(&y);
            prop_assert_eq!(&joined, &x.union(&y));
            let mut one_by_one = DotSet::new();
            for dot in a.iter().rev() {
                one_by_one.insert(*dot);
            }
            prop_assert_eq!(&one_by_one, &x);
            for dot in &b {
                prop_assert_eq!(x.contains(*dot), a.contains(dot));
                one_by_one.remove(*dot);
            }
            prop_assert_eq!(one_by_one, x.difference(&y));
        }
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let replica = ReplicaId::new(1);
        let all = DotSet::from_range(replica, 1, u64::MAX);
        let some = DotSet::from_range(replica, 5, u64::MAX);
        assert_eq!(all.difference(&some), DotSet::from_range(replica, 1, 4));
        assert!(some.difference(&all).is_empty());
        assert_eq!(all.union(&some), all);
    }
}
