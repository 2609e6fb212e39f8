//! Servers that share a document through a log, each with clients, while entries are late, doubled
//! or lost, the log is trimmed, rolled back or lost, and servers come, go and crash.

mod differences;
mod log;
mod presence;
mod server;
mod unread;
mod visitors;
mod world;

use portolan_core::sync::{BusFault, Config, Event};
use portolan_core::{Document, ReplicaId};
use proptest::prelude::*;

use self::world::{World, shown};

fn run(servers: usize, durable: &[bool], borrow: bool, steps: &[(u8, u8, u16)]) {
    run_with(World::new(servers, durable, borrow), steps);
}

fn run_with(mut world: World, steps: &[(u8, u8, u16)]) {
    for step in steps {
        world.step(*step);
    }
    world.calm();
    let alive = world.servers.iter().filter(|server| server.alive);
    let alive = alive.map(|server| server.node);
    let nodes: Vec<usize> = alive
        .chain(world.clients.iter().map(|client| client.0))
        .collect();
    let first = world.net.replica(nodes[0]).document();
    for node in &nodes {
        let document = world.net.replica(*node).document();
        assert_eq!(document.version(), first.version(), "version of {node}");
        assert_eq!(document.digest(), first.digest(), "digest of {node}");
        let tombstones = document.tombstones();
        assert!(
            world.is_excused() || tombstones == 0,
            "{tombstones} tombstones of {node}"
        );
        let resynced = |event: &Event| matches!(event, Event::Resynced { .. });
        // Who had named himself in what was lost, and nowhere else, was not waited for.
        let anew = world.net.has_event(*node, resynced);
        // Nobody waits for visitors that are away, nor for whom they bring it to meanwhile.
        let excused = world.is_excused() || world.borrow;
        assert!(excused || !anew, "{node} began anew");
    }
    for node in &nodes {
        let document = world.net.replica(*node).document();
        assert_eq!(shown(document), shown(first), "what {node} shows");
        // After a loss some have let go of what others still hold.
        let same = document.encode() == first.encode();
        assert!(world.is_excused() || same, "bytes of {node}");
    }
    for (_, link, _) in &world.clients {
        assert!(world.net.is_ready(*link, 0), "the client of link {link}");
    }
    assert!(world.net.errors.is_empty(), "{:?}", world.net.errors);
}

/// Few runs, unless `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn servers_on_a_bus_converge_whatever_becomes_of_the_log(
        servers in 1..4usize,
        durable in prop::collection::vec(any::<bool>(), 3),
        borrow in any::<bool>(),
        steps in prop::collection::vec(any::<(u8, u8, u16)>(), 1..300),
    ) {
        run(servers, &durable, borrow, &steps);
    }

    #[test]
    fn servers_on_a_bus_converge_whatever_goes_wrong_at_one_of_them(
        servers in 2..4usize,
        durable in prop::collection::vec(any::<bool>(), 3),
        borrow in any::<bool>(),
        steps in prop::collection::vec(any::<(u8, u8, u16)>(), 1..300),
    ) {
        let mut world = World::new(servers, &durable, borrow);
        world.wrongs = true;
        run_with(world, &steps);
    }
}

#[test]
fn an_entry_that_makes_no_sense_changes_nothing() {
    let mut replica = portolan_core::sync::Replica::new(
        "doc",
        1,
        Document::new(ReplicaId::new(1)),
        false,
        Config::default(),
    );
    replica.attach_bus(1);
    let entry = replica.join_entry(1);
    replica.join_bus(1, None, &[entry]).unwrap();
    replica.transact(1, |tx| tx.set("k", 1)).unwrap();
    let entry = replica.poll_entry(1).unwrap();
    let mut other = portolan_core::sync::Replica::new(
        "doc",
        1,
        Document::new(ReplicaId::new(2)),
        false,
        Config::default(),
    );
    other.attach_bus(2);
    // The delta alone is an entry too.
    let whole = |len: usize| len == 1 || len == 3 + usize::from(entry[2]);
    for len in (0..entry.len()).filter(|len| !whole(*len)) {
        let cut = other.receive_entry(1, &entry[..len]);
        assert!(matches!(cut, Err(BusFault::Unreadable(_))), "{len}");
        assert!(other.version().is_empty());
    }
    for bit in 0..entry.len() * 8 {
        let mut damaged = entry.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(other.receive_entry(1, &damaged).is_err(), "bit {bit}");
        assert!(other.version().is_empty());
    }
    other.receive_entry(1, &entry).unwrap();
    assert_eq!(other.version().len(), 1);
}

