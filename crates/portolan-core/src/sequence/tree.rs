//! The order of a long array: a counted B-tree of spots.
//!
//! A leaf holds up to 64 positions, and what there is to know of each as a bit: whether it is
//! visible, and whether it is *chained*: the only right child of the position just before it. An
//! inner node holds how many visible positions each of its children has. Nodes know their parent,
//! and each position its leaf, so that positions are found from indices and indices from
//! positions.

#[cfg(test)]
mod check;

use alloc::vec::Vec;

use super::bits::{close, low, select, spread};
use super::elements::{Elements, NOWHERE, Spot};

const LEAF: usize = 64;
const WIDTH: usize = 32;

/// A place in the order: an offset in a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At {
    pub(super) leaf: u32,
    pub(super) offset: usize,
}

/// Positions that are to stand one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) spots: &'a [Spot],
    /// Of each whether it is visible; what is not told of is.
    pub(super) shown: &'a [bool],
    /// Whether the first is chained.
    pub(super) hangs_on: bool,
    /// Whether all others are.
    pub(super) chain: bool,
}

impl Run<'_> {
    pub(super) fn shows(&self, number: usize) -> bool {
        self.shown.get(number).copied().unwrap_or(true)
    }

    pub(super) fn is_chained(&self, number: usize) -> bool {
        if number == 0 {
            self.hangs_on
        } else {
            self.chain
        }
    }
}

#[derive(Debug)]
struct Leaf {
    spots: [Spot; LEAF],
    visible: u64,
    chained: u64,
    parent: u32,
    before: u32,
    after: u32,
    slot: u8,
    len: u8,
}

impl Leaf {
    const EMPTY: Self = Self {
        spots: [NOWHERE; LEAF],
        visible: 0,
        chained: 0,
        parent: NOWHERE,
        before: NOWHERE,
        after: NOWHERE,
        slot: 0,
        len: 0,
    };

    fn len(&self) -> usize {
        self.len as usize
    }

    fn held(&self) -> &[Spot] {
        &self.spots[..self.len()]
    }
}

#[derive(Debug)]
struct Inner {
    children: [u32; WIDTH],
    /// Visible positions below each child.
    counts: [u32; WIDTH],
    parent: u32,
    slot: u8,
    len: u8,
    /// Whether the children are leaves.
    lowest: bool,
}

impl Inner {
    const EMPTY: Self = Self {
        children: [NOWHERE; WIDTH],
        counts: [0; WIDTH],
        parent: NOWHERE,
        slot: 0,
        len: 0,
        lowest: true,
    };

    fn len(&self) -> usize {
        self.len as usize
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    leaves: Vec<Leaf>,
    inners: Vec<Inner>,
    vacant_leaves: Vec<u32>,
    vacant_inners: Vec<u32>,
    root: u32,
    /// Levels of inner nodes; without any, the root is a leaf.
    height: u32,
    first: u32,
    last: u32,
    positions: usize,
    visible: usize,
    /// The leaf of the last local edit, and how many visible positions stand before it.
    cursor: Option<(u32, usize)>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut leaves = Vec::with_capacity(2);
        leaves.push(Leaf::EMPTY);
        Self {
            leaves,
            inners: Vec::new(),
            vacant_leaves: Vec::new(),
            vacant_inners: Vec::new(),
            root: 0,
            height: 0,
            first: 0,
            last: 0,
            positions: 0,
            visible: 0,
            cursor: None,
        }
    }

    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    pub(super) fn visible(&self) -> usize {
        self.visible
    }

    /// Whether the leaves are so empty that building the tree again is worth it.
    pub(super) fn is_sparse(&self) -> bool {
        self.positions < (self.leaves.len() - self.vacant_leaves.len()) * (LEAF / 8)
    }

    pub(super) fn start(&self) -> At {
        At {
            leaf: self.first,
            offset: 0,
        }
    }

    pub(super) fn end(&self) -> At {
        At {
            leaf: self.last,
            offset: self.leaves[self.last as usize].len(),
        }
    }

