//! Clients of a server that has not read the log are not told to be ready.

use portolan_core::Value;

use super::world::World;

/// A server whose list of writes is on the log, and another one that has not read it, with a
/// client that has come to it.
fn unread() -> (World, usize) {
    let mut world = World::new(1, &[false], false);
    write(&mut world, 0);
    world.calm();
    world.start(false);
    world.attend(1);
    let link = world.clients[1].1;
    world.net.pass(5_000);
    assert!(world.net.is_open(link));
    (world, link)
}

fn write(world: &mut World, node: usize) {
    let now = world.net.now;
    let replica = &mut world.net.nodes[node].replica;
    let key = format!("from {node}");
    replica
        .transact(now, |tx| tx.set(key.as_str(), 1))
        .expect("it may be written");
}

fn holds(world: &World, node: usize, key: &str) -> bool {
    world.net.replica(node).document().get(key) == Some(&Value::from(1))
}

#[test]
fn who_comes_to_a_server_that_has_not_read_the_log_is_ready_once_it_has() {
    let (mut world, link) = unread();
    let client = world.clients[1].0;
    assert!(!world.net.is_ready(link, 0));
    let session = world.net.session(link, 0);
    let status = world.net.replica(client).session(session);
    assert!(status.is_some_and(|status| status.incomplete));
    // It writes, and hears of it; that is not what it waits for.
    write(&mut world, client);
    world.net.pass(5_000);
    assert!(!world.net.is_ready(link, 0));
    world.read(1, usize::MAX);
    world.read(1, usize::MAX);
    world.net.settle();
    assert!(world.net.is_ready(link, 0));
    assert!(
        holds(&world, client, "from 0"),
        "it is ready with all of it"
    );
}

#[test]
fn what_tells_of_it_may_be_lost() {
    let (mut world, link) = unread();
    let client = world.clients[1].0;
    world.read(1, usize::MAX);
    world.read(1, usize::MAX);
    world.net.collect();
    world.net.links[link].wires[1].frames.clear();
    world.net.settle();
    assert!(!world.net.is_ready(link, 0));
    world.net.pass(5_000);
    assert!(world.net.is_ready(link, 0));
    assert!(holds(&world, client, "from 0"));
}

#[test]
fn where_there_is_no_log_they_are_ready_with_nothing() {
    let mut world = World::new(1, &[false], false);
    let link = world.clients[0].1;
    world.net.pass(5_000);
    assert!(!world.net.is_ready(link, 0));
    world.read(0, usize::MAX);
    world.net.settle();
    assert!(world.net.is_ready(link, 0));
}

#[test]
fn who_comes_to_a_server_with_a_store_is_ready_with_what_that_has() {
    let mut world = World::new(1, &[true], false);
    write(&mut world, 0);
    world.calm();
    world.restart(0);
    let link = world.clients[0].1;
    world.net.pass(5_000);
    assert!(world.net.is_ready(link, 0));
}
