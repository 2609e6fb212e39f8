//! Arrays: elements that keep their id for life, at positions that only ever become more.
//!
//! A dot that made a position names it; the dot that made an element's first one names the
//! element. The value an element was born with lies beside its first position; whatever is
//! written to it later stands under its id, as under a key. An element shows while anything of
//! this is live. Where it stands now, if it has moved, tells the container of moves beside the
//! array: the winner there is the position.

use alloc::vec;
use alloc::vec::Vec;

use crate::clock::Timestamp;
use crate::containers::{Form, ROOT};
use crate::document::Document;
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{Key, KeyRef};
use crate::nested::Run;
use crate::replica::Dot;
use crate::sequence::{self, Birth, Elements, NOWHERE, Position, Rank, Sequence, Side, Spot};
use crate::slab::{NONE, Slot};
use crate::spotmap::SpotMap;
use crate::value::Value;

/// Positions that wait for others: for their parent, or for the element that moved to them.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// By the hash of the position that is awaited.
    waiting: SpotMap<Vec<Waiting>>,
    origins: SpotMap<Origin>,
}

/// Those that wait for one position.
#[derive(Debug)]
struct Waiting {
    awaited: Dot,
    spots: Vec<Spot>,
}

/// Where a position belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) parent: Option<Dot>,
    pub(crate) side: Side,
    /// The element, where it was not born here.
    pub(crate) of: Option<Dot>,
    /// By what it is compared with its siblings, where it has taken the place of a parent that is
    /// gone, and which it is of those that have.
    pub(crate) adopted: Option<Adopted>,
}

/// The rank of a parent that is gone, and which it is of those in its place.
pub(crate) type Adopted = (Rank, u32);

impl Orphans {
    /// Notes one; `hash` is that of the awaited dot.
    fn add(&mut self, hash: u32, awaited: Dot, spot: Spot, origin: Origin) {
        self.origins.insert(spot, origin);
        let Some(all) = self.waiting.get_mut(hash) else {
            let spots = vec![spot];
            self.waiting.insert(hash, vec![Waiting { awaited, spots }]);
            return;
        };
        match all.iter_mut().find(|waiting| waiting.awaited == awaited) {
            Some(waiting) => waiting.spots.push(spot),
            None => all.push(Waiting {
                awaited,
                spots: vec![spot],
            }),
        }
    }

    /// Those that wait for a position, which is there now.
    fn take(&mut self, hash: u32, awaited: Dot) -> Vec<Spot> {
        let Some(all) = self.waiting.get_mut(hash) else {
            return Vec::new();
        };
        let found = all.iter().position(|waiting| waiting.awaited == awaited);
        let spots = found.map_or(Vec::new(), |at| all.swap_remove(at).spots);
        if all.is_empty() {
            self.waiting.remove(hash);
        }
        spots
    }

    pub(crate) fn origin(&self, spot: Spot) -> Option<&Origin> {
        self.origins.get(spot)
    }
}

/// Elements of which it is to be found out whether and where they show.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    pub(crate) elements: Vec<Dot>,
    /// By the container of moves.
    pub(crate) moves: Vec<(u32, Dot)>,
}

impl Document {
    /// Where a position stands.
    pub(crate) fn spot(&self, dot: Dot) -> Option<Spot> {
        self.replicas.by_id(dot.replica)?.placed.get(dot.seq)
    }

    /// Where an element of an array was born: what stands under an id may name another's.
    pub(crate) fn element_in(&self, array: u32, id: Dot) -> Option<Spot> {
        let element = self.spot(id)?;
        let position = &self.elements[element];
        (position.array() == array && !position.moved()).then_some(element)
    }

    /// As [`element_in`](Self::element_in), by an id that the element may have had before this
    /// replica took another one.
    pub(crate) fn known_element(&self, array: u32, id: Dot) -> Option<Spot> {
        let element = self.element_in(array, id);
        element.or_else(|| self.element_in(array, self.current(id)))
    }

    /// The dot that made a position.
    pub(crate) fn dot_at(&self, spot: Spot) -> Dot {
        self.dot_of_position(&self.elements[spot])
    }

    #[inline]
    pub(crate) fn dot_of_position(&self, position: &Position) -> Dot {
        Dot::new(self.replicas.get(position.replica()).id, position.seq())
    }

    /// The element that moved to a position; `None` where one was born there.
    pub(crate) fn element_at_position(&self, spot: Spot) -> Option<Dot> {
        if let Some(origin) = self.orphans.origin(spot) {
            return origin.of;
        }
        let moved = self.elements[spot].moved();
        moved.then(|| self.dot_at(self.elements.of(spot)))
    }