    #[inline]
    pub(super) fn find(&self, elements: &Elements, spot: Spot) -> At {
        let leaf = elements[spot].leaf;
        let held = self.leaves[leaf as usize].held();
        // proof: a position's leaf holds it.
        let offset = held.iter().position(|held| *held == spot);
        At {
            leaf,
            offset: offset.expect("the leaf of a position holds it"),
        }
    }

    #[inline]
    pub(super) fn spot(&self, at: At) -> Spot {
        self.leaves[at.leaf as usize].spots[at.offset]
    }

    /// The positions of a leaf, which of them are visible, and the leaf after it.
    pub(super) fn page(&self, leaf: u32) -> (&[Spot], u64, u32) {
        let leaf = &self.leaves[leaf as usize];
        (leaf.held(), leaf.visible, leaf.after)
    }

    pub(super) fn is_visible(&self, at: At) -> bool {
        self.leaves[at.leaf as usize].visible >> at.offset & 1 == 1
    }

    pub(super) fn is_chained(&self, at: At) -> bool {
        self.leaves[at.leaf as usize].chained >> at.offset & 1 == 1
    }

    /// The place itself if a position stands there, or the start of the next leaf.
    #[inline]
    pub(super) fn settled(&self, at: At) -> Option<At> {
        let leaf = &self.leaves[at.leaf as usize];
        if at.offset < leaf.len() {
            Some(at)
        } else {
            (leaf.after != NOWHERE).then_some(At {
                leaf: leaf.after,
                offset: 0,
            })
        }
    }

    pub(super) fn before(&self, at: At) -> Option<At> {
        if at.offset > 0 {
            return Some(At {
                offset: at.offset - 1,
                ..at
            });
        }
        let leaf = self.leaves[at.leaf as usize].before;
        (leaf != NOWHERE).then(|| At {
            leaf,
            offset: self.leaves[leaf as usize].len() - 1,
        })
    }

    /// The last of the positions from `at` on that are chained without a gap; `at` is.
    pub(super) fn chain_end(&self, mut at: At) -> At {
        loop {
            let leaf = &self.leaves[at.leaf as usize];
            let run = (leaf.chained >> at.offset).trailing_ones() as usize;
            let end = At {
                leaf: at.leaf,
                offset: at.offset + run - 1,
            };
            match leaf.after {
                next if end.offset + 1 == leaf.len()
                    && next != NOWHERE
                    && self.leaves[next as usize].chained & 1 == 1 =>
                {
                    at = At {
                        leaf: next,
                        offset: 0,
                    };
                }
                _ => return end,
            }
        }
    }

    /// The position that the chain up to `at` hangs on: the last at or before it that is not
    /// chained.
    pub(super) fn chain_start(&self, mut at: At) -> At {
        loop {
            let leaf = &self.leaves[at.leaf as usize];
            let gaps = !leaf.chained & low(at.offset + 1);
            if gaps != 0 {
                return At {
                    leaf: at.leaf,
                    offset: 63 - gaps.leading_zeros() as usize,
                };
            }
            // The first of all is never chained: it has nothing before it.
            at = At {
                leaf: leaf.before,
                offset: self.leaves[leaf.before as usize].len() - 1,
            };
        }
    }

    pub(super) fn unchain(&mut self, at: At) {
        self.leaves[at.leaf as usize].chained &= !(1 << at.offset);
    }

    /// Where the visible position `index` stands.
    #[inline]
    pub(super) fn select(&self, index: usize) -> Option<At> {
        self.descend(index).map(|(at, _)| at)
    }

    /// As `select`, and remembers the leaf.
    #[inline]
    pub(super) fn seek(&mut self, index: usize) -> Option<At> {
        let (at, base) = self.descend(index)?;
        self.cursor = Some((at.leaf, base));
        Some(at)
    }

