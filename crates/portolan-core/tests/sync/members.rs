//! Who holds the document, and what goes when all have it.

use portolan_core::sync::{Config, Event, Frame, Standing};
use portolan_core::{Error, Key, ReplicaId, Value};

use crate::network::Network;

fn append(net: &mut Network, node: usize, values: i64) {
    let now = net.now;
    let replica = &mut net.nodes[node].replica;
    let write = replica.transact(now, |tx| {
        let mut list = tx.array("list");
        for n in 0..values {
            let len = list.len()?;
            list.insert(len, n)?;
        }
        Ok::<_, Error>(())
    });
    write.unwrap();
}

fn clear(net: &mut Network, node: usize) {
    let now = net.now;
    let replica = &mut net.nodes[node].replica;
    replica
        .transact(now, |tx| tx.array("list").clear())
        .unwrap();
}

fn assert_same(net: &Network) {
    let states = net.nodes.iter();
    let states: Vec<Vec<u8>> = states
        .map(|node| node.replica.document().encode())
        .collect();
    assert!(states.iter().all(|state| *state == states[0]));
}

fn tombstones(net: &Network) -> Vec<usize> {
    let all = net.nodes.iter();
    all.map(|node| node.replica.document().tombstones())
        .collect()
}

/// A chain, so that two replicas only know each other by what a third tells.
fn chain(count: usize) -> Network {
    let mut net = Network::new();
    for _ in 0..count {
        net.add(true, Config::default());
    }
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    for node in 1..count {
        net.join(node, node - 1);
    }
    net
}

#[test]
fn what_is_deleted_goes_by_itself_once_all_have_it() {
    let mut net = chain(3);
    append(&mut net, 0, 100);
    net.set(1, "k", 1);
    net.pass(1_000);
    clear(&mut net, 2);
    net.unset(1, "k");
    net.pass(1_000);
    assert_eq!(tombstones(&net), [100, 100, 100]);
    net.pass(120_000);
    assert_eq!(tombstones(&net), [0, 0, 0]);
    let bytes = net.replica(0).document().encode();
    for node in &net.nodes {
        let document = node.replica.document();
        assert_eq!(document.encode(), bytes);
        assert!(document.encode().len() < 120, "{}", document.encode().len());
        assert!(!document.has_past());
        let members: Vec<_> = node.replica.members(net.now).collect();
        assert_eq!(members.len(), 2);
        assert!(
            members
                .iter()
                .all(|m| m.standing == Standing::Member && m.missing == 0)
        );
    }
    // Then there is nothing to tell any more.
    let before = net.count("members");
    net.pass(120_000);
    assert_eq!(net.count("members"), before);
}