    pub(crate) fn sequence(&self, array: u32) -> Option<&Sequence> {
        self.containers.get(array).sequence.as_deref()
    }

    /// Runs `f` on the order of an array, and lets the array show or not show accordingly.
    pub(crate) fn with_sequence<T>(
        &mut self,
        array: u32,
        f: impl FnOnce(&mut Sequence, &mut Elements) -> T,
    ) -> Option<T> {
        let sequence = self.containers.get_mut(array).sequence.as_deref_mut()?;
        let before = sequence.len();
        let done = f(sequence, &mut self.elements);
        match (before, sequence.len()) {
            (0, 1..) => self.item_gained(array),
            (1.., 0) => self.item_lost(array),
            _ => {}
        }
        Some(done)
    }

    /// Inserts a value before an index, or appends it, with the dot `own:seq`.
    pub(crate) fn insert_born(
        &mut self,
        array: u32,
        index: Option<usize>,
        value: Value,
        (seq, timestamp): (u64, Timestamp),
        journal: &mut Journal,
    ) -> Option<Spot> {
        let birth = self.own_birth(seq, timestamp);
        let spot = self.with_sequence(array, |sequence, elements| {
            sequence.insert(elements, array, index, birth, value)
        })?;
        self.note_own(array, spot, seq);
        self.note_step(spot, true, journal);
        Some(spot)
    }

    /// As [`insert_born`](Self::insert_born), of several in a row, with this dot and those that
    /// follow it.
    pub(crate) fn insert_all_born(
        &mut self,
        array: u32,
        index: Option<usize>,
        mut values: impl Iterator<Item = Value>,
        (seq, timestamp): (u64, Timestamp),
        journal: &mut Journal,
    ) {
        let Some(first) = values.next() else {
            return;
        };
        let first = self.insert_born(array, index, first, (seq, timestamp), journal);
        let Some(first) = first else {
            return;
        };
        let birth = self.own_birth(seq + 1, timestamp);
        let spots = self.with_sequence(array, |sequence, elements| {
            sequence.insert_behind(elements, first, index.is_none(), birth, values)
        });
        let spots = spots.unwrap_or_default();
        let later = self.may_hash_later(seq + 1);
        for (spot, seq) in spots.iter().zip(seq + 1..) {
            self.replicas.get_mut(self.own).placed.insert(seq, *spot, 0);
            if later {
                self.note_unhashed(*spot);
            } else {
                self.note_birth(*spot);
            }
        }
        self.live += spots.len();
        self.containers.get_mut(array).records += spots.len() as u32;
        if journal.is_observed() {
            for spot in spots {
                self.note_step(spot, true, journal);
            }
        }
    }

    fn own_birth(&self, seq: u64, timestamp: Timestamp) -> Birth {
        Birth {
            replica: self.own,
            id: self.replica(),
            seq,
            timestamp,
        }
    }

    /// Notes an element that was just born here.
    fn note_own(&mut self, array: u32, spot: Spot, seq: u64) {
        self.replicas.get_mut(self.own).placed.insert(seq, spot, 0);
        if self.may_hash_later(seq) {
            self.note_unhashed(spot);
        } else {
            self.note_birth(spot);
        }
        self.live += 1;
        self.containers.retain(array);
    }

    /// The element at an index.
    pub(crate) fn element_at(&self, array: u32, index: usize) -> Option<Spot> {
        self.sequence(array)?.at(&self.elements, index)
    }

    /// What was written to an element after its birth.
    pub(crate) fn written(&self, element: Spot) -> Option<Slot> {
        let position = &self.elements[element];
        self.written_under(position.array(), self.dot_of_position(position))
    }

    /// What was written to an element of this id after its birth.
    #[inline]
    pub(crate) fn written_under(&self, array: u32, id: Dot) -> Option<Slot> {
        if self.containers.get(array).written == 0 {
            return None;
        }
        self.find(array, KeyRef::Element(id))
    }

    /// Lets every element show that has something to show, where it belongs. The last element of
    /// an array that comes or goes may be all that the element shows which holds the array.
    #[inline]
    pub(crate) fn settle(&mut self, journal: &mut Journal) {
        if !self.unsettled.moves.is_empty() || !self.unsettled.elements.is_empty() {
            self.settle_all(journal);
        }
    }

