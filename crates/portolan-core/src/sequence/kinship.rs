//! Parents and children: where a position goes among its siblings, and how they are found.
//!
//! What is below a position stands next to it. So its only child on a side is found by climbing
//! from its neighbour in the order, and the end of a subtree by descending, over a chain of only
//! children in one step a leaf.

use alloc::vec::Vec;

use crate::spotmap::SpotMap;

use super::Sequence;
use super::elements::{Children, Elements, Key, NOWHERE, Side, Spot};
use super::family::Family;
use super::order::behind;
use super::tree::At;

/// Siblings, where they cannot be found from the order in a short time.
#[derive(Debug, Default)]
pub(super) struct Families {
    /// By parent and side, where there are several.
    pub(super) of: SpotMap<Family>,
    /// Children of the root, from the moment that one came out of order.
    pub(super) roots: Option<Family>,
}

/// By what the children of a parent on one side are found.
pub(super) fn side_of(parent: Spot, side: Side) -> u64 {
    u64::from(parent) << 1 | side as u64
}

impl Sequence {
    /// Puts a position, which names its origin, in its place.
    pub(super) fn attach(
        &mut self,
        elements: &mut Elements,
        spot: Spot,
        parent: Spot,
        side: Side,
        shown: bool,
    ) {
        if parent == NOWHERE {
            return self.attach_root(elements, spot, shown);
        }
        let (at, chained) = self.berth(elements, spot, parent, side);
        self.order.insert(elements, at, spot, shown, chained);
    }

    /// Counts a position among the children of its parent, which is not the root. Gives where it
    /// goes, and whether it is the only right child.
    pub(super) fn berth(
        &mut self,
        elements: &mut Elements,
        spot: Spot,
        parent: Spot,
        side: Side,
    ) -> (At, bool) {
        let children = elements[parent].children(side);
        if children == Children::None {
            elements[parent].set_children(side, Children::One);
            let at = self.order.find(elements, parent);
            return match side {
                Side::Left => (at, false),
                Side::Right => (behind(at), true),
            };
        }
        if children == Children::One {
            self.found_family(elements, parent, side);
        }
        let family = self
            .families
            .as_mut()
            .and_then(|all| all.of.get_mut(side_of(parent, side)));
        // proof: a parent of several has a family, and that of one was just founded.
        let family = family.expect("several children are a family");
        let (_, before, after) = family.insert(elements, &[spot], side);
        (self.gap(elements, parent, side, (before, after)), false)
    }

    /// Puts a child of the root in its place.
    #[inline]
    pub(super) fn attach_root(&mut self, elements: &mut Elements, spot: Spot, shown: bool) {
        if self.positions() == 0 || elements.is_later(spot, self.last) {
            self.last = spot;
            if let Some(roots) = self.families.as_mut().and_then(|all| all.roots.as_mut()) {
                roots.push(spot);
            }
            let end = self.order.end();
            return self.order.insert(elements, end, spot, shown, false);
        }
        let roots = self.index_roots(elements);
        let (_, before, after) = roots.insert(elements, &[spot], Side::Left);
        let at = self.gap(elements, NOWHERE, Side::Left, (before, after));
        self.order.insert(elements, at, spot, shown, false);
    }

    /// Where a child goes that stands between these siblings.
    pub(super) fn gap(
        &self,
        elements: &Elements,
        parent: Spot,
        side: Side,
        (before, after): (Option<Spot>, Option<Spot>),
    ) -> At {
        let leaf = |sibling: Spot, side| elements[sibling].children(side) == Children::None;
        match (before, after, side) {
            (None, _, Side::Right) => behind(self.order.find(elements, parent)),
            (_, None, Side::Left) if parent != NOWHERE => self.order.find(elements, parent),
            (_, Some(after), _) if leaf(after, Side::Left) => self.order.find(elements, after),
            (Some(before), _, _) => {
                let end = self.outermost(elements, before, Side::Right);
                behind(self.order.find(elements, end))
            }
            (None, Some(after), _) => {
                let start = self.outermost(elements, after, Side::Left);
                self.order.find(elements, start)
            }
            (None, None, _) => self.order.end(),
        }
    }

    /// The first (left) or last (right) position of those below `spot`, itself included.
    pub(super) fn outermost(&self, elements: &Elements, mut spot: Spot, side: Side) -> Spot {
        loop {
            match elements[spot].children(side) {
                Children::None => return spot,
                Children::Several => {
                    let family = self.family(spot, side);
                    let child = family.and_then(|family| match side {
                        Side::Left => family.first(),
                        Side::Right => family.last(),
                    });
                    // proof: a parent of several has a family, which is not empty.
                    spot = child.expect("several children are a family");
                }
                Children::One => {
                    let at = self.order.find(elements, spot);
                    let end = match side {
                        Side::Left => at,
                        Side::Right => self.order.chain_end(at),
                    };
                    spot = if end == at {
                        self.only_child(elements, spot, side)
                    } else {
                        self.order.spot(end)
                    };
                }
            }
        }
    }