fn write<T>(
    net: &mut Network,
    node: usize,
    f: impl FnOnce(&mut portolan_core::Transaction<'_>) -> Result<T, Error>,
) -> T {
    let now = net.now;
    net.nodes[node].replica.transact(now, f).unwrap()
}

fn list(net: &Network, node: usize) -> Vec<Value> {
    let document = net.replica(node).document();
    let list = document.array("list");
    list.iter()
        .flat_map(|(_, siblings)| {
            siblings
                .map(|sibling| sibling.value.clone())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn values(all: &[i64]) -> Vec<Value> {
    all.iter().copied().map(Value::from).collect()
}

/// Lets time pass; sessions that end are opened again.
fn pass(net: &mut Network, millis: u64) {
    let end = net.now + millis;
    while net.now < end {
        net.pass(1_000);
        for link in 0..net.links.len() {
            if net.links[link].up && !net.is_open(link) {
                let [a, b] = net.links[link].ends;
                net.cut(link);
                net.join(a, b);
            }
        }
    }
}

/// Two that stay together, and one that was with them and is cut off.
fn parted(durable: bool) -> Network {
    let mut net = Network::new();
    for _ in 0..3 {
        let config = Config {
            forget_after: 60_000,
            ..Config::default()
        };
        net.add(durable, config);
    }
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    net.join(1, 0);
    net.join(2, 0);
    append(&mut net, 0, 10);
    pass(&mut net, 30_000);
    net.cut(1);
    net
}

fn assert_alike(net: &Network) {
    let first = net.replica(0).document();
    for node in &net.nodes {
        let document = node.replica.document();
        assert_eq!(document.version(), first.version());
        assert_eq!(document.digest(), first.digest());
        assert_eq!(document.tombstones(), 0);
        assert!(document.encode() == first.encode());
    }
}

#[test]
fn a_forgotten_replica_returns_without_loss() {
    for opener in [0, 2] {
        let mut net = parted(true);
        // Those that stay delete half and write at the end; none waits for the third.
        write(&mut net, 1, |tx| {
            for _ in 0..5 {
                tx.array("list").delete(2)?;
            }
            tx.array("list").insert(5, 100)
        });
        // It writes beside what they delete, into it, and elsewhere; moves and deletes.
        write(&mut net, 2, |tx| {
            tx.set("there", 1)?;
            let mut list = tx.array("list");
            list.insert(5, 50)?;
            list.insert(6, 51)?;
            list.set(4, 40)?;
            list.move_to(0, 7)?;
            list.delete(10)?;
            list.insert(0, -1)
        });
        pass(&mut net, 120_000);
        assert_eq!(tombstones(&net)[..2], [0, 0]);
        assert!(net.has_event(0, |event| matches!(event, Event::Forgotten(_))));
        net.join(opener, 2 - opener);
        pass(&mut net, 300_000);
        assert_alike(&net);
        // Both have let go of something: who opens the session begins anew.
        let anew = |node| net.has_event(node, |event| matches!(event, Event::Resynced { .. }));
        assert_eq!([anew(opener), anew(2 - opener)], [true, false]);
        // 2 to 6 are deleted, of which 4 is written to; 8 is deleted there.
        let want = values(&[-1, 1, 40, 50, 51, 0, 7, 9, 100]);
        let found = list(&net, 0);
        assert_eq!(found, list(&net, 2));
        assert_eq!(net.get(0, "there"), Some(Value::from(1)));
        assert_eq!(found, want);
        for node in 0..3 {
            let members: Vec<_> = net.replica(node).members(net.now).collect();
            assert!(
                members.iter().all(|m| m.standing == Standing::Member),
                "{members:?}"
            );
        }
    }
}

#[test]
fn what_is_inside_of_an_element_returns_with_it() {
    let mut net = parted(false);
    write(&mut net, 1, |tx| tx.array("list").clear());
    write(&mut net, 2, |tx| {
        let mut list = tx.array("list");
        list.map(3).set("a", 1)?;
        list.map(3).counter("n").add(5)?;
        list.map(3).array("l").append("x")?;
        list.map(3).array("l").append("y")?;
        list.map(3).or_set("s").insert("m")
    });
    let inside = |net: &Network, node: usize| {
        let document = net.replica(node).document();
        let list = document.array("list");
        let map = list.map(0);
        let items = map.array("l");
        let items: Vec<Value> = items
            .iter()
            .flat_map(|(_, all)| all.map(|s| s.value.clone()).collect::<Vec<_>>())
            .collect();
        (
            list.len(),
            map.get("a").cloned(),
            map.counter("n"),
            items,
            map.or_set("s").contains("m"),
        )
    };
    pass(&mut net, 120_000);
    net.join(2, 0);
    pass(&mut net, 300_000);
    assert_alike(&net);
    for node in 0..3 {
        let want = (
            1,
            Some(Value::from(1)),
            5,
            vec![Value::from("x"), Value::from("y")],
            true,
        );
        assert_eq!(inside(&net, node), want);
    }
}

#[test]
fn two_sides_that_have_forgotten_each_other_come_together() {
    let mut net = parted(true);
    let third = net.add(
        true,
        Config {
            forget_after: 60_000,
            ..Config::default()
        },
    );
    net.nodes[third].replica.observe(false);
    net.join(third, 2);
    pass(&mut net, 10_000);
    write(&mut net, 1, |tx| {
        tx.array("list").delete(3)?;
        tx.array("list").delete(3)?;
        tx.array("list").insert(3, 100)
    });
    write(&mut net, third, |tx| {
        tx.array("list").insert(4, 200)?;
        tx.array("list").delete(8)?;
        tx.array("list").insert(8, 201)?;
        tx.array("list").delete(0)
    });
    pass(&mut net, 200_000);
    assert_eq!(tombstones(&net), [0; 4]);
    net.join(0, 2);
    net.join(third, 1);
    pass(&mut net, 300_000);
    assert_alike(&net);
    let mut found = list(&net, 0);
    found.sort_by_key(portolan_core::Value::as_int);
    assert_eq!(found, values(&[1, 2, 5, 6, 8, 9, 100, 200, 201]));
}

#[test]
fn without_arrays_nobody_begins_anew() {
    let mut net = Network::new();
    for _ in 0..2 {
        net.add(
            true,
            Config {
                forget_after: 60_000,
                ..Config::default()
            },
        );
    }
    net.set(0, "a", 1);
    let link = net.join(1, 0);
    pass(&mut net, 30_000);
    net.cut(link);
    net.unset(0, "a");
    net.set(1, "b", 1);
    pass(&mut net, 200_000);
    net.join(1, 0);
    pass(&mut net, 30_000);
    net.assert_converged();
    assert!(!net.has_event(1, |event| matches!(event, Event::Resynced { .. })));
    assert_eq!(
        net.replica(0)
            .document()
            .iter()
            .map(|(key, _)| key.clone())
            .collect::<Vec<Key>>(),
        [Key::from("b")]
    );
}

#[test]
fn a_replica_is_forgotten_by_command_and_one_that_leaves_at_once() {
    let mut net = chain(3);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    net.cut(1);
    clear(&mut net, 0);
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net), [5, 5, 0]);
    let (now, third) = (net.now, net.nodes[2].id);
    assert!(net.nodes[0].replica.forget(now, third));
    assert!(!net.nodes[0].replica.forget(now, third));
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[..2], [0, 0]);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    let now = net.now;
    net.nodes[1].replica.leave(now);
    net.settle();
    net.cut(0);
    clear(&mut net, 0);
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[0], 0);
}

