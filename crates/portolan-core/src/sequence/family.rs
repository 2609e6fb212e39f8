//! The children of one parent on one side, where there are several, in the order they stand in.

use alloc::vec;
use alloc::vec::Vec;

use crate::few::{SmallVec, smallvec};

use super::elements::{Elements, Side, Spot};

/// A chunk that grows beyond this is cut in two.
const CHUNK: usize = 256;

/// Siblings. They stand in chunks, so that very many may come in any order.
#[derive(Debug)]
pub(super) struct Family {
    chunks: SmallVec<[Vec<Spot>; 1]>,
}

impl Family {
    /// Of these, which stand in this order.
    pub(super) fn of(siblings: &[Spot]) -> Self {
        // With room for the one for which it is founded.
        let mut chunk = Vec::with_capacity(siblings.len() + 1);
        chunk.extend_from_slice(siblings);
        let chunks = smallvec![chunk];
        let mut family = Self { chunks };
        family.cut(0);
        family
    }

    pub(super) fn first(&self) -> Option<Spot> {
        self.chunks.first()?.first().copied()
    }

    pub(super) fn last(&self) -> Option<Spot> {
        self.chunks.last()?.last().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Spot> {
        self.chunks.iter().flatten().copied()
    }

    /// The only one, if it is.
    pub(super) fn only(&self) -> Option<Spot> {
        self.first().filter(|first| self.last() == Some(*first))
    }

    /// Puts new siblings in their place: the first of `run`, and as many behind it as stand
    /// between the same two. Gives how many that are, and those two.
    pub(super) fn insert(
        &mut self,
        elements: &Elements,
        run: &[Spot],
        side: Side,
    ) -> (usize, Option<Spot>, Option<Spot>) {
        let Some(first) = run.first() else {
            return (0, None, None);
        };
        let key = elements.key(*first);
        let (chunk, offset) = self.partition(|sibling| !key.precedes(&elements.key(sibling), side));
        let before = match offset.checked_sub(1) {
            Some(offset) => Some(self.chunks[chunk][offset]),
            None => chunk
                .checked_sub(1)
                .and_then(|chunk| self.chunks[chunk].last().copied()),
        };
        let after = match self.chunks[chunk].get(offset) {
            Some(after) => Some(*after),
            None => self
                .chunks
                .get(chunk + 1)
                .and_then(|chunk| chunk.first().copied()),
        };
        let precedes = |a: Spot, b: Spot| elements.key(a).precedes(&elements.key(b), side);
        let fits = |pair: &&[Spot]| {
            precedes(pair[0], pair[1]) && after.is_none_or(|after| precedes(pair[1], after))
        };
        let count = 1 + run.windows(2).take_while(fits).count();
        match run {
            [spot] => self.chunks[chunk].insert(offset, *spot),
            _ => drop(self.chunks[chunk].splice(offset..offset, run[..count].iter().copied())),
        }
        self.cut(chunk);
        (count, before, after)
    }

    /// Adds one that stands behind all others.
    pub(super) fn push(&mut self, spot: Spot) {
        let last = self.chunks.len() - 1;
        if self.chunks[last].len() == CHUNK {
            self.chunks.push(vec![spot]);
        } else {
            self.chunks[last].push(spot);
        }
    }

    /// Puts `heirs` in the place of `spot`. `before` tells whether a sibling stands before it.
    pub(super) fn replace(&mut self, spot: Spot, before: impl Fn(Spot) -> bool, heirs: &[Spot]) {
        let (chunk, offset) = self.partition(before);
        debug_assert_eq!(self.chunks[chunk].get(offset), Some(&spot));
        self.chunks[chunk].splice(offset..=offset, heirs.iter().copied());
        self.cut(chunk);
        if self.chunks[chunk].is_empty() && self.chunks.len() > 1 {
            self.chunks.remove(chunk);
        }
    }

    /// How many siblings stand between the first that is not `before`, and `spot`, which is
    /// found by `ahead`: those that stand before it.
    pub(super) fn distance(
        &self,
        before: impl Fn(Spot) -> bool,
        ahead: impl Fn(Spot) -> bool,
    ) -> usize {
        let (first, start) = self.partition(before);
        let (last, end) = self.partition(ahead);
        let between = self.chunks[first..last].iter();
        between.map(Vec::len).sum::<usize>() + end - start
    }

    /// Where the first stands that is not `before`; behind the last one if there is none.
    fn partition(&self, before: impl Fn(Spot) -> bool) -> (usize, usize) {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|last| before(*last)))
            .min(self.chunks.len() - 1);
        let offset = self.chunks[chunk].partition_point(|sibling| before(*sibling));
        (chunk, offset)
    }

    /// Cuts a chunk that has grown too large.
    fn cut(&mut self, chunk: usize) {
        if self.chunks[chunk].len() > CHUNK {
            let all = core::mem::take(&mut self.chunks[chunk]);
            self.chunks.remove(chunk);
            for piece in all.chunks(CHUNK / 2 + 1).rev() {
                self.chunks.insert(chunk, piece.to_vec());
            }
        }
    }
}
