//! Cases of sequences by name.

use super::order::Order;
use super::tests::{Name, Op, Replica, World, birth};
use super::*;

/// Two replicas that hold `start` appended elements, each with what it then typed.
fn typed_concurrently(start: usize, mut type_one: impl FnMut(&mut Replica, u32, usize) -> Op) {
    let mut world = World::default();
    if start > 0 {
        let op = world.replicas[2].insert(2, 0, start, true);
        world.publish(2, &op);
        world.meet(0);
    }
    for number in 0..50 {
        for who in 0..2 {
            let op = type_one(&mut world.replicas[who], who as u32, number);
            world.publish(who, &op);
        }
    }
    world.meet(1);
    let shown = world.replicas[0].shown();
    let writers: Vec<u32> = shown.iter().map(|(replica, _)| *replica).collect();
    let changes = writers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let runs = if start > 0 { 3 } else { 1 };
    assert_eq!(changes, runs, "runs interleave: {writers:?}");
}

#[test]
fn runs_typed_forwards_do_not_interleave() {
    typed_concurrently(2, |replica, me, number| {
        replica.insert(me, 1 + number, 1, false)
    });
    typed_concurrently(0, |replica, me, number| {
        replica.insert(me, number, 1, false)
    });
}

#[test]
fn runs_typed_backwards_do_not_interleave() {
    typed_concurrently(2, |replica, me, _| replica.insert(me, 1, 1, false));
    typed_concurrently(0, |replica, me, _| replica.insert(me, 0, 1, false));
}

#[test]
fn many_inserts_between_the_same_two_neighbours_stay_there() {
    for behind_the_first in [true, false] {
        let mut replica = Replica::default();
        replica.insert(0, 0, 2, true);
        let mut wanted: Vec<Name> = vec![(0, 1), (0, 2)];
        for number in 0..150 {
            let index = if behind_the_first { 1 } else { 1 + number };
            replica.insert(0, index, 1, false);
            wanted.insert(index, (0, 3 + number as u64));
        }
        assert_eq!(replica.shown(), wanted);
        replica.check();
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_and_what_comes_beside_it() {
    let count = 100_000;
    let mut replica = Replica::default();
    let (elements, sequence) = (&mut replica.elements, &mut replica.sequence);
    let mut parent = NOWHERE;
    let mut chain = Vec::new();
    for seq in 1..=count {
        let spot = elements.add(0, birth((0, seq), seq), None, None);
        sequence.place(elements, spot, parent, Side::Right, true);
        chain.push(spot);
        parent = spot;
    }
    // Each of a lower rank than the chain, so that it stands behind what is below its parent.
    for (seq, parent) in (1..).zip(chain.iter().step_by(50)) {
        let spot = elements.add(0, birth((1, seq), 0), None, None);
        sequence.place(elements, spot, *parent, Side::Right, true);
    }
    assert_eq!(sequence.len(), 102_000);
    assert!(
        sequence
            .iter(elements, 0)
            .take(chain.len())
            .eq(chain.iter().copied())
    );
    assert_eq!(sequence.rank_of(elements, chain[77_777]), 77_777);
    for spot in &chain {
        sequence.show(elements, *spot, false);
    }
    for spot in chain {
        sequence.remove(elements, spot);
        elements.remove(spot);
    }
    let beside: Vec<u64> = sequence
        .all(elements)
        .map(|spot| elements[spot].seq())
        .collect();
    assert_eq!(beside, (1..=2_000).rev().collect::<Vec<_>>());
}

#[test]
fn inserts_at_the_front_and_a_stranger_among_them() {
    let mut replica = Replica::default();
    for _ in 0..20_000 {
        replica.insert(0, 0, 1, false);
    }
    let first = replica.spots[&(0, 1)];
    let (elements, sequence) = (&mut replica.elements, &mut replica.sequence);
    let spot = elements.add(0, birth((1, 1), 0), None, None);
    sequence.place(elements, spot, first, Side::Left, true);
    assert_eq!(sequence.index_of(elements, spot), Some(0));
    assert_eq!(sequence.index_of(elements, first), Some(20_000));
}

#[test]
fn siblings_and_appends_in_any_order_stand_by_rank() {
    for parent_is_root in [true, false] {
        let mut elements = Elements::default();
        let mut sequence = Sequence::default();
        let mut parent = NOWHERE;
        if !parent_is_root {
            parent = elements.add(0, birth((0, 1), 1), None, None);
            sequence.place(&mut elements, parent, NOWHERE, Side::Left, false);
        }
        let count = 10_007u64;
        for number in 0..count {
            let rank = number * 7_919 % count;
            let birth = birth((10 + rank as u32, 1), 5);
            let spot = elements.add(0, birth, None, None);
            sequence.place(&mut elements, spot, parent, Side::Left, true);
        }
        let shown = sequence.iter(&elements, 0);
        let order: Vec<u32> = shown.map(|spot| elements[spot].replica()).collect();
        assert_eq!(order, (10..10 + count as u32).collect::<Vec<_>>());
    }
}

#[test]
fn a_long_sequence_agrees_with_a_vector() {
    let mut replica = Replica::default();
    let mut wanted: Vec<Name> = Vec::new();
    let mut random = 1u64;
    let mut below = |bound: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % bound
    };
    let hide = |replica: &mut Replica, name| {
        let spot = replica.spots[&name];
        replica.show(0, name, false);
        spot
    };
    for number in 0..40_000 {
        if number % 8 == 7 {
            let name = wanted.remove(below(wanted.len()));
            hide(&mut replica, name);
        } else {
            let (index, count) = (below(wanted.len() + 1), 1 + below(3) / 2);
            let next = replica.seq + 1;
            replica.insert(0, index, count, false);
            let names = (next..).take(count).map(|seq| (0, seq));
            wanted.splice(index..index, names);
        }
    }
    assert_eq!(replica.shown(), wanted);
    replica.check();
    while wanted.len() > 100 {
        let from = below(wanted.len() - 90);
        for name in wanted.splice(from..from + 90, []).collect::<Vec<_>>() {
            let spot = hide(&mut replica, name);
            replica.sequence.remove(&mut replica.elements, spot);
        }
        if wanted.len().is_multiple_of(7) {
            assert_eq!(replica.sequence.len(), wanted.len());
        }
    }
    assert_eq!(replica.shown(), wanted);
    replica.check();
}

#[test]
fn a_short_sequence_is_small_and_an_emptied_one_too() {
    assert!(size_of::<Sequence>() <= 56);
    let mut replica = Replica::default();
    replica.insert(0, 0, 1_000, true);
    replica.insert(0, 500, 1_000, false);
    let spots: Vec<Spot> = replica.sequence.all(&replica.elements).collect();
    for spot in &spots {
        let (elements, sequence) = (&mut replica.elements, &mut replica.sequence);
        sequence.show(elements, *spot, false);
        sequence.remove(elements, *spot);
        elements.remove(*spot);
    }
    assert_eq!(
        (replica.sequence.positions(), replica.elements.len()),
        (0, 0)
    );
    assert!(crate::SMALL || matches!(replica.sequence.order, Order::Short { .. }));
    assert!(replica.sequence.families.is_none());
}
