//! Ids of replicas that have gone are lent to those who come.

use portolan_core::sync::{Access, Config, Event, Frame};
use portolan_core::{Dot, ReplicaId};

use crate::network::Network;

pub(crate) fn config() -> Config {
    Config {
        borrows: true,
        ..Config::default()
    }
}

/// A lender, and so many replicas without a store that are joined to it.
fn hub(clients: usize) -> Network {
    let mut net = Network::new();
    net.add(true, Config::default());
    for client in 0..clients {
        net.add(false, config());
        net.join(client + 1, 0);
    }
    net.settle();
    net.log.clear();
    net
}

fn id(net: &Network, node: usize) -> ReplicaId {
    net.replica(node).document().replica()
}

/// Writes, and gives the id back.
fn visit(net: &mut Network, node: usize, key: &str) {
    net.set(node, key, 1);
    net.settle();
    assert!(net.nodes[node].replica.give_back());
    net.settle();
    net.now += 1;
}

#[test]
fn an_id_that_was_given_back_is_lent_to_the_next() {
    let mut net = hub(3);
    let first = id(&net, 1);
    visit(&mut net, 1, "a");
    assert_ne!(id(&net, 1), first, "who gave it back is somebody else");
    assert_eq!(net.replica(0).spare_ids(), 1);
    net.set(2, "b", 2);
    net.settle();
    assert_eq!((id(&net, 2), net.replica(0).spare_ids()), (first, 0));
    let renamed = |event: &Event| matches!(event, Event::Renamed { base: 1, .. });
    assert!(net.has_event(2, renamed));
    // While it is out, another has one of its own.
    let own = id(&net, 3);
    net.set(3, "c", 3);
    net.settle();
    assert_eq!(id(&net, 3), own);
    net.pass(1_000);
    net.assert_converged();
    let ranges = net.replica(0).version().ranges().len();
    assert_eq!((ranges, net.replica(0).version().len()), (2, 3));
}

#[test]
fn nothing_leaves_before_the_id_is_settled() {
    let mut net = hub(1);
    net.set(1, "a", 1);
    net.set(1, "b", 2);
    assert_eq!(
        net.get(1, "a"),
        Some(1.into()),
        "it is visible here at once"
    );
    net.collect();
    assert!(!net.replica(1).is_flushed(2));
    let sent = &net.links[0].wires[0].frames;
    let kinds = sent
        .iter()
        .map(|frame| Frame::decode(frame.clone()).unwrap().kind());
    assert_eq!(kinds.collect::<Vec<_>>(), ["loan"]);
    net.settle();
    assert!(net.replica(1).is_flushed(2));
    net.assert_converged();
    // It is asked once.
    net.set(1, "c", 3);
    net.settle();
    assert_eq!(net.count("loan"), 2);
}

#[test]
fn who_writes_nothing_asks_for_nothing() {
    let mut net = hub(2);
    net.set(0, "a", 1);
    net.pass(200_000);
    assert!(net.nodes[1].replica.give_back());
    net.pass(1_000);
    assert_eq!(net.count("loan"), 0);
    assert_eq!(net.get(2, "a"), Some(1.into()));
}

#[test]
fn what_was_written_offline_goes_out_under_a_lent_id() {
    let mut net = hub(1);
    visit(&mut net, 1, "a");
    let lent = Dot::new(ReplicaId::new(2), 2);
    let late = net.add(false, config());
    let now = net.now;
    let append = |tx: &mut portolan_core::Transaction<'_>| tx.root().array("list").append("x");
    let element = net.nodes[late].replica.transact(now, append).unwrap();
    net.join(late, 0);
    net.settle();
    assert_eq!(net.replica(late).document().current(element), lent);
    // The element is still found by the id that it had.
    let list = net.replica(late).document().root().array("list");
    assert_eq!((list.index_of(element), list.id(0)), (Some(0), Some(lent)));
    assert!(net.replica(late).is_flushed(2));
    assert_eq!(
        net.replica(0).document().encode(),
        net.replica(late).document().encode()
    );
}