    fn settle_all(&mut self, journal: &mut Journal) {
        while let Some((moves, id)) = self.unsettled.moves.pop() {
            self.settle_place(moves, id, journal);
        }
        // In the order in which they came, so that what is told can be followed.
        let mut next = 0;
        while let Some(id) = self.unsettled.elements.get(next).copied() {
            next += 1;
            let Some(element) = self.spot(id).filter(|spot| !self.elements[*spot].moved()) else {
                continue; // it shows when its position is known
            };
            let shown = self.elements[element].born().is_some() || self.written(element).is_some();
            self.show(element, shown, journal);
        }
        self.unsettled.elements.clear();
        if self.unsettled.elements.capacity() > 1024 {
            self.unsettled.elements = Vec::new();
        }
    }

    fn settle_place(&mut self, moves: u32, id: Dot, journal: &mut Journal) {
        let Some(element) = self.spot(id).filter(|spot| !self.elements[*spot].moved()) else {
            return;
        };
        let moves = self.find(moves, KeyRef::Element(id)).unwrap_or(NONE);
        // A move counts when its position is known; till then the one behind it does, so that it
        // does not matter in which order they came.
        let place = self
            .chain(moves)
            .filter_map(|slot| self.spot(self.dot(slot)))
            .find(|spot| self.orphans.origin(*spot).is_none());
        let place = place.unwrap_or(element);
        if self.elements.place(element) == place {
            return;
        }
        let array = self.elements[element].array();
        self.note_step(element, false, journal);
        if self.elements[element].shown() {
            self.unearth(place);
        } else {
            self.entomb(place); // where it would stand, it waits anew
        }
        self.entomb(self.elements.place(element));
        self.with_sequence(array, |sequence, elements| {
            sequence.relocate(elements, element, place);
        });
        self.note_step(element, true, journal);
    }

    /// Hides an element whose position is about to go: where others have written to it before it
    /// was inserted, it shows without the value that it was born with.
    pub(crate) fn hide(&mut self, position: Spot, journal: &mut Journal) {
        if self.elements.of(position) == position {
            self.show(position, false, journal);
        }
    }

    fn show(&mut self, element: Spot, shown: bool, journal: &mut Journal) {
        if self.elements[element].shown() == shown || self.is_orphan(element) {
            return;
        }
        let array = self.elements[element].array();
        if shown {
            self.unearth(self.elements.place(element));
            self.unearth(element);
        } else {
            self.note_step(element, false, journal);
            self.entomb(self.elements.place(element));
            if self.elements.place(element) != element {
                self.entomb(element);
            }
        }
        self.with_sequence(array, |sequence, elements| {
            sequence.show(elements, element, shown);
        });
        if shown {
            self.note_step(element, true, journal);
        }
    }

    /// Whether the position at which an element stands is not known so far.
    pub(crate) fn is_orphan(&self, element: Spot) -> bool {
        let place = self.elements.place(element);
        self.orphans.origin(place).is_some()
    }

    /// The index, among the others, of a position at which an element has stood.
    pub(crate) fn rank_at(&mut self, element: Spot, place: Spot) -> Option<usize> {
        let array = self.elements[element].array();
        let now = self.elements.place(element);
        self.with_sequence(array, |sequence, elements| {
            sequence.relocate(elements, element, place);
            let rank = sequence.rank_of(elements, element);
            sequence.relocate(elements, element, now);
            rank
        })
    }

    /// Moves an element with the dot `own:seq`, to an index among the others.
    pub(crate) fn move_element(
        &mut self,
        element: Spot,
        to: usize,
        seq: u64,
        timestamp: Timestamp,
        journal: &mut Journal,
    ) {
        let id = self.dot_at(element);
        let array = self.elements[element].array();
        let moves = self.moves_of(array);
        let birth = Birth {
            replica: self.own,
            id: self.replica(),
            seq,
            timestamp,
        };
        self.note_step(element, false, journal);
        self.entomb(self.elements.place(element));
        let place = self.with_sequence(array, |sequence, elements| {
            sequence.shift(elements, array, element, to, birth)
        });
        self.note_step(element, true, journal);
        if let Some(place) = place {
            self.tombstones.note_move(element);
            if !self.elements[element].shown() {
                self.entomb(place); // a move taken back, of an element that was deleted since
            }
            self.replicas.get_mut(self.own).placed.insert(seq, place, 0);
            self.containers.retain(array);
        }
        self.put(
            moves,
            Key::Element(id),
            Value::Null,
            seq,
            timestamp,
            &mut journal.removed,
        );
    }

    /// The container of moves of an array.
    fn moves_of(&mut self, array: u32) -> u32 {
        let known = self.containers.get(array);
        let (parent, key) = (known.parent, known.key.clone());
        self.containers.intern(parent, &key, Form::Moves)
    }

