//! A peer that may write, speaks the protocol and means harm.

use bytes::Bytes;
use portolan_core::sync::{Config, Event, Frame, ProtocolError};
use portolan_core::{Document, ReplicaId};
use proptest::prelude::*;

use crate::faults::samples;
use crate::network::{Network, START};
use crate::raw::{Entry, Raw, seal, varint};

const TIME: u64 = START << 16;

fn delta(raw: &Raw) -> Bytes {
    let mut frame = vec![2, 70];
    frame.extend_from_slice(&raw.bytes());
    seal(frame).into()
}

/// A state to be joined as a repair.
fn repair(transfer: u64, raw: &Raw) -> Bytes {
    let bytes = raw.bytes();
    let mut frame = vec![3, 70];
    varint(&mut frame, transfer);
    frame.push(1);
    varint(&mut frame, bytes.len() as u64);
    varint(&mut frame, 0);
    frame.extend_from_slice(&bytes);
    seal(frame).into()
}

/// Why the first replica refuses this, which the second sends.
fn refused(net: &mut Network, link: usize, raw: &Raw) -> ProtocolError {
    let before = net.replica(0).document().encode();
    net.hand_over(link, 1, delta(raw));
    assert!(net.replica(0).document().encode() == before);
    let (0, error) = net.errors.pop().expect("it is refused") else {
        panic!("the wrong one was refused");
    };
    assert!(!net.links[link].up);
    error
}

#[test]
fn an_operation_that_can_never_come_keeps_nobody_from_being_ready() {
    let mut net = Network::of(3);
    let bad = net.join(1, 0);
    net.settle();
    let gap = Raw {
        applied: vec![(7, vec![(1 << 60, 1 << 60)])],
        entries: vec![Entry::new("a", 0, 1 << 60, TIME)],
        ..Raw::default()
    };
    net.hand_over(bad, 0, delta(&gap));
    net.cut(bad);
    let good = net.join(2, 0);
    net.settle();
    assert!(net.replica(2).document().contains_key("a"));
    assert!(net.is_ready(good, 0) && net.is_ready(good, 1));
    // Nor are they asked for it for ever.
    net.pass(120_000);
    let before = net.count("want");
    net.pass(600_000);
    assert_eq!(net.count("want"), before);
}

#[test]
fn a_removal_of_what_was_not_written_yet_is_taken_for_a_reused_id() {
    let mut net = Network::of(2);
    net.set(0, "a", 1);
    let link = net.join(0, 1);
    net.settle();
    let error = refused(
        &mut net,
        link,
        &Raw {
            applied: vec![(7, vec![(1, 1)])],
            dead: vec![(1, vec![(1, 2)])],
            ..Raw::default()
        },
    );
    let (replica, ours, theirs) = (ReplicaId::new(1), 1, 2);
    let reused = ProtocolError::ReplicaReused {
        replica,
        ours,
        theirs,
    };
    assert_eq!(error, reused);
    assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
}

#[test]
fn a_version_that_no_hello_could_tell_is_refused() {
    let mut net = Network::of(3);
    let link = net.join(0, 1);
    net.settle();
    let many = |from: u64| Raw {
        applied: (from..from + 110_000).map(|r| (r, vec![(1, 1)])).collect(),
        ..Raw::default()
    };
    net.hand_over(link, 1, delta(&many(10)));
    assert_eq!(net.errors, []);
    let error = refused(&mut net, link, &many(200_000));
    assert!(matches!(error, ProtocolError::VersionTooLong { .. }));
    net.join(2, 0);
    net.settle();
    assert_eq!(net.errors, []);
    assert_eq!(net.replica(2).version(), net.replica(0).version());
}

#[test]
fn states_for_repair_are_joined_and_stored_now_and_then_only() {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.add(false, Config::default());
    let link = net.join(0, 1);
    net.settle();
    for value in 0..100 {
        let raw = Raw {
            applied: vec![(7, vec![(1, 1)])],
            entries: vec![Entry {
                value,
                ..Entry::new("a", 0, 1, TIME)
            }],
            ..Raw::default()
        };
        net.hand_over(link, 1, repair(value as u64 + 1, &raw));
    }
    assert_eq!(net.errors, []);
    net.collect();
    let disk = net.nodes[0].disk.as_ref().expect("it has a store");
    let writes = disk.stored.last().map_or(0, |write| write.number);
    assert!(writes <= 2, "{writes} writes");
}

#[test]
fn a_repair_underway_brings_nothing_back() {
    let mut net = Network::new();
    for (id, first) in [(1, "left"), (2, "right")] {
        let mut writer = Document::new(ReplicaId::new(7));
        writer.set(START, "both", 1).unwrap();
        writer.set(START, first, 2).unwrap();
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&writer.snapshot());
        net.add_document(document, false, Config::default());
    }
    let link = net.join(0, 1);
    net.settle();
    net.now += 30_000;
    let now = net.now;
    for node in &mut net.nodes {
        node.replica.handle_timeout(now);
    }
    // Digests cross, then states; meanwhile one of them removes what both hold.
    net.collect();
    for from in 0..2 {
        while net.deliver(link, from) {}
    }
    net.collect();
    assert!(!net.links[link].wires[0].frames.is_empty());
    net.unset(1, "both");
    net.settle();
    net.pass(120_000);
    net.assert_converged();
    assert_eq!(net.get(0, "both"), None);
}

/// The bytes of a frame after an edit, with good checksums outside and, in a delta, inside.
fn edited(whole: &[u8], at: usize, byte: Option<u8>, cut: usize) -> Bytes {
    let mut bytes = whole[..whole.len() - 4].to_vec();
    if bytes[0] == 2 {
        bytes.truncate(bytes.len() - 4);
    }
    let at = at % bytes.len();
    match byte {
        Some(byte) if cut == 0 => bytes[at] = byte,
        Some(byte) => bytes.insert(at, byte),
        None => drop(bytes.drain(at..(at + cut).min(bytes.len()))),
    }
    if bytes.first() == Some(&2) && bytes.len() > 2 {
        let inner = seal(bytes[2..].to_vec());
        bytes.truncate(2);
        bytes.extend_from_slice(&inner);
    }
    seal(bytes).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn no_run_of_frames_breaks_a_replica(
        edits in prop::collection::vec(
            (any::<usize>(), any::<usize>(), any::<Option<u8>>(), 0..4usize),
            1..40,
        ),
    ) {
        let frames = samples();
        let mut net = Network::of(2);
        net.set(0, "a", 1);
        let link = net.join(0, 1);
        net.settle();
        for (pick, at, byte, cut) in edits {
            if !net.links[link].up {
                break;
            }
            let bytes = edited(&frames[pick % frames.len()], at, byte, cut);
            if let Ok(frame) = Frame::decode(bytes) {
                let session = net.session(link, 0);
                let replica = &mut net.nodes[0].replica;
                let before = replica.document().encode();
                if replica.receive(session, START, frame).is_err() {
                    prop_assert!(replica.document().encode() == before);
                    break;
                }
                prop_assert_eq!(replica.version(), &replica.document().version());
            }
        }
        net.cut(link);
        net.nodes[0].replica.handle_timeout(START + 100_000);
        let bytes = net.replica(0).document().encode();
        let state = portolan_core::Delta::decode(&bytes).expect("own bytes decode");
        let mut again = Document::new(ReplicaId::new(99));
        again.apply(&state);
        prop_assert_eq!(again.digest(), net.replica(0).document().digest());
        prop_assert!(again.encode() == bytes);
    }
}