/// What is done again under another id does not tell, as if it had done it, what others did.
#[test]
fn what_others_removed_is_not_told_without_them() {
    let mut net = hub(1);
    visit(&mut net, 1, "before");
    let other = net.add(false, Config::default());
    net.join(1, other);
    net.settle();
    net.set(0, "k", 1);
    net.set(0, "x", 0);
    net.settle();
    net.unset(other, "k");
    net.collect();
    net.deliver(1, 1);
    net.collect();
    // The removal is not passed on, for that frame is lost.
    net.links[0].wires[0].frames.clear();
    let version = net.replica(1).version().clone();
    net.now += 1;
    net.set(1, "x", 1);
    let all = net.replica(1).version().clone();
    net.nodes[1].replica.prune_log(&all);
    for _ in 0..10 {
        net.collect();
        net.deliver(0, 0);
        net.deliver(0, 1);
    }
    net.cut(0);
    assert_eq!(net.get(0, "x"), Some(1.into()));
    let told = net.replica(0).version().covers(&version);
    assert!(told || net.get(0, "k").is_some());
}

#[test]
fn an_id_is_not_lent_to_who_wrote_before_its_last_operation() {
    let mut net = hub(2);
    let early = net.add(false, config());
    net.set(early, "early", 1);
    net.now += 1;
    visit(&mut net, 1, "a");
    let own = id(&net, early);
    net.join(early, 0);
    net.settle();
    assert_eq!((id(&net, early), net.replica(0).spare_ids()), (own, 1));
    net.set(2, "b", 1);
    net.settle();
    assert_eq!(
        (id(&net, 2), net.replica(0).spare_ids()),
        (ReplicaId::new(2), 0)
    );
    net.assert_converged();
}

#[test]
fn an_id_goes_back_only_when_all_is_stored() {
    let mut net = hub(1);
    net.nodes[0].stores = false;
    net.set(1, "a", 1);
    net.settle();
    assert!(!net.nodes[1].replica.give_back(), "it is not stored");
    net.nodes[0].stores = true;
    net.settle();
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    assert_eq!(net.replica(0).spare_ids(), 1);
    // Twice is once.
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    assert_eq!((net.replica(0).spare_ids(), net.errors.len()), (1, 0));
}

#[test]
fn who_writes_nothing_for_a_while_gives_the_id_back() {
    let mut net = hub(2);
    net.set(1, "a", 1);
    net.pass(config().id_idle / 2);
    net.set(1, "b", 1);
    net.pass(config().id_idle * 3 / 4);
    assert_eq!(
        (id(&net, 1), net.replica(0).spare_ids()),
        (ReplicaId::new(2), 0)
    );
    net.pass(config().id_idle / 2);
    assert_eq!(net.replica(0).spare_ids(), 1);
    // It takes it again when it writes.
    net.set(1, "c", 1);
    net.settle();
    assert_eq!(
        (id(&net, 1), net.replica(0).spare_ids()),
        (ReplicaId::new(2), 0)
    );
    assert_eq!(net.replica(0).version().ranges().len(), 1);
}

#[test]
fn who_came_to_a_server_does_not_wait_for_its_id() {
    let mut net = hub(1);
    net.add(false, config());
    net.join(2, 1);
    net.settle();
    net.links[0].up = false;
    net.set(1, "a", 1);
    net.collect();
    net.deliver(1, 1);
    assert_eq!(net.get(2, "a"), Some(1.into()));
}

#[test]
fn who_comes_to_a_server_is_ready_with_what_it_wrote() {
    let mut net = Network::new();
    net.add(false, config());
    net.add(false, config());
    net.set(0, "a", 1);
    let link = net.join(1, 0);
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.deliver(link, 1);
    assert!(net.is_open(link) && !net.is_ready(link, 0));
    net.settle();
    assert!(net.is_ready(link, 0));
    assert_eq!(net.get(1, "a"), Some(1.into()));
}