    #[inline]
    fn descend(&self, index: usize) -> Option<(At, usize)> {
        if let Some((leaf, base)) = self.cursor
            && index >= base
        {
            let visible = self.leaves[leaf as usize].visible;
            if index - base < visible.count_ones() as usize {
                let offset = select(visible, index - base);
                return Some((At { leaf, offset }, base));
            }
        }
        if index >= self.visible {
            return None;
        }
        let mut node = self.root;
        let mut rest = index as u32;
        for _ in 0..self.height {
            let inner = &self.inners[node as usize];
            let mut slot = 0;
            while rest >= inner.counts[slot] {
                rest -= inner.counts[slot];
                slot += 1;
            }
            node = inner.children[slot];
        }
        let offset = select(self.leaves[node as usize].visible, rest as usize);
        Some((At { leaf: node, offset }, index - rest as usize))
    }

    /// How many visible positions stand before a place.
    pub(super) fn rank(&self, at: At) -> usize {
        let visible = self.leaves[at.leaf as usize].visible & low(at.offset);
        let base = match self.cursor {
            Some((leaf, base)) if leaf == at.leaf => base,
            _ => self.before_leaf(at.leaf),
        };
        base + visible.count_ones() as usize
    }

    fn before_leaf(&self, leaf: u32) -> usize {
        let mut before = 0;
        let leaf = &self.leaves[leaf as usize];
        let (mut node, mut slot) = (leaf.parent, leaf.slot);
        while node != NOWHERE {
            let inner = &self.inners[node as usize];
            before += inner.counts[..slot as usize].iter().sum::<u32>();
            (node, slot) = (inner.parent, inner.slot);
        }
        before as usize
    }

    /// Whether one place is before another.
    pub(super) fn precedes(&self, a: At, b: At) -> bool {
        if a.leaf == b.leaf {
            return a.offset < b.offset;
        }
        let above = |leaf: u32| {
            let leaf = &self.leaves[leaf as usize];
            (leaf.parent, leaf.slot)
        };
        let (mut a, mut b) = (above(a.leaf), above(b.leaf));
        while a.0 != b.0 {
            let (x, y) = (&self.inners[a.0 as usize], &self.inners[b.0 as usize]);
            (a, b) = ((x.parent, x.slot), (y.parent, y.slot));
        }
        a.1 < b.1
    }

    /// Shows or hides a position; tells whether that changed anything.
    pub(super) fn show(&mut self, at: At, visible: bool) -> bool {
        if self.is_visible(at) == visible {
            return false;
        }
        self.leaves[at.leaf as usize].visible ^= 1 << at.offset;
        self.count(at.leaf, if visible { 1 } else { -1 });
        if self.cursor.is_some_and(|(leaf, _)| leaf != at.leaf) {
            self.cursor = None;
        }
        true
    }

    /// Counts visible positions more or less in a leaf.
    #[inline]
    fn count(&mut self, leaf: u32, more: i32) {
        self.visible = self.visible.wrapping_add_signed(more as isize);
        let leaf = &self.leaves[leaf as usize];
        let (mut node, mut slot) = (leaf.parent, leaf.slot);
        while node != NOWHERE {
            let inner = &mut self.inners[node as usize];
            let count = &mut inner.counts[slot as usize];
            *count = count.wrapping_add_signed(more);
            (node, slot) = (inner.parent, inner.slot);
        }
    }

    /// Puts a position where `at` is: before the one that stands there, if any.
    #[inline]
    pub(super) fn insert(
        &mut self,
        elements: &mut Elements,
        at: At,
        spot: Spot,
        visible: bool,
        chained: bool,
    ) {
        let at = if self.leaves[at.leaf as usize].len() < LEAF {
            at
        } else {
            self.make_room(elements, at)
        };
        if self.cursor.is_some_and(|(leaf, _)| leaf != at.leaf) {
            self.cursor = None;
        }
        let leaf = &mut self.leaves[at.leaf as usize];
        let len = leaf.len();
        let bit = 1 << at.offset;
        if at.offset < len {
            leaf.spots.copy_within(at.offset..len, at.offset + 1);
            leaf.visible = spread(leaf.visible, at.offset, 1);
            // What follows does not follow its parent any more.
            leaf.chained = spread(leaf.chained, at.offset, 1) & !(bit << 1);
        }
        leaf.spots[at.offset] = spot;
        leaf.visible |= if visible { bit } else { 0 };
        leaf.chained |= if chained { bit } else { 0 };
        leaf.len += 1;
        let after = leaf.after;
        if at.offset == len && after != NOWHERE {
            self.leaves[after as usize].chained &= !1;
        }
        elements[spot].leaf = at.leaf;
        self.positions += 1;
        if visible {
            self.count(at.leaf, 1);
        }
    }

