//! Positions of array elements, those of all arrays of a document in one slab.
//!
//! As live operations they stand in chunks, at slots that do not move; a chunk that has emptied
//! gives its memory back.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::clock::Timestamp;
use crate::replica::ReplicaId;
use crate::spotmap::SpotMap;
use crate::value::Value;

/// Where a position stands in [`Elements`]; slots do not move, freed slots are reused.
pub(crate) type Spot = u32;

/// No position; as a parent: the root of the array.
pub(crate) const NOWHERE: Spot = u32::MAX;

/// What orders the children of one parent.
pub(crate) type Rank = (Timestamp, ReplicaId, u64);

/// On which side of its parent a position stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Side {
    Left,
    Right,
}

/// What names a position and ranks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    /// The replica, as interned in the document.
    pub(crate) replica: u32,
    pub(crate) id: ReplicaId,
    pub(crate) seq: u64,
    pub(crate) timestamp: Timestamp,
}

/// How many children a position has on one side. Only where there are several is anything kept
/// to find them by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Children {
    None,
    One,
    Several,
}

/// The element is shown; said of the position of its birth.
const SHOWN: u8 = 1;
/// The position was made by a move, of an element that was born elsewhere.
const MOVED: u8 = 2;
/// The value that the element was born with is not live any more.
const BURIED: u8 = 8;
/// It showed nothing at a version that is waited for to become stable.
const MARKED: u8 = 16;
/// It showed nothing at a version that is stable: nobody here will use it again.
const SEALED: u8 = 32;
/// There is no position here.
const VACANT: u8 = 64;
/// It has come into the place of a parent that was removed, and is compared by that one's rank.
const ADOPTED: u8 = 4;

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// One position. 64 bytes.
#[derive(Debug)]
pub(crate) struct Position {
    value: Option<Value>,
    timestamp: Timestamp,
    seq: u64,
    replica: u32,
    array: u32,
    /// The parent; in a vacant slot, the next vacant one of the chunk.
    parent: Spot,
    /// Of a birth the current position of the element, of a move the birth of the element.
    link: Spot,
    /// The leaf of the tree of its order that it stands in.
    pub(super) leaf: u32,
    children: [Children; 2],
    side: Side,
    marks: u8,
}

impl Position {
    /// The replica that made it, as interned in the document.
    pub(crate) fn replica(&self) -> u32 {
        self.replica
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The number of the array that it is in.
    pub(crate) fn array(&self) -> u32 {
        self.array
    }

    /// The parent, or [`NOWHERE`]: the root of the array, or none so far.
    pub(crate) fn parent(&self) -> Spot {
        self.parent
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Of the birth of an element: the value that it was born with, while that is live.
    #[inline]
    pub(crate) fn born(&self) -> Option<&Value> {
        self.value.as_ref().filter(|_| self.marks & BURIED == 0)
    }

    /// Of the birth of an element: what it was born with or held last, as far as that is known.
    pub(crate) fn last(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// Marks it as one that showed nothing at a version that is waited for.
    pub(crate) fn mark(&mut self) {
        self.marks |= MARKED;
    }

    /// Has it be used no more from here.
    pub(crate) fn seal(&mut self) {
        self.marks |= SEALED;
    }

    pub(crate) fn unmark(&mut self) {
        self.marks &= !(MARKED | SEALED);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.marks & SEALED != 0
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.marks & MARKED != 0
    }

    /// Whether there is no position here (any more).
    pub(crate) fn is_vacant(&self) -> bool {
        self.marks & VACANT != 0
    }

    /// The value it was born with is not live any more.
    pub(crate) fn bury(&mut self) {
        self.marks |= BURIED;
    }

    /// The value it was born with is live again.
    pub(crate) fn revive(&mut self) {
        self.marks &= !BURIED;
    }

    /// Keeps what an element held last, the value it was born with being dead.
    pub(crate) fn keep(&mut self, value: Value) {
        if self.born().is_none() {
            self.value = Some(value);
            self.bury();
        }
    }

    /// Of the birth of an element: whether it is shown, wherever it stands now.
    pub(crate) fn shown(&self) -> bool {
        self.marks & SHOWN != 0
    }

    /// Whether it was made by a move.
    pub(crate) fn moved(&self) -> bool {
        self.marks & MOVED != 0
    }

    #[inline]
    pub(super) fn children(&self, side: Side) -> Children {
        self.children[side as usize]
    }

    #[inline]
    pub(super) fn set_children(&mut self, side: Side, children: Children) {
        self.children[side as usize] = children;
    }

    #[inline]
    pub(super) fn set_origin(&mut self, parent: Spot, side: Side) {
        self.parent = parent;
        self.side = side;
    }

    #[inline]
    pub(super) fn set_shown(&mut self, shown: bool) {
        self.marks = self.marks & !SHOWN | if shown { SHOWN } else { 0 };
    }

    pub(crate) fn adopted(&self) -> bool {
        self.marks & ADOPTED != 0
    }
}

#[derive(Debug)]
struct Chunk {
    positions: Vec<Position>,
    used: usize,
    /// Chain of vacant slots below `positions.len()`.
    vacant: Spot,
    /// Whether `Elements::open` has it.
    open: bool,
}

/// By what an adopted position is compared with its siblings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub(super) rank: Rank,
    /// Among siblings of one rank, never less than that of the one before. They may be equal:
    /// then those stand as they stand.
    pub(super) ordinal: u32,
}

impl Key {
    /// Whether it stands before `other` among the children on `side`.
    #[inline]
    pub(super) fn precedes(&self, other: &Self, side: Side) -> bool {
        match (self.rank.cmp(&other.rank), side) {
            (core::cmp::Ordering::Equal, _) => self.ordinal < other.ordinal,
            (order, Side::Left) => order.is_lt(),
            (order, Side::Right) => order.is_gt(),
        }
    }
}

/// All positions of all arrays of a document.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    chunks: Vec<Chunk>,
    /// Chunks that have room.
    open: Vec<u32>,
    len: usize,
    /// Of each interned replica its id, as far as it was told with a birth.
    ids: Vec<ReplicaId>,
    adopted: SpotMap<Key>,
}

impl Elements {
    /// The position at a spot, if there is one.
    pub(crate) fn get(&self, spot: Spot) -> Option<&Position> {
        let chunk = self.chunks.get((spot >> CHUNK_BITS) as usize)?;
        let position = chunk.positions.get(spot as usize % CHUNK)?;
        (!position.is_vacant()).then_some(position)
    }