#[test]
fn what_only_a_snapshot_holds_reaches_those_who_follow_the_entries() {
    // A second server loads a snapshot and saves another, which the first joins from.
    let steps = [
        (7, 2, 0),
        (230, 0, 0),
        (150, 2, 0),
        (150, 108, 0),
        (214, 0, 0),
        (150, 84, 0),
        (150, 133, 0),
        (0, 116, 0),
        (150, 90, 205),
        (230, 0, 0),
        (205, 20, 0),
        (0, 0, 0),
        (150, 27, 0),
        (214, 0, 0),
        (150, 131, 0),
        (205, 226, 8239),
        (150, 180, 0),
    ];
    run(3, &[false; 3], false, &steps);
}

#[test]
fn who_had_named_himself_in_a_lost_log_is_met_before_anything_is_let_go_of() {
    // A server reads the log, and another lets its list become empty. The log is lost, and the
    // client of the first writes to what was deleted.
    let steps = [
        (0, 22, 0),
        (214, 0, 0),
        (230, 0, 6),
        (150, 133, 0),
        (150, 31, 0),
        (230, 0, 26579),
        (214, 0, 0),
        (150, 113, 0),
        (44, 6, 0),
        (230, 0, 37983),
        (217, 0, 0),
        (150, 16, 0),
        (230, 0, 17724),
        (150, 198, 0),
        (20, 73, 0),
        (150, 233, 0),
    ];
    run(3, &[false; 3], false, &steps);
}

#[test]
fn what_a_server_that_left_had_put_on_the_log_is_not_let_go_of_by_its_client() {
    // Its client is away when it leaves, deletes what it wrote, and comes to a server that is not
    // on the log yet; meanwhile others read there what it wrote.
    let steps = [
        (2, 233, 0),
        (212, 2, 0),
        (214, 0, 0),
        (248, 46, 0),
        (8, 82, 0),
        (150, 71, 0),
        (150, 251, 0),
        (150, 46, 3),
        (0, 103, 0),
        (105, 162, 47813),
    ];
    run(3, &[false; 3], false, &steps);
}

#[test]
fn a_server_that_misses_an_entry_while_another_forgets_who_is_there_is_brought_back() {
    let steps = [
        (0, 68, 0),
        (230, 0, 0),
        (150, 53, 0),
        (150, 33, 0),
        (150, 120, 0),
        (50, 45, 0),
        (214, 0, 0),
        (214, 0, 0),
        (150, 208, 0),
        (135, 232, 0),
        (150, 158, 0),
        (0, 0, 0),
        (0, 0, 0),
        (105, 0, 0),
        (0, 0, 0),
        (214, 0, 0),
        (150, 43, 0),
        (230, 0, 0),
        (0, 0, 0),
        (182, 81, 0),
        (150, 214, 0),
        (0, 0, 0),
        (150, 127, 0),
        (230, 0, 1747),
        (150, 234, 8025),
        (186, 6, 6642),
        (230, 0, 10019),
        (230, 0, 3709),
        (230, 0, 19936),
        (195, 151, 0),
    ];
    let mut world = World::new(3, &[false, true, false], false);
    world.wrongs = true;
    run_with(world, &steps);
}

#[test]
fn what_refers_to_an_entry_that_was_refused_is_done_again_with_it() {
    // A visitor inserts beside an element that its server's neighbour has let go of meanwhile, and
    // another one, which knows of that, moves an element next to it.
    let steps = [
        (54, 125, 0),
        (230, 0, 5),
        (214, 0, 0),
        (54, 4, 0),
        (0, 14, 0),
        (12, 162, 0),
        (252, 184, 16356),
        (8, 3, 0),
        (0, 0, 0),
        (150, 136, 0),
        (65, 0, 0),
        (230, 0, 12291),
        (14, 46, 0),
        (252, 45, 14978),
        (214, 0, 0),
        (32, 148, 0),
        (5, 9, 0),
        (40, 0, 0),
        (41, 0, 0),
        (0, 6, 0),
        (0, 0, 0),
        (150, 60, 0),
        (36, 0, 0),
        (0, 0, 0),
        (21, 0, 0),
    ];
    run(2, &[false; 3], true, &steps);
}
