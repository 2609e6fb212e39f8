//! Live deltas: fan-out, relay, acknowledgement, gaps.

use bytes::Bytes;
use portolan_core::ReplicaId;
use portolan_core::sync::Event;

use crate::network::Network;

fn pair() -> (Network, usize) {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.settle();
    net.log.clear();
    (net, link)
}

#[test]
fn a_transaction_is_one_frame_and_one_batch() {
    let (mut net, _) = pair();
    let now = net.now;
    let replica = &mut net.nodes[0].replica;
    replica
        .transact(now, |tx| {
            tx.set("a", 1)?;
            tx.set("b", 2)
        })
        .unwrap();
    net.settle();
    net.assert_converged();
    assert_eq!(net.count_told(), 1);
    let batches: Vec<_> = net.nodes[1]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Changed(batch) => Some(batch.changes.len()),
            _ => None,
        })
        .collect();
    assert_eq!(batches, [2]);
}

#[test]
fn a_transaction_that_fails_sends_nothing() {
    let (mut net, _) = pair();
    let now = net.now;
    let replica = &mut net.nodes[0].replica;
    let failed = replica.transact(now, |tx| {
        tx.set("a", 1).unwrap();
        Err::<(), _>("no")
    });
    assert_eq!(failed, Err("no"));
    net.settle();
    assert!(net.log.is_empty() && net.replica(0).version().is_empty());
}

#[test]
fn every_session_is_given_the_same_bytes() {
    let mut net = Network::of(4);
    for peer in 1..4 {
        net.join(peer, 0);
    }
    net.settle();
    net.set(0, "a", 1);
    let replica = &mut net.nodes[0].replica;
    let mut frames: Vec<Bytes> = Vec::new();
    while let Some(session) = replica.poll_ready() {
        frames.extend(replica.poll_frame(session, net.now));
    }
    assert_eq!(frames.len(), 3);
    assert!(
        frames
            .iter()
            .all(|frame| frame.as_ptr() == frames[0].as_ptr())
    );
}

#[test]
fn a_relay_passes_on_what_it_hears_but_not_back() {
    let mut net = Network::of(3);
    net.join(0, 1);
    net.join(2, 1);
    net.settle();
    net.log.clear();
    net.set(0, "a", 1);
    net.settle();
    net.assert_converged();
    let deltas: Vec<_> = net
        .log
        .iter()
        .filter(|f| f.2 == "delta" || f.2 == "update")
        .map(|f| (f.0, f.1))
        .collect();
    assert_eq!(deltas, [(0, 1), (1, 2)]);
}

#[test]
fn a_ring_falls_silent() {
    let mut net = Network::of(3);
    net.join(0, 1);
    net.join(1, 2);
    net.join(2, 0);
    net.settle();
    net.log.clear();
    for i in 0..20 {
        net.set(i % 3, &format!("{i}"), 1);
        net.settle();
    }
    net.assert_converged();
    assert!(net.count_told() <= 20 * 4, "{}", net.count_told());
}

#[test]
fn what_the_peer_has_meanwhile_is_not_sent_to_it() {
    let mut net = Network::of(3);
    net.join(0, 1);
    net.join(1, 2);
    let slow = net.join(0, 2);
    net.settle();
    net.log.clear();
    net.set(1, "a", 1);
    // Both 0 and 2 hear it from 1. While the frame of 0 to 2 still waits, 2's own arrives.
    net.collect();
    net.deliver(0, 1);
    net.deliver(1, 0);
    let (to, frame) = {
        let replica = &mut net.nodes[2].replica;
        let session = net.links[slow].sessions[1].unwrap();
        (
            net.links[slow].sessions[0].unwrap(),
            replica.poll_frame(session, net.now).unwrap(),
        )
    };
    let frame = portolan_core::sync::Frame::decode(frame).unwrap();
    net.nodes[0].replica.receive(to, net.now, frame).unwrap();
    assert_eq!(net.nodes[0].replica.poll_frame(to, net.now), None);
}

#[test]
fn own_operations_are_acknowledged_at_once_and_others_gathered() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    assert!(!net.replica(0).is_flushed(1));
    net.settle();
    assert!(net.replica(0).is_flushed(1));
    assert!(!net.replica(0).is_flushed(2));
    assert_eq!(
        net.replica(0).is_flushed_to(net.session(link, 0), 1),
        Some(true)
    );
    let session = net.session(link, 0);
    assert!(net.has_event(0, |event| *event == Event::Acknowledged(session)));
    let (_, peer, version) = net.replica(0).acknowledged().next().unwrap();
    assert_eq!(peer, ReplicaId::new(2));
    assert_eq!(&version, net.replica(0).version());

    for i in 0..100 {
        net.set(0, "a", i);
        net.settle();
    }
    // Time stands still: the rest is acknowledged after the interval, as one.
    assert_eq!(net.count("ack"), 1);
    net.pass(5);
    assert_eq!(net.count("ack"), 2);
    assert!(net.replica(0).is_flushed(101));
}

