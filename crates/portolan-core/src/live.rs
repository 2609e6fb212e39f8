//! From dot to slot, for the live operations of one replica, and what any range of them amounts to.
//!
//! Blocks of pages of consecutive numbers; what holds no live operation is gone, so memory follows
//! what is live and not how much was ever written. Pages and blocks know the sum of their
//! fingerprints: the sum over a long range costs its blocks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use crate::slab::{NONE, Slot};
use crate::tally::Tally;

/// Numbers in a page.
pub(crate) const PAGE: u64 = 32;
/// Pages in a block.
const PAGES: u64 = 16;
/// Numbers in a block.
pub(crate) const BLOCK: u64 = PAGE * PAGES;

#[derive(Debug)]
struct Page {
    slots: [Slot; PAGE as usize],
    tally: Tally,
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

#[derive(Debug, Default)]
pub(crate) struct LiveDots {
    /// By number. In a row: there is one for some hundred operations, and nearly all come behind
    /// the others.
    blocks: Vec<(u64, Box<Block>)>,
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
            _ => {
                let at = self.find(number / PAGES).ok()?;
                self.blocks[at].1.pages[place(number)].as_deref()
            }
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
            self.blocks.insert(at, (block, Box::default()));
            at
        });
        &mut self.blocks[at].1
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
            let more = Tally::of_prints(sum);
            match &mut self.tail {
                Some((tail, page)) if *tail == number => page.tally += more,
                _ => {
                    // proof: a live operation has a page.
                    let block = self.block_mut(number / PAGES);
                    if let Some(page) = &mut block.pages[place(number)] {
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
        if let Some((old, full)) = self.tail.replace((number, page))
            && full.tally.count > 0
        {
            let block = self.block_mut(old / PAGES);
            block.tally += full.tally;
            block.pages[place(old)] = Some(full);
        }
    }

    fn take_page(&mut self, number: u64) -> Option<Box<Page>> {
        let at = self.find(number / PAGES).ok()?;
        let block = &mut self.blocks[at].1;
        let page = block.pages[place(number)].take()?;
        block.tally -= page.tally;
        if block.tally.count == 0 {
            self.blocks.remove(at);
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
                let at = self.find(number / PAGES).ok()?;
                let block = &mut *self.blocks[at].1;
                let page = block.pages[place(number)].as_mut()?;
                (page, Some((at, &mut block.tally)))
            }
        };
        let slot = core::mem::replace(&mut page.slots[(seq % PAGE) as usize], NONE);
        if slot == NONE {
            return None;
        }
        page.tally -= Tally::of(print);
        let empty = page.tally.count == 0;
        match block {
            Some((at, tally)) => {
                *tally -= Tally::of(print);
                if tally.count == 0 {
                    self.blocks.remove(at);
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
                    tally += page.tally;
                }
            }
        };
        let (low, high) = (pages.start.div_ceil(PAGES), pages.end / PAGES);
        if low < high {
            add(pages.start..low * PAGES);
            add(high * PAGES..pages.end);
            for (_, block) in self.stored(low, high - 1) {
                tally += block.tally;
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
    fn stored(&self, low: u64, high: u64) -> &[(u64, Box<Block>)] {
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
                if page.tally.count == PAGE {
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
        let mut again = |page: &mut Page| {
            page.tally = Tally::default();
            for slot in page.slots.iter().filter(|slot| **slot != NONE) {
                page.tally += Tally::of(print(*slot));
            }
            page.tally
        };
        let mut all = Tally::default();
        for (_, block) in &mut self.blocks {
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

/// Pages, ascending, with their numbers.
struct Pages<'a> {
    dots: &'a LiveDots,
    /// The first number that is of interest still, and the last.
    next: u64,
    last: u64,
    /// Where the block of `next` stands, or the one behind it, once that was looked for.
    block: Option<usize>,
}

impl<'a> Iterator for Pages<'a> {
    type Item = (u64, &'a Page);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.last {
            return None;
        }
        let tail = self.dots.tail.as_ref();
        let tail = tail.map(|(number, page)| (*number, &**page));
        let tail = tail.filter(|(number, _)| (self.next..=self.last).contains(number));
        let found = match tail {
            // A transaction's operations stand on the page last written to: no need to look
            // further.
            Some((number, _)) if number == self.next => tail,
            _ => match (self.stored(), tail) {
                (Some(stored), Some(tail)) if tail.0 < stored.0 => Some(tail),
                (stored, tail) => stored.or(tail),
            },
        };
        let (number, page) = found.filter(|(number, _)| *number <= self.last)?;
        self.next = number + 1;
        Some((number, page))
    }
}

impl<'a> Pages<'a> {
    /// The next page that is in a block.
    fn stored(&mut self) -> Option<(u64, &'a Page)> {
        let dots = self.dots;
        let find = || dots.find(self.next / PAGES).unwrap_or_else(|at| at);
        let mut at = self.block.unwrap_or_else(find);
        let found = loop {
            let Some((block, pages)) = dots.blocks.get(at) else {
                break None;
            };
            let base = block * PAGES;
            let from = self.next.saturating_sub(base).min(PAGES);
            let mut numbered = (base + from..).zip(&pages.pages[from as usize..]);
            let found = numbered.find_map(|(number, page)| Some((number, page.as_deref()?)));
            if found.is_some() {
                break found;
            }
            at += 1;
        };
        self.block = Some(at);
        found
    }
}

/// Live numbers, ascending, with their slots.
pub(crate) struct Live<'a> {
    pages: Pages<'a>,
    first: u64,
    last: u64,
    /// What is left of a page, and the number with which it begins.
    slots: slice::Iter<'a, Slot>,
    next: u64,
}

impl Iterator for Live<'_> {
    type Item = (u64, Slot);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for slot in self.slots.by_ref() {
                let seq = self.next;
                self.next = seq.wrapping_add(1);
                if *slot != NONE {
                    return Some((seq, *slot));
                }
            }
            let (number, page) = self.pages.next()?;
            let base = number * PAGE;
            let from = self.first.saturating_sub(base) as usize;
            let to = (self.last - base).min(PAGE - 1) as usize;
            self.slots = page.slots[from..=to].iter();
            self.next = base + from as u64;
        }
    }
}

/// Blocks, ascending: the last number of each, and how many are live in it.
pub(crate) struct Blocks<'a> {
    /// That of the page last written to, and how many are live there.
    tail: Option<(u64, u64)>,
    stored: &'a [(u64, Box<Block>)],
}

impl Iterator for Blocks<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let stored = self
            .stored
            .first()
            .map(|(number, block)| (*number, block.tally.count));
        let tail = self.tail;
        let number = match (stored, tail) {
            (Some((stored, _)), Some((tail, _))) => stored.min(tail),
            (stored, tail) => stored.or(tail)?.0,
        };
        let mut count = 0;
        if let Some((_, more)) = stored.filter(|(of, _)| *of == number) {
            count += more;
            self.stored = &self.stored[1..];
        }
        if let Some((_, more)) = tail.filter(|(of, _)| *of == number) {
            count += more;
            self.tail = None;
        }
        Some((number * BLOCK + (BLOCK - 1), count))
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