    /// How many positions there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a position that is in no sequence yet: the birth of an element, or (`of`) a move of
    /// one.
    #[inline]
    pub(crate) fn add(
        &mut self,
        array: u32,
        birth: Birth,
        value: Option<Value>,
        of: Option<Spot>,
    ) -> Spot {
        let (link, marks) = match of {
            Some(element) => (element, MOVED),
            None => (NOWHERE, 0),
        };
        self.insert(array, birth, value, (NOWHERE, Side::Right), link, marks)
    }

    /// Adds the birth of an element that is about to be placed, and shown, under this origin.
    #[inline]
    pub(super) fn add_shown(
        &mut self,
        array: u32,
        birth: Birth,
        value: Value,
        origin: (Spot, Side),
    ) -> Spot {
        self.insert(array, birth, Some(value), origin, NOWHERE, SHOWN)
    }

    /// Adds births of elements with consecutive sequence numbers, the first of which has this
    /// birth: they are about to be placed, each further one as the right child of the one before,
    /// or (not `chain`) all as children of the root. `shown` tells of each whether it is shown.
    pub(crate) fn add_run<'v>(
        &mut self,
        array: u32,
        birth: Birth,
        chain: bool,
        values: impl ExactSizeIterator<Item = (&'v Option<Value>, Timestamp)>,
        shown: impl Fn(usize) -> bool,
    ) -> Vec<Spot> {
        let count = values.len();
        let mut spots = Vec::with_capacity(count);
        let mut origin = (NOWHERE, if chain { Side::Right } else { Side::Left });
        let mut births = values.enumerate().map(|(number, (value, timestamp))| {
            let birth = Birth {
                seq: birth.seq + number as u64,
                timestamp,
                ..birth
            };
            let marks = if shown(number) { SHOWN } else { 0 };
            (birth, value, marks)
        });
        while spots.len() < count {
            let rest = count - spots.len();
            let (number, places) = self.room(birth, rest);
            let Some(first) = places else {
                // One by one where others have gone.
                if let Some((birth, value, marks)) = births.next() {
                    let spot = self.insert(array, birth, value.clone(), origin, NOWHERE, marks);
                    spots.push(spot);
                    origin.0 = if chain { spot } else { NOWHERE };
                }
                continue;
            };
            let chunk = &mut self.chunks[number as usize];
            let room = (CHUNK - chunk.positions.len()).min(rest);
            let spots_here = first..first + room as u32;
            let here = births.by_ref().zip(spots_here.clone());
            chunk
                .positions
                .extend(here.map(|((birth, value, marks), spot)| {
                    let parent =
                        core::mem::replace(&mut origin.0, if chain { spot } else { NOWHERE });
                    Position {
                        value: value.clone(),
                        timestamp: birth.timestamp,
                        seq: birth.seq,
                        replica: birth.replica,
                        array,
                        parent,
                        link: spot,
                        leaf: NOWHERE,
                        children: [Children::None; 2],
                        side: origin.1,
                        marks,
                    }
                }));
            chunk.used += room;
            if chunk.used == CHUNK {
                chunk.open = false;
                self.open.pop();
            }
            self.len += room;
            spots.extend(spots_here);
        }
        if chain && let Some((_, parents)) = spots.split_last() {
            for parent in parents {
                self[*parent].set_children(Side::Right, Children::One);
            }
        }
        spots
    }