/// Somebody says hello, tells nothing of what he has written, and is never seen again: he who only
/// hears that he was forgotten waits no longer for what nobody has.
#[test]
fn what_only_a_forgotten_replica_had_is_not_waited_for() {
    let mut net = chain(2);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    let lost = net.add(true, Config::default());
    net.set(lost, "k", 1);
    net.settle();
    let link = net.join(lost, 0);
    net.collect();
    assert!(net.deliver(link, 0));
    net.cut(link);
    clear(&mut net, 0);
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[..2], [5, 5]);
    let (now, third) = (net.now, net.nodes[lost].id);
    assert!(net.nodes[0].replica.forget(now, third));
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[..2], [0, 0]);
}

/// The peer's operations come, and his table does not: once he is forgotten, what he has not told
/// is not waited for.
#[test]
fn a_table_that_a_forgotten_replica_did_not_tell_is_not_waited_for() {
    let mut net = chain(2);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    let lost = net.add(true, Config::default());
    net.set(lost, "k", 1);
    net.settle();
    let link = net.join(lost, 0);
    while net.get(0, "k").is_none() {
        net.collect();
        net.links[link].wires[0]
            .frames
            .retain(|frame| Frame::decode(frame.clone()).unwrap().kind() != "members");
        net.deliver(link, 0);
        net.deliver(link, 1);
    }
    net.cut(link);
    clear(&mut net, 0);
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[..2], [5, 5]);
    let (now, third) = (net.now, net.nodes[lost].id);
    assert!(net.nodes[0].replica.forget(now, third));
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[..2], [0, 0]);
}

/// A server, and so many replicas without a store that are lent ids.
fn hub(clients: usize) -> Network {
    let mut net = Network::new();
    net.add(true, Config::default());
    for client in 0..clients {
        net.add(false, crate::loans::config());
        net.join(client + 1, 0);
    }
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    net.settle();
    net
}

#[test]
fn who_only_reads_is_no_member_and_loses_nothing_when_he_writes() {
    let mut net = hub(2);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    assert_eq!(net.replica(0).members(net.now).count(), 0);
    // One is gone for good, the other for a while.
    net.cut(0);
    net.cut(1);
    write(&mut net, 0, |tx| tx.array("list").delete(1));
    write(&mut net, 2, |tx| tx.array("list").insert(2, 100));
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net)[0], 0);
    net.join(2, 0);
    pass(&mut net, 60_000);
    assert_eq!(list(&net, 0), values(&[0, 100, 2, 3, 4]));
    assert_eq!(list(&net, 2), list(&net, 0));
    assert_eq!(net.replica(0).members(net.now).count(), 1);
}

