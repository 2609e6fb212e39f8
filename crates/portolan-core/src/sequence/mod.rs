//! Sequences: the order of the elements of replicated arrays.
//!
//! An array is a list of positions in a total order. A position has a dot, and an *origin*: a
//! parent, or the root of the array, and a side. The order is that of the tree: left children,
//! the position itself, right children; so replicas that hold the same positions have them in the
//! same order. Runs that were inserted at one place at the same time do not interleave, because
//! all but the first of a run are right children of the one before (Weidner and Kleppmann, *The
//! Art of the Fugue*).
//!
//! Left children and those of the root stand by rising rank, right children by falling rank: what
//! is inserted now has the highest rank, and stands next to its parent. The rank is the timestamp,
//! then the replica id, then the sequence number.
//!
//! An *element* is born at a position, whose spot names it. A move makes another position for it;
//! it stands at its current one only. A position where no element is shown is a tombstone.
//!
//! Children are found from the order itself: where a position has one child on a side, as nearly
//! all have, nothing else is kept. A [`Family`] is kept of several.

mod bits;
#[cfg(test)]
mod cases;
mod elements;
mod family;
mod kinship;
mod order;
#[cfg(test)]
mod tests;
mod tree;

use crate::few::SmallVec;
use alloc::boxed::Box;
use alloc::vec::Vec;

pub(crate) use elements::{Birth, Elements, NOWHERE, Position, Rank, Side, Spot};

use crate::value::Value;

use elements::{Children, Key};
use family::Family;
use kinship::{Families, side_of};
use order::{Order, behind};
use tree::{At, Run};

/// What must be known of a position to place it elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The parent, or [`NOWHERE`]: the root.
    pub(crate) parent: Spot,
    pub(crate) side: Side,
    /// By what it is compared with its siblings: its own rank, or that of a parent whose place it
    /// has taken.
    pub(crate) rank: Rank,
    /// Which it is among its siblings of one rank, from 0.
    pub(crate) ordinal: u32,
}

/// The order of one array.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    order: Order,
    /// The last child of the root; said only while there is any.
    last: Spot,
    families: Option<Box<Families>>,
}

impl Sequence {
    /// How many elements are shown.
    pub(crate) fn len(&self) -> usize {
        self.order.visible()
    }

    /// How many positions there are, tombstones included.
    pub(crate) fn positions(&self) -> usize {
        self.order.positions()
    }

    /// Inserts a new element before a visible index, at most `len()`; or, without one, at the end,
    /// where it stands by its rank among all that were appended, here or elsewhere.
    pub(crate) fn insert(
        &mut self,
        elements: &mut Elements,
        array: u32,
        index: Option<usize>,
        birth: Birth,
        value: Value,
    ) -> Spot {
        let Some(index) = index else {
            let spot = elements.add_shown(array, birth, value, (NOWHERE, Side::Left));
            self.attach_root(elements, spot, true);
            return spot;
        };
        let room = self.room(elements, index);
        let spot = elements.add_shown(array, birth, value, (room.parent, room.side));
        self.settle(elements, spot, room, true);
        spot
    }

    /// Inserts new elements behind the one just inserted (or `appended`), the first of which has
    /// this birth, the next the following sequence number, and so on.
    pub(crate) fn insert_behind(
        &mut self,
        elements: &mut Elements,
        before: Spot,
        appended: bool,
        birth: Birth,
        values: impl Iterator<Item = Value>,
    ) -> Vec<Spot> {
        let array = elements[before].array();
        let births = values.zip(birth.seq..).map(|(value, seq)| {
            let birth = Birth { seq, ..birth };
            elements.add(array, birth, Some(value), None)
        });
        let spots: Vec<Spot> = births.collect();
        if appended {
            self.place_roots(elements, &spots, &[]);
        } else {
            self.chain(elements, before, &spots);
        }
        spots
    }

    /// Places a position under its origin, which is placed already. `shown` tells whether its
    /// element is to be visible there.
    pub(crate) fn place(
        &mut self,
        elements: &mut Elements,
        spot: Spot,
        parent: Spot,
        side: Side,
        shown: bool,
    ) {
        if shown {
            elements.reveal(spot);
        }
        // The children of the root are on one side.
        let side = if parent == NOWHERE { Side::Left } else { side };
        elements[spot].set_origin(parent, side);
        self.attach(elements, spot, parent, side, shown);
    }

    /// As `place`, of a position that has taken the place of a removed parent: with the rank and
    /// the ordinal that its origin tells.
    pub(crate) fn place_ranked(
        &mut self,
        elements: &mut Elements,
        spot: Spot,
        origin: Origin,
        shown: bool,
    ) {
        let Origin { rank, ordinal, .. } = origin;
        let key = Key { rank, ordinal };
        if key != elements.key(spot) {
            elements.adopt(spot, key);
            // Several may have one rank, and only an index tells which of them it is.
            if origin.parent == NOWHERE && self.positions() > 0 {
                self.index_roots(elements);
            }
        }
        self.place(elements, spot, origin.parent, origin.side, shown);
    }

