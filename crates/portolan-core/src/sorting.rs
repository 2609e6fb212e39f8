//! Sorting; equal items come out in any order.
//!
//! Natively the standard library's sort, which is fast, and compiled anew for each kind of item
//! and order. In wasm, where that would be a tenth of a module that pages have to load, one merge
//! sort of positions for all kinds.

use core::cmp::Ordering;

/// Sorts by the items' own order.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts by any order.
#[cfg(not(feature = "small"))]
pub(crate) fn sort_by<T>(items: &mut [T], order: impl FnMut(&T, &T) -> Ordering) {
    items.sort_unstable_by(order);
}

/// Sorts by any order.
#[cfg(feature = "small")]
pub(crate) fn sort_by<T>(items: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    let mut at = positions::sorted(items.len(), &mut |a, b| order(&items[a], &items[b]).is_gt());
    positions::follow(&mut at, &mut |a, b| items.swap(a, b));
}

#[cfg(any(test, feature = "small"))]
mod positions {
    use alloc::vec::Vec;

    /// The positions `0..len` in the order of what stands there; `exceeds` tells whether what
    /// stands at one comes behind what stands at another.
    pub(super) fn sorted(len: usize, exceeds: &mut dyn FnMut(usize, usize) -> bool) -> Vec<usize> {
        let mut sorted: Vec<usize> = (0..len).collect();
        let mut merged = Vec::with_capacity(len);
        let mut run = 1;
        while run < len {
            for pair in sorted.chunks(2 * run) {
                let (mut left, mut right) = pair.split_at(run.min(pair.len()));
                while let (Some((a, rest)), Some((b, others))) =
                    (left.split_first(), right.split_first())
                {
                    if exceeds(*a, *b) {
                        merged.push(*b);
                        right = others;
                    } else {
                        merged.push(*a);
                        left = rest;
                    }
                }
                merged.extend_from_slice(left);
                merged.extend_from_slice(right);
            }
            core::mem::swap(&mut sorted, &mut merged);
            merged.clear();
            run *= 2;
        }
        sorted
    }

    /// Swaps until what stood at `from[i]` stands at `i`, for each `i`.
    pub(super) fn follow(from: &mut [usize], swap: &mut dyn FnMut(usize, usize)) {
        for start in 0..from.len() {
            let mut at = start;
            loop {
                let next = core::mem::replace(&mut from[at], at);
                if next == start {
                    break;
                }
                swap(at, next);
                at = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorting_positions_is_sorting(items: Vec<u8>) {
            let mut sorted = items.clone();
            let mut at = positions::sorted(items.len(), &mut |a, b| items[a] > items[b]);
            positions::follow(&mut at, &mut |a, b| sorted.swap(a, b));
            let mut expected = items;
            sort(&mut expected);
            prop_assert_eq!(sorted, expected);
        }
    }
}