#[test]
fn what_was_only_passed_on_is_acknowledged_in_the_end() {
    let mut net = Network::of(3);
    net.join(0, 1);
    net.join(2, 1);
    net.settle();
    net.set(0, "a", 1);
    net.settle();
    let unacknowledged = |net: &Network| {
        net.replica(1)
            .sessions()
            .map(|s| s.unacknowledged)
            .sum::<u64>()
    };
    assert_eq!(unacknowledged(&net), 1);
    net.pass(2_000);
    assert_eq!(unacknowledged(&net), 0);
}

#[test]
fn a_lost_frame_is_asked_for_after_the_gap_shows() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    net.collect();
    net.links[link].wires[0].frames.clear();
    net.set(0, "b", 2);
    net.settle();
    net.pass(199);
    assert!(net.replica(1).document().is_empty());
    assert_eq!(net.count("want"), 0);
    net.pass(1);
    assert_eq!(net.count("want"), 1);
    net.assert_converged();
    net.pass(20_000);
    assert_eq!(net.count("want"), 1);
}

#[test]
fn frames_out_of_order_need_no_request() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    net.set(0, "a", 2);
    net.unset(0, "a");
    net.collect();
    net.links[link].wires[0].frames.make_contiguous().reverse();
    net.settle();
    net.pass(10_000);
    net.assert_converged();
    assert_eq!(net.count("want"), 0);
}

#[test]
fn a_lost_last_frame_is_found_by_the_digest() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    net.collect();
    net.links[link].wires[0].frames.clear();
    net.pass(29_000);
    assert_eq!(net.get(1, "a"), None);
    net.pass(2_000);
    assert_eq!(net.get(1, "a"), Some(1.into()));
    assert!(!net.has_event(0, |event| matches!(event, Event::Diverged { .. })));
    net.assert_converged();
}

#[test]
fn a_lost_acknowledgement_is_made_up_by_the_digest() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.links[link].wires[1].frames.clear();
    net.settle();
    assert!(!net.replica(0).is_flushed(1));
    net.pass(30_000);
    assert!(net.replica(0).is_flushed(1));
}

#[test]
fn an_echo_is_no_acknowledgement() {
    let (mut net, link) = pair();
    net.set(0, "a", 1);
    net.collect();
    let frame = net.links[link].wires[0].frames.pop_front().unwrap();
    net.hand_over(link, 1, frame);
    assert!(net.errors.is_empty());
    assert!(!net.replica(0).is_flushed(1));
}

#[test]
fn what_waits_in_the_queue_is_not_sent_again_on_request() {
    let mut net = Network::of(3);
    net.join(0, 1);
    net.join(0, 2);
    net.settle();
    // The first frame to 1 is lost; the others wait, since nobody polls them.
    net.set(0, "a", 0);
    net.collect();
    net.links[0].wires[0].frames.clear();
    for i in 0..5 {
        net.set(0, "b", i);
    }
    let asks = {
        let mut other = Network::of(2);
        let link = other.join(0, 1);
        other.settle();
        other.set(0, "x", 1);
        other.collect();
        other.links[link].wires[0].frames.clear();
        // The other network's first replica has written once: its peer asks for what is not 2.
        other.set(0, "y", 1);
        other.settle();
        other.now += 200;
        let now = other.now;
        other.nodes[1].replica.handle_timeout(now);
        other.collect();
        other.links[link].wires[1].frames.pop_back().unwrap()
    };
    net.log.clear();
    net.hand_over(0, 1, asks);
    let session = net.session(0, 0);
    // It has operation 2 alone; 3 to 6 wait: 1 is what is missing.
    assert_eq!(net.replica(0).session(session).unwrap().missing, 1);
    net.settle();
    net.assert_converged();
}

#[test]
fn a_peer_that_is_behind_is_not_sent_what_it_shows_to_know() {
    let mut net = Network::new();
    let config = portolan_core::sync::Config {
        queue_bytes: 1,
        ..Default::default()
    };
    for _ in 0..3 {
        net.add(false, config.clone());
    }
    let links = [net.join(0, 1), net.join(1, 2), net.join(0, 2)];
    net.settle();
    net.set(1, "a", 1);
    // 1 tells both; 0 does not get to telling 2 before 2 tells 0.
    net.collect();
    net.deliver(links[0], 1);
    net.deliver(links[1], 0);
    let session = net.session(links[2], 0);
    assert_eq!(net.replica(0).session(session).unwrap().missing, 1);
    let theirs = net.session(links[2], 1);
    let frame = net.nodes[2].replica.poll_frame(theirs, net.now).unwrap();
    net.hand_over(links[2], 1, frame);
    assert_eq!(net.replica(0).session(session).unwrap().missing, 0);
}