/// Those that come later know as well that he is gone, and do not wait for him.
#[test]
fn what_a_reset_has_seen_of_one_who_is_gone_goes_everywhere() {
    let mut net = hub(1);
    write(&mut net, 1, |tx| tx.counter("n").add(5));
    net.settle();
    let now = net.now;
    net.nodes[1].replica.leave(now);
    net.settle();
    net.cut(0);
    let late = net.add(true, Config::default());
    net.nodes[late].replica.observe(false);
    net.join(late, 0);
    pass(&mut net, 30_000);
    write(&mut net, late, |tx| tx.counter("n").reset());
    pass(&mut net, 120_000);
    let [first, late] = [0, late].map(|node| net.replica(node).document());
    assert_eq!([first.has_past(), late.has_past()], [false; 2]);
    assert_eq!(first.encode(), late.encode());
    assert!(first.encode().len() < 80, "{}", first.encode().len());
}

#[test]
fn an_id_that_was_given_back_is_no_member_at_once() {
    let mut net = hub(2);
    append(&mut net, 1, 5);
    net.settle();
    let standing = |net: &Network| -> Vec<Standing> {
        let members = net.replica(0).members(net.now);
        members.map(|member| member.standing).collect()
    };
    assert_eq!(standing(&net), [Standing::Member]);
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    assert_eq!(standing(&net), [Standing::Gone]);
    // Who is lent it is one from then on.
    append(&mut net, 2, 5);
    net.settle();
    assert_eq!(standing(&net), [Standing::Member]);
    assert_eq!(net.replica(0).version().ranges().len(), 1);
    clear(&mut net, 2);
    pass(&mut net, 60_000);
    assert_eq!(tombstones(&net), [0; 3]);
}

#[test]
fn news_of_members_that_were_lost_are_asked_for() {
    let mut net = chain(2);
    append(&mut net, 0, 5);
    pass(&mut net, 30_000);
    clear(&mut net, 0);
    // The next thing that each tells of the members is lost.
    let mut lost = [false; 2];
    for _ in 0..30 {
        net.now += 1_000;
        let now = net.now;
        for node in &mut net.nodes {
            node.replica.handle_timeout(now);
        }
        net.collect();
        for (from, lost) in lost.iter_mut().enumerate() {
            net.links[0].wires[from].frames.retain(|frame| {
                let members = Frame::decode(frame.clone()).unwrap().kind() == "members";
                let lose = members && !*lost;
                *lost |= lose;
                !lose
            });
        }
        net.settle();
    }
    assert_eq!(lost, [true; 2]);
    pass(&mut net, 90_000);
    assert!(net.count("missed") > 0);
    assert_eq!(tombstones(&net), [0, 0]);
}

/// What is written and told to nobody gets other names later: nobody has to have it.
#[test]
fn what_was_kept_back_is_not_asked_of_the_others() {
    let mut net = Network::new();
    for borrows in [false, true] {
        let config = Config {
            forget_after: 20_000,
            borrows,
            ..Config::default()
        };
        net.add(!borrows, config);
    }
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    let link = net.join(1, 0);
    append(&mut net, 0, 10);
    // An id that can be lent, so that what was kept back is called otherwise in the end.
    append(&mut net, 1, 1);
    net.settle();
    assert!(net.nodes[1].replica.give_back());
    pass(&mut net, 5_000);
    net.cut(link);
    write(&mut net, 1, |tx| {
        let mut list = tx.array("list");
        list.delete(3)?;
        list.delete(3)?;
        list.insert(3, 100)
    });
    write(&mut net, 0, |tx| tx.array("list").delete(8));
    pass(&mut net, 120_000);
    let name = net.replica(1).document().replica();
    net.join(1, 0);
    pass(&mut net, 120_000);
    assert_ne!(net.replica(1).document().replica(), name);
    assert_alike(&net);
    assert!(!net.has_event(0, |event| matches!(event, Event::Resynced { .. })));
    assert_eq!(list(&net, 0), values(&[0, 1, 2, 100, 5, 6, 7, 9, 0]));
}