    /// Places a position of any replica. A value that is given is live.
    pub(crate) fn place_position(
        &mut self,
        array: u32,
        dot: (u32, u64),
        timestamp: Timestamp,
        origin: Origin,
        value: Option<Value>,
        journal: &mut Journal,
    ) {
        let (replica, seq) = dot;
        let birth = Birth {
            replica,
            id: self.replicas.get(replica).id,
            seq,
            timestamp,
        };
        let live = value.is_some();
        // Before it is known itself: damaged bytes may have it wait for itself.
        let awaited = self.awaited(array, &origin);
        let spot = self.elements.add(array, birth, value, None);
        self.replicas.get_mut(replica).placed.insert(seq, spot, 0);
        self.containers.retain(array);
        if live {
            self.live += 1;
            self.note_birth(spot);
        }
        match awaited {
            Some(awaited) => self.wait_for(awaited, spot, origin),
            None => self.link_position(spot, origin, journal),
        }
    }

    /// As [`place_position`](Self::place_position) of each in turn, for a run of positions that
    /// are all new here. How many have a live value; their fingerprints may come `later`.
    pub(crate) fn place_run(
        &mut self,
        array: u32,
        run: &Run,
        replica: u32,
        (values, times): (&[Option<Value>], &[Timestamp]),
        later: bool,
        journal: &mut Journal,
    ) -> u64 {
        // Before its positions are known: damaged bytes may have it wait for itself.
        let awaited = self.awaited(array, &run.origin(0));
        let waits = awaited.is_some() || !self.orphans.waiting.is_empty();
        let birth = Birth {
            replica,
            id: run.replica,
            seq: run.first,
            timestamp: Timestamp::default(),
        };
        let stamped = values.iter().zip(times.iter().copied());
        let mut shown: Vec<bool> = values.iter().map(Option::is_some).collect();
        let spots: Vec<Spot> = if waits || run.adopted.is_some() {
            let births = stamped.zip(run.first..);
            let births = births.map(|((value, timestamp), seq)| {
                let birth = Birth {
                    seq,
                    timestamp,
                    ..birth
                };
                self.elements.add(array, birth, value.clone(), None)
            });
            births.collect()
        } else {
            if self.containers.get(array).written > 0 {
                for (at, shown) in (0..).zip(&mut shown) {
                    *shown = *shown || self.written_under(array, run.dot(at)).is_some();
                }
            }
            let elements = &mut self.elements;
            elements.add_run(array, birth, run.chain, stamped, |at| shown[at])
        };
        let live = self.note_births(replica, run.first, &spots, later);
        self.containers.get_mut(array).records += run.length;
        if waits || run.adopted.is_some() {
            let mut awaited = awaited;
            for (at, spot) in (0..).zip(spots) {
                let origin = run.origin(at);
                let awaited = match at {
                    0 => awaited.take(),
                    _ => self.awaited(array, &origin),
                };
                match awaited {
                    Some(awaited) => self.wait_for(awaited, spot, origin),
                    None => self.link_position(spot, origin, journal),
                }
            }
            return live;
        }
        let parent = run.parent.and_then(|parent| self.spot(parent));
        let parent = parent.unwrap_or(NOWHERE);
        self.with_sequence(array, |sequence, elements| {
            sequence.place_run(elements, &spots, parent, run.side, run.chain, &shown);
        });
        self.keep_parent(parent);
        for (spot, shown) in spots.iter().zip(&shown) {
            if !shown {
                self.entomb(*spot);
            }
        }
        if journal.is_observed() || self.containers.have_moves() {
            for spot in spots {
                self.note_step(spot, true, journal);
                journal.found(spot);
                let dot = self.dot_at(spot);
                self.unsettle_place(array, dot);
            }
        }
        live
    }

    /// A position that shows nothing stays until its children, too, are stable.
    fn keep_parent(&mut self, parent: Spot) {
        if parent == NOWHERE {
            return;
        }
        let element = self.elements.of(parent);
        if !self.elements[element].shown() || self.elements.place(element) != parent {
            self.entomb(parent);
        }
    }

    /// What a position has to wait for: the parent to have its place in the same array, and the
    /// element to be known there.
    fn awaited(&self, array: u32, origin: &Origin) -> Option<Dot> {
        let here = |dot: Dot| {
            let spot = self.spot(dot)?;
            let there = self.elements[spot].array() == array;
            (there && self.orphans.origin(spot).is_none()).then_some(spot)
        };
        let parent = origin.parent.filter(|parent| here(*parent).is_none());
        let unborn = |of: &Dot| here(*of).is_none_or(|spot| self.elements[spot].moved());
        parent.or_else(|| origin.of.filter(unborn))
    }