    /// As `place` of each in turn, of births that [`Elements::add_run`] has made: the first under
    /// this origin, the others as was said there.
    pub(crate) fn place_run(
        &mut self,
        elements: &mut Elements,
        spots: &[Spot],
        parent: Spot,
        side: Side,
        chain: bool,
        shown: &[bool],
    ) {
        let Some((first, rest)) = spots.split_first() else {
            return;
        };
        let first_shown = shown.first().copied().unwrap_or(true);
        if !chain {
            self.place_roots(elements, spots, shown);
        } else if parent == NOWHERE {
            elements[*first].set_origin(NOWHERE, Side::Left);
            self.attach_root(elements, *first, first_shown);
            let at = behind(self.order.find(elements, *first));
            let run = Run {
                spots: rest,
                shown: shown.get(1..).unwrap_or_default(),
                hangs_on: true,
                chain: true,
            };
            self.order.insert_run(elements, at, run);
        } else {
            elements[*first].set_origin(parent, side);
            let (at, chained) = self.berth(elements, *first, parent, side);
            let run = Run {
                spots,
                shown,
                hangs_on: chained,
                chain: true,
            };
            self.order.insert_run(elements, at, run);
        }
    }

    /// Shows or hides an element where it stands.
    pub(crate) fn show(&mut self, elements: &mut Elements, element: Spot, shown: bool) {
        if elements[element].shown() != shown {
            elements[element].set_shown(shown);
            let at = self.order.find(elements, elements.place(element));
            self.order.show(at, shown);
        }
    }

    /// Moves an element, by a new position with this birth, to the visible index `to`, counted
    /// without the element; gives the position.
    pub(crate) fn shift(
        &mut self,
        elements: &mut Elements,
        array: u32,
        element: Spot,
        to: usize,
        birth: Birth,
    ) -> Spot {
        let shown = elements[element].shown();
        self.show(elements, element, false);
        let position = elements.add(array, birth, None, Some(element));
        let room = self.room(elements, to);
        elements[position].set_origin(room.parent, room.side);
        self.settle(elements, position, room, false);
        elements.set_place(element, position);
        self.show(elements, element, shown);
        position
    }

    /// Makes `position`, which is placed and belongs to `element`, the one where it stands.
    pub(crate) fn relocate(&mut self, elements: &mut Elements, element: Spot, position: Spot) {
        debug_assert_eq!(elements.of(position), element, "a position of its own");
        let shown = elements[element].shown();
        self.show(elements, element, false);
        elements.set_place(element, position);
        self.show(elements, element, shown);
    }

    /// The element that is shown at a visible index.
    pub(crate) fn at(&self, elements: &Elements, index: usize) -> Option<Spot> {
        let at = self.order.select(index)?;
        Some(elements.of(self.order.spot(at)))
    }

    /// The visible index of an element, if it is shown.
    pub(crate) fn index_of(&self, elements: &Elements, element: Spot) -> Option<usize> {
        let shown = elements[element].shown();
        shown.then(|| self.rank_of(elements, element))
    }

    /// How many visible elements stand before an element: the index where it is or would be.
    pub(crate) fn rank_of(&self, elements: &Elements, element: Spot) -> usize {
        let at = self.order.find(elements, elements.place(element));
        self.order.rank(at)
    }

    /// The visible elements from a visible index on.
    pub(crate) fn iter(&self, elements: &Elements, from: usize) -> impl Iterator<Item = Spot> {
        let at = self.order.select(from);
        let at = at.unwrap_or_else(|| self.order.end());
        let walk = self.order.walk(at, true);
        walk.map(|at| elements.of(self.order.spot(at)))
    }

    /// All positions in order, tombstones included.
    #[cfg(test)]
    pub(crate) fn all(&self, _elements: &Elements) -> impl Iterator<Item = Spot> {
        let walk = self.order.walk(self.order.start(), false);
        walk.map(|at| self.order.spot(at))
    }

    /// What must be known of a placed position to place it elsewhere.
    pub(crate) fn origin(&self, elements: &Elements, spot: Spot) -> Origin {
        let (parent, side) = (elements[spot].parent(), elements[spot].side());
        let key = elements.key(spot);
        let ordinal = match self.family(parent, side) {
            Some(family) if elements[spot].adopted() => {
                let at = self.order.find(elements, spot);
                family.distance(
                    |sibling| {
                        let other = elements.key(sibling);
                        other.rank != key.rank && other.precedes(&key, side)
                    },
                    |sibling| self.stands_before(elements, sibling, &key, side, at),
                ) as u32
            }
            _ => 0,
        };
        Origin {
            parent,
            side,
            rank: key.rank,
            ordinal,
        }
    }