/// Somebody has heard what a replica had stored, and never got it: if it comes back without, its
/// store is an old backup, and has told nothing under its id before it knows.
#[test]
fn an_old_backup_is_noticed_though_nobody_has_what_it_lost() {
    for (opener, written) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 10), (1, 10)] {
        let mut net = restored_with_nobody_to_ask();
        let old = net.nodes[0].id;
        let before = net.replica(1).version().last_seq(old);
        for i in 0..written {
            net.set(0, &format!("after {i}"), i);
        }
        net.join(opener, 1 - opener);
        net.settle();
        assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
        assert_eq!(net.replica(1).version().last_seq(old), before);

        net.nodes[0].id = ReplicaId::new(99);
        net.nodes[0].replica.change_replica(ReplicaId::new(99));
        net.cut(0);
        net.join(opener, 1 - opener);
        pass(&mut net, 20_000);
        assert_same(&net);
        for i in 0..written {
            assert_eq!(net.get(1, &format!("after {i}")), Some(i.into()));
        }
    }
}

/// A chain of two, of which the first has told that it stored "b", which got lost on the way, and is
/// restored from a backup that has not got it.
fn restored_with_nobody_to_ask() -> Network {
    let mut net = chain(2);
    net.set(0, "a", 1);
    pass(&mut net, 20_000);
    let backup = net.nodes[0].disk.clone();
    net.set(0, "b", 2);
    for _ in 0..20 {
        net.now += 1_000;
        let now = net.now;
        for node in &mut net.nodes {
            node.replica.handle_timeout(now);
        }
        for _ in 0..4 {
            net.collect();
            net.links[0].wires[1].frames.retain(|frame| {
                let kind = Frame::decode(frame.clone()).unwrap().kind();
                !["update", "delta", "part"].contains(&kind)
            });
            for from in [0, 1] {
                while net.deliver(0, from) {}
            }
        }
    }
    assert_eq!(net.get(1, "b"), None);
    net.nodes[0].disk = backup;
    net.crash(0);
    net
}

/// What a backup has let go of alone, before it learned what it is, is called otherwise afterwards:
/// nobody could ever have that by its old name.
#[test]
fn what_was_deleted_before_the_id_changed_goes_all_the_same() {
    // It learns so while what it deleted waits to be marked, sealed and let go of.
    for delay in (0..30_000).step_by(3_000) {
        let mut net = chain(2);
        append(&mut net, 0, 1);
        pass(&mut net, 20_000);
        let backup = net.nodes[0].disk.clone();
        append(&mut net, 0, 1);
        pass(&mut net, 20_000);
        net.nodes[0].disk = backup;
        net.crash(0);
        net.nodes[0].replica.observe(false);
        let (now, peer) = (net.now, net.nodes[1].id);
        net.nodes[0].replica.forget(now, peer);
        for _ in 0..2 {
            append(&mut net, 0, 10);
            clear(&mut net, 0);
            net.pass(delay);
        }
        net.join(0, 1);
        net.settle();
        assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
        net.nodes[0].id = ReplicaId::new(99);
        net.nodes[0].replica.change_replica(ReplicaId::new(99));
        net.cut(0);
        net.join(0, 1);
        pass(&mut net, 100_000);
        assert_same(&net);
        assert_eq!(tombstones(&net), [0, 0], "{delay}");

        // Who has it all is not sent back for what is called otherwise now.
        net.add(true, Config::default());
        net.nodes[2].replica.observe(false);
        let link = net.join(2, 0);
        pass(&mut net, 20_000);
        net.cut(link);
        net.join(2, 0);
        pass(&mut net, 20_000);
        let is_anew = |event: &Event| matches!(event, Event::Resynced { .. });
        assert!(!net.has_event(2, is_anew), "{delay}");
    }
}

