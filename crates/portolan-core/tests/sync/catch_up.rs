//! Hello, and what each side lacks.

use portolan_core::sync::{Access, Config, Event};

use crate::network::Network;

#[test]
fn both_sides_get_what_they_lack_and_are_ready() {
    let mut net = Network::of(2);
    net.set(0, "a", 1);
    net.set(1, "b", 2);
    let link = net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert_eq!(net.replica(0).document().len(), 2);
    for end in 0..2 {
        assert!(net.is_ready(link, end));
        let session = net.session(link, end);
        let status = net.replica(end).session(session).unwrap();
        assert!(status.ready && !status.closed);
        assert!(net.has_event(end, |event| matches!(
            event,
            Event::Connected {
                access: Access::ALL,
                ..
            }
        )));
    }
    assert_eq!(net.count("part"), 2);
}

#[test]
fn two_empty_replicas_are_ready_at_once_and_tell_only_whom_they_know() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.settle();
    assert!(net.is_ready(link, 0) && net.is_ready(link, 1));
    assert_eq!((net.log.len(), net.count("members")), (4, 2));
}

#[test]
fn equal_replicas_exchange_no_delta() {
    let mut net = Network::of(2);
    net.set(0, "a", 1);
    let link = net.join(0, 1);
    net.settle();
    net.cut(link);
    net.log.clear();
    let link = net.join(1, 0);
    net.settle();
    assert!(net.is_ready(link, 0) && net.is_ready(link, 1));
    assert_eq!(net.count("delta") + net.count("part"), 0);
}

fn chunked() -> (Network, usize) {
    let mut net = Network::new();
    let config = Config {
        chunk_bytes: 256,
        ..Config::default()
    };
    net.add(false, config.clone());
    net.add(false, config);
    for i in 0..200 {
        net.set(
            0,
            &format!("key/{i}"),
            format!("a value of some length {i}"),
        );
    }
    let link = net.join(0, 1);
    (net, link)
}

#[test]
fn a_large_catch_up_comes_in_pieces_and_is_applied_whole() {
    let (mut net, link) = chunked();
    net.collect();
    assert!(net.deliver(link, 0)); // hello
    net.collect();
    assert!(net.deliver(link, 1)); // its answer
    net.collect();
    assert!(net.deliver(link, 0)); // whom it knows
    let pieces = net.links[link].wires[0].frames.len();
    assert!(pieces > 10);
    for _ in 1..pieces {
        assert!(net.deliver(link, 0));
        assert_eq!(net.replica(1).document().len(), 0);
        let status = net.replica(1).session(net.session(link, 1)).unwrap();
        assert!(
            status
                .staged
                .is_some_and(|(have, of)| 0 < have && have < of)
        );
        assert!(!net.is_ready(link, 1));
    }
    assert!(net.deliver(link, 0));
    net.settle();
    assert!(net.is_ready(link, 1));
    net.assert_converged();
    let batches = |event: &&Event| matches!(event, Event::Changed(_));
    assert_eq!(net.nodes[1].events.iter().filter(batches).count(), 1);
}

#[test]
fn a_catch_up_that_breaks_off_leaves_no_trace() {
    let (mut net, link) = chunked();
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.deliver(link, 1);
    net.collect();
    for _ in 0..8 {
        assert!(net.deliver(link, 0));
    }
    let before = (
        net.replica(1).document().encode(),
        net.replica(1).version().clone(),
    );
    net.cut(link);
    assert_eq!(net.replica(1).document().encode(), before.0);
    assert!(before.1.is_empty());
    assert_eq!(net.replica(1).sessions().count(), 0);

    net.join(1, 0);
    net.settle();
    net.assert_converged();
}

#[test]
fn a_lost_piece_costs_a_request_and_no_error() {
    for lost in [0, 3, 1_000] {
        let (mut net, link) = chunked();
        net.collect();
        net.deliver(link, 0);
        net.collect();
        net.deliver(link, 1);
        net.collect();
        net.deliver(link, 0);
        let frames = &mut net.links[link].wires[0].frames;
        let lost = lost.min(frames.len() - 1);
        frames.remove(lost);
        net.settle();
        assert_eq!(net.replica(1).document().len(), 0);
        net.pass(6_000);
        net.assert_converged();
        assert!(net.count("want") >= 1 && net.is_ready(link, 1));
    }
}

#[test]
fn pieces_that_come_twice_or_late_do_no_harm() {
    let (mut net, link) = chunked();
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.deliver(link, 1);
    net.collect();
    let pieces: Vec<_> = net.links[link].wires[0].frames.iter().cloned().collect();
    for piece in &pieces {
        net.hand_over(link, 0, piece.clone());
        net.hand_over(link, 0, piece.clone());
    }
    net.links[link].wires[0].frames.clear();
    net.hand_over(link, 0, pieces[0].clone());
    net.settle();
    net.assert_converged();
    let status = net.replica(1).session(net.session(link, 1)).unwrap();
    assert_eq!(status.staged, None);
}

#[test]
fn a_slow_catch_up_is_not_asked_for_again() {
    let (mut net, link) = chunked();
    for _ in 0..3 {
        net.collect();
        net.deliver(link, 0);
        net.deliver(link, 1);
    }
    while !net.links[link].wires[0].frames.is_empty() {
        net.now += 3_000;
        let now = net.now;
        net.nodes[1].replica.handle_timeout(now);
        net.collect();
        net.deliver(link, 0);
    }
    net.settle();
    net.assert_converged();
    assert_eq!(net.count("want"), 0);
    assert!(net.links[link].wires[1].frames.is_empty());
}

#[test]
fn what_was_written_before_the_hello_is_not_taken_to_be_stored_there() {
    let mut net = Network::of(2);
    net.set(0, "a", 1);
    assert!(net.replica(0).is_flushed(1), "there is nobody to wait for");
    let link = net.join(0, 1);
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.deliver(link, 1);
    assert!(!net.replica(0).is_flushed(1));
    net.settle();
    assert!(net.replica(0).is_flushed(1));
}

#[test]
fn live_changes_during_a_catch_up_are_not_lost() {
    let (mut net, link) = chunked();
    net.collect();
    net.deliver(link, 0);
    net.collect();
    net.deliver(link, 1);
    net.collect();
    net.set(0, "key/7", "changed");
    net.unset(0, "key/8");
    net.set(1, "other", 1);
    net.settle();
    net.assert_converged();
    assert_eq!(net.get(1, "key/7"), Some("changed".into()));
    assert_eq!(net.get(1, "key/8"), None);
}

#[test]
fn peers_that_lack_the_same_share_one_encoding() {
    let mut net = Network::of(4);
    net.set(0, "a", 1);
    for peer in 1..4 {
        net.join(peer, 0);
    }
    net.settle();
    net.assert_converged();
}

#[test]
fn a_hello_that_nobody_answers_times_out() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.links[link].up = false;
    net.pass(9_999);
    assert_eq!(net.closed(0), None);
    net.pass(2);
    let reason = net.closed(0).unwrap().to_string();
    assert!(reason.contains("10000 ms"), "{reason}");
}
