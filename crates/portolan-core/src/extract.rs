//! Deltas and snapshots out of the state.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::containers::ROOT;
#[cfg(feature = "packing")]
use crate::delta::encode_packed;
use crate::delta::{Delta, DeltaEntry, EntryRef, encode};
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::limits::MAX_DEPTH;
use crate::nested::{DeltaContainer, Nested, Run};
#[cfg(not(feature = "small"))]
use crate::rows::Rows;
use crate::sequence::{NOWHERE, Side, Spot};
use crate::slab::{BIRTH, Slot};
use crate::sorting::sort;
use crate::spotmap::SpotMap;

impl Document {
    /// What a replica at `version` lacks. Costs the difference; where the log of what was removed
    /// meanwhile is gone, it names all that is known to be dead and that the other may hold live,
    /// and costs as much as there are gaps among the live operations.
    pub fn delta_since(&self, version: &Version) -> Delta {
        self.delta_for(self.replicas.applied_beyond(version))
    }

    /// What stands for these of the applied operations.
    ///
    /// Either the operations of the latest transaction, or all that the receiver may lack: what a
    /// delta shows as dead, an operation in it must have removed, or one that the receiver has.
    pub fn delta_of(&self, operations: &DotSet) -> Delta {
        self.delta_for(self.replicas.split(operations, true))
    }

    /// What stands for the own operations numbered above `seq`.
    pub fn own_since(&self, seq: u64) -> Delta {
        match self.own_seq() {
            last if last > seq => self.delta_of(&DotSet::from_range(self.replica(), seq + 1, last)),
            _ => Delta::default(),
        }
    }

    /// The whole state.
    pub fn snapshot(&self) -> Delta {
        self.compose(self.version(), self.replicas.early(), self.sorted())
    }

    /// The bytes of the [`snapshot`](Self::snapshot): equal for equal states, whatever led there.
    pub fn encode(&self) -> Vec<u8> {
        if crate::SMALL || !self.containers.is_flat() {
            return self.snapshot().encode();
        }
        let (applied, dead) = (self.version(), self.replicas.early());
        #[cfg(not(feature = "small"))]
        if let Some(rows) = Rows::of(self) {
            return rows.encode(&applied, &dead);
        }
        let slots = self.sorted();
        let entries = slots.iter().map(|slot| {
            let of = self.slab.operation(*slot);
            let dot = self.replicas.dot(of.replica, of.seq);
            EntryRef::new(ROOT, of.key, of.value, dot, of.timestamp)
        });
        encode(&applied, &dead, None, entries)
    }

    /// As [`encode`](Self::encode), in fewer bytes, as [`Delta::encode_packed`].
    #[cfg(feature = "packing")]
    pub fn encode_packed(&self) -> Vec<u8> {
        if !self.containers.is_flat() {
            return self.snapshot().encode_packed();
        }
        let (applied, dead) = (self.version(), self.replicas.early());
        #[cfg(not(feature = "small"))]
        if let Some(rows) = Rows::of(self) {
            return rows.encode_packed(&applied, &dead);
        }
        let slots = self.sorted();
        let entries = slots.iter().map(|slot| {
            let of = self.slab.operation(*slot);
            let dot = self.replicas.dot(of.replica, of.seq);
            EntryRef::new(ROOT, of.key, of.value, dot, of.timestamp)
        });
        encode_packed(&applied, &dead, None, entries)
    }

    fn delta_for(&self, applied: DotSet) -> Delta {
        let removed = self.log.removed_by(&applied).unwrap_or_else(|| {
            let other = self.version().difference(&applied);
            self.dead_among(&other).union(&self.replicas.early())
        });
        let dead = removed.difference(&applied);
        let slots = self.live_among(&applied);
        self.compose(applied, dead, slots)
    }

    /// Those of the applied operations `among` that are not live.
    pub(crate) fn dead_among(&self, among: &DotSet) -> DotSet {
        let mut dead = DotSet::new();
        for range in among.ranges() {
            if let Some(known) = self.replicas.by_id(range.replica) {
                known.live.gaps(range.first, range.last, |first, last| {
                    dead.insert_range(range.replica, first, last);
                    true
                });
            }
        }
        dead
    }

    /// As [`dead_among`](Self::dead_among), where it takes at most so many ranges.
    pub(crate) fn few_dead_among(&self, among: &DotSet, limit: usize) -> Option<DotSet> {
        let mut dead = DotSet::new();
        for range in among.ranges() {
            if let Some(known) = self.replicas.by_id(range.replica) {
                known.live.gaps(range.first, range.last, |first, last| {
                    dead.insert_range(range.replica, first, last);
                    dead.ranges().len() <= limit
                });
            }
            if dead.ranges().len() > limit {
                return None;
            }
        }
        Some(dead)
    }

