//! From dot to slot, for the live operations of one replica. No sums of fingerprints are kept: who
//! asks what a range amounts to pays for each operation in it.

use alloc::vec::Vec;

use super::places::Places;
use crate::slab::Slot;
use crate::tally::Tally;

/// Numbers that are told of together, where few are wanted.
pub(crate) const PAGE: u64 = 32;
/// As many more, where fewer are.
pub(crate) const BLOCK: u64 = 512;

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    /// By number.
    places: Places,
    /// With its number each; what none of `places` leads to is vacant.
    slots: Vec<(u64, Slot)>,
    vacant: Vec<u32>,
}

impl LiveDots {
    pub(crate) fn get(&self, seq: u64) -> Option<Slot> {
        let place = self.places.get(seq)?;
        Some(self.slots[place as usize].1)
    }

    /// Notes a live operation, of which there was no slot so far.
    pub(crate) fn insert(&mut self, seq: u64, slot: Slot, _print: u128) {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push((seq, slot));
            self.slots.len() as u32 - 1
        });
        self.slots[place as usize] = (seq, slot);
        self.places.insert(seq, place);
    }

    /// As [`insert`](Self::insert) of one operation after the other, from `first` on, those of
    /// which nothing is given left out.
    pub(crate) fn insert_run(
        &mut self,
        first: u64,
        items: impl Iterator<Item = Option<(Slot, u128)>>,
    ) {
        for (seq, item) in (first..).zip(items) {
            if let Some((slot, print)) = item {
                self.insert(seq, slot, print);
            }
        }
    }

    /// Takes an operation out that is not live any more; with the last one the memory is given
    /// back.
    pub(crate) fn remove(&mut self, seq: u64, _print: u128) -> Option<Slot> {
        let place = self.places.remove(seq)?;
        let (_, slot) = self.slots[place as usize];
        self.vacant.push(place);
        if self.places.is_empty() {
            *self = Self::default();
        }
        Some(slot)
    }

    /// The live numbers in `first..=last` with their slots, ascending.
    pub(crate) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Slot)> {
        let places = self.places.between(first, last);
        places.map(|place| self.slots[place as usize])
    }

    /// Calls `each` for the longest runs of numbers in `first..=last` that are not live, ascending,
    /// until it gives false.
    pub(crate) fn gaps(&self, first: u64, last: u64, mut each: impl FnMut(u64, u64) -> bool) {
        let mut next = first;
        for (seq, _) in self.range(first, last) {
            if next < seq && !each(next, seq - 1) {
                return;
            }
            next = seq.saturating_add(1);
        }
        if next <= last {
            each(next, last);
        }
    }

    /// What the live operations in `first..=last` amount to; `print` gives the fingerprint of one.
    pub(crate) fn tally(
        &self,
        first: u64,
        last: u64,
        mut print: impl FnMut(Slot) -> u128,
    ) -> Tally {
        let mut tally = Tally::default();
        for (_, slot) in self.range(first, last) {
            tally += Tally::of(print(slot));
        }
        tally
    }

    /// The sum of all fingerprints, as `print` gives them.
    pub(crate) fn recount(&mut self, print: impl FnMut(Slot) -> u128) -> u128 {
        self.tally(0, u64::MAX, print).sum()
    }

    /// The pages that hold live operations with numbers in `first..=last`, ascending: the last
    /// number of each, and how many are live in it, those out of the range included.
    pub(crate) fn pages(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        self.units(first, last, PAGE)
    }

    /// As [`pages`](Self::pages), of blocks.
    pub(crate) fn blocks(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        self.units(first, last, BLOCK)
    }

    fn units(&self, first: u64, last: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
        let end = |seq: u64| seq / size * size + (size - 1);
        let mut units: Vec<(u64, u64)> = Vec::new();
        for (seq, _) in self.range(first / size * size, end(last)) {
            match units.last_mut() {
                Some((last, count)) if *last == end(seq) => *count += 1,
                _ => units.push((end(seq), 1)),
            }
        }
        units.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(
            steps in prop::collection::vec((0..3u8, 1..300u64), 0..300),
            first in 1..300u64,
            span in 0..300u64,
        ) {
            let (mut live, mut model) = (LiveDots::default(), BTreeMap::new());
            for (at, (step, seq)) in steps.into_iter().enumerate() {
                let slot = at as Slot;
                prop_assert_eq!(live.get(seq), model.get(&seq).copied());
                match step {
                    0 => prop_assert_eq!(live.remove(seq, 0), model.remove(&seq)),
                    _ if model.contains_key(&seq) => {}
                    1 => {
                        live.insert(seq, slot, 0);
                        model.insert(seq, slot);
                    }
                    _ => {
                        let free = (seq..seq + 5).map(|seq| !model.contains_key(&seq));
                        let items: Vec<_> = free.map(|free| free.then_some((slot, 0))).collect();
                        let new = (seq..).zip(&items).filter(|(_, item)| item.is_some());
                        model.extend(new.map(|(seq, _)| (seq, slot)));
                        live.insert_run(seq, items.into_iter());
                    }
                }
            }
            let last = first + span;
            let range = model.range(first..=last).map(|(seq, slot)| (*seq, *slot));
            prop_assert!(live.range(first, last).eq(range));
            let mut gaps = BTreeSet::new();
            live.gaps(first, last, |from, to| {
                gaps.extend(from..=to);
                true
            });
            let dead = (first..=last).filter(|seq| !model.contains_key(seq));
            prop_assert!(gaps.into_iter().eq(dead));
            let print = |slot: Slot| u128::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060);
            let mut tally = Tally::default();
            for slot in model.range(first..=last).map(|(_, slot)| *slot) {
                tally += Tally::of(print(slot));
            }
            prop_assert_eq!(live.tally(first, last, print), tally);
            let mut pages: BTreeMap<u64, u64> = BTreeMap::new();
            for seq in model.keys().filter(|seq| (first / PAGE..=last / PAGE).contains(&(*seq / PAGE))) {
                *pages.entry(seq / PAGE * PAGE + PAGE - 1).or_default() += 1;
            }
            prop_assert!(live.pages(first, last).eq(pages));
        }
    }
}
