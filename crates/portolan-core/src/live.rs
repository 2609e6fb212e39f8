//! From dot to slot, for the live operations of one replica, and what any range of them amounts to.
//!
//! Blocks of pages of consecutive numbers; what holds no live operation is gone, so memory follows
//! what is live and not how much was ever written. Pages and blocks know the sum of their
//! fingerprints: the sum over a long range costs its blocks.

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

/// Neighbouring pages, and what they amount to.
#[derive(Debug, Default)]
struct Block {
    pages: [Option<Box<Page>>; PAGES as usize],
    tally: Tally,
}

impl Block {
    /// Those that there are; `number` is the block's own.
    fn pages(&self, number: u64) -> impl Iterator<Item = (u64, &Page)> {
        let pages = self.pages.iter().zip(number * PAGES..);
        pages.filter_map(|(page, number)| Some((number, page.as_deref()?)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    blocks: BTreeMap<u64, Box<Block>>,
    /// The page last written to, kept out of its block: operations come in sequence.
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
            _ => self.blocks.get(&(number / PAGES))?.pages[place(number)].as_deref(),
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
                    if let Some(block) = self.blocks.get_mut(&(number / PAGES))
                        && let Some(page) = &mut block.pages[place(number)]
                    {
                        page.tally += more;
                        block.tally += more;
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
                let block = self.blocks.entry(number / PAGES).or_default();
                block.tally += tally;
                block.pages[place(number)].get_or_insert_default()
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

    /// Makes a page, new or from its block, the one last written to.
    fn turn_to(&mut self, number: u64) {
        let page = self.take_page(number).unwrap_or_default();
        if let Some((old, full)) = self.tail.replace((number, page))
            && full.tally.count > 0
        {
            let block = self.blocks.entry(old / PAGES).or_default();
            block.tally += full.tally;
            block.pages[place(old)] = Some(full);
        }
    }

    fn take_page(&mut self, number: u64) -> Option<Box<Page>> {
        let block = self.blocks.get_mut(&(number / PAGES))?;
        let page = block.pages[place(number)].take()?;
        block.tally -= page.tally;
        if block.tally.count == 0 {
            self.blocks.remove(&(number / PAGES));
        }
        Some(page)
    }

    /// Takes an operation out that is not live any more; `print` as it was when it came.
    #[inline]
    pub(crate) fn remove(&mut self, seq: u64, print: u128) -> Option<Slot> {
        let number = seq / PAGE;
        let (page, block) = match &mut self.tail {
            Some((tail, page)) if *tail == number => (page, None),
            _ => {
                let block = self.blocks.get_mut(&(number / PAGES))?;
                (block.pages[place(number)].as_mut()?, Some(&mut block.tally))
            }
        };
        let slot = std::mem::replace(&mut page.slots[(seq % PAGE) as usize], NONE);
        if slot == NONE {
            return None;
        }
        page.tally -= Tally::of(print);
        let empty = page.tally.count == 0;
        match block {
            Some(tally) => {
                *tally -= Tally::of(print);
                if tally.count == 0 {
                    self.blocks.remove(&(number / PAGES));
                } else if empty {
                    self.take_page(number);
                }
            }
            None if empty => self.tail = None,
            None => {}
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
            if !pages.is_empty() {
                for (_, page) in self.stored(pages.start, pages.end - 1) {
                    tally += page.tally;
                }
            }
        };
        let (low, high) = (pages.start.div_ceil(PAGES), pages.end / PAGES);
        if low < high {
            add(pages.start..low * PAGES);
            add(high * PAGES..pages.end);
            for (_, block) in self.blocks.range(low..high) {
                tally += block.tally;
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
        let counted = move |from: u64, to: u64| {
            self.blocks.range(from..=to).map(move |(number, block)| {
                let more = tail.filter(|(of, _)| of == number);
                let more = more.map_or(0, |(_, page)| page.tally.count);
                (*number, block.tally.count + more)
            })
        };
        let before = counted(*range.start(), split);
        let after = (split < *range.end()).then(|| counted(split + 1, *range.end()));
        before
            .chain(alone.map(|(block, page)| (block, page.tally.count)))
            .chain(after.into_iter().flatten())
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
                for (seq, _) in page.live(number, start, last) {
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
        for block in self.blocks.values_mut() {
            block.tally = Tally::default();
            for page in block.pages.iter_mut().flatten() {
                block.tally += again(page);
            }
            all += block.tally;
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
        pages.flat_map(move |(number, page)| page.live(number, first, last))
    }

    /// The pages that hold numbers in `first..=last`, ascending.
    fn touched(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &Page)> + '_ {
        let (low, high) = (first / PAGE, last / PAGE);
        let tail = self.tail.as_ref().map(|(number, page)| (*number, &**page));
        let tail = tail.filter(|(number, _)| (low..=high).contains(number));
        // A transaction's operations stand on the page last written to: no need to look further.
        let further = low < high || tail.is_none();
        let split = tail.map_or(high, |(number, _)| number);
        let before = further.then(|| self.stored(low, split));
        let after = (split < high).then(|| self.stored(split + 1, high));
        let (before, after) = (before.into_iter(), after.into_iter());
        before.flatten().chain(tail).chain(after.flatten())
    }

    /// The pages numbered `low..=high` that are in blocks, ascending.
    fn stored(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, &Page)> + '_ {
        let blocks = self.blocks.range(low / PAGES..=high / PAGES);
        let pages = blocks.flat_map(|(number, block)| block.pages(*number));
        pages.filter(move |(number, _)| (low..=high).contains(number))
    }
}

/// Where a page stands in its block.
fn place(number: u64) -> usize {
    (number % PAGES) as usize
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