    /// The same place, in a leaf with room, where the leaf of `at` is full. What is typed or
    /// appended fills leaves to the brim: only in the middle is a leaf cut in halves.
    #[cold]
    fn make_room(&mut self, elements: &mut Elements, at: At) -> At {
        let leaf = &self.leaves[at.leaf as usize];
        let (before, after) = (leaf.before, leaf.after);
        let count = leaf.visible.count_ones() as usize;
        let base = self
            .cursor
            .and_then(|(cursor, base)| (cursor == at.leaf).then_some(base));
        let has_room = |leaf: u32| leaf != NOWHERE && self.leaves[leaf as usize].len() < LEAF;
        let (leaf, offset, base) = if at.offset == LEAF {
            let leaf = if has_room(after) {
                after
            } else {
                self.add_leaf(at.leaf)
            };
            (leaf, 0, base.map(|base| base + count))
        } else if at.offset == 0 {
            if has_room(before) {
                (before, self.leaves[before as usize].len(), None)
            } else if before == NOWHERE {
                // The new leaf takes what this one holds, and this one becomes the first half.
                self.cut(elements, at.leaf, 0);
                (at.leaf, 0, base)
            } else {
                (self.add_leaf(before), 0, base)
            }
        } else {
            let new = self.cut(elements, at.leaf, LEAF / 2);
            if at.offset <= LEAF / 2 {
                (at.leaf, at.offset, base)
            } else {
                let left = self.leaves[at.leaf as usize].visible.count_ones() as usize;
                (new, at.offset - LEAF / 2, base.map(|base| base + left))
            }
        };
        self.cursor = base.map(|base| (leaf, base));
        At { leaf, offset }
    }

    /// Puts positions one behind the other where `at` is.
    pub(super) fn insert_run(&mut self, elements: &mut Elements, at: At, run: Run<'_>) {
        let count = run.spots.len();
        if count == 0 {
            return;
        }
        self.cursor = None;
        if let Some(next) = self.settled(at) {
            self.unchain(next);
        }
        let len = self.leaves[at.leaf as usize].len();
        if len + count <= LEAF {
            self.fill(elements, at, 0..count, run);
            return;
        }
        if at.offset < len {
            self.cut(elements, at.leaf, at.offset);
        }
        let mut done = (LEAF - at.offset).min(count);
        self.fill(elements, at, 0..done, run);
        let mut leaf = at.leaf;
        while done < count {
            let after = self.leaves[leaf as usize].after;
            let rest = count - done;
            if after != NOWHERE && self.leaves[after as usize].len() + rest <= LEAF {
                leaf = after;
            } else {
                leaf = self.add_leaf(leaf);
            }
            let end = done + rest.min(LEAF);
            self.fill(elements, At { leaf, offset: 0 }, done..end, run);
            done = end;
        }
    }

    /// Puts part of a run into a leaf that has room for it.
    fn fill(
        &mut self,
        elements: &mut Elements,
        at: At,
        part: core::ops::Range<usize>,
        run: Run<'_>,
    ) {
        let leaf = &mut self.leaves[at.leaf as usize];
        let (len, count) = (leaf.len(), part.len());
        leaf.spots.copy_within(at.offset..len, at.offset + count);
        let (mut visible, mut chained) = (0u64, 0u64);
        for (offset, number) in (at.offset..).zip(part) {
            let spot = run.spots[number];
            leaf.spots[offset] = spot;
            visible |= u64::from(run.shows(number)) << offset;
            chained |= u64::from(run.is_chained(number)) << offset;
            elements[spot].leaf = at.leaf;
        }
        leaf.visible = spread(leaf.visible, at.offset, count) | visible;
        leaf.chained = spread(leaf.chained, at.offset, count) | chained;
        leaf.len += count as u8;
        self.positions += count;
        self.count(at.leaf, visible.count_ones() as i32);
    }

