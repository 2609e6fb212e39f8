//! The order of the positions of one array: a short list, or a tree where it is long. In wasm always
//! a tree: a few bytes more for a short array, and no second way for all that is done to one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::few::SmallVec;

use super::bits::{close, low, select, spread};
use super::elements::{Elements, NOWHERE, Spot};
use super::tree::{At, Run, Tree};

/// What a short list holds at the most, for its bits are one word each.
const SHORT: usize = 32;

/// What is held in place.
const PLACED: usize = 4;

/// Of one that has shrunk: less than `SHORT`, so that it does not go to and fro.
const SHRUNK: usize = SHORT / 4;

#[derive(Debug)]
pub(super) enum Order {
    #[cfg_attr(feature = "small", allow(dead_code))]
    Short {
        spots: SmallVec<[Spot; PLACED]>,
        visible: u32,
        /// As in [`Tree`].
        chained: u32,
        /// There are none.
        #[cfg(feature = "small")]
        never: core::convert::Infallible,
    },
    Long(Box<Tree>),
}

impl Default for Order {
    #[cfg(feature = "small")]
    fn default() -> Self {
        Self::Long(Box::new(Tree::new()))
    }

    #[cfg(not(feature = "small"))]
    fn default() -> Self {
        Self::Short {
            spots: SmallVec::<[Spot; PLACED]>::new(),
            visible: 0,
            chained: 0,
        }
    }
}

/// In a short list, the only leaf is called 0.
const fn offset(offset: usize) -> At {
    At { leaf: 0, offset }
}

impl Order {
    pub(super) fn positions(&self) -> usize {
        match self {
            Self::Short { spots, .. } => spots.len(),
            Self::Long(tree) => tree.positions(),
        }
    }

    pub(super) fn visible(&self) -> usize {
        match self {
            Self::Short { visible, .. } => visible.count_ones() as usize,
            Self::Long(tree) => tree.visible(),
        }
    }

    pub(super) fn start(&self) -> At {
        match self {
            Self::Short { .. } => offset(0),
            Self::Long(tree) => tree.start(),
        }
    }

    /// Behind the last position.
    pub(super) fn end(&self) -> At {
        match self {
            Self::Short { spots, .. } => offset(spots.len()),
            Self::Long(tree) => tree.end(),
        }
    }

    #[inline]
    pub(super) fn find(&self, elements: &Elements, spot: Spot) -> At {
        match self {
            Self::Short { spots, .. } => {
                let found = spots.iter().position(|held| *held == spot);
                // proof: callers ask for positions of this order only.
                offset(found.expect("the order of a position holds it"))
            }
            Self::Long(tree) => tree.find(elements, spot),
        }
    }

    #[inline]
    pub(super) fn spot(&self, at: At) -> Spot {
        match self {
            Self::Short { spots, .. } => spots[at.offset],
            Self::Long(tree) => tree.spot(at),
        }
    }

    pub(super) fn is_visible(&self, at: At) -> bool {
        match self {
            Self::Short { visible, .. } => visible >> at.offset & 1 == 1,
            Self::Long(tree) => tree.is_visible(at),
        }
    }

    fn is_chained(&self, at: At) -> bool {
        match self {
            Self::Short { chained, .. } => chained >> at.offset & 1 == 1,
            Self::Long(tree) => tree.is_chained(at),
        }
    }

    /// The place of the position that stands at `at` or is the next behind it.
    #[inline]
    pub(super) fn settled(&self, at: At) -> Option<At> {
        match self {
            Self::Short { spots, .. } => (at.offset < spots.len()).then_some(at),
            Self::Long(tree) => tree.settled(at),
        }
    }

    /// The place of the position before.
    pub(super) fn before(&self, at: At) -> Option<At> {
        match self {
            Self::Short { .. } => at.offset.checked_sub(1).map(offset),
            Self::Long(tree) => tree.before(at),
        }
    }

