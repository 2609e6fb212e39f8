//! Letting go of what only replicas need that have fallen behind: once everybody has applied an
//! operation, and everything that was done without knowing of it is here, nothing can refer any
//! more to what it removed.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::containers::Form;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::key::KeyRef;
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};
use crate::sequence::{Position, Spot};
use crate::slab::{BIRTH, Slot};
use crate::sorting::sort;
use crate::spotmap::SpotMap;
use crate::value::Value;

/// Positions that show nothing, and resets of counters, until they are stable.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    fresh: Batch,
    /// Those there were at a version, which is waited for.
    marked: Option<(Version, Batch)>,
    /// Those there were at versions that are stable, until everybody knows that, oldest first.
    sealed: VecDeque<(Version, Batch)>,
    /// Of elements that have moved: to how many positions.
    moves: SpotMap<u32>,
    /// All that was deleted at this version is sealed, or was brought back since.
    sealed_at: Version,
    /// Of each marked position the batch that it is in: in others its name is out of date.
    batches: SpotMap<u64>,
    last_batch: u64,
}

#[derive(Debug, Default)]
struct Batch {
    number: u64,
    positions: Vec<Spot>,
    /// The dots of resets, with the counter's epoch.
    resets: Vec<(Dot, Dot)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.resets.is_empty()
    }
}

impl Tombstones {
    fn is_in(&self, position: Spot, batch: u64) -> bool {
        self.batches.get(position) == Some(&batch)
    }

    /// How many are noted that no batch has so far.
    #[inline]
    pub(crate) fn noted(&self) -> (usize, usize) {
        (self.fresh.positions.len(), self.fresh.resets.len())
    }

    /// An element has got one more position.
    pub(crate) fn note_move(&mut self, element: Spot) {
        match self.moves.get_mut(element) {
            Some(moves) => *moves += 1,
            None => drop(self.moves.insert(element, 1)),
        }
    }

    /// An element has one position less, of those that it moved to.
    pub(crate) fn forget_move(&mut self, element: Spot) {
        if let Some(moves) = self.moves.get_mut(element) {
            *moves -= 1;
            if *moves == 0 {
                self.moves.remove(element);
            }
        }
    }

    /// Operations that are waited for are called otherwise.
    pub(crate) fn rename(&mut self, renaming: &Renaming) {
        let waiting = self.marked.iter_mut().chain(&mut self.sealed);
        let versions = waiting.map(|(at, _)| at);
        for version in versions.chain([&mut self.sealed_at]) {
            *version = renaming.dots(version);
        }
    }

    pub(crate) fn note_reset(&mut self, dot: Dot, epoch: Dot) {
        self.fresh.resets.push((dot, epoch));
    }
}

impl Document {
    /// Lets go of what only replicas need that lack operations in `stable`, and everybody knows
    /// that there are none: the positions of deleted elements, what resets of counters have seen,
    /// and the log of what the operations removed.
    ///
    /// `stable` holds what every replica that may still write has applied, as each has
    /// acknowledged, and all that these had done before is applied here. From then on no element
    /// comes back from here whose deletion is in it. `settled` holds what every such replica has
    /// called this with as stable, and all that these had done before is applied here. A replica
    /// of which that is not true has to begin anew from the whole state.
    ///
    /// A batch of what is deleted is formed at each call that finds the one before it stable, and
    /// goes when the version it was formed at is settled. Costs what goes.
    pub fn forget_stable(&mut self, stable: &Version, settled: &Version) {
        self.forget_stable_among(stable, settled, |_| true);
    }