    /// An empty leaf behind `leaf`.
    fn add_leaf(&mut self, leaf: u32) -> u32 {
        self.ensure_parent(leaf);
        let new = self.vacant_leaves.pop().unwrap_or_else(|| {
            self.leaves.push(Leaf::EMPTY);
            (self.leaves.len() - 1) as u32
        });
        let old = &mut self.leaves[leaf as usize];
        let (after, parent, slot) = (old.after, old.parent, old.slot);
        old.after = new;
        let fresh = &mut self.leaves[new as usize];
        *fresh = Leaf::EMPTY;
        (fresh.before, fresh.after) = (leaf, after);
        match after {
            NOWHERE => self.last = new,
            _ => self.leaves[after as usize].before = new,
        }
        self.add_child(parent, slot as usize + 1, new, 0);
        new
    }

    /// Moves what a leaf holds from `offset` on into a new leaf behind it.
    fn cut(&mut self, elements: &mut Elements, leaf: u32, offset: usize) -> u32 {
        let new = self.add_leaf(leaf);
        let old = &mut self.leaves[leaf as usize];
        let (len, spots) = (old.len(), old.spots);
        let (visible, chained) = (old.visible >> offset, old.chained >> offset);
        old.len = offset as u8;
        old.visible &= low(offset);
        old.chained &= low(offset);
        let moved = visible.count_ones() as i32;
        self.count(leaf, -moved);
        let fresh = &mut self.leaves[new as usize];
        fresh.spots[..len - offset].copy_from_slice(&spots[offset..len]);
        (fresh.visible, fresh.chained) = (visible, chained);
        fresh.len = (len - offset) as u8;
        self.count(new, moved);
        for spot in &spots[offset..len] {
            elements[*spot].leaf = new;
        }
        new
    }

    /// Puts a root above a leaf that is the root.
    fn ensure_parent(&mut self, leaf: u32) {
        if self.height == 0 {
            let root = self.vacant_inner(true);
            self.grow(root, leaf);
        }
    }

    fn vacant_inner(&mut self, lowest: bool) -> u32 {
        let inner = Inner {
            lowest,
            ..Inner::EMPTY
        };
        if let Some(vacant) = self.vacant_inners.pop() {
            self.inners[vacant as usize] = inner;
            vacant
        } else {
            self.inners.push(inner);
            (self.inners.len() - 1) as u32
        }
    }

    /// Makes `root` the root, above the one there was.
    fn grow(&mut self, root: u32, below: u32) {
        let inner = &mut self.inners[root as usize];
        inner.children[0] = below;
        inner.counts[0] = self.visible as u32;
        inner.len = 1;
        let lowest = inner.lowest;
        self.attach(lowest, below, root, 0);
        self.root = root;
        self.height += 1;
    }

    fn attach(&mut self, is_leaf: bool, child: u32, parent: u32, slot: usize) {
        if is_leaf {
            let leaf = &mut self.leaves[child as usize];
            (leaf.parent, leaf.slot) = (parent, slot as u8);
        } else {
            let inner = &mut self.inners[child as usize];
            (inner.parent, inner.slot) = (parent, slot as u8);
        }
    }

    /// Puts a child into an inner node, whose ancestors count what is below the child already.
    fn add_child(&mut self, mut node: u32, mut slot: usize, child: u32, count: u32) {
        if self.inners[node as usize].len() == WIDTH {
            (node, slot) = self.cut_inner(node, slot, count);
        }
        let inner = &mut self.inners[node as usize];
        let len = inner.len();
        inner.children.copy_within(slot..len, slot + 1);
        inner.counts.copy_within(slot..len, slot + 1);
        inner.children[slot] = child;
        inner.counts[slot] = count;
        inner.len += 1;
        self.number(node, slot);
    }

