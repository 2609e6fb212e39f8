//! From dot to slot, for the live operations of one replica, and what any range of them amounts to.
//!
//! Blocks of pages of consecutive numbers; what holds no live operation is gone, so memory follows
//! what is live and not how much was ever written. Pages and blocks know the sum of their
//! fingerprints: the sum over a long range costs its blocks.

mod block;
mod walk;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

pub(crate) use self::block::{BLOCK, PAGE};
use self::block::{Block, Held, Lone, PAGES, Page, place};
use self::walk::{Blocks, Live, Pages};
use crate::slab::{NONE, Slot};
use crate::tally::Tally;

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    /// By number. In a row: there is one for some hundred operations, and nearly all come behind
    /// the others.
    blocks: Vec<(u64, Held)>,
    /// The page last written to, kept out of its block: operations come in sequence.
    tail: Option<(u64, Box<Page>)>,
}

impl LiveDots {
    pub(crate) fn get(&self, seq: u64) -> Option<Slot> {
        match &self.tail {
            Some((tail, page)) if *tail == seq / PAGE => {
                Some(page.slots[(seq % PAGE) as usize]).filter(|slot| *slot != NONE)
            }
            _ => self.blocks[self.find(seq / BLOCK).ok()?].1.get(seq),
        }
    }

    /// Where the block of this number stands, or would.
    fn find(&self, block: u64) -> Result<usize, usize> {
        match self.blocks.last() {
            Some((last, _)) if *last >= block => self
                .blocks
                .binary_search_by_key(&block, |(number, _)| *number),
            _ => Err(self.blocks.len()),
        }
    }

    /// The block of this number, known or new.
    fn block_mut(&mut self, block: u64) -> &mut Block {
        let at = self.find(block).unwrap_or_else(|at| {
            self.blocks.insert(at, (block, Held::Many(Box::default())));
            at
        });
        self.blocks[at].1.unfold()
    }

