//! What is known of each replica's operations.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::dots::{DotRange, DotSet, Version};
#[cfg(feature = "small")]
use crate::lean::places::Places as Numbers;
use crate::live::LiveDots;
use crate::replica::{Dot, ReplicaId};

/// One replica's operations, as far as they are known here.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: ReplicaId,
    /// Those applied.
    pub(crate) applied: DotSet,
    /// Those that are dead though their own operation has not been applied.
    pub(crate) early: DotSet,
    /// Where the live ones stand: a slot, or with [`BIRTH`](crate::slab::BIRTH) a spot.
    pub(crate) live: LiveDots,
    /// Where those stand that made a position in an array.
    pub(crate) placed: LiveDots,
}

/// All replicas ever heard of, each with a small number in place of its id.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    #[expect(
        clippy::vec_box,
        reason = "where there are many they hold little, and would be copied as the vector grows"
    )]
    known: Vec<Box<Known>>,
    /// By id.
    numbers: Numbers,
}

impl Replicas {
    /// The number of a replica, known or new.
    pub(crate) fn intern(&mut self, id: ReplicaId) -> u32 {
        let next = self.known.len() as u32;
        // What comes first from a new replica asks for it several times.
        if self.known.last().is_some_and(|last| last.id == id) {
            return next - 1;
        }
        let number = self.numbers.get_or_insert(id.get(), next);
        if number == next {
            let (applied, early, live, placed) = Default::default();
            self.known.push(Box::new(Known {
                id,
                applied,
                early,
                live,
                placed,
            }));
        }
        number
    }