    /// Tells the children from `slot` on where they are.
    fn number(&mut self, node: u32, slot: usize) {
        let inner = &self.inners[node as usize];
        let (lowest, len, children) = (inner.lowest, inner.len(), inner.children);
        for (slot, child) in children[..len].iter().enumerate().skip(slot) {
            self.attach(lowest, *child, node, slot);
        }
    }

    /// Cuts a full inner node in two for a child with `count` to come at `slot`; gives where that
    /// is then. The two are told to the ancestors as if it had come.
    fn cut_inner(&mut self, node: u32, slot: usize, count: u32) -> (u32, usize) {
        let lowest = self.inners[node as usize].lowest;
        if self.inners[node as usize].parent == NOWHERE {
            let root = self.vacant_inner(false);
            self.grow(root, node);
        }
        let new = self.vacant_inner(lowest);
        let cut = if slot == WIDTH { WIDTH } else { WIDTH / 2 };
        let goes_right = slot > cut || cut == WIDTH;
        let old = &mut self.inners[node as usize];
        let (parent, place) = (old.parent, old.slot as usize);
        let (children, counts) = (old.children, old.counts);
        old.len = cut as u8;
        let fresh = &mut self.inners[new as usize];
        fresh.children[..WIDTH - cut].copy_from_slice(&children[cut..]);
        fresh.counts[..WIDTH - cut].copy_from_slice(&counts[cut..]);
        fresh.len = (WIDTH - cut) as u8;
        let moved = counts[cut..].iter().sum::<u32>() + if goes_right { count } else { 0 };
        self.number(new, 0);
        self.inners[parent as usize].counts[place] -= moved;
        self.add_child(parent, place + 1, new, moved);
        if goes_right {
            (new, slot - cut)
        } else {
            (node, slot)
        }
    }

    /// Takes out the position at a place.
    pub(super) fn remove(&mut self, at: At) {
        if self.cursor.is_some_and(|(leaf, _)| leaf != at.leaf) {
            self.cursor = None;
        }
        self.show(at, false);
        let follower = self.settled(At {
            offset: at.offset + 1,
            ..at
        });
        // In a chain, the child follows the parent's parent now, and is its only right child.
        if !self.is_chained(at)
            && let Some(follower) = follower
        {
            self.unchain(follower);
        }
        self.positions -= 1;
        let leaf = &mut self.leaves[at.leaf as usize];
        let len = leaf.len();
        leaf.spots.copy_within(at.offset + 1..len, at.offset);
        leaf.visible = close(leaf.visible, at.offset);
        leaf.chained = close(leaf.chained, at.offset);
        leaf.len -= 1;
        if leaf.len == 0 && self.height > 0 {
            self.drop_leaf(at.leaf);
        }
    }

    fn drop_leaf(&mut self, leaf: u32) {
        self.cursor = None;
        let old = &self.leaves[leaf as usize];
        let (before, after, parent, slot) = (old.before, old.after, old.parent, old.slot);
        match before {
            NOWHERE => self.first = after,
            _ => self.leaves[before as usize].after = after,
        }
        match after {
            NOWHERE => self.last = before,
            _ => self.leaves[after as usize].before = before,
        }
        self.vacant_leaves.push(leaf);
        self.drop_child(parent, slot as usize);
        while self.height > 0 && self.inners[self.root as usize].len == 1 {
            let inner = &self.inners[self.root as usize];
            let (lowest, child) = (inner.lowest, inner.children[0]);
            self.vacant_inners.push(self.root);
            self.attach(lowest, child, NOWHERE, 0);
            self.root = child;
            self.height -= 1;
        }
    }

    fn drop_child(&mut self, node: u32, slot: usize) {
        let inner = &mut self.inners[node as usize];
        let len = inner.len();
        inner.children.copy_within(slot + 1..len, slot);
        inner.counts.copy_within(slot + 1..len, slot);
        inner.len -= 1;
        // A root never empties: with its last child but one it gives way to the last.
        if inner.len == 0 {
            let (parent, slot) = (inner.parent, inner.slot as usize);
            self.vacant_inners.push(node);
            self.drop_child(parent, slot);
        } else {
            self.number(node, slot);
        }
    }
}
