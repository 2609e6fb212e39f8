//! Sequences of several replicas against a plain tree.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::replica::ReplicaId;

/// A position's name: its replica's number, and its sequence number there.
pub(super) type Name = (u32, u64);

/// Ids that do not ascend as the numbers do.
const IDS: [u64; 3] = [5, 1, 9];

pub(super) fn birth((replica, seq): Name, timestamp: u64) -> Birth {
    Birth {
        replica,
        id: ReplicaId::new(IDS.get(replica as usize).copied().unwrap_or(replica.into())),
        seq,
        timestamp: Timestamp::from_bits(timestamp),
    }
}

fn integers(count: usize) -> impl Iterator<Item = Value> {
    (0..count as i64).map(Value::from)
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A run: each further one is the right child of the one before, or all are appended.
    Insert {
        first: Name,
        timestamp: u64,
        parent: Option<Name>,
        side: Side,
        count: u64,
        append: bool,
    },
    Show {
        element: Name,
        shown: bool,
        stamp: (u64, u32),
    },
    Move {
        position: Name,
        timestamp: u64,
        element: Name,
        parent: Option<Name>,
        side: Side,
        stamp: (u64, u32),
    },
}

impl Op {
    fn needs(&self) -> impl Iterator<Item = Name> {
        let (a, b) = match self {
            Op::Insert { parent, .. } => (*parent, None),
            Op::Show { element, .. } => (Some(*element), None),
            Op::Move {
                parent, element, ..
            } => (*parent, Some(*element)),
        };
        a.into_iter().chain(b)
    }
}

/// The naive order: all positions ever made, as a tree that is walked.
#[derive(Default)]
struct Model {
    origins: BTreeMap<Name, (Option<Name>, Side, Rank)>,
}

impl Model {
    fn order(&self) -> Vec<Name> {
        let mut children: BTreeMap<(Option<Name>, bool), Vec<Name>> = BTreeMap::new();
        for (name, (parent, side, _)) in &self.origins {
            let left = *side == Side::Left || parent.is_none();
            children.entry((*parent, left)).or_default().push(*name);
        }
        for ((_, left), siblings) in &mut children {
            siblings.sort_by_key(|name| self.origins[name].2);
            if !left {
                siblings.reverse();
            }
        }
        let mut order = Vec::new();
        let mut stack = vec![(None, false)];
        while let Some((name, visited)) = stack.pop() {
            if visited {
                order.extend(name);
                continue;
            }
            let of = |left| children.get(&(name, left)).into_iter().flatten().rev();
            stack.extend(of(false).map(|child| (Some(*child), false)));
            stack.push((name, true));
            stack.extend(of(true).map(|child| (Some(*child), false)));
        }
        order
    }
}

#[derive(Default)]
pub(super) struct Replica {
    pub(super) elements: Elements,
    pub(super) sequence: Sequence,
    pub(super) spots: BTreeMap<Name, Spot>,
    pub(super) clock: u64,
    pub(super) seq: u64,
    /// Operations that have not arrived.
    pub(super) inbox: Vec<Op>,
    pub(super) removed: BTreeSet<Name>,
    pub(super) shown_at: BTreeMap<Name, (u64, u32)>,
    pub(super) moved_at: BTreeMap<Name, (u64, u32)>,
}

impl Replica {
    pub(super) fn name(&self, spot: Spot) -> Name {
        (self.elements[spot].replica(), self.elements[spot].seq())
    }

    pub(super) fn origin(&self, spot: Spot) -> (Option<Name>, Side) {
        let parent = self.elements[spot].parent();
        let named = (parent != NOWHERE).then(|| self.name(parent));
        (named, self.elements[spot].side())
    }

    pub(super) fn names(&self) -> Vec<Name> {
        let all = self.sequence.all(&self.elements);
        all.map(|spot| self.name(spot)).collect()
    }

    pub(super) fn shown(&self) -> Vec<Name> {
        let shown = self.sequence.iter(&self.elements, 0);
        shown.map(|spot| self.name(spot)).collect()
    }