    /// The place of the position behind.
    #[inline]
    pub(super) fn after(&self, at: At) -> Option<At> {
        self.settled(behind(at))
    }

    /// Where the chain ends that begins right behind `at`; `at` itself if none does.
    pub(super) fn chain_end(&self, at: At) -> At {
        match (self, self.after(at)) {
            (Self::Short { chained, .. }, Some(next)) => {
                offset(at.offset + (chained >> next.offset).trailing_ones() as usize)
            }
            (Self::Long(tree), Some(next)) if tree.is_chained(next) => tree.chain_end(next),
            _ => at,
        }
    }

    /// The position that the chain up to `at` hangs on; `at` itself if it is not chained.
    pub(super) fn chain_start(&self, at: At) -> At {
        match self {
            Self::Short { chained, .. } => {
                let gaps = !u64::from(*chained) & low(at.offset + 1);
                offset(63 - gaps.leading_zeros() as usize)
            }
            Self::Long(tree) => tree.chain_start(at),
        }
    }

    pub(super) fn unchain(&mut self, at: At) {
        match self {
            Self::Short { chained, .. } => *chained &= !(1 << at.offset),
            Self::Long(tree) => tree.unchain(at),
        }
    }

    /// Where the visible position `index` stands.
    pub(super) fn select(&self, index: usize) -> Option<At> {
        match self {
            Self::Short { visible, .. } => (index < visible.count_ones() as usize)
                .then(|| offset(select(u64::from(*visible), index))),
            Self::Long(tree) => tree.select(index),
        }
    }

    /// As `select`; the next one near it is found faster.
    #[inline]
    pub(super) fn seek(&mut self, index: usize) -> Option<At> {
        match self {
            Self::Short { .. } => self.select(index),
            Self::Long(tree) => tree.seek(index),
        }
    }

    /// How many visible positions stand before a place.
    pub(super) fn rank(&self, at: At) -> usize {
        match self {
            Self::Short { visible, .. } => {
                (u64::from(*visible) & low(at.offset)).count_ones() as usize
            }
            Self::Long(tree) => tree.rank(at),
        }
    }

    pub(super) fn precedes(&self, a: At, b: At) -> bool {
        match self {
            Self::Short { .. } => a.offset < b.offset,
            Self::Long(tree) => tree.precedes(a, b),
        }
    }

    pub(super) fn show(&mut self, at: At, shown: bool) {
        match self {
            Self::Short { visible, .. } => {
                *visible = *visible & !(1 << at.offset) | u32::from(shown) << at.offset;
            }
            Self::Long(tree) => {
                tree.show(at, shown);
            }
        }
    }

    /// Puts a position where `at` is, before the one that stands there.
    #[inline]
    pub(super) fn insert(
        &mut self,
        elements: &mut Elements,
        at: At,
        spot: Spot,
        shown: bool,
        chained: bool,
    ) {
        match self {
            Self::Long(tree) => tree.insert(elements, at, spot, shown, chained),
            Self::Short { .. } => {
                let run = Run {
                    spots: &[spot],
                    shown: &[shown],
                    hangs_on: chained,
                    chain: false,
                };
                self.insert_run(elements, at, run);
            }
        }
    }

    /// Puts positions one behind the other where `at` is.
    pub(super) fn insert_run(&mut self, elements: &mut Elements, at: At, run: Run<'_>) {
        let count = run.spots.len();
        match self {
            Self::Short {
                spots,
                visible,
                chained,
                ..
            } if spots.len() + count <= SHORT => {
                let mut bits = spread(u64::from(*visible), at.offset, count);
                let mut chain = spread(u64::from(*chained), at.offset, count);
                chain &= !(1 << (at.offset + count));
                let (held, start) = (spots.len(), at.offset);
                spots.resize(held + count, NOWHERE);
                spots.copy_within(start..held, start + count);
                spots[start..start + count].copy_from_slice(run.spots);
                for number in 0..count {
                    bits |= u64::from(run.shows(number)) << (at.offset + number);
                    chain |= u64::from(run.is_chained(number)) << (at.offset + number);
                }
                (*visible, *chained) = (bits as u32, chain as u32);
            }
            Self::Short { .. } => {
                let at = self.lengthen(elements, at);
                self.insert_run(elements, at, run);
            }
            Self::Long(tree) => tree.insert_run(elements, at, run),
        }
    }