#[test]
fn a_peer_that_does_not_answer_delays_for_a_bounded_time() {
    let mut net = hub(1);
    net.set(1, "a", 1);
    let end = net.now + config().hello_timeout;
    while net.now < end {
        net.collect();
        // Nothing of it arrives.
        net.links[0].wires[0]
            .frames
            .retain(|frame| Frame::decode(frame.clone()).is_ok_and(|frame| frame.kind() != "loan"));
        assert!(net.now < end - 1_000 || net.get(0, "a").is_none());
        let now = net
            .replica(1)
            .timeout()
            .map_or(end, |at| at.max(net.now + 1));
        net.now = now;
        net.nodes[1].replica.handle_timeout(now);
    }
    net.settle();
    assert_eq!(net.get(0, "a"), Some(1.into()));
}

#[test]
fn an_offer_that_was_lost_is_made_again_to_the_same() {
    let mut net = hub(2);
    visit(&mut net, 1, "a");
    net.set(2, "b", 1);
    net.collect();
    net.deliver(1, 0);
    assert_eq!(net.replica(0).spare_ids(), 0);
    net.cut(1);
    net.pass(1);
    net.links.remove(1);
    // Another is not given it meanwhile.
    net.set(1, "c", 1);
    net.settle();
    assert_ne!(id(&net, 1), ReplicaId::new(2));
    net.join(2, 0);
    net.settle();
    assert_eq!(id(&net, 2), ReplicaId::new(2));
    net.assert_converged();
}

#[test]
fn an_id_that_two_show_up_under_is_not_taken_back() {
    let mut net = hub(1);
    net.set(1, "a", 1);
    net.settle();
    // The same client by another connection, or a copy of it.
    let hello = net.links[0].wires[0].frames.len();
    assert_eq!(hello, 0);
    let now = net.now;
    let copy = net.nodes[1].replica.connect(now, Access::ALL, None);
    let frame = net.nodes[1].replica.poll_frame(copy, now).unwrap();
    let frame = Frame::decode(frame).unwrap();
    let hello = frame.hello().unwrap();
    let session = net.nodes[0]
        .replica
        .accept(now, hello, Access::ALL)
        .unwrap();
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    assert_eq!(net.replica(0).spare_ids(), 0);
    assert!(net.replica(0).session(session).is_some());
}

#[test]
fn who_may_not_write_is_lent_nothing_and_gives_nothing_back() {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.add(false, config());
    let read = Access {
        read: true,
        write: false,
    };
    net.join_with(1, 0, Access::ALL, read);
    net.settle();
    net.log.clear();
    net.set(1, "a", 1);
    net.settle();
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    assert_eq!((net.count("loan"), net.replica(0).spare_ids()), (0, 0));
}

#[test]
fn a_lender_that_restarts_lends_nothing_that_it_lent() {
    let mut net = hub(2);
    visit(&mut net, 1, "a");
    net.set(2, "b", 1);
    net.settle();
    net.crash(0);
    net.links.clear();
    for client in 1..3 {
        net.join(client, 0);
    }
    net.settle();
    net.set(1, "c", 1);
    net.settle();
    assert_ne!(id(&net, 1), id(&net, 2));
    // What it lent before can be given back to it all the same.
    assert!(net.nodes[2].replica.give_back());
    net.settle();
    assert_eq!(net.replica(0).spare_ids(), 1);
    net.assert_converged();
}

/// Delivers everything, and gives what went over a link in one direction.
fn recorded(net: &mut Network, link: usize, from: usize) -> Vec<bytes::Bytes> {
    let mut seen = Vec::new();
    loop {
        net.collect();
        seen.extend(net.links[link].wires[from].frames.iter().cloned());
        let mut moved = false;
        for link in 0..net.links.len() {
            for from in 0..2 {
                while net.deliver(link, from) {
                    moved = true;
                }
            }
        }
        if !moved {
            return seen;
        }
    }
}

