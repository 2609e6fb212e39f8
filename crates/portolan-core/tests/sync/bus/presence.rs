//! Who is present at one server is seen at the others, and is not in the log.

use super::world::World;

fn present(world: &World, node: usize) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let all = world.net.replica(node).presences();
    all.map(|(_, state)| text(state)).collect()
}

fn set(world: &mut World, node: usize, state: Option<&'static str>) {
    let now = world.net.now;
    let replica = &mut world.net.nodes[node].replica;
    replica.set_presence(now, state.map(Into::into)).unwrap();
}

/// Lets servers act, and so many milliseconds pass.
fn pass(world: &mut World, millis: u64) {
    for _ in 0..millis / 50 {
        world.act();
        world.net.pass(50);
    }
    world.act();
}

/// Two servers, nodes 0 and 1, each with a client, nodes 2 and 3.
fn servers() -> World {
    let mut world = World::new(2, &[false; 2], false);
    set(&mut world, 2, Some("here"));
    pass(&mut world, 600);
    world
}

#[test]
fn clients_of_one_server_are_seen_by_those_of_another() {
    let mut world = servers();
    for node in [0, 1, 3] {
        assert_eq!(present(&world, node), ["here"], "at {node}");
    }
    assert!(world.net.replica(0).version().is_empty());
    let entries = world.log.as_ref().unwrap().entries.len();
    set(&mut world, 2, Some("there"));
    set(&mut world, 3, Some("too"));
    world.act();
    assert_eq!(present(&world, 3), ["there"]);
    assert_eq!(present(&world, 2), ["too"]);
    set(&mut world, 2, None);
    world.act();
    assert!(present(&world, 3).is_empty());
    world.leave(1);
    world.act();
    assert!(present(&world, 2).is_empty());
    assert_eq!(world.log.as_ref().unwrap().entries.len(), entries);
}

#[test]
fn who_is_present_at_a_server_that_dies_is_gone_after_three_periods() {
    let mut world = servers();
    pass(&mut world, 5_000);
    assert_eq!(present(&world, 3), ["here"], "it is alive");
    world.servers[0].alive = false;
    // The last sign of life was a period ago at the most.
    pass(&mut world, 900);
    assert_eq!(present(&world, 3), ["here"], "two periods");
    pass(&mut world, 700);
    assert!(present(&world, 3).is_empty());
}

#[test]
fn who_joins_sees_everybody_within_a_period() {
    let mut world = servers();
    set(&mut world, 3, Some("too"));
    world.act();
    world.start(false);
    world.attend(2);
    pass(&mut world, 600);
    assert_eq!(present(&world, 5).len(), 2);
}

#[test]
fn what_was_not_heard_of_presence_is_asked_for() {
    let mut world = servers();
    set(&mut world, 2, Some("there"));
    world.net.settle();
    world.say(0);
    world.servers[1].heard.clear();
    pass(&mut world, 600);
    assert_eq!(present(&world, 3), ["there"]);
    // And that somebody has gone.
    set(&mut world, 2, None);
    world.net.settle();
    world.say(0);
    world.servers[1].heard.clear();
    pass(&mut world, 1_700);
    assert!(present(&world, 3).is_empty());
}

#[test]
fn a_client_that_moves_to_another_server_is_present_all_the_time() {
    let mut world = servers();
    world.start(false);
    world.attend(2);
    pass(&mut world, 600);
    for server in [1, 2, 0, 1] {
        world.come(0, server);
        pass(&mut world, 600);
        for node in [3, 5] {
            assert_eq!(
                present(&world, node),
                ["here"],
                "at {server}, seen by {node}"
            );
        }
    }
    world.leave(0);
    pass(&mut world, 100);
    for node in [3, 5] {
        assert!(present(&world, node).is_empty());
    }
}
