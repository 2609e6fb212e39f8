//! From dot to slot, for the live operations of one replica, and what any range of them amounts to.
//!
//! Pages of consecutive numbers; a page without live operations is gone, so memory follows what
//! is live and not how much was ever written. Pages know the sum of their fingerprints, and so
//! do blocks of pages: the sum over a long range costs its blocks.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range, SubAssign};

use crate::slab::{NONE, Slot};

/// Numbers in a page.
pub(crate) const PAGE: u64 = 32;
/// Pages in a block.
const PAGES: u64 = 16;
/// Numbers in a block.
pub(crate) const BLOCK: u64 = PAGE * PAGES;

/// What a set of operations amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many there are.
    pub(crate) count: u64,
    /// The sum of their fingerprints, in two halves: a `u128` would be padded.
    sum: [u64; 2],
}

impl Tally {
    pub(crate) fn of(print: u128) -> Self {
        Self {
            count: 1,
            sum: [print as u64, (print >> 64) as u64],
        }
    }

    /// The sum of the fingerprints.
    pub(crate) fn sum(&self) -> u128 {
        u128::from(self.sum[0]) | u128::from(self.sum[1]) << 64
    }

    fn set_sum(&mut self, sum: u128) {
        self.sum = [sum as u64, (sum >> 64) as u64];
    }
}

impl AddAssign for Tally {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.set_sum(self.sum().wrapping_add(other.sum()));
    }
}

impl SubAssign for Tally {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.count -= other.count;
        self.set_sum(self.sum().wrapping_sub(other.sum()));
    }
}

#[derive(Debug)]
struct Page {
    slots: [Slot; PAGE as usize],
    tally: Tally,
}

impl Page {
    /// Those of its slots that stand for the numbers `first..=last`; `number` is its own.
    fn live(&self, number: u64, first: u64, last: u64) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let base = number * PAGE;
        let from = first.saturating_sub(base).min(PAGE) as usize;
        let to = last.saturating_sub(base).min(PAGE - 1) as usize;
        let slots = self.slots[from..=to].iter().zip(base + from as u64..);
        slots
            .filter(|(slot, _)| **slot != NONE)
            .map(|(slot, seq)| (seq, *slot))
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            slots: [NONE; PAGE as usize],
            tally: Tally::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    pages: BTreeMap<u64, Box<Page>>,
    /// What the pages in the tree amount to, block by block.
    blocks: BTreeMap<u64, Tally>,
    /// The page last written to, kept out of the trees: operations come in sequence.
    tail: Option<(u64, Box<Page>)>,
}

impl LiveDots {
    pub(crate) fn get(&self, seq: u64) -> Option<Slot> {
        let page = self.page(seq / PAGE)?;
        Some(page.slots[(seq % PAGE) as usize]).filter(|slot| *slot != NONE)
    }

    fn page(&self, number: u64) -> Option<&Page> {
        match &self.tail {
            Some((tail, page)) if *tail == number => Some(page),
            _ => self.pages.get(&number).map(|page| &**page),
        }
    }

    /// Notes a live operation, of which there was no slot so far, with its fingerprint.
    #[inline]
    pub(crate) fn insert(&mut self, seq: u64, slot: Slot, print: u128) {
        let number = seq / PAGE;
        let tally = Tally::of(print);
        let page = self.page_mut(number, tally);
        let place = &mut page.slots[(seq % PAGE) as usize];
        debug_assert_eq!(*place, NONE, "an operation is live once");
        *place = slot;
        page.tally += tally;
    }

    /// As [`insert`](Self::insert) of one operation after the other, from `first` on, those of
    /// which nothing is given left out.
    pub(crate) fn insert_run(
        &mut self,
        first: u64,
        items: impl ExactSizeIterator<Item = Option<(Slot, u128)>>,
    ) {
        let (mut seq, mut left) = (first, items.len() as u64);
        let mut items = items.fuse();
        while left > 0 {
            let count = (PAGE - seq % PAGE).min(left);
            let from = (seq % PAGE) as usize;
            let range = from..from + count as usize;
            let (mut slots, mut tally) = ([NONE; PAGE as usize], Tally::default());
            for (place, item) in slots[range.clone()].iter_mut().zip(&mut items) {
                if let Some((slot, print)) = item {
                    *place = slot;
                    tally += Tally::of(print);
                }
            }
            if tally.count > 0 {
                let page = self.page_mut(seq / PAGE, tally);
                let places = page.slots[range.clone()].iter_mut();
                for (place, slot) in places.zip(&slots[range]) {
                    debug_assert!(*place == NONE || *slot == NONE, "an operation is live once");
                    if *slot != NONE {
                        *place = *slot;
                    }
                }
                page.tally += tally;
            }
            seq += count;
            left -= count;
        }
    }