    pub(super) fn insert(&mut self, me: u32, index: usize, count: usize, append: bool) -> Op {
        self.clock += 1;
        let first = (me, self.seq + 1);
        let birth = birth(first, self.clock);
        let (elements, sequence) = (&mut self.elements, &mut self.sequence);
        let index = index % (sequence.len() + 1);
        let place = (!append).then_some(index);
        let mut values = integers(count);
        let value = values.next().expect("one at the least");
        let one = sequence.insert(elements, 0, place, birth, value);
        let mut made = vec![(birth.seq, one)];
        if count > 1 {
            let birth = Birth {
                seq: birth.seq + 1,
                ..birth
            };
            let rest = sequence.insert_behind(elements, one, append, birth, values);
            made.extend((birth.seq..).zip(rest));
        }
        if !append {
            let at: Vec<Spot> = sequence.iter(elements, index).take(count).collect();
            assert_eq!(at, made.iter().map(|(_, spot)| *spot).collect::<Vec<_>>());
        }
        self.seq += count as u64;
        let (parent, side) = self.origin(made[0].1);
        let stamps = made.iter().map(|(seq, spot)| ((me, *seq), *spot));
        self.spots.extend(stamps);
        Op::Insert {
            first,
            timestamp: self.clock,
            parent,
            side,
            count: count as u64,
            append,
        }
    }

    pub(super) fn show(&mut self, me: u32, element: Name, shown: bool) -> Op {
        self.clock += 1;
        let stamp = (self.clock, me);
        self.shown_at.insert(element, stamp);
        let spot = self.spots[&element];
        self.sequence.show(&mut self.elements, spot, shown);
        Op::Show {
            element,
            shown,
            stamp,
        }
    }

    pub(super) fn shift(&mut self, me: u32, element: Name, to: usize) -> Op {
        self.clock += 1;
        self.seq += 1;
        let spot = self.spots[&element];
        let to = to % self.sequence.len();
        let position = (me, self.seq);
        let birth = birth(position, self.clock);
        let (elements, sequence) = (&mut self.elements, &mut self.sequence);
        let placed = sequence.shift(elements, 0, spot, to, birth);
        assert_eq!(sequence.index_of(elements, spot), Some(to));
        self.spots.insert(position, placed);
        let stamp = (self.clock, me);
        self.moved_at.insert(element, stamp);
        let (parent, side) = self.origin(placed);
        Op::Move {
            position,
            timestamp: self.clock,
            element,
            parent,
            side,
            stamp,
        }
    }

    pub(super) fn receive(&mut self, op: &Op, at_once: bool) {
        let (elements, sequence) = (&mut self.elements, &mut self.sequence);
        let spot_of = |name: &Option<Name>| name.map_or(NOWHERE, |name| self.spots[&name]);
        match op {
            Op::Insert {
                first,
                timestamp,
                parent,
                side,
                count,
                append,
            } => {
                self.clock = self.clock.max(*timestamp);
                let mut parent = spot_of(parent);
                let names = (0..*count).map(|number| (first.0, first.1 + number));
                let value = Some(Value::Null);
                let spots: Vec<Spot> = if at_once {
                    let values = vec![(&value, Timestamp::from_bits(*timestamp)); *count as usize];
                    let first = birth(*first, *timestamp);
                    let (values, chain) = (values.into_iter(), !append);
                    let spots = elements.add_run(0, first, chain, values, |_| true);
                    sequence.place_run(elements, &spots, parent, *side, chain, &[]);
                    spots
                } else {
                    let births = names.clone().map(|name| birth(name, *timestamp));
                    births
                        .map(|birth| elements.add(0, birth, value.clone(), None))
                        .collect()
                };
                if !at_once {
                    let mut side = *side;
                    for spot in &spots {
                        sequence.place(elements, *spot, parent, side, true);
                        if !append {
                            (parent, side) = (*spot, Side::Right);
                        }
                    }
                }
                self.spots.extend(names.zip(spots));
            }
            Op::Show {
                element,
                shown,
                stamp,
            } => {
                self.clock = self.clock.max(stamp.0);
                if self.shown_at.get(element) < Some(stamp) {
                    self.shown_at.insert(*element, *stamp);
                    sequence.show(elements, self.spots[element], *shown);
                }
            }
            Op::Move {
                position,
                timestamp,
                element,
                parent,
                side,
                stamp,
            } => {
                self.clock = self.clock.max(*timestamp);
                let (spot, parent) = (self.spots[element], spot_of(parent));
                let birth = birth(*position, *timestamp);
                let placed = elements.add(0, birth, None, Some(spot));
                sequence.place(elements, placed, parent, *side, false);
                self.spots.insert(*position, placed);
                if self.moved_at.get(element) < Some(stamp) {
                    self.moved_at.insert(*element, *stamp);
                    sequence.relocate(elements, spot, placed);
                }
            }
        }
    }