    /// The slots of the operations among `applied` that are live in maps, sets and counters.
    pub(crate) fn live_among(&self, applied: &DotSet) -> Vec<Slot> {
        let mut slots = Vec::new();
        for range in applied.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            let live = known.live.range(range.first, range.last);
            slots.extend(live.map(|(_, slot)| slot).filter(|slot| slot & BIRTH == 0));
        }
        slots
    }

    /// A delta of these operations and the entries in `slots`, which are some of them.
    pub(crate) fn compose(&self, applied: DotSet, dead: DotSet, slots: Vec<Slot>) -> Delta {
        let entries = slots.into_iter().map(|slot| self.delta_entry(slot));
        let mut entries: crate::delta::Entries = entries.collect();
        let mut nested = None;
        if !self.containers.is_flat() {
            let spots = self.positions_among(&applied);
            let inner = entries.iter().any(|entry| entry.container != ROOT);
            if inner || !spots.is_empty() {
                nested = Some(Box::new(self.compose_nested(&mut entries, &spots)));
            }
        }
        let mut delta = Delta {
            applied,
            dead,
            entries,
            nested,
        };
        delta.sort();
        delta
    }

    /// The positions that operations among `applied` made, by dot.
    fn positions_among(&self, applied: &DotSet) -> Vec<Spot> {
        let mut spots = Vec::new();
        for range in applied.ranges() {
            if let Some(known) = self.replicas.by_id(range.replica) {
                let placed = known.placed.range(range.first, range.last);
                spots.extend(placed.map(|(_, spot)| spot));
            }
        }
        spots
    }

    /// The containers and positions of a delta; gives the entries the numbers of their containers
    /// in it.
    fn compose_nested(&self, entries: &mut [DeltaEntry], spots: &[Spot]) -> Nested {
        let arrays = spots.iter().map(|spot| self.elements[*spot].array());
        let inner = entries.iter().map(|entry| entry.container).chain(arrays);
        let (containers, numbers) = self.containers_above(inner);
        for entry in entries.iter_mut() {
            entry.container = numbers.get(entry.container).copied().unwrap_or(ROOT);
        }
        let mut nested = Nested {
            containers,
            runs: Vec::new(),
            births: Vec::with_capacity(spots.len()),
            times: Vec::with_capacity(spots.len()),
        };
        let mut array = (ROOT, 0);
        for spot in spots {
            let element = &self.elements[*spot];
            if array.0 != element.array() {
                let number = numbers.get(element.array()).copied().unwrap_or(ROOT);
                array = (element.array(), number);
            }
            nested.births.push(element.born().cloned());
            nested.times.push(element.timestamp());
            let dot = self.dot_at(*spot);
            let parent = element.parent();
            let mut run = Run {
                container: array.1,
                replica: dot.replica,
                first: dot.seq,
                length: 1,
                parent: (parent != NOWHERE).then(|| self.dot_at(parent)),
                side: if parent == NOWHERE {
                    Side::Right
                } else {
                    element.side()
                },
                chain: false,
                of: element
                    .moved()
                    .then(|| self.dot_at(self.elements.of(*spot))),
                adopted: None,
            };
            if element.adopted()
                && let Some(sequence) = self.sequence(element.array())
            {
                let origin = sequence.origin(&self.elements, *spot);
                run.adopted = Some((origin.rank, origin.ordinal));
            }
            if let Some(origin) = self.orphans.origin(*spot) {
                (run.parent, run.side, run.of) = (origin.parent, origin.side, origin.of);
                run.adopted = origin.adopted;
            }
            if run.parent.is_none() {
                run.side = Side::Right; // the array itself has children on one side only
            }
            let next = match nested.runs.last_mut() {
                Some(last) => last.extend(run),
                None => Some(run),
            };
            nested.runs.extend(next);
        }
        nested
    }

    /// The containers with these numbers and all above them, in the order of a delta; and the
    /// number that each has there.
    fn containers_above(
        &self,
        inner: impl Iterator<Item = u32>,
    ) -> (Vec<DeltaContainer>, SpotMap<u32>) {
        let mut numbers = SpotMap::<u32>::default();
        for container in inner {
            let mut at = container;
            while at != ROOT && numbers.insert(at, 0).is_none() {
                at = self.containers.get(at).parent;
            }
        }
        let mut listed = Vec::new();
        for depth in 1..=MAX_DEPTH {
            let mut level: Vec<(DeltaContainer, u32)> = Vec::new();
            for (number, _) in numbers.iter() {
                let number = number as u32;
                if self.containers.depth(number) == depth {
                    let known = self.containers.get(number);
                    let parent = numbers.get(known.parent).copied().unwrap_or(ROOT);
                    let (key, form) = (known.key.clone(), known.form);
                    level.push((DeltaContainer { parent, key, form }, number));
                }
            }
            if level.is_empty() {
                break;
            }
            sort(&mut level);
            for (container, number) in level {
                listed.push(container);
                numbers.insert(number, listed.len() as u32);
            }
        }
        (listed, numbers)
    }

    pub(crate) fn delta_entry(&self, slot: Slot) -> DeltaEntry {
        let of = self.slab.operation(slot);
        DeltaEntry {
            container: of.container,
            key: of.key.clone(),
            value: of.value.clone(),
            dot: self.replicas.dot(of.replica, of.seq),
            timestamp: of.timestamp,
        }
    }

    /// Every live slot, in the order of (local) containers, keys and siblings.
    fn sorted(&self) -> Vec<Slot> {
        let heads = self.sorted_heads();
        if self.live == heads.len() && self.containers.is_flat() {
            return heads;
        }
        let mut slots = Vec::with_capacity(self.live);
        for head in heads {
            slots.extend(self.value_slots(head));
        }
        slots
    }
}