    /// Takes a position out at which no element is shown. Its children take its place among its
    /// siblings, in the order they stand in, and are compared as if they were it.
    ///
    /// Costs the number of its children: where many are removed, parents first is the cheaper
    /// order.
    pub(crate) fn remove(&mut self, elements: &mut Elements, spot: Spot) {
        let (parent, side) = (elements[spot].parent(), elements[spot].side());
        let at = self.order.find(elements, spot);
        debug_assert!(!self.order.is_visible(at), "only tombstones are removed");
        let mut heirs = SmallVec::<[Spot; 4]>::new();
        for of in [Side::Left, Side::Right] {
            match elements[spot].children(of) {
                Children::None => {}
                Children::One => heirs.push(self.only_child(elements, spot, of)),
                Children::Several => {
                    let family = self
                        .families
                        .as_mut()
                        .and_then(|all| all.of.remove(side_of(spot, of)));
                    heirs.extend(family.iter().flat_map(Family::iter));
                }
            }
        }
        if parent == NOWHERE && heirs.len() > 1 {
            self.index_roots(elements);
        }
        self.bequeath(elements, spot, &heirs);
        let key = elements.key(spot);
        for heir in &heirs {
            elements.adopt(*heir, key);
            elements[*heir].set_origin(parent, side);
        }
        self.order.remove(elements, spot);
        elements[spot].set_children(Side::Left, Children::None);
        elements[spot].set_children(Side::Right, Children::None);
        if self.positions() == 0 {
            *self = Self::default();
        } else if parent == NOWHERE && self.last == spot {
            self.last = match (heirs.last(), self.family(NOWHERE, Side::Left)) {
                (Some(heir), _) => *heir,
                (None, Some(roots)) => roots.last().unwrap_or(NOWHERE),
                (None, None) => self.root_of_last(elements),
            };
        }
    }

    /// Where a new position goes to stand before the visible index `index`.
    #[inline]
    fn room(&mut self, elements: &Elements, index: usize) -> Room {
        debug_assert!(index <= self.len(), "an index within the sequence");
        let room = |parent, side, at| Room { parent, side, at };
        let before = match index.checked_sub(1) {
            Some(index) => self.order.seek(index),
            None => None,
        };
        let Some(before) = before else {
            let first = self.order.select(0);
            let parent = first.map_or(NOWHERE, |at| self.order.spot(at));
            return room(parent, Side::Left, None);
        };
        let left = self.order.spot(before);
        if elements[left].children(Side::Right) == Children::None {
            return room(left, Side::Right, Some(behind(before)));
        }
        match self.order.after(before) {
            // It stands next to one that has a right child, so it has no left one: that would
            // stand between.
            Some(next) if self.order.is_visible(next) => {
                room(self.order.spot(next), Side::Left, Some(behind(before)))
            }
            _ => room(left, Side::Right, None),
        }
    }

    /// Places a position where there is room for it.
    #[inline]
    fn settle(&mut self, elements: &mut Elements, spot: Spot, room: Room, shown: bool) {
        let Room { parent, side, at } = room;
        match at {
            Some(at) => {
                elements[parent].set_children(side, Children::One);
                let chained = side == Side::Right;
                self.order.insert(elements, at, spot, shown, chained);
            }
            None => self.attach(elements, spot, parent, side, shown),
        }
    }

    /// Places positions as right children, the first of `first`, which has none so far, each
    /// further one of the one before.
    fn chain(&mut self, elements: &mut Elements, first: Spot, spots: &[Spot]) {
        let mut parent = first;
        for spot in spots {
            elements[parent].set_children(Side::Right, Children::One);
            elements[*spot].set_origin(parent, Side::Right);
            elements.reveal(*spot);
            parent = *spot;
        }
        let at = behind(self.order.find(elements, first));
        let run = Run {
            spots,
            shown: &[],
            hangs_on: true,
            chain: true,
        };
        self.order.insert_run(elements, at, run);
    }

    /// Places children of the root, as far as possible many at a time: those between the same
    /// two that are there already.
    fn place_roots(&mut self, elements: &mut Elements, spots: &[Spot], shown: &[bool]) {
        let mut done = 0;
        while let Some(first) = spots.get(done) {
            let rest = &spots[done..];
            let (count, at) = if self.positions() == 0 || elements.is_later(*first, self.last) {
                let rising = |pair: &&[Spot]| elements.is_later(pair[1], pair[0]);
                let count = 1 + rest.windows(2).take_while(rising).count();
                if let Some(roots) = self.families.as_mut().and_then(|all| all.roots.as_mut()) {
                    for spot in &rest[..count] {
                        roots.push(*spot);
                    }
                }
                self.last = rest[count - 1];
                (count, self.order.end())
            } else {
                let roots = self.index_roots(elements);
                let (count, before, after) = roots.insert(elements, rest, Side::Left);
                let at = self.gap(elements, NOWHERE, Side::Left, (before, after));
                (count, at)
            };
            let run = Run {
                spots: &rest[..count],
                shown: shown.get(done..).unwrap_or_default(),
                hangs_on: false,
                chain: false,
            };
            for (number, spot) in run.spots.iter().enumerate() {
                elements[*spot].set_origin(NOWHERE, Side::Left);
                if run.shows(number) {
                    elements.reveal(*spot);
                }
            }
            self.order.insert_run(elements, at, run);
            done += count;
        }
    }
}

/// Where a new position goes: the origin, and the place if that follows from it without looking
/// at siblings.
#[derive(Clone, Copy)]
struct Room {
    parent: Spot,
    side: Side,
    at: Option<At>,
}