    /// A chunk with room for some of `count` positions, and the first of these places if they
    /// stand in a row.
    fn room(&mut self, birth: Birth, count: usize) -> (u32, Option<Spot>) {
        if self.ids.get(birth.replica as usize) != Some(&birth.id) {
            self.learn(birth.replica as usize, birth.id);
        }
        let number = match self.open.last() {
            Some(number) => *number,
            None => self.add_chunk(),
        };
        let chunk = &mut self.chunks[number as usize];
        if chunk.vacant != NOWHERE {
            return (number, None);
        }
        if chunk.positions.capacity() == 0 && (number > 0 || count >= CHUNK) {
            chunk.positions.reserve_exact(CHUNK);
        }
        (
            number,
            Some(number << CHUNK_BITS | chunk.positions.len() as u32),
        )
    }

    /// Adds a position; without a link, it is linked to itself.
    #[inline]
    fn insert(
        &mut self,
        array: u32,
        birth: Birth,
        value: Option<Value>,
        (parent, side): (Spot, Side),
        link: Spot,
        marks: u8,
    ) -> Spot {
        if self.ids.get(birth.replica as usize) != Some(&birth.id) {
            self.learn(birth.replica as usize, birth.id);
        }
        let number = match self.open.last() {
            Some(number) => *number,
            None => self.add_chunk(),
        };
        self.len += 1;
        let chunk = &mut self.chunks[number as usize];
        chunk.used += 1;
        let spot = match chunk.vacant {
            NOWHERE => number << CHUNK_BITS | chunk.positions.len() as u32,
            vacant => vacant,
        };
        let position = Position {
            value,
            timestamp: birth.timestamp,
            seq: birth.seq,
            replica: birth.replica,
            array,
            parent,
            link: if link == NOWHERE { spot } else { link },
            leaf: NOWHERE,
            children: [Children::None; 2],
            side,
            marks,
        };
        if chunk.vacant == NOWHERE {
            // A small document grows its first chunk by and by; later ones will fill.
            if chunk.positions.capacity() == 0 && number > 0 {
                chunk.positions.reserve_exact(CHUNK);
            }
            chunk.positions.push(position);
        } else {
            let place = &mut chunk.positions[spot as usize % CHUNK];
            chunk.vacant = place.parent;
            *place = position;
        }
        if chunk.used == CHUNK {
            chunk.open = false;
            self.open.pop();
        }
        spot
    }

    #[cold]
    fn learn(&mut self, number: usize, id: ReplicaId) {
        if self.ids.len() <= number {
            self.ids.resize(number + 1, ReplicaId::new(0));
        }
        self.ids[number] = id;
    }

    #[cold]
    fn add_chunk(&mut self) -> u32 {
        let number = self.chunks.len() as u32;
        assert!(
            number < NOWHERE >> CHUNK_BITS,
            "a document holds at most 2^32 - 256 positions of array elements"
        );
        self.chunks.push(Chunk {
            positions: Vec::new(),
            used: 0,
            vacant: NOWHERE,
            open: true,
        });
        self.open.push(number);
        number
    }

    /// Frees the slot of a position that is in no sequence (any more).
    pub(crate) fn remove(&mut self, spot: Spot) {
        if self[spot].adopted() {
            self.adopted.remove(spot);
        }
        self.len -= 1;
        let number = spot >> CHUNK_BITS;
        let chunk = &mut self.chunks[number as usize];
        let place = &mut chunk.positions[spot as usize % CHUNK];
        place.value = None;
        place.marks = VACANT;
        place.parent = chunk.vacant;
        chunk.vacant = spot;
        chunk.used -= 1;
        if chunk.used == 0 {
            chunk.positions = Vec::new();
            chunk.vacant = NOWHERE;
        }
        if !chunk.open {
            chunk.open = true;
            self.open.push(number);
        }
        if self.len == 0 {
            *self = Self {
                ids: core::mem::take(&mut self.ids),
                ..Self::default()
            };
        }
    }