    #[inline]
    pub(crate) fn number(&self, id: ReplicaId) -> Option<u32> {
        if self.known.last().is_some_and(|last| last.id == id) {
            return Some(self.known.len() as u32 - 1);
        }
        self.numbers.get(id.get())
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> &Known {
        &self.known[number as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> &mut Known {
        &mut self.known[number as usize]
    }

    /// The dot of a replica of that number.
    #[inline]
    pub(crate) fn dot(&self, number: u32, seq: u64) -> Dot {
        Dot::new(self.get(number).id, seq)
    }

    pub(crate) fn by_id(&self, id: ReplicaId) -> Option<&Known> {
        self.number(id).map(|number| self.get(number))
    }

    /// Those of a [tag](tag_of), in the order of their ids. Logarithmic, and no more is looked at
    /// than is taken.
    pub(crate) fn tagged(&self, tag: u16) -> impl Iterator<Item = &Known> {
        self.starting_with(u64::from(tag), 16)
    }

    /// The one of a [short id](short_id), if there is just one.
    pub(crate) fn with_short_id(&self, short: u32) -> Option<ReplicaId> {
        let mut known = self.starting_with(u64::from(short), 32);
        let found = known.next()?;
        known.next().is_none().then_some(found.id)
    }

    /// Those whose id is the same number, or begins with these bits.
    fn starting_with(&self, start: u64, bits: u32) -> impl Iterator<Item = &Known> {
        let low = 64 - bits;
        let first = start << low;
        let small = self.number(ReplicaId::new(start));
        let (from, to) = (first.max(1 << bits), first | (u64::MAX >> bits));
        let large = (from <= to).then(|| self.numbers.between(from, to));
        let large = large.into_iter().flatten();
        small
            .into_iter()
            .chain(large)
            .map(|number| self.get(number))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.known.iter_mut().map(|known| &mut **known)
    }

    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Known> {
        self.numbers.all().map(|number| self.get(number))
    }

    /// All operations applied.
    pub(crate) fn applied(&self) -> Version {
        collect(self.in_order().map(|known| &known.applied))
    }

    /// All operations dead before they were applied.
    pub(crate) fn early(&self) -> DotSet {
        collect(self.in_order().map(|known| &known.early))
    }

    /// Whether every dot of `version` is applied.
    pub(crate) fn covers(&self, version: &Version) -> bool {
        groups(version).all(|(id, dots)| self.by_id(id).is_some_and(|k| k.applied.covers(&dots)))
    }

    /// The dots of `set` that are not applied; their replicas are known from now on.
    pub(crate) fn intern_new(&mut self, set: &DotSet) -> DotSet {
        // The common case without building sets: the operations that follow those applied.
        if let [range] = set.ranges() {
            let number = self.intern(range.replica);
            if self.get(number).applied.last_seq(range.replica) < range.first {
                return set.clone();
            }
        }
        self.split(set, false)
    }

    /// The dots of `set` that are (`applied`) or are not applied.
    pub(crate) fn split(&self, set: &DotSet, applied: bool) -> DotSet {
        let mut out = DotSet::new();
        for (id, dots) in groups(set) {
            let part = match self.by_id(id) {
                Some(known) if applied => dots.intersection(&known.applied),
                Some(known) => dots.difference(&known.applied),
                None if applied => continue,
                None => dots,
            };
            part.ranges().iter().for_each(|range| out.push(*range));
        }
        out
    }

    /// All applied operations that are not in `version`.
    pub(crate) fn applied_beyond(&self, version: &Version) -> DotSet {
        let mut theirs = version.ranges();
        let mut out = DotSet::new();
        for known in self.in_order() {
            theirs = &theirs[theirs.partition_point(|range| range.replica < known.id)..];
            let (same, rest) = theirs.split_at(theirs.partition_point(|r| r.replica == known.id));
            theirs = rest;
            match (same, known.applied.ranges()) {
                // The common cases without building sets.
                ([], ranges) => ranges.iter().for_each(|range| out.push(*range)),
                ([a], [b]) if a == b => {}
                (same, _) => {
                    let part = known.applied.difference(&same.iter().copied().collect());
                    part.ranges().iter().for_each(|range| out.push(*range));
                }
            }
        }
        out
    }
}

#[cfg(not(feature = "small"))]
use sorted::Numbers;

#[cfg(not(feature = "small"))]
mod sorted {
    use alloc::collections::BTreeMap;

    /// The numbers of replicas, by the bits of their ids.
    #[derive(Debug, Default)]
    pub(super) struct Numbers(BTreeMap<u64, u32>);

    impl Numbers {
        #[inline]
        pub(super) fn get(&self, id: u64) -> Option<u32> {
            self.0.get(&id).copied()
        }

        #[inline]
        pub(super) fn get_or_insert(&mut self, id: u64, new: u32) -> u32 {
            *self.0.entry(id).or_insert(new)
        }

        /// In the order of the ids.
        pub(super) fn all(&self) -> impl Iterator<Item = u32> {
            self.0.values().copied()
        }

        /// Those of the ids `from..=to`, in their order.
        pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = u32> {
            self.0.range(from..=to).map(|(_, number)| *number)
        }
    }
}

/// Stands for an id, together with the low bits of a number: its upper 16 bits, or the whole id
/// where that is so small (as people choose them).
pub(crate) fn tag_of(id: ReplicaId) -> u16 {
    start_of(id, 16) as u16
}

/// Stands for the id of a replica that the reader has heard of.
pub(crate) fn short_id(id: ReplicaId) -> u32 {
    start_of(id, 32) as u32
}

fn start_of(id: ReplicaId, bits: u32) -> u64 {
    match id.get() {
        small if small >> bits == 0 => small,
        large => large >> (64 - bits),
    }
}

fn collect<'a>(sets: impl Iterator<Item = &'a DotSet>) -> DotSet {
    let mut all = DotSet::new();
    for range in sets.flat_map(DotSet::ranges) {
        all.push(*range);
    }
    all
}

/// A set of dots, replica by replica.
pub(crate) fn groups(set: &DotSet) -> impl Iterator<Item = (ReplicaId, DotSet)> + '_ {
    set.by_replica()
        .map(|group| (group[0].replica, group.iter().copied().collect::<DotSet>()))
}

/// From ranges in order.
impl FromIterator<DotRange> for DotSet {
    fn from_iter<I: IntoIterator<Item = DotRange>>(ranges: I) -> Self {
        let mut set = DotSet::new();
        ranges.into_iter().for_each(|range| set.push(range));
        set
    }
}
