//! Servers that hold something else than what the log says: they find it, and repair it.

use portolan_core::sync::Event;
use portolan_core::{Document, Error, ReplicaId, Value};

use super::server::Stage;
use super::world::{World, shown};
use crate::network::START;

fn assert_same(world: &World) {
    let first = world.net.replica(0).document();
    for node in 1..world.net.nodes.len() {
        let document = world.net.replica(node).document();
        assert_eq!(document.version(), first.version(), "version of {node}");
        assert_eq!(document.digest(), first.digest(), "digest of {node}");
        assert_eq!(shown(document), shown(first), "what {node} shows");
    }
}

/// How often servers have found that something differs.
fn differences(world: &World) -> u64 {
    let servers = world.servers.iter();
    let found = servers.map(|server| world.net.replica(server.node).bus_differences());
    found.sum()
}

fn set(world: &mut World, node: usize, key: &str, value: i64) {
    let now = world.net.now;
    let replica = &mut world.net.nodes[node].replica;
    replica.transact(now, |tx| tx.set(key, value)).unwrap();
}

#[test]
fn an_entry_that_one_server_never_got_is_noticed_and_comes_by_another_way() {
    let mut world = World::new(3, &[false; 3], false);
    set(&mut world, 0, "a", 1);
    world.calm();
    set(&mut world, 0, "b", 2);
    world.net.settle();
    world.append(0, false);
    // It takes the entry for read, as a mistake would have it.
    let Stage::On { epoch, place, .. } = world.servers[1].stage else {
        panic!("it is on the log");
    };
    let (who, number, _) = world.log.as_ref().unwrap().entry(place + 1).unwrap();
    world.servers[1].stage = Stage::On {
        epoch,
        place: place + 1,
        tag: (*who, *number),
    };
    world.calm();
    assert_same(&world);
    assert_eq!(
        world.net.replica(1).document().get("b"),
        Some(&Value::from(2))
    );
    assert_eq!(differences(&world), 1);
    assert!(
        world
            .net
            .has_event(1, |event| matches!(event, Event::Diverged { .. }))
    );
    assert!(
        world
            .net
            .has_event(1, |event| matches!(event, Event::Repaired { .. }))
    );
    // The log has it too.
    world.start(false);
    world.calm();
    assert_same(&world);
    assert_eq!(differences(&world), 1);
}

/// Two servers that hold something else of one writer.
fn damaged() -> World {
    let mut world = World::new(0, &[], false);
    for (id, first) in [(1, "left"), (2, "right")] {
        let mut writer = Document::new(ReplicaId::new(7));
        writer.set(START, "both", 1).unwrap();
        writer.set(START, first, 2).unwrap();
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&writer.snapshot());
        world.start_with(document);
    }
    for server in 0..2 {
        world.attend(server);
    }
    world
}

#[test]
fn damage_is_found_and_repaired_while_all_write_without_end() {
    let mut world = damaged();
    let repaired = |event: &Event| matches!(event, Event::Repaired { .. });
    for round in 0..3_000 {
        for server in 0..2 {
            world.append(server, false);
            world.read(server, usize::MAX);
            world.hear(server);
            // What it tells of then holds what no other has.
            set(&mut world, server, &format!("{server}"), round);
            world.say(server);
        }
        world.net.pass(7);
        let [first, second] = [0, 1].map(|node| world.net.replica(node).version());
        assert!(!first.covers(second) && !second.covers(first));
        if (0..2).any(|node| world.net.has_event(node, repaired)) {
            world.calm();
            assert_same(&world);
            assert_eq!(world.net.replica(0).document().len(), 4);
            return;
        }
    }
    panic!(
        "{} differences were found, and not repaired",
        differences(&world)
    );
}

#[test]
fn damage_at_one_server_is_found_by_its_digest_and_repaired() {
    let mut world = damaged();
    world.calm();
    assert_same(&world);
    // Under one name there were two values, of which one is left.
    assert_eq!(world.net.replica(0).document().len(), 2);
    assert!(differences(&world) > 0);
    let repaired = |event: &Event| matches!(event, Event::Repaired { .. });
    assert!((0..2).any(|node| world.net.has_event(node, repaired)));
    let found = differences(&world);
    world.calm();
    assert_eq!(differences(&world), found);
}

#[test]
fn what_a_reader_has_no_place_for_is_done_again_by_who_holds_it() {
    let mut world = World::new(2, &[false; 2], false);
    let edit = |world: &mut World, node: usize, what: u8| {
        let now = world.net.now;
        let replica = &mut world.net.nodes[node].replica;
        let done = replica.transact(now, |tx| {
            let mut list = tx.array("list");
            match what {
                0 => (0..3).try_for_each(|n| list.append(n).map(drop)),
                1 => list.delete(1),
                _ => list.set(1, 7),
            }
        });
        done.map_err(|error: Error| error).unwrap();
    };
    edit(&mut world, 0, 0);
    world.calm();
    // A client of the first server is away when an element is deleted.
    world.leave(0);
    edit(&mut world, 1, 1);
    for _ in 0..20 {
        for server in 0..2 {
            world.append(server, false);
            world.read(server, usize::MAX);
        }
        world.net.pass(20);
    }
    assert_eq!(world.net.replica(0).document().tombstones(), 1);
    // The second does not wait for it, nor for the first, which hears of that too late.
    let now = world.net.now;
    for node in [0, 2] {
        let id = world.net.replica(node).document().replica();
        assert!(world.net.nodes[1].replica.forget(now, id));
    }
    world.net.pass(2_000);
    assert_eq!(world.net.replica(1).document().tombstones(), 0);
    edit(&mut world, 2, 2);
    world.come(0, 0);
    world.net.settle();
    world.lost = true;
    world.append(0, false);
    world.calm();
    assert_same(&world);
    let list = world
        .net
        .replica(1)
        .document()
        .array("list")
        .get(1)
        .cloned();
    assert_eq!(list, Some(Value::from(7)));
    assert_eq!(world.net.replica(1).document().array("list").len(), 3);
    assert!(differences(&world) > 0);
    let resynced = |event: &Event| matches!(event, Event::Resynced { .. });
    assert!(
        !world.net.has_event(1, resynced),
        "who let go of it keeps what it has"
    );
}
