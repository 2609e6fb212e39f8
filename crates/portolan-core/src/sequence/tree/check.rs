//! What must hold of a tree.

use super::super::bits::low;
use super::super::elements::{Children, Elements, NOWHERE, Side};
use super::{At, Tree};

impl Tree {
    /// Panics where a link, a number or a count is not as it should be.
    pub(in super::super) fn check(&self, elements: &Elements) {
        let below = if self.height == 0 {
            self.check_leaf(elements, self.root, (NOWHERE, 0))
        } else {
            self.check_inner(elements, self.root, (NOWHERE, 0), self.height)
        };
        assert_eq!(below, (self.positions, self.visible));
        let mut leaf = self.first;
        let (mut before, mut walked) = (NOWHERE, 0);
        while leaf != NOWHERE {
            assert_eq!(self.leaves[leaf as usize].before, before);
            walked += self.leaves[leaf as usize].len();
            (before, leaf) = (leaf, self.leaves[leaf as usize].after);
        }
        assert_eq!((walked, before), (self.positions, self.last));
        if let Some((leaf, base)) = self.cursor {
            assert_eq!(self.before_leaf(leaf), base);
        }
    }

    fn check_inner(
        &self,
        elements: &Elements,
        node: u32,
        link: (u32, usize),
        level: u32,
    ) -> (usize, usize) {
        let inner = &self.inners[node as usize];
        assert_eq!((inner.parent, inner.slot as usize), link);
        assert_eq!(inner.lowest, level == 1);
        assert!(inner.len > 0);
        let mut all = (0, 0);
        for slot in 0..inner.len() {
            let child = inner.children[slot];
            let (positions, visible) = if level == 1 {
                self.check_leaf(elements, child, (node, slot))
            } else {
                self.check_inner(elements, child, (node, slot), level - 1)
            };
            assert_eq!(inner.counts[slot] as usize, visible);
            all = (all.0 + positions, all.1 + visible);
        }
        all
    }

    fn check_leaf(&self, elements: &Elements, number: u32, link: (u32, usize)) -> (usize, usize) {
        let leaf = &self.leaves[number as usize];
        assert_eq!((leaf.parent, leaf.slot as usize), link);
        assert!(leaf.len > 0 || self.height == 0);
        assert_eq!((leaf.visible | leaf.chained) & !low(leaf.len()), 0);
        for (offset, spot) in leaf.held().iter().enumerate() {
            assert_eq!(elements[*spot].leaf, number);
            let at = At {
                leaf: number,
                offset,
            };
            if self.is_chained(at) {
                let before = self.before(at).map(|at| self.spot(at));
                assert_eq!(before, Some(elements[*spot].parent()));
                assert_eq!(elements[*spot].side(), Side::Right);
                let parent = &elements[elements[*spot].parent()];
                assert_eq!(parent.children(Side::Right), Children::One);
            }
        }
        (leaf.len(), leaf.visible.count_ones() as usize)
    }
}