    /// Adds fingerprints of live operations, which were noted with none: ascending, or page by page
    /// at least.
    pub(crate) fn add_prints(&mut self, prints: impl Iterator<Item = (u64, u128)>) {
        let mut prints = prints.peekable();
        while let Some((seq, print)) = prints.next() {
            let (number, mut sum) = (seq / PAGE, print);
            while let Some((_, print)) = prints.next_if(|(seq, _)| seq / PAGE == number) {
                sum = sum.wrapping_add(print);
            }
            let more = Tally {
                count: 0,
                ..Tally::of(sum)
            };
            match &mut self.tail {
                Some((tail, page)) if *tail == number => page.tally += more,
                _ => {
                    // proof: a live operation has a page.
                    if let Some(page) = self.pages.get_mut(&number) {
                        page.tally += more;
                        *self.blocks.entry(number / PAGES).or_default() += more;
                    }
                }
            }
        }
    }

    /// The page of this number, to which something of this tally is about to be added.
    #[inline]
    fn page_mut(&mut self, number: u64, tally: Tally) -> &mut Page {
        match self.tail.as_ref().map(|(tail, _)| *tail) {
            Some(tail) if tail == number => self.tail_page(),
            // What comes out of sequence leaves the tail where it is.
            Some(tail) if number < tail => {
                *self.blocks.entry(number / PAGES).or_default() += tally;
                self.pages.entry(number).or_default()
            }
            _ => {
                self.turn_to(number);
                self.tail_page()
            }
        }
    }

    #[inline]
    fn tail_page(&mut self) -> &mut Page {
        // proof: it is asked for where there is one.
        &mut self.tail.as_mut().expect("the tail page").1
    }

    /// Makes a page, new or from the tree, the one last written to.
    fn turn_to(&mut self, number: u64) {
        // Mostly it is the first behind all others.
        let behind = self.pages.last_key_value();
        let behind = behind.is_none_or(|(last, _)| *last < number);
        let known = if behind {
            None
        } else {
            self.pages.remove(&number)
        };
        let page = match known {
            Some(page) => {
                self.lessen(number / PAGES, page.tally);
                page
            }
            None => Box::default(),
        };
        if let Some((old, full)) = self.tail.replace((number, page))
            && full.tally.count > 0
        {
            *self.blocks.entry(old / PAGES).or_default() += full.tally;
            self.pages.insert(old, full);
        }
    }

