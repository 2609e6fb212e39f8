//! From dot to slot, for the live operations of one replica.
//!
//! Pages of consecutive numbers; a page without live operations is gone, so memory follows what
//! is live and not how much was ever written.

use std::collections::BTreeMap;

use crate::slab::{NONE, Slot};

const PAGE: u64 = 32;

#[derive(Debug)]
struct Page {
    slots: [Slot; PAGE as usize],
    used: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            slots: [NONE; PAGE as usize],
            used: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    pages: BTreeMap<u64, Box<Page>>,
    /// The latest page, or one of the latest, kept out of the tree: operations come in sequence.
    tail: Option<(u64, Box<Page>)>,
}

impl LiveDots {
    pub(crate) fn get(&self, seq: u64) -> Option<Slot> {
        let number = seq / PAGE;
        let page = match &self.tail {
            Some((tail, page)) if *tail == number => page,
            _ => self.pages.get(&number)?,
        };
        Some(page.slots[(seq % PAGE) as usize]).filter(|slot| *slot != NONE)
    }

    #[inline]
    pub(crate) fn insert(&mut self, seq: u64, slot: Slot) {
        let page = self.page_mut(seq / PAGE);
        let place = &mut page.slots[(seq % PAGE) as usize];
        page.used += u32::from(*place == NONE);
        *place = slot;
    }

    #[inline]
    fn page_mut(&mut self, number: u64) -> &mut Page {
        let tail = self.tail.as_ref().map(|(tail, _)| *tail);
        match tail {
            Some(tail) if tail == number => {}
            // What comes out of sequence leaves the tail where it is.
            Some(tail) if number < tail => return self.pages.entry(number).or_default(),
            _ => self.turn_to(number),
        }
        // proof: either arm that goes on has found or put the page there.
        &mut self.tail.as_mut().expect("the tail page").1
    }

    /// Makes the page of that number the tail.
    fn turn_to(&mut self, number: u64) {
        let page = self.pages.remove(&number).unwrap_or_default();
        if let Some((old, full)) = self.tail.replace((number, page))
            && full.used > 0
        {
            self.pages.insert(old, full);
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Slot> {
        let number = seq / PAGE;
        let page = match &mut self.tail {
            Some((tail, page)) if *tail == number => page,
            _ => self.pages.get_mut(&number)?,
        };
        let place = &mut page.slots[(seq % PAGE) as usize];
        let slot = std::mem::replace(place, NONE);
        if slot == NONE {
            return None;
        }
        page.used -= 1;
        if page.used == 0 {
            match &self.tail {
                Some((tail, _)) if *tail == number => self.tail = None,
                _ => drop(self.pages.remove(&number)),
            }
        }
        Some(slot)
    }

    /// The live numbers in `first..=last` with their slots, ascending; costs the pages touched.
    pub(crate) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let (low, high) = (first / PAGE, last / PAGE);
        let tail = self
            .tail
            .as_ref()
            .filter(|(number, _)| (low..=high).contains(number));
        // A transaction's operations stand on the page last written to: no need to look further.
        let further = low < high || tail.is_none();
        let split = tail.map_or(high, |(number, _)| *number);
        let before = further.then(|| self.pages.range(low..=split));
        let after = further.then(|| {
            self.pages
                .range(split.saturating_add(1)..=high.max(split + 1))
        });
        let before = before.into_iter().flatten();
        let after = after
            .into_iter()
            .flatten()
            .filter(move |(number, _)| **number <= high);
        before
            .chain(tail.map(|(number, page)| (number, page)))
            .chain(after)
            .flat_map(move |(number, page)| {
                let base = number * PAGE;
                let from = first.saturating_sub(base).min(PAGE) as usize;
                let to = last.saturating_sub(base).min(PAGE - 1) as usize;
                let slots = page.slots[from..=to].iter().zip(base + from as u64..);
                slots
                    .filter(|(slot, _)| **slot != NONE)
                    .map(|(slot, seq)| (seq, *slot))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(
            steps in prop::collection::vec((any::<bool>(), 1..300u64), 0..300),
            first in 1..300u64,
            span in 0..300u64,
        ) {
            let (mut live, mut model) = (LiveDots::default(), BTreeMap::new());
            for (i, (add, seq)) in steps.into_iter().enumerate() {
                if add {
                    live.insert(seq, i as Slot);
                    model.insert(seq, i as Slot);
                } else {
                    prop_assert_eq!(live.remove(seq), model.remove(&seq));
                }
            }
            for seq in 0..300 {
                prop_assert_eq!(live.get(seq), model.get(&seq).copied());
            }
            let last = first + span;
            let got: Vec<_> = live.range(first, last).collect();
            let want: Vec<_> = model.range(first..=last).map(|(seq, slot)| (*seq, *slot)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