    /// One operation from the inbox that can be understood, if `pick` hits one.
    pub(super) fn deliver(&mut self, pick: usize) {
        if self.inbox.is_empty() {
            return;
        }
        let number = pick % self.inbox.len();
        let ready = (number..self.inbox.len()).chain(0..number).find(|number| {
            let mut needs = self.inbox[*number].needs();
            needs.all(|name| self.spots.contains_key(&name))
        });
        let op = self
            .inbox
            .swap_remove(ready.expect("the oldest needs nothing that is missing"));
        self.receive(&op, pick.is_multiple_of(2));
    }

    /// Takes out a tombstone that nobody refers to any more.
    pub(super) fn forget(&mut self, name: Name) {
        if self.removed.insert(name) {
            self.sequence.remove(&mut self.elements, self.spots[&name]);
        }
    }

    pub(super) fn check(&self) {
        let (elements, sequence) = (&self.elements, &self.sequence);
        if let Order::Long(tree) = &sequence.order {
            tree.check(elements);
        }
        let shown = sequence.all(elements).filter(|spot| {
            let element = elements.of(*spot);
            elements[element].shown() && elements.place(element) == *spot
        });
        let shown: Vec<Spot> = shown.map(|spot| elements.of(spot)).collect();
        assert_eq!(sequence.len(), shown.len());
        assert_eq!(sequence.positions(), sequence.all(elements).count());
        assert_eq!(sequence.iter(elements, 0).collect::<Vec<_>>(), shown);
        for (index, element) in shown.iter().enumerate() {
            assert_eq!(sequence.at(elements, index), Some(*element));
            assert_eq!(sequence.index_of(elements, *element), Some(index));
        }
        assert_eq!(sequence.at(elements, shown.len()), None);
        let middle = shown.len() / 2;
        assert!(
            sequence
                .iter(elements, middle)
                .eq(shown[middle..].iter().copied())
        );
        let mut before = 0;
        for spot in sequence.all(elements) {
            let element = elements.of(spot);
            if elements.place(element) == spot {
                assert_eq!(sequence.rank_of(elements, element), before);
                before += usize::from(elements[element].shown());
            }
        }
    }

    /// What is here, placed anew from what its origins tell, in a random order.
    pub(super) fn reloaded(&self, mut seed: u64) -> Vec<Name> {
        let mut elements = Elements::default();
        let mut sequence = Sequence::default();
        let mut spots: BTreeMap<Name, Spot> = BTreeMap::new();
        let mut waiting: Vec<Spot> = self.sequence.all(&self.elements).collect();
        while !waiting.is_empty() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (seed >> 33) as usize % waiting.len();
            let origin = self.sequence.origin(&self.elements, waiting[number]);
            let parent = match origin.parent {
                NOWHERE => Some(NOWHERE),
                parent => spots.get(&self.name(parent)).copied(),
            };
            if let Some(parent) = parent {
                let name = self.name(waiting.swap_remove(number));
                let timestamp = self.elements[self.spots[&name]].timestamp().bits();
                let spot = elements.add(0, birth(name, timestamp), None, None);
                let origin = Origin { parent, ..origin };
                sequence.place_ranked(&mut elements, spot, origin, true);
                spots.insert(name, spot);
            }
        }
        let all = sequence.all(&elements);
        all.map(|spot| (elements[spot].replica(), elements[spot].seq()))
            .collect()
    }
}

/// Replicas, and the model of all that they did.
#[derive(Default)]
pub(super) struct World {
    pub(super) replicas: [Replica; 3],
    model: Model,
    /// Tombstones at every replica: nothing to come refers to them.
    stable: Vec<Name>,
    dead: BTreeSet<Name>,
}

