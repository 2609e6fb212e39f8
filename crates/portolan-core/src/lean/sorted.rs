//! Numbers in an order that who asks knows, in blocks, so that very many may come in any order.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// A block that grows beyond this is cut in two.
const BLOCK: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// None is empty.
    blocks: Vec<Vec<u32>>,
}

/// Where a number stands: the block, and the place in it.
pub(crate) type At = (usize, usize);

impl Sorted {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    /// Where the number stands that is asked for, or would: `order` tells how another compares to
    /// it. Logarithmic, as what follows.
    pub(crate) fn find(&self, order: &dyn Fn(u32) -> Ordering) -> Result<At, At> {
        let behind = self.blocks.partition_point(|block| order(block[0]).is_le());
        let block = behind.saturating_sub(1);
        let numbers = self.blocks.get(block).map_or(&[][..], Vec::as_slice);
        let found = numbers.binary_search_by(|number| order(*number));
        found.map(|at| (block, at)).map_err(|at| (block, at))
    }

    /// What stands at a place that was found.
    pub(crate) fn get(&self, (block, at): At) -> u32 {
        self.blocks[block][at]
    }

    /// Puts another number in a place.
    pub(crate) fn set(&mut self, (block, at): At, number: u32) {
        self.blocks[block][at] = number;
    }

    /// Puts a number where it was found to belong.
    pub(crate) fn insert(&mut self, (block, at): At, number: u32) {
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        let numbers = &mut self.blocks[block];
        numbers.insert(at, number);
        if numbers.len() > BLOCK {
            let upper = numbers.split_off(BLOCK / 2);
            self.blocks.insert(block + 1, upper);
        }
    }

    /// Takes out what stands at a place.
    pub(crate) fn remove(&mut self, (block, at): At) {
        self.blocks[block].remove(at);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
    }

    /// All numbers from a place on.
    pub(crate) fn iter(&self, at: At) -> Iter<'_> {
        Iter {
            blocks: &self.blocks,
            at,
        }
    }
}

/// Numbers from a place on.
pub(crate) struct Iter<'a> {
    blocks: &'a [Vec<u32>],
    at: At,
}

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (block, at) = &mut self.at;
        loop {
            if let Some(number) = self.blocks.get(*block)?.get(*at) {
                *at += 1;
                return Some(*number);
            }
            (*block, *at) = (*block + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(steps in prop::collection::vec((0..4u8, 0..3000u32), 0..2000)) {
            let (mut sorted, mut model) = (Sorted::default(), std::collections::BTreeSet::new());
            for (step, number) in steps {
                match (step, sorted.find(&|other| other.cmp(&number))) {
                    (0, Ok(at)) => {
                        prop_assert!(model.remove(&number));
                        sorted.remove(at);
                    }
                    (1, Ok(at)) => sorted.set(at, number),
                    (_, Ok(at)) => prop_assert_eq!(sorted.get(at), number),
                    (0, Err(_)) => prop_assert!(!model.contains(&number)),
                    (_, Err(at)) => {
                        prop_assert!(model.insert(number));
                        sorted.insert(at, number);
                    }
                }
                let (Ok(from) | Err(from)) = sorted.find(&|other| other.cmp(&(number / 2)));
                prop_assert!(sorted.iter(from).take(9).eq(model.range(number / 2..).copied().take(9)));
            }
            prop_assert!(sorted.iter((0, 0)).eq(model.iter().copied()));
            prop_assert_eq!(sorted.len(), model.len());
            prop_assert_eq!(sorted.is_empty(), model.is_empty());
        }
    }
}