/// A visitor that has written, and moved before it had caught up, comes under an id of its own.
/// Where what it refers to may be gone at other servers, it is the one that begins anew.
#[test]
fn a_visitor_that_writes_and_moves_begins_anew_and_no_server_does() {
    let mut net = chain(2);
    let visitor = net.add(
        false,
        Config {
            borrows: true,
            ..Config::default()
        },
    );
    net.nodes[visitor].replica.observe(false);
    append(&mut net, 0, 3);
    let link = net.join(visitor, 0);
    pass(&mut net, 30_000);
    net.cut(link);
    write(&mut net, visitor, |tx| tx.array("list").set(1, 7));
    // The second server lets go of what the first one keeps until it hears so.
    write(&mut net, 0, |tx| tx.array("list").delete(1));
    net.settle();
    assert_eq!(tombstones(&net)[..2], [1, 1]);
    for _ in 0..1_000 {
        net.now += 100;
        let now = net.now;
        for node in &mut net.nodes {
            node.replica.handle_timeout(now);
        }
        let members = net.replica(0).members(now);
        let applied = members.into_iter().all(|member| member.missing == 0);
        for _ in 0..4 {
            net.collect();
            if applied {
                net.links[0].wires[0]
                    .frames
                    .retain(|frame| Frame::decode(frame.clone()).unwrap().kind() != "members");
            }
            for from in [0, 1] {
                while net.deliver(0, from) {}
            }
        }
    }
    assert_eq!(tombstones(&net)[..2], [1, 0]);
    net.cut(0);
    // There it hears no more than that it writes under its own id.
    let link = net.join(visitor, 1);
    for _ in 0..3 {
        net.collect();
        while net.deliver(link, 0) {}
        net.collect();
        let kind = |bytes: &bytes::Bytes| Frame::decode(bytes.clone()).unwrap().kind();
        net.links[link].wires[1]
            .frames
            .retain(|bytes| matches!(kind(bytes), "hello" | "loan"));
        while net.deliver(link, 1) {}
    }
    net.cut(link);
    net.join(visitor, 0);
    pass(&mut net, 1_000);
    net.join(1, 0);
    pass(&mut net, 60_000);
    assert_same(&net);
    let is_anew = |event: &Event| matches!(event, Event::Resynced { .. });
    let anew: Vec<bool> = (0..3).map(|node| net.has_event(node, is_anew)).collect();
    assert_eq!(anew, [false, false, true]);
    for node in 0..3 {
        assert_eq!(list(&net, node), values(&[0, 7, 2]));
    }
}

/// Bytes of member tables that each client of a server is told and tells for each edit, where
/// somebody writes once a second.
fn table_bytes(clients: usize, writers: usize, seconds: usize, durable: bool) -> f64 {
    let mut net = if durable {
        let mut net = Network::new();
        net.add(true, Config::default());
        for client in 0..clients {
            net.add(true, Config::default());
            net.join(client + 1, 0);
        }
        net
    } else {
        hub(clients)
    };
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    let run = |net: &mut Network, from: usize| {
        for second in from..from + seconds {
            net.set(
                second % writers,
                &format!("key {}", second % 10),
                second as i64,
            );
            net.pass(1_000);
        }
    };
    run(&mut net, 0);
    net.log.clear();
    run(&mut net, seconds);
    let members = net.log.iter().filter(|(.., kind, _)| *kind == "members");
    let bytes: usize = members.map(|(.., bytes)| bytes).sum();
    bytes as f64 / (clients * seconds) as f64
}

#[test]
fn tables_of_members_take_few_bytes_for_each_edit_and_client() {
    // Readers of what a server writes; of what many of them write; services with stores.
    for (clients, writers, durable, limit) in [
        (50, 1, false, 10.0),
        (50, 20, false, 32.0),
        (30, 1, true, 32.0),
    ] {
        let bytes = table_bytes(clients, writers, 100, durable);
        assert!(bytes < limit, "{clients} {writers} {durable}: {bytes}");
    }
}

#[test]
#[ignore = "takes minutes; tells the figures of the documentation"]
fn tables_of_members_with_a_thousand_clients() {
    for (writers, durable) in [(1, false), (1_000, false), (1, true)] {
        let bytes = table_bytes(1_000, writers, 120, durable);
        println!("{writers} writers, stores {durable}: {bytes:.1} bytes an edit and client");
    }
}