    /// As [`forget_stable`](Self::forget_stable), where not all replicas that may still write are
    /// asked what they have: of the counters to which others than the `present` ones have added,
    /// what resets have seen of these additions stays. Whether positions went.
    pub(crate) fn forget_stable_among(
        &mut self,
        stable: &Version,
        settled: &Version,
        present: impl Fn(ReplicaId) -> bool,
    ) -> bool {
        self.prune_log(stable);
        let now = self.version();
        loop {
            match self.tombstones.marked.take() {
                Some((at, batch)) if stable.covers(&at) => self.seal_batch(at, batch),
                Some(waiting) => {
                    self.tombstones.marked = Some(waiting);
                    break;
                }
                None => {
                    let batch = self.mark_tombstones();
                    if batch.is_empty() {
                        self.tombstones.sealed_at.union_with(stable);
                        break;
                    }
                    self.tombstones.marked = Some((now.clone(), batch));
                }
            }
        }
        let ready = |sealed: &VecDeque<(Version, Batch)>| {
            sealed.front().is_some_and(|(at, _)| settled.covers(at))
        };
        let before = self.elements.len();
        while ready(&self.tombstones.sealed) {
            if let Some((_, batch)) = self.tombstones.sealed.pop_front() {
                self.drop_batch(batch, &present);
            }
        }
        self.elements.len() < before
    }

    /// What is deleted at this version, or at any before it, does not come back from here.
    pub(crate) fn sealed_at(&self) -> &Version {
        &self.tombstones.sealed_at
    }

    /// Whether anything waits to become stable: positions that show nothing, resets of counters,
    /// the log.
    pub fn has_past(&self) -> bool {
        let tombstones = &self.tombstones;
        !tombstones.fresh.is_empty()
            || tombstones.marked.is_some()
            || !tombstones.sealed.is_empty()
            || !self.log.is_empty()
    }

    /// As if all positions that show nothing had been sealed, for a replica that was started
    /// again: what it has called stable before, it does not know any more.
    pub(crate) fn seal_all(&mut self, at: &Version) {
        for position in &self.tombstones.fresh.positions {
            if self.elements.get(*position).is_some() && self.is_tombstone(*position) {
                self.elements[*position].seal();
            }
        }
        self.tombstones.sealed_at.union_with(at);
    }

    /// Nothing in the batch is used again from here.
    fn seal_batch(&mut self, at: Version, batch: Batch) {
        for position in &batch.positions {
            if self.tombstones.is_in(*position, batch.number) {
                self.elements[*position].seal();
            }
        }
        self.tombstones.sealed_at.union_with(&at);
        self.tombstones.sealed.push_back((at, batch));
    }

    /// How many positions are held that show nothing.
    pub fn tombstones(&self) -> usize {
        let tombstones = &self.tombstones;
        let waiting = tombstones.marked.iter().chain(&tombstones.sealed);
        let waiting = waiting.map(|(_, batch)| batch.positions.len());
        tombstones.fresh.positions.len() + waiting.sum::<usize>()
    }

    /// Drops what was noted, after so many, by a transaction that has been taken back; but for
    /// positions that show nothing all the same.
    pub(crate) fn drop_notes(&mut self, (positions, resets): (usize, usize)) {
        let mut fresh = core::mem::take(&mut self.tombstones.fresh);
        let noted = fresh.positions.split_off(positions);
        let buried = noted
            .into_iter()
            .filter(|position| self.is_tombstone(*position));
        fresh.positions.extend(buried);
        fresh.resets.truncate(resets);
        self.tombstones.fresh = fresh;
    }

    /// Whether there is a position that shows nothing.
    fn is_tombstone(&self, position: Spot) -> bool {
        self.elements.get(position).is_some_and(|known| {
            let of = if known.moved() {
                self.elements.of(position)
            } else {
                position
            };
            !self.elements[of].shown() || self.elements.place(of) != position
        })
    }

    /// The tombstones there are at present.
    fn mark_tombstones(&mut self) -> Batch {
        let mut batch = core::mem::take(&mut self.tombstones.fresh);
        self.tombstones.last_batch += 1;
        batch.number = self.tombstones.last_batch;
        batch.positions.retain(|position| {
            let marked = self
                .elements
                .get(*position)
                .is_some_and(Position::is_marked);
            let fresh = !marked && self.is_tombstone(*position);
            if fresh {
                self.elements[*position].mark();
                self.tombstones.batches.insert(*position, batch.number);
            }
            fresh
        });
        batch
    }