    /// Notes a live operation, of which there was no slot so far, with its fingerprint.
    #[expect(
        clippy::inline_always,
        reason = "a few instructions for every operation that comes"
    )]
    #[inline(always)]
    pub(crate) fn insert(&mut self, seq: u64, slot: Slot, print: u128) {
        match &mut self.tail {
            Some((tail, page)) if *tail == seq / PAGE => page.insert(seq, slot, print),
            _ => self.insert_apart(seq, slot, print),
        }
    }

    /// As [`insert`](Self::insert), not on the page last written to.
    fn insert_apart(&mut self, seq: u64, slot: Slot, print: u128) {
        let block = seq / BLOCK;
        let before = |(tail, _): &(u64, _)| seq / PAGE < *tail;
        if self.tail.as_ref().is_some_and(before)
            && let Err(at) = self.find(block)
        {
            let lone = Held::Lone(Lone::new(seq, slot, print));
            self.blocks.insert(at, (block, lone));
            return;
        }
        let page = self.page_mut(seq / PAGE, Tally::of(print));
        page.insert(seq, slot, print);
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
            match &mut self.tail {
                Some((tail, page)) if *tail == number => {
                    page.tally.add_print(sum);
                }
                _ => {
                    if let Ok(at) = self.find(number / PAGES) {
                        self.blocks[at].1.add_print(number, sum);
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
                let block = self.block_mut(number / PAGES);
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
        if let Some((old, full)) = self.tail.replace((number, page)) {
            self.store(old, full);
        }
    }

    /// Puts the page last written to in its block.
    fn store(&mut self, number: u64, page: Box<Page>) {
        if page.tally.count == 1
            && let Err(at) = self.find(number / PAGES)
        {
            if let Some((place, slot)) = page.first() {
                let lone = Lone::new(number * PAGE + place as u64, slot, page.tally.sum());
                self.blocks.insert(at, (number / PAGES, Held::Lone(lone)));
            }
        } else if page.tally.count > 0 {
            let block = self.block_mut(number / PAGES);
            block.tally += page.tally;
            block.pages[place(number)] = Some(page);
        }
    }

    fn take_page(&mut self, number: u64) -> Option<Box<Page>> {
        let at = self.find(number / PAGES).ok()?;
        match &mut self.blocks[at].1 {
            Held::Lone(lone) if lone.place() == place(number) => {
                let page = lone.page();
                self.take_block(at);
                Some(page)
            }
            Held::Lone(_) => None,
            Held::Many(block) => {
                let page = block.pages[place(number)].take()?;
                block.tally -= page.tally;
                if block.tally.count == 0 {
                    self.take_block(at);
                }
                Some(page)
            }
        }
    }

    /// Takes a block out in which nothing is live any more, and gives memory back where few are
    /// left of many.
    fn take_block(&mut self, at: usize) {
        self.blocks.remove(at);
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(self.blocks.len() * 2);
        }
    }

    /// Takes an operation out that is not live any more; `print` as it was when it came.
    #[inline]
    pub(crate) fn remove(&mut self, seq: u64, print: u128) -> Option<Slot> {
        let number = seq / PAGE;
        let page = match &mut self.tail {
            Some((tail, page)) if *tail == number => page,
            _ => {
                let at = self.find(seq / BLOCK).ok()?;
                let held = &mut self.blocks[at].1;
                let last = held.tally().count == 1;
                let slot = held.remove(seq, print)?;
                if last {
                    self.take_block(at);
                }
                return Some(slot);
            }
        };
        let slot = core::mem::replace(&mut page.slots[(seq % PAGE) as usize], NONE);
        if slot == NONE {
            return None;
        }
        page.tally -= Tally::of(print);
        if page.tally.count == 0 {
            self.tail = None;
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
            for (_, slot) in self.range(first, last) {
                tally += Tally::of(print(slot));
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
                for (_, page) in self.touched(pages.start * PAGE, pages.end * PAGE - 1) {
                    tally += page.tally();
                }
            }
        };
        let (low, high) = (pages.start.div_ceil(PAGES), pages.end / PAGES);
        if low < high {
            add(pages.start..low * PAGES);
            add(high * PAGES..pages.end);
            for (_, block) in self.stored(low, high - 1) {
                tally += block.tally();
            }
            if let Some((number, page)) = &self.tail
                && (low..high).contains(&(number / PAGES))
            {
                tally += page.tally;
            }
        } else {
            add(pages.clone());
        }
        tally
    }

    /// The blocks that hold live operations with numbers in `first..=last`, ascending: the last
    /// number of each, and how many are live in it, those out of the range included.
    pub(crate) fn blocks(&self, first: u64, last: u64) -> Blocks<'_> {
        let (low, high) = (first / BLOCK, last / BLOCK);
        let tail = self.tail.as_ref();
        let tail = tail.map(|(number, page)| (number / PAGES, page.tally.count));
        Blocks {
            tail: tail.filter(|(block, _)| (low..=high).contains(block)),
            stored: self.stored(low, high),
        }
    }

    /// The blocks numbered `low..=high` but for the last page written to.
    fn stored(&self, low: u64, high: u64) -> &[(u64, Held)] {
        let from = self.find(low).unwrap_or_else(|at| at);
        let to = self.find(high).map_or_else(|at| at, |at| at + 1);
        self.blocks.get(from..to).unwrap_or_default()
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
                if page.tally().count == PAGE {
                    let from = start.max(base);
                    if next < from && !each(next, from - 1) {
                        return;
                    }
                    next = base.saturating_add(PAGE);
                    continue;
                }
                let (from, to) = (start.max(base), last.min(base.saturating_add(PAGE - 1)));
                for (seq, _) in self.range(from, to) {
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
        let mut all = Tally::default();
        for (_, block) in &mut self.blocks {
            block.recount(&mut print);
            all += block.tally();
        }
        if let Some((_, page)) = &mut self.tail {
            page.recount(&mut print);
            all += page.tally;
        }
        all.sum()
    }

    /// The pages that hold live operations with numbers in `first..=last`, ascending: the last
    /// number of each, and how many are live in it, those out of the range included.
    pub(crate) fn pages(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pages = self.touched(first, last);
        pages.map(|(number, page)| (number * PAGE + (PAGE - 1), page.tally().count))
    }

    /// The live numbers in `first..=last` with their slots, ascending; costs the pages touched.
    pub(crate) fn range(&self, first: u64, last: u64) -> Live<'_> {
        Live {
            pages: self.touched(first, last),
            first,
            last,
            slots: [].iter(),
            next: first,
        }
    }

    /// The pages that hold numbers in `first..=last`, ascending.
    fn touched(&self, first: u64, last: u64) -> Pages<'_> {
        Pages {
            dots: self,
            next: first / PAGE,
            last: last / PAGE,
            block: None,
        }
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

    #[test]
    fn what_is_left_of_many_takes_no_page() {
        let mut live = LiveDots::default();
        for seq in 1..=100 * BLOCK {
            live.insert(seq, 7, print(7));
            if seq % BLOCK != 1 {
                live.remove(seq - 1, print(7));
            }
        }
        // The last number of a block is on the page last written to until the next one begins.
        let lone = |(_, held): &(u64, Held)| matches!(held, Held::Lone(_));
        assert!(live.blocks.iter().all(lone));
        assert_eq!(live.tally(1, 100 * BLOCK, print).count, 100);
        for block in 1..=100 {
            assert_eq!(live.remove(block * BLOCK - 1, print(7)), None);
            assert_eq!(live.remove(block * BLOCK, print(7)), Some(7));
        }
        assert_eq!((live.blocks.capacity(), live.tail.is_none()), (0, true));
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
