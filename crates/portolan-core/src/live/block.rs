//! What live operations stand on: pages of consecutive numbers, in blocks, and what these amount to.

use alloc::boxed::Box;
use core::ops::{AddAssign, SubAssign};

use crate::slab::{NONE, Slot};

/// Numbers in a page.
pub(crate) const PAGE: u64 = 32;
/// Pages in a block.
pub(super) const PAGES: u64 = 16;
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

    /// Adds the fingerprint of an operation that is counted already.
    pub(super) fn add_print(&mut self, print: u128) {
        self.set_sum(self.sum().wrapping_add(print));
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
pub(super) struct Page {
    pub(super) slots: [Slot; PAGE as usize],
    pub(super) tally: Tally,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            slots: [NONE; PAGE as usize],
            tally: Tally::default(),
        }
    }
}

impl Page {
    /// Notes a live operation, of which there was no slot so far.
    #[inline]
    pub(super) fn insert(&mut self, seq: u64, slot: Slot, print: u128) {
        let place = &mut self.slots[(seq % PAGE) as usize];
        debug_assert_eq!(*place, NONE, "an operation is live once");
        *place = slot;
        self.tally += Tally::of(print);
    }

    /// The first live operation: its place, and its slot.
    pub(super) fn first(&self) -> Option<(usize, Slot)> {
        let at = self.slots.iter().position(|slot| *slot != NONE)?;
        Some((at, self.slots[at]))
    }

    /// Counts all fingerprints anew, as `print` gives them.
    pub(super) fn recount(&mut self, mut print: impl FnMut(Slot) -> u128) {
        self.tally = Tally::default();
        for slot in self.slots.iter().filter(|slot| **slot != NONE) {
            self.tally += Tally::of(print(*slot));
        }
    }
}

/// Neighbouring pages, and what they amount to.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) pages: [Option<Box<Page>>; PAGES as usize],
    pub(super) tally: Tally,
}

/// Where a page stands in its block.
pub(super) fn place(number: u64) -> usize {
    (number % PAGES) as usize
}

/// What stands for a block.
#[derive(Debug)]
pub(super) enum Held {
    /// One operation: what is left of many in a key that was overwritten again and again.
    Lone(Lone),
    Many(Box<Block>),
}

/// The only live operation of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lone {
    /// How far it is into the block.
    at: u16,
    slot: Slot,
    /// Its fingerprint, in two halves.
    sum: [u64; 2],
}

impl Lone {
    pub(super) fn new(seq: u64, slot: Slot, print: u128) -> Self {
        Self {
            at: (seq % BLOCK) as u16,
            slot,
            sum: Tally::of(print).sum,
        }
    }

    /// The number of its page within the block.
    pub(super) fn place(&self) -> usize {
        usize::from(self.at) / PAGE as usize
    }

    fn is(&self, seq: u64) -> bool {
        u64::from(self.at) == seq % BLOCK
    }

    fn tally(&self) -> Tally {
        Tally {
            count: 1,
            sum: self.sum,
        }
    }

    pub(super) fn page(&self) -> Box<Page> {
        let mut page = Box::<Page>::default();
        page.slots[usize::from(self.at) % PAGE as usize] = self.slot;
        page.tally = self.tally();
        page
    }
}