    /// Takes something off what a block amounts to.
    fn lessen(&mut self, block: u64, tally: Tally) {
        if let Some(known) = self.blocks.get_mut(&block) {
            *known -= tally;
            if known.count == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    /// Takes an operation out that is not live any more; `print` as it was when it came.
    #[inline]
    pub(crate) fn remove(&mut self, seq: u64, print: u128) -> Option<Slot> {
        let number = seq / PAGE;
        let (page, in_tail) = match &mut self.tail {
            Some((tail, page)) if *tail == number => (page, true),
            _ => (self.pages.get_mut(&number)?, false),
        };
        let place = &mut page.slots[(seq % PAGE) as usize];
        let slot = std::mem::replace(place, NONE);
        if slot == NONE {
            return None;
        }
        page.tally -= Tally::of(print);
        let empty = page.tally.count == 0;
        match (in_tail, empty) {
            (true, true) => self.tail = None,
            (true, false) => {}
            (false, true) => {
                self.pages.remove(&number);
                self.lessen(number / PAGES, Tally::of(print));
            }
            (false, false) => self.lessen(number / PAGES, Tally::of(print)),
        }
        Some(slot)
    }

    /// What the live operations in `first..=last` amount to; `print` gives the fingerprint of
    /// one. Costs the blocks, and a page at each end.
    pub(crate) fn tally(
        &self,
        first: u64,
        last: u64,
        mut print: impl FnMut(Slot) -> u128,
    ) -> Tally {
        // No operation has the number 0, which stands on the first page.
        let first = if first == 1 { 0 } else { first };
        let (low, high) = (first.div_ceil(PAGE), last.saturating_add(1) / PAGE);
        let mut tally = Tally::default();
        let mut edge = |first: u64, last: u64| {
            let number = first / PAGE;
            if let Some(page) = self.page(number) {
                for (_, slot) in page.live(number, first, last) {
                    tally += Tally::of(print(slot));
                }
            }
        };
        if low > high {
            edge(first, last);
            return tally;
        }
        if first < low * PAGE {
            edge(first, low * PAGE - 1);
        }
        if high * PAGE <= last {
            edge(high * PAGE, last);
        }
        tally += self.tally_pages(low..high);
        tally
    }

    fn tally_pages(&self, pages: Range<u64>) -> Tally {
        let mut tally = Tally::default();
        let mut add = |pages: Range<u64>| {
            for (_, page) in self.pages.range(pages) {
                tally += page.tally;
            }
        };
        let (low, high) = (pages.start.div_ceil(PAGES), pages.end / PAGES);
        if low < high {
            add(pages.start..low * PAGES);
            add(high * PAGES..pages.end);
            for (_, block) in self.blocks.range(low..high) {
                tally += *block;
            }
        } else {
            add(pages.clone());
        }
        if let Some((number, page)) = &self.tail
            && pages.contains(number)
        {
            tally += page.tally;
        }
        tally
    }

    /// The blocks that hold live operations with numbers in `first..=last`, ascending: the last
    /// number of each, and how many are live in it, those out of the range included.
    pub(crate) fn blocks(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let range = first / BLOCK..=last / BLOCK;
        let tail = self
            .tail
            .as_ref()
            .map(|(number, page)| (number / PAGES, page));
        let tail = tail.filter(|(block, _)| range.contains(block));
        let alone = tail.filter(|(block, _)| !self.blocks.contains_key(block));
        let split = alone.map_or(*range.end(), |(block, _)| block);
        let count = move |(block, tally): (&u64, &Tally)| {
            let more = tail.filter(|(of, _)| of == block);
            (
                *block,
                tally.count + more.map_or(0, |(_, page)| page.tally.count),
            )
        };
        let before = self.blocks.range(*range.start()..=split).map(count);
        let after = (split < *range.end()).then(|| self.blocks.range(split + 1..=*range.end()));
        before
            .chain(alone.map(|(block, page)| (block, page.tally.count)))
            .chain(after.into_iter().flatten().map(count))
            .map(|(block, count)| (block * BLOCK + (BLOCK - 1), count))
    }

    /// Calls `each` for the longest runs of numbers in `first..=last` that are not live, ascending,
    /// until it gives false. Costs the blocks, and the pages of those that have gaps.
    pub(crate) fn gaps(&self, first: u64, last: u64, mut each: impl FnMut(u64, u64) -> bool) {
        let mut next = first;
        for (end, count) in self.blocks(first, last) {
            let start = first.max(end - (BLOCK - 1));
            if count == BLOCK {
                if next < start && !each(next, start - 1) {
                    return;
                }
                next = end.saturating_add(1);
                continue;
            }
            for (number, page) in self.touched(start, last.min(end)) {
                let base = number * PAGE;
                if page.tally.count == PAGE {
                    let from = start.max(base);
                    if next < from && !each(next, from - 1) {
                        return;
                    }
                    next = base.saturating_add(PAGE);
                    continue;
                }
                for (seq, _) in page.live(*number, start, last) {
                    if next < seq && !each(next, seq - 1) {
                        return;
                    }
                    next = seq.saturating_add(1);
                }
            }
        }
        if next <= last {
            each(next, last);
        }
    }

    /// Counts all fingerprints anew, as `print` gives them; the sum of them all.
    pub(crate) fn recount(&mut self, mut print: impl FnMut(Slot) -> u128) -> u128 {
        let mut again = |page: &mut Page| {
            page.tally = Tally::default();
            for slot in page.slots.iter().filter(|slot| **slot != NONE) {
                page.tally += Tally::of(print(*slot));
            }
            page.tally
        };
        let mut all = Tally::default();
        self.blocks.clear();
        for (number, page) in &mut self.pages {
            let tally = again(page);
            *self.blocks.entry(number / PAGES).or_default() += tally;
            all += tally;
        }
        if let Some((_, page)) = &mut self.tail {
            all += again(page);
        }
        all.sum()
    }

    /// The pages that hold live operations with numbers in `first..=last`, ascending: the last
    /// number of each, and how many are live in it, those out of the range included.
    pub(crate) fn pages(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pages = self.touched(first, last);
        pages.map(|(number, page)| (number * PAGE + (PAGE - 1), page.tally.count))
    }

    /// The live numbers in `first..=last` with their slots, ascending; costs the pages touched.
    pub(crate) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let pages = self.touched(first, last);
        pages.flat_map(move |(number, page)| page.live(*number, first, last))
    }

    /// The pages that hold numbers in `first..=last`, ascending.
    fn touched(&self, first: u64, last: u64) -> impl Iterator<Item = (&u64, &Box<Page>)> + '_ {
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
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The fingerprint of what stands at a slot.
    fn print(slot: Slot) -> u128 {
        (u128::from(slot) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(
            steps in prop::collection::vec((any::<bool>(), 1..3_000u64), 0..300),
            runs in prop::collection::vec(
                (1..2_900u64, prop::collection::vec(any::<bool>(), 0..100)),
                0..4,
            ),
            first in 1..3_000u64,
            span in 0..3_000u64,
        ) {
            let (mut live, mut model) = (LiveDots::default(), BTreeMap::new());
            for (i, (add, seq)) in steps.into_iter().enumerate() {
                // Near each other, or far apart.
                let seq = if seq % 3 == 0 { seq } else { 1 + seq % 70 };
                let known = model.remove(&seq);
                prop_assert_eq!(live.remove(seq, known.map_or(0, print)), known);
                if add {
                    live.insert(seq, i as Slot, print(i as Slot));
                    model.insert(seq, i as Slot);
                }
            }
            for (i, (start, given)) in runs.into_iter().enumerate() {
                let items = (start..).zip(given);
                let items: Vec<Option<(Slot, u128)>> = items
                    .map(|(seq, given)| {
                        let slot = (1000 * (i as Slot + 1)) + seq as Slot;
                        (given && !model.contains_key(&seq)).then(|| (slot, print(slot)))
                    })
                    .collect();
                let new = (start..).zip(&items);
                model.extend(new.filter_map(|(seq, item)| item.map(|(slot, _)| (seq, slot))));
                live.insert_run(start, items.into_iter());
            }
            for seq in 0..3_000 {
                prop_assert_eq!(live.get(seq), model.get(&seq).copied());
            }
            let last = first + span;
            let got: Vec<_> = live.range(first, last).collect();
            let want: Vec<_> = model.range(first..=last).map(|(seq, slot)| (*seq, *slot)).collect();
            prop_assert_eq!(&got, &want);

            let mut tally = Tally::default();
            for (_, slot) in want {
                tally += Tally::of(print(slot));
            }
            prop_assert_eq!(live.tally(first, last, print), tally);
            let mut blocks: BTreeMap<u64, u64> = BTreeMap::new();
            for seq in model.keys().filter(|seq| (first / BLOCK..=last / BLOCK).contains(&(*seq / BLOCK))) {
                *blocks.entry(seq / BLOCK * BLOCK + BLOCK - 1).or_default() += 1;
            }
            let got: Vec<_> = live.blocks(first, last).collect();
            prop_assert_eq!(got, blocks.into_iter().collect::<Vec<_>>());

            let mut gaps = std::collections::BTreeSet::new();
            live.gaps(first, last, |from, to| {
                gaps.extend(from..=to);
                true
            });
            let want: std::collections::BTreeSet<u64> =
                (first..=last).filter(|seq| !model.contains_key(seq)).collect();
            prop_assert_eq!(gaps, want);

            let before = live.tally(1, 10_000, print);
            prop_assert_eq!(live.recount(print), before.sum());
            prop_assert_eq!(live.tally(1, 10_000, print), before);
        }
    }
}