    /// The child of a parent that has one on this side.
    pub(super) fn only_child(&self, elements: &Elements, parent: Spot, side: Side) -> Spot {
        let at = self.order.find(elements, parent);
        let neighbour = match side {
            Side::Left => self.order.before(at),
            Side::Right => self.order.after(at),
        };
        // proof: what is below a position stands next to it.
        let mut spot = self
            .order
            .spot(neighbour.expect("a child stands next to its parent"));
        while elements[spot].parent() != parent {
            spot = self.above(elements, spot);
        }
        spot
    }

    /// The parent of a position, or one further up if a chain leads there.
    pub(super) fn above(&self, elements: &Elements, spot: Spot) -> Spot {
        let start = self.order.chain_start(self.order.find(elements, spot));
        match self.order.spot(start) {
            start if start == spot => elements[spot].parent(),
            start => start,
        }
    }

    /// The last child of the root, found from the last position of all.
    pub(super) fn root_of_last(&self, elements: &Elements) -> Spot {
        let last = self.order.before(self.order.end());
        let mut spot = last.map_or(NOWHERE, |at| self.order.spot(at));
        while spot != NOWHERE && elements[spot].parent() != NOWHERE {
            spot = self.above(elements, spot);
        }
        spot
    }

    /// Makes a family of an only child, before another one comes.
    pub(super) fn found_family(&mut self, elements: &mut Elements, parent: Spot, side: Side) {
        let child = self.only_child(elements, parent, side);
        let at = self.order.find(elements, child);
        self.order.unchain(at);
        elements[parent].set_children(side, Children::Several);
        let families = self.families.get_or_insert_default();
        families
            .of
            .insert(side_of(parent, side), Family::of(&[child]));
    }

    /// The family of all children of the root.
    pub(super) fn index_roots(&mut self, elements: &Elements) -> &mut Family {
        let order = &self.order;
        let families = self.families.get_or_insert_default();
        families.roots.get_or_insert_with(|| {
            let all = order.walk(order.start(), false).map(|at| order.spot(at));
            let roots: Vec<Spot> = all
                .filter(|spot| elements[*spot].parent() == NOWHERE)
                .collect();
            Family::of(&roots)
        })
    }

    pub(super) fn family(&self, parent: Spot, side: Side) -> Option<&Family> {
        let families = self.families.as_ref()?;
        match parent {
            NOWHERE => families.roots.as_ref(),
            _ => families.of.get(side_of(parent, side)),
        }
    }

    /// Whether a sibling stands before the one with this key, at this place.
    pub(super) fn stands_before(
        &self,
        elements: &Elements,
        sibling: Spot,
        key: &Key,
        side: Side,
        at: At,
    ) -> bool {
        let other = elements.key(sibling);
        other.precedes(key, side)
            || other == *key && self.order.precedes(self.order.find(elements, sibling), at)
    }

    /// Puts `heirs` in the place of `spot` among the children of its parent.
    pub(super) fn bequeath(&mut self, elements: &mut Elements, spot: Spot, heirs: &[Spot]) {
        let (parent, side) = (elements[spot].parent(), elements[spot].side());
        let (key, at) = (elements.key(spot), self.order.find(elements, spot));
        let mut families = self.families.take();
        let family = families
            .as_mut()
            .and_then(|all| all.family_mut(parent, side));
        let children = match family {
            Some(family) => {
                let before = |sibling| self.stands_before(elements, sibling, &key, side, at);
                family.replace(spot, before, heirs);
                if family.first().is_none() {
                    Children::None
                } else if family.only().is_some() {
                    Children::One
                } else {
                    Children::Several
                }
            }
            None => match heirs.len() {
                0 => Children::None,
                1 => Children::One,
                _ => {
                    let all = families.get_or_insert_default();
                    all.of.insert(side_of(parent, side), Family::of(heirs));
                    Children::Several
                }
            },
        };
        if parent != NOWHERE {
            elements[parent].set_children(side, children);
            if children != Children::Several
                && let Some(all) = &mut families
            {
                all.of.remove(side_of(parent, side));
            }
        }
        self.families = families.filter(|all| all.roots.is_some() || !all.of.is_empty());
    }
}

impl Families {
    fn family_mut(&mut self, parent: Spot, side: Side) -> Option<&mut Family> {
        match parent {
            NOWHERE => self.roots.as_mut(),
            _ => self.of.get_mut(side_of(parent, side)),
        }
    }
}