    /// Makes a tree of a short list, and tells where `at` is then.
    #[cold]
    fn lengthen(&mut self, elements: &mut Elements, at: At) -> At {
        let mut tree = Box::new(Tree::new());
        if let Self::Short {
            spots,
            visible,
            chained,
            ..
        } = self
        {
            for (number, spot) in spots.iter().enumerate() {
                let (visible, chained) = (*visible >> number & 1, *chained >> number & 1);
                let end = tree.end();
                tree.insert(elements, end, *spot, visible == 1, chained == 1);
            }
        }
        let at = At {
            offset: at.offset,
            ..tree.start()
        };
        *self = Self::Long(tree);
        at
    }

    pub(super) fn remove(&mut self, elements: &mut Elements, spot: Spot) {
        let at = self.find(elements, spot);
        match self {
            Self::Short {
                spots,
                visible,
                chained,
                ..
            } => {
                spots.remove(at.offset);
                let mut chain = u64::from(*chained);
                if chain >> at.offset & 1 == 0 {
                    chain &= !(1 << (at.offset + 1));
                }
                *visible = close(u64::from(*visible), at.offset) as u32;
                *chained = close(chain, at.offset) as u32;
                if spots.capacity() > PLACED && spots.len() <= spots.capacity() / 4 {
                    spots.shrink_to_fit();
                }
            }
            Self::Long(tree) => {
                tree.remove(at);
                if tree.positions() <= SHRUNK || tree.is_sparse() {
                    self.compact(elements);
                }
            }
        }
    }

    /// Builds what has emptied again, as small as it can be.
    #[cold]
    fn compact(&mut self, elements: &mut Elements) {
        let all: Vec<(Spot, bool, bool)> = self
            .walk(self.start(), false)
            .map(|at| (self.spot(at), self.is_visible(at), self.is_chained(at)))
            .collect();
        *self = Self::default();
        for (spot, visible, chained) in all {
            let end = self.end();
            self.insert(elements, end, spot, visible, chained);
        }
    }

    /// The places from `at` on, of all positions or of the visible ones.
    pub(super) fn walk(&self, at: At, visible: bool) -> impl Iterator<Item = At> {
        let leaf = at.leaf;
        Walk {
            order: self,
            leaf,
            bits: self.page(leaf, visible).0 & !low(at.offset),
            visible,
        }
    }

    /// The places in a leaf, as bits, and the leaf after it.
    fn page(&self, leaf: u32, only_visible: bool) -> (u64, u32) {
        let (held, visible, after) = match self {
            Self::Short { spots, visible, .. } => (spots.len(), u64::from(*visible), NOWHERE),
            Self::Long(tree) => {
                let (held, visible, after) = tree.page(leaf);
                (held.len(), visible, after)
            }
        };
        (if only_visible { visible } else { low(held) }, after)
    }
}

/// The place right behind that of a position.
pub(super) const fn behind(at: At) -> At {
    At {
        leaf: at.leaf,
        offset: at.offset + 1,
    }
}

struct Walk<'a> {
    order: &'a Order,
    leaf: u32,
    bits: u64,
    visible: bool,
}

impl Iterator for Walk<'_> {
    type Item = At;

    fn next(&mut self) -> Option<At> {
        while self.bits == 0 {
            let (_, after) = self.order.page(self.leaf, self.visible);
            if after == NOWHERE {
                return None;
            }
            self.leaf = after;
            self.bits = self.order.page(after, self.visible).0;
        }
        let offset = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(At {
            leaf: self.leaf,
            offset,
        })
    }
}