    fn drop_batch(&mut self, mut batch: Batch, present: impl Fn(ReplicaId) -> bool) {
        // Those that have been used again, or got a child, wait once more if they are buried.
        batch.positions.retain(|position| {
            let current = self.tombstones.is_in(*position, batch.number);
            if current {
                self.unearth(*position);
            }
            current
        });
        // Where elements moved to goes before the positions that name them; of others the younger
        // ones first, which are beneath the older.
        sort(&mut batch.positions);
        let (moves, births): (Vec<Spot>, Vec<Spot>) = batch
            .positions
            .into_iter()
            .rev()
            .partition(|position| self.elements[*position].moved());
        let mut gone = DotSet::new();
        for position in moves.into_iter().chain(births) {
            let dot = self.dot_at(position);
            self.drop_position(position);
            if self.spot(dot).is_none() {
                gone.insert(dot);
            }
        }
        self.past.forget_elements(&gone);
        for (reset, epoch) in batch.resets {
            if present(epoch.replica) {
                self.drop_reset(reset, epoch);
            } else {
                self.tombstones.note_reset(reset, epoch);
            }
        }
        self.containers.sweep();
    }

    /// A position shows nothing any more, or has got a child though it shows nothing: it waits
    /// from now on.
    #[inline]
    pub(crate) fn entomb(&mut self, position: Spot) {
        self.unearth(position);
        self.tombstones.fresh.positions.push(position);
    }

    /// A position shows something again: it waits anew when that ends.
    pub(crate) fn unearth(&mut self, position: Spot) {
        let known = &mut self.elements[position];
        if known.is_marked() {
            self.tombstones.batches.remove(position);
        }
        known.unmark();
    }

    fn drop_position(&mut self, position: Spot) {
        let element = self.elements.of(position);
        let here = self.elements.place(element) == position;
        let names = element == position || here;
        if names && self.elements[element].shown() {
            return; // the element's name, or where it stands
        }
        // Where it stood before may go while it is not stable that it is deleted: if it comes back,
        // its moves tell where.
        if names && let Some(head) = self.moves_of_element(element) {
            // Whatever the element was moved to goes with it.
            let moves: Vec<Slot> = self.chain(head).collect();
            self.kill(moves);
            self.unsettled.moves.clear();
        }
        if element == position && self.tombstones.moves.contains(element) {
            return self.entomb(position); // it names what stands elsewhere still
        }
        // A move that lost against a concurrent one: whoever moves the element again, or has moved
        // it without knowing of both, removes both or wins against it.
        let dot = self.dot_at(position);
        let loser = self.replicas.by_id(dot.replica);
        if let Some(slot) = loser.and_then(|known| known.live.get(dot.seq)) {
            self.kill([slot]);
            self.unsettled.moves.clear();
        }
        if here && element != position {
            let array = self.elements[element].array();
            self.with_sequence(array, |sequence, elements| {
                sequence.relocate(elements, element, element);
            });
        }
        self.remove_position(position);
    }

    fn moves_of_element(&self, element: Spot) -> Option<Slot> {
        if !self.containers.have_moves() {
            return None;
        }
        let array = self.containers.get(self.elements[element].array());
        let moves = self
            .containers
            .find(array.parent, &array.key, Form::Moves)?;
        self.find(moves, KeyRef::Element(self.dot_at(element)))
    }

    /// Drops the note of a reset, unless it is still to be taken from a sum.
    fn drop_reset(&mut self, reset: Dot, epoch: Dot) {
        let Some(slot) = self
            .replicas
            .by_id(reset.replica)
            .and_then(|known| known.live.get(reset.seq))
            .filter(|slot| slot & BIRTH == 0)
        else {
            return;
        };
        let counter = self.slab[slot].container;
        if self
            .containers
            .get(counter)
            .form
            .keeps(&self.slab[slot].value)
        {
            return; // no reset by that name any more
        }
        let head = self.find(counter, KeyRef::Element(epoch));
        let values = head.into_iter().flat_map(|head| self.values(head));
        let sums = values.filter(|entry| matches!(entry.value, Value::Int(_)));
        if sums.count() > 0 {
            self.tombstones.note_reset(reset, epoch);
            return;
        }
        self.kill([slot]);
    }
}
