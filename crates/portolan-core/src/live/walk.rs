//! Going through live operations, page by page and block by block.

use core::slice;

use super::LiveDots;
use super::block::{BLOCK, Held, PAGE, PAGES, PageRef};
use crate::slab::{NONE, Slot};

/// Pages, ascending, with their numbers.
pub(super) struct Pages<'a> {
    pub(super) dots: &'a LiveDots,
    /// The first number that is of interest still, and the last.
    pub(super) next: u64,
    pub(super) last: u64,
    /// Where the block of `next` stands, or the one behind it, once that was looked for.
    pub(super) block: Option<usize>,
}

impl<'a> Iterator for Pages<'a> {
    type Item = (u64, PageRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.last {
            return None;
        }
        let tail = self.dots.tail.as_ref();
        let tail = tail.map(|(number, page)| (*number, PageRef::Whole(page)));
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
    fn stored(&mut self) -> Option<(u64, PageRef<'a>)> {
        let dots = self.dots;
        let find = || dots.find(self.next / PAGES).unwrap_or_else(|at| at);
        let mut at = self.block.unwrap_or_else(find);
        let found = loop {
            let Some((block, pages)) = dots.blocks.get(at) else {
                break None;
            };
            let base = block * PAGES;
            let from = self.next.saturating_sub(base).min(PAGES);
            let found = pages.page_from(from as usize);
            let found = found.map(|(place, page)| (base + place as u64, page));
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
    pub(super) pages: Pages<'a>,
    pub(super) first: u64,
    pub(super) last: u64,
    /// What is left of a page, and the number with which it begins.
    pub(super) slots: slice::Iter<'a, Slot>,
    pub(super) next: u64,
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
            let (at, slots) = page.slots(from, to);
            self.slots = slots.iter();
            self.next = base + at as u64;
        }
    }
}

/// Blocks, ascending: the last number of each, and how many are live in it.
pub(crate) struct Blocks<'a> {
    /// That of the page last written to, and how many are live there.
    pub(super) tail: Option<(u64, u64)>,
    pub(super) stored: &'a [(u64, Held)],
}

impl Iterator for Blocks<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let stored = self
            .stored
            .first()
            .map(|(number, block)| (*number, block.tally().count));
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