impl World {
    pub(super) fn publish(&mut self, from: usize, op: &Op) {
        let rank = |name: Name, timestamp| {
            let birth = birth(name, timestamp);
            (birth.timestamp, birth.id, birth.seq)
        };
        match op {
            Op::Insert {
                first,
                timestamp,
                parent,
                side,
                count,
                append,
            } => {
                for number in 0..*count {
                    let name = (first.0, first.1 + number);
                    let (parent, side) = match number {
                        0 => (*parent, *side),
                        _ if *append => (None, Side::Left),
                        _ => (Some((name.0, name.1 - 1)), Side::Right),
                    };
                    let origin = (parent, side, rank(name, *timestamp));
                    self.model.origins.insert(name, origin);
                }
            }
            Op::Move {
                position,
                timestamp,
                parent,
                side,
                ..
            } => {
                let origin = (*parent, *side, rank(*position, *timestamp));
                self.model.origins.insert(*position, origin);
            }
            Op::Show { .. } => {}
        }
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            if number != from {
                replica.inbox.push(op.clone());
            }
        }
    }

    pub(super) fn step(&mut self, (who, kind, a, b): (usize, u8, usize, usize)) {
        let me = who as u32;
        let replica = &mut self.replicas[who];
        let any = |replica: &Replica| {
            let shown = replica.shown();
            (!shown.is_empty()).then(|| shown[a % shown.len()])
        };
        let op = match kind {
            0..=6 => Some(replica.insert(me, a, 1 + b % 4, false)),
            7 => Some(replica.insert(me, 0, 1 + b % 50, b % 3 == 0)),
            8 => Some(replica.insert(me, a, 1 + b % 3, true)),
            9..=12 => any(replica).map(|element| replica.show(me, element, false)),
            13..=14 => any(replica).map(|element| replica.shift(me, element, b)),
            15 => {
                let hidden: Vec<Name> = replica
                    .spots
                    .iter()
                    .filter(|(name, spot)| {
                        let position = &replica.elements[**spot];
                        !position.moved() && !position.shown() && !self.dead.contains(name)
                    })
                    .map(|(name, _)| *name)
                    .collect();
                (!hidden.is_empty()).then(|| replica.show(me, hidden[a % hidden.len()], true))
            }
            16..=24 => {
                (0..=b % 4).for_each(|_| replica.deliver(a));
                None
            }
            25..=27 => {
                for number in 0..b % 8 {
                    if !self.stable.is_empty() {
                        replica.forget(self.stable[(a + number * 7) % self.stable.len()]);
                    }
                }
                None
            }
            _ => {
                self.meet(a);
                None
            }
        };
        if let Order::Long(tree) = &self.replicas[who].sequence.order
            && b.is_multiple_of(8)
        {
            tree.check(&self.replicas[who].elements);
        }
        if let Some(op) = op {
            self.publish(who, &op);
        }
    }

    /// Everything arrives everywhere.
    pub(super) fn meet(&mut self, pick: usize) {
        let order = self.model.order();
        for replica in &mut self.replicas {
            while !replica.inbox.is_empty() {
                replica.deliver(pick);
            }
            replica.check();
            let held = order.iter().filter(|name| !replica.removed.contains(name));
            assert_eq!(replica.names(), held.copied().collect::<Vec<_>>());
        }
        let [a, b, c] = &self.replicas;
        assert_eq!(a.shown(), b.shown());
        assert_eq!(a.shown(), c.shown());
        self.stable.clear();
        for (name, spot) in &a.spots {
            let element = a.elements.of(*spot);
            let stands_here = a.elements.place(element) == *spot;
            if !(stands_here && a.elements[element].shown()) {
                self.stable.push(*name);
                if stands_here {
                    self.dead.insert(a.name(element));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn replicas_agree_with_a_plain_tree_whatever_arrives_when(
        steps in prop::collection::vec((0..3usize, 0..29u8, 0..10_000usize, 0..10_000usize), 1..250),
        seed in any::<u64>(),
    ) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.meet(seed as usize % 1000);
        for replica in &mut world.replicas {
            prop_assert_eq!(replica.reloaded(seed), replica.names());
            for name in world.stable.clone() {
                replica.forget(name);
            }
            replica.check();
        }
        let held: Vec<_> = world.replicas.iter().map(Replica::names).collect();
        prop_assert_eq!(&held[0], &held[1]);
        prop_assert_eq!(&held[0], &held[2]);
        let origins = |replica: &Replica| -> Vec<_> {
            let all = replica.sequence.all(&replica.elements);
            all.map(|spot| {
                let origin = replica.sequence.origin(&replica.elements, spot);
                let parent = (origin.parent != NOWHERE).then(|| replica.name(origin.parent));
                (parent, origin.side, origin.rank, origin.ordinal)
            })
            .collect()
        };
        prop_assert_eq!(origins(&world.replicas[0]), origins(&world.replicas[1]));
    }
}
