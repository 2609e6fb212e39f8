//! Who has not written is in nobody's table: the servers that he visits answer for him.

use portolan_core::sync::{Event, Frame};
use portolan_core::{Error, Value};

use super::world::{World, shown};

/// Two servers on a bus that hold a list, and a visitor of the first who has it.
fn visited() -> World {
    let mut world = World::new(2, &[false; 2], true);
    for client in 0..2 {
        world.leave(client);
    }
    list(&mut world, 0, |list| {
        (0..3).try_for_each(|n| list.append(n).map(drop))
    });
    world.come(0, 0);
    world.calm();
    assert_eq!(world.net.replica(2).document().array("list").len(), 3);
    world
}

fn list<T>(
    world: &mut World,
    node: usize,
    f: impl FnOnce(&mut portolan_core::ArrayMut<'_, '_>) -> Result<T, Error>,
) {
    let now = world.net.now;
    let replica = &mut world.net.nodes[node].replica;
    let done = replica.transact(now, |tx| f(&mut tx.array("list")));
    done.unwrap();
}

/// Deletes the second element at the first server, and lets it become stable: the second server
/// lets go of it, the first knows that nobody brings it back, and not that the other knows.
fn seal(world: &mut World) {
    list(world, 0, |list| list.delete(1));
    for _ in 0..100 {
        let now = world.net.now;
        let theirs = world.net.replica(1).document().replica();
        let members: Vec<_> = world.net.replica(0).members(now).collect();
        let mut members = members.iter();
        let waits = !members.any(|member| member.replica == theirs && member.missing == 0);
        for server in 0..2 {
            world.append(server, false);
            if waits || server == 1 {
                world.read(server, usize::MAX);
            }
        }
        let held = [0, 1].map(|node| world.net.replica(node).document().tombstones());
        if held == [1, 0] {
            return;
        }
        world.net.pass(20);
    }
    panic!("it never comes to that");
}

fn anew(world: &World) -> Vec<bool> {
    let resynced = |event: &Event| matches!(event, Event::Resynced { .. });
    let nodes = 0..3;
    nodes
        .map(|node| world.net.has_event(node, resynced))
        .collect()
}

fn assert_same(world: &World) {
    let first = world.net.replica(0).document();
    for node in 1..3 {
        let document = world.net.replica(node).document();
        assert_eq!(document.version(), first.version(), "version of {node}");
        assert_eq!(document.digest(), first.digest(), "digest of {node}");
        assert_eq!(shown(document), shown(first), "what {node} shows");
    }
}

fn values(world: &World, node: usize) -> Vec<Value> {
    let document = world.net.replica(node).document();
    let list = document.array("list");
    let winners = list.iter().filter_map(|(_, mut siblings)| siblings.next());
    winners.map(|sibling| sibling.value.clone()).collect()
}

#[test]
fn what_a_visitor_has_not_heard_of_stays_for_him() {
    let mut world = visited();
    let link = world.clients[0].1;
    // All that the server says to its visitor is lost.
    world.net.links[link].up = false;
    list(&mut world, 0, |list| list.delete(1));
    for _ in 0..100 {
        for server in 0..2 {
            world.append(server, false);
            world.read(server, usize::MAX);
        }
        world.net.pass(20);
    }
    assert_eq!(world.net.replica(1).document().tombstones(), 1);
    list(&mut world, 2, |list| list.set(1, 7));
    world.net.links[link].up = true;
    world.net.pass(5_000);
    world.calm();
    assert_same(&world);
    assert_eq!(anew(&world), [false; 3]);
    assert_eq!(values(&world, 1), [0, 7, 2].map(Value::from));
    // Once he knows of it, it goes.
    list(&mut world, 0, |list| list.delete(1));
    world.calm();
    assert_eq!(world.net.replica(1).document().tombstones(), 0);
}

#[test]
fn what_may_be_gone_elsewhere_is_not_taken_from_a_visitor() {
    let mut world = visited();
    world.leave(0);
    list(&mut world, 2, |list| list.set(1, 7));
    seal(&mut world);
    world.come(0, 0);
    world.calm();
    assert_same(&world);
    assert_eq!(anew(&world), [false, false, true]);
    assert_eq!(values(&world, 1), [0, 7, 2].map(Value::from));
}

#[test]
fn a_visitor_that_writes_and_moves_is_not_taken_for_one_that_was_waited_for() {
    let mut world = visited();
    world.leave(0);
    list(&mut world, 2, |list| list.set(1, 7));
    seal(&mut world);
    // At the second server it hears no more than that it writes under its own id.
    world.come(0, 1);
    let link = world.clients[0].1;
    for _ in 0..3 {
        world.net.collect();
        while world.net.deliver(link, 0) {}
        world.net.collect();
        let wire = &mut world.net.links[link].wires[1];
        let kind = |bytes: &bytes::Bytes| Frame::decode(bytes.clone()).unwrap().kind();
        wire.frames
            .retain(|bytes| matches!(kind(bytes), "hello" | "loan"));
        while world.net.deliver(link, 1) {}
    }
    let told = world.net.log.iter().rev().take(4);
    assert!(
        told.clone()
            .any(|(from, _, kind, _)| (*from, *kind) == (1, "loan"))
    );
    let has = world.net.replica(1).version().len();
    world.come(0, 0);
    assert_eq!(world.net.replica(1).version().len(), has, "it was told of");
    world.calm();
    assert_same(&world);
    assert_eq!(anew(&world), [false, false, true]);
    assert_eq!(values(&world, 1), [0, 7, 2].map(Value::from));
}