    /// Gives a position its place in the order, and then those that waited for it.
    fn link_position(&mut self, spot: Spot, origin: Origin, journal: &mut Journal) {
        let mut ready = vec![(spot, origin)];
        while let Some((spot, origin)) = ready.pop() {
            let array = self.elements[spot].array();
            let parent = origin.parent.and_then(|parent| self.spot(parent));
            let parent = parent.unwrap_or(NOWHERE);
            let born = origin.of.is_none();
            if let Some(element) = origin.of.and_then(|of| self.spot(of)) {
                self.elements.assign(spot, element);
                self.tombstones.note_move(element);
            }
            let shown =
                born && (self.elements[spot].born().is_some() || self.written(spot).is_some());
            self.with_sequence(array, |sequence, elements| match origin.adopted {
                None => sequence.place(elements, spot, parent, origin.side, shown),
                Some((rank, ordinal)) => {
                    let side = origin.side;
                    let origin = sequence::Origin {
                        parent,
                        side,
                        rank,
                        ordinal,
                    };
                    sequence.place_ranked(elements, spot, origin, shown);
                }
            });
            if born {
                journal.found(spot);
            }
            if shown {
                self.note_step(spot, true, journal);
            } else {
                self.entomb(spot);
            }
            self.keep_parent(parent);
            let dot = self.dot_at(spot);
            if let Some(id) = origin.of.or(Some(dot)) {
                self.unsettle_place(array, id);
            }
            if self.orphans.waiting.is_empty() {
                continue;
            }
            let hash = self.index.hash(ROOT, KeyRef::Element(dot));
            for waiting in self.orphans.take(hash, dot) {
                let Some(origin) = self.orphans.origins.remove(waiting) else {
                    continue;
                };
                match self.awaited(self.elements[waiting].array(), &origin) {
                    Some(awaited) => self.wait_for(awaited, waiting, origin),
                    None => ready.push((waiting, origin)),
                }
            }
        }
    }

    /// Has a position wait for another.
    fn wait_for(&mut self, awaited: Dot, spot: Spot, origin: Origin) {
        let hash = self.index.hash(ROOT, KeyRef::Element(awaited));
        self.orphans.add(hash, awaited, spot, origin);
    }

    /// Has it found out where an element stands, if anything in its array has moved.
    fn unsettle_place(&mut self, array: u32, id: Dot) {
        if !self.containers.have_moves() {
            return;
        }
        let known = self.containers.get(array);
        if let Some(moves) = self.containers.find(known.parent, &known.key, Form::Moves) {
            self.unsettled.moves.push((moves, id));
        }
    }

    /// Takes a position out that shows nothing, and to which nobody refers.
    pub(crate) fn remove_position(&mut self, spot: Spot) {
        self.unearth(spot);
        let element = &self.elements[spot];
        let (array, replica, seq) = (element.array(), element.replica(), element.seq());
        if self.elements[spot].moved() {
            self.tombstones.forget_move(self.elements.of(spot));
        }
        if self.orphans.origin(spot).is_none() {
            self.with_sequence(array, |sequence, elements| sequence.remove(elements, spot));
        } else {
            self.orphans.origins.remove(spot);
            self.orphans.waiting.retain(|all| {
                all.retain_mut(|waiting| {
                    waiting.spots.retain(|other| *other != spot);
                    !waiting.spots.is_empty()
                });
                !all.is_empty()
            });
        }
        self.elements.remove(spot);
        self.replicas.get_mut(replica).placed.remove(seq, 0);
        self.containers.release(array);
    }

    /// Has an element remember what it held last, when the last value under its id goes.
    #[inline]
    pub(crate) fn keep_last(&mut self, slot: Slot) {
        if self.slab[slot].container != ROOT {
            self.keep_last_inside(slot);
        }
    }

    fn keep_last_inside(&mut self, slot: Slot) {
        let entry = &self.slab[slot];
        let array = self.containers.get(entry.container).form == Form::Array;
        if let (Key::Element(id), true, false) = (&entry.key, array, entry.is_container()) {
            let value = entry.value.clone();
            if let Some(element) = self.element_in(entry.container, *id) {
                let known = &mut self.elements[element];
                if let Some(forgotten) = &mut self.forgotten {
                    forgotten.push((element, known.last().cloned()));
                }
                known.keep(value);
            }
        }
    }

    /// What an element last held, where it is deleted and can come back.
    pub(crate) fn last_value(&self, element: Spot) -> Result<Value, Error> {
        if self.elements[element].is_sealed() {
            return Err(Error::NoSuchElement);
        }
        let last = self.elements[element].last();
        last.cloned().ok_or(Error::NoSuchElement)
    }
}