    /// The element that is placed at `spot`, by the position of its birth.
    #[inline]
    pub(crate) fn of(&self, spot: Spot) -> Spot {
        let position = &self[spot];
        if position.moved() {
            position.link
        } else {
            spot
        }
    }

    /// The position where `element` (the position of its birth) stands now.
    #[inline]
    pub(crate) fn place(&self, element: Spot) -> Spot {
        debug_assert!(!self[element].moved(), "an element is named by its birth");
        self[element].link
    }

    #[inline]
    pub(super) fn set_place(&mut self, element: Spot, place: Spot) {
        debug_assert!(!self[element].moved(), "an element is named by its birth");
        self[element].link = place;
    }

    /// Notes that the element of a position is shown there.
    #[inline]
    pub(super) fn reveal(&mut self, spot: Spot) {
        let position = &mut self[spot];
        if position.moved() {
            let element = position.link;
            self.set_place(element, spot);
            self[element].set_shown(true);
        } else {
            position.link = spot;
            position.set_shown(true);
        }
    }

    /// Makes a position that of a move of an element.
    pub(crate) fn assign(&mut self, spot: Spot, element: Spot) {
        let position = &mut self[spot];
        position.marks |= MOVED;
        position.link = element;
    }

    /// Sets the value that an element was born with, and gives what it was.
    pub(crate) fn set_value(&mut self, element: Spot, value: Option<Value>) -> Option<Value> {
        core::mem::replace(&mut self[element].value, value)
    }

    /// By what it is compared with its siblings.
    #[inline]
    pub(super) fn key(&self, spot: Spot) -> Key {
        let position = &self[spot];
        if position.adopted()
            && let Some(key) = self.adopted.get(spot)
        {
            return *key;
        }
        Key {
            rank: (
                position.timestamp,
                self.ids[position.replica as usize],
                position.seq,
            ),
            ordinal: 0,
        }
    }

    /// Whether `spot` stands behind `other` among children of the root.
    #[inline]
    pub(super) fn is_later(&self, spot: Spot, other: Spot) -> bool {
        let (a, b) = (&self[spot], &self[other]);
        let told = a.timestamp != b.timestamp || a.replica == b.replica;
        if told && (a.marks | b.marks) & ADOPTED == 0 {
            return (a.timestamp, a.seq) >= (b.timestamp, b.seq);
        }
        !self.key(spot).precedes(&self.key(other), Side::Left)
    }

    pub(super) fn adopt(&mut self, spot: Spot, key: Key) {
        self[spot].marks |= ADOPTED;
        self.adopted.insert(spot, key);
    }
}

impl Index<Spot> for Elements {
    type Output = Position;

    #[inline]
    fn index(&self, spot: Spot) -> &Position {
        &self.chunks[(spot >> CHUNK_BITS) as usize].positions[spot as usize % CHUNK]
    }
}

impl IndexMut<Spot> for Elements {
    #[inline]
    fn index_mut(&mut self, spot: Spot) -> &mut Position {
        &mut self.chunks[(spot >> CHUNK_BITS) as usize].positions[spot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_takes_sixty_four_bytes() {
        assert_eq!(size_of::<Position>(), 64);
    }

    #[test]
    fn spots_are_reused_and_chunks_freed() {
        let mut elements = Elements::default();
        let birth = |seq| Birth {
            replica: 0,
            id: ReplicaId::new(1),
            seq,
            timestamp: Timestamp::from_millis(seq),
        };
        let spots: Vec<Spot> = (0..1000)
            .map(|seq| elements.add(0, birth(seq), None, None))
            .collect();
        for spot in &spots[..999] {
            elements.remove(*spot);
        }
        let held = |elements: &Elements| {
            let chunks = elements.chunks.iter();
            chunks
                .map(|chunk| chunk.positions.capacity())
                .sum::<usize>()
        };
        assert_eq!(held(&elements), CHUNK);
        assert_eq!(elements[spots[999]].seq(), 999);
        let again: std::collections::BTreeSet<Spot> = (0..999)
            .map(|seq| elements.add(0, birth(seq), None, None))
            .collect();
        assert_eq!((again.len(), elements.len()), (999, 1000));
        assert!(again.iter().all(|spot| (*spot as usize) < 1024));
        for spot in again.into_iter().chain([spots[999]]) {
            elements.remove(spot);
        }
        assert_eq!((elements.len(), held(&elements)), (0, 0));
    }
}