#[test]
fn what_a_borrower_said_before_makes_no_second_of_its_id() {
    let mut net = hub(2);
    visit(&mut net, 2, "before");
    net.set(1, "a", 1);
    let mut said = recorded(&mut net, 0, 0);
    assert_eq!(id(&net, 1), ReplicaId::new(3));
    net.now += 1;
    assert!(net.nodes[1].replica.give_back());
    said.extend(recorded(&mut net, 0, 0));
    assert_eq!(net.replica(0).spare_ids(), 1);
    net.now += 1;
    // Another takes it, and is cut off before it tells of anything.
    net.set(2, "b", 1);
    net.collect();
    net.deliver(1, 0);
    net.collect();
    net.deliver(1, 1);
    assert_eq!(id(&net, 2), ReplicaId::new(3));
    net.cut(1);
    for round in 0..2 {
        for frame in &said {
            net.hand_over(0, 0, frame.clone());
            net.settle();
            assert_eq!(net.replica(0).spare_ids(), 0, "round {round}");
        }
    }
    net.set(1, "c", 1);
    net.settle();
    assert_ne!(id(&net, 1), id(&net, 2));
}

#[test]
fn what_a_lender_offered_before_is_not_taken() {
    let mut net = hub(2);
    visit(&mut net, 2, "before");
    net.set(1, "a", 1);
    net.collect();
    net.deliver(0, 0);
    net.collect();
    let late = std::mem::take(&mut net.links[0].wires[1].frames);
    net.now += config().hello_timeout;
    let now = net.now;
    net.nodes[1].replica.handle_timeout(now);
    net.settle();
    // What it did not take another takes, and is cut off before it tells of anything.
    net.set(2, "b", 1);
    net.collect();
    net.deliver(1, 0);
    net.collect();
    net.deliver(1, 1);
    assert_eq!(id(&net, 2), ReplicaId::new(3));
    net.cut(1);
    net.now += 1;
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    // It asks again, and hears the old answer first.
    net.now += 1;
    net.set(1, "c", 1);
    for frame in late {
        net.hand_over(0, 1, frame);
    }
    net.settle();
    assert_eq!(id(&net, 1), ReplicaId::new(2));
    net.links.remove(1);
    net.join(2, 0);
    net.settle();
    net.assert_converged();
}

/// The lender heard nothing of what became of its offer: the id may be in another's pool by now.
#[test]
fn an_offer_of_which_nothing_was_heard_is_not_made_again() {
    let mut net = hub(2);
    visit(&mut net, 2, "before");
    let lent = ReplicaId::new(3);
    let other = net.add(true, Config::default());
    net.join(1, other);
    net.settle();
    for key in ["a", "b"] {
        net.now += 1;
        net.set(1, key, 1);
        net.collect();
        net.deliver(0, 0);
        net.collect();
        net.deliver(0, 1);
        assert_eq!(id(&net, 1) == lent, key == "a");
        for _ in 0..10 {
            net.collect();
            if key == "a" {
                net.links[0].wires[0].frames.clear();
            }
            net.deliver(0, 0);
            net.deliver(0, 1);
            net.deliver(2, 0);
            net.deliver(2, 1);
        }
        let now = net.now;
        net.nodes[1].replica.handle_timeout(now);
        if key == "a" {
            assert!(net.nodes[1].replica.give_back());
            net.collect();
            net.links[0].wires[0].frames.clear();
        }
    }
    let spare = [0, other].map(|lender| net.replica(lender).spare_ids());
    assert_eq!(spare, [0, 1]);
}

#[test]
fn an_offer_that_was_given_up_is_declined_and_goes_to_another() {
    let mut net = hub(2);
    visit(&mut net, 2, "before");
    net.set(1, "a", 1);
    net.collect();
    net.deliver(0, 0);
    net.collect();
    // The answer is under way for too long.
    let late = std::mem::take(&mut net.links[0].wires[1].frames);
    net.now += config().hello_timeout;
    let now = net.now;
    net.nodes[1].replica.handle_timeout(now);
    let own = id(&net, 1);
    net.settle();
    assert_eq!(
        (net.get(0, "a"), net.replica(0).spare_ids()),
        (Some(1.into()), 1)
    );
    for frame in late {
        net.hand_over(0, 1, frame);
    }
    net.set(2, "b", 1);
    net.settle();
    assert_eq!((id(&net, 1), id(&net, 2)), (own, ReplicaId::new(3)));
    net.assert_converged();
}