impl Held {
    pub(super) fn tally(&self) -> Tally {
        match self {
            Self::Lone(lone) => lone.tally(),
            Self::Many(block) => block.tally,
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<Slot> {
        match self {
            Self::Lone(lone) => lone.is(seq).then_some(lone.slot),
            Self::Many(block) => {
                let page = block.pages[place(seq / PAGE)].as_ref()?;
                Some(page.slots[(seq % PAGE) as usize]).filter(|slot| *slot != NONE)
            }
        }
    }

    /// As a block, whatever it holds.
    pub(super) fn unfold(&mut self) -> &mut Block {
        if let Self::Lone(lone) = self {
            let mut block = Box::<Block>::default();
            block.tally = lone.tally();
            block.pages[lone.place()] = Some(lone.page());
            *self = Self::Many(block);
        }
        match self {
            Self::Many(block) => block,
            // proof: it was made one of many.
            Self::Lone(_) => unreachable!("a block that was unfolded"),
        }
    }

    /// Takes an operation out, with the fingerprint it came with.
    pub(super) fn remove(&mut self, seq: u64, print: u128) -> Option<Slot> {
        let block = match self {
            Self::Lone(_) => return self.get(seq),
            Self::Many(block) => block,
        };
        let held = &mut block.pages[place(seq / PAGE)];
        let page = held.as_mut()?;
        let slot = core::mem::replace(&mut page.slots[(seq % PAGE) as usize], NONE);
        if slot == NONE {
            return None;
        }
        page.tally -= Tally::of(print);
        if page.tally.count == 0 {
            *held = None;
        }
        block.tally -= Tally::of(print);
        if block.tally.count == 1 {
            self.fold();
        }
        Some(slot)
    }

    /// Lets go of pages where there is but one operation.
    fn fold(&mut self) {
        let Self::Many(block) = self else {
            return;
        };
        let mut firsts = block.pages.iter().enumerate().filter_map(|(place, page)| {
            let (at, slot) = page.as_ref()?.first()?;
            Some((place * PAGE as usize + at, slot))
        });
        if let Some((at, slot)) = firsts.next() {
            *self = Self::Lone(Lone {
                at: at as u16,
                slot,
                sum: block.tally.sum,
            });
        }
    }

    /// Adds the fingerprint of an operation that was noted with none.
    pub(super) fn add_print(&mut self, number: u64, print: u128) {
        match self {
            Self::Lone(lone) => {
                let mut tally = lone.tally();
                tally.add_print(print);
                lone.sum = tally.sum;
            }
            Self::Many(block) => {
                // proof: a live operation has a page.
                if let Some(page) = &mut block.pages[place(number)] {
                    page.tally.add_print(print);
                    block.tally.add_print(print);
                }
            }
        }
    }

    /// Counts all fingerprints anew, as `print` gives them.
    pub(super) fn recount(&mut self, mut print: impl FnMut(Slot) -> u128) {
        match self {
            Self::Lone(lone) => lone.sum = Tally::of(print(lone.slot)).sum,
            Self::Many(block) => {
                block.tally = Tally::default();
                for page in block.pages.iter_mut().flatten() {
                    page.recount(&mut print);
                    block.tally += page.tally;
                }
            }
        }
    }

    /// The first page in it whose place is no less than `from`, with that.
    pub(super) fn page_from(&self, from: usize) -> Option<(usize, PageRef<'_>)> {
        match self {
            Self::Lone(lone) => {
                let place = lone.place();
                (place >= from).then_some((place, PageRef::Lone(lone)))
            }
            Self::Many(block) => {
                let mut placed = (from..).zip(&block.pages[from..]);
                placed.find_map(|(place, page)| Some((place, PageRef::Whole(page.as_ref()?))))
            }
        }
    }
}

/// A page to be read.
#[derive(Clone, Copy)]
pub(super) enum PageRef<'a> {
    Whole(&'a Page),
    Lone(&'a Lone),
}

impl<'a> PageRef<'a> {
    pub(super) fn tally(self) -> Tally {
        match self {
            Self::Whole(page) => page.tally,
            Self::Lone(lone) => lone.tally(),
        }
    }

    /// The slots in places `from..=to`, or all of these that are any, behind the place of the
    /// first.
    pub(super) fn slots(self, from: usize, to: usize) -> (usize, &'a [Slot]) {
        match self {
            Self::Whole(page) => (from, &page.slots[from..=to]),
            Self::Lone(lone) => {
                let at = usize::from(lone.at) % PAGE as usize;
                let inside = (from..=to).contains(&at);
                (
                    at,
                    if inside {
                        core::slice::from_ref(&lone.slot)
                    } else {
                        &[]
                    },
                )
            }
        }
    }
}
