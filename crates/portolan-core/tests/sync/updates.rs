//! Live updates told by the difference: few bytes, and whatever does not fit is made good.

use bytes::Bytes;
use portolan_core::sync::Config;
use portolan_core::{Document, Error, ReplicaId};
use proptest::prelude::*;

use crate::network::{Network, START};

/// Replicas with ids as they are in use.
fn network(count: u64, durable: bool) -> Network {
    let mut net = Network::new();
    for number in 1..=count {
        let id = ReplicaId::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        net.add_document(Document::new(id), durable, Config::default());
    }
    net
}

/// One that writes, one that listens, and the link between them; one write has been told of.
fn pair() -> (Network, usize) {
    let mut net = network(2, false);
    let link = net.join(0, 1);
    net.set(0, "key-000001", 1);
    net.settle();
    net.log.clear();
    (net, link)
}

#[test]
fn a_write_is_told_of_in_few_bytes_by_everybody() {
    // A chain of servers with stores, in between.
    let mut net = network(4, true);
    for [a, b] in [[0, 1], [1, 2], [2, 3]] {
        net.join(a, b);
    }
    net.settle();
    net.set(0, "key-000001", 1);
    net.settle();
    net.log.clear();
    for i in 2..100 {
        net.now += 20;
        net.set(0, &format!("key-{i:06}"), i * 7_919);
        net.settle();
    }
    net.assert_converged();
    let told: Vec<usize> = net
        .log
        .iter()
        .filter(|f| f.2 == "update")
        .map(|f| f.3)
        .collect();
    assert_eq!(told.len(), 98 * 3);
    assert!(told.iter().all(|bytes| *bytes <= 22), "{told:?}");
    assert_eq!(
        net.count("delta") + net.count("part") + net.count("want"),
        0
    );
}

#[test]
fn who_joins_late_follows_without_asking() {
    let mut net = network(3, false);
    net.join(0, 1);
    net.settle();
    for i in 0..5 {
        net.set(0, "a", i);
        net.settle();
    }
    net.join(2, 1);
    net.settle();
    net.log.clear();
    for i in 0..5 {
        net.set(0, "a", 10 + i);
        net.settle();
    }
    net.assert_converged();
    assert_eq!(
        net.count("want") + net.count("part") + net.count("delta"),
        0
    );
}

/// Many writers on one key: nobody's last value is live, so the document does not show against
/// what the next one is told.
#[test]
fn who_joins_late_follows_writers_whose_values_were_overwritten() {
    const WRITERS: usize = 20;
    let mut net = network(WRITERS as u64 + 2, false);
    for writer in 1..=WRITERS {
        net.join(writer, 0);
    }
    net.settle();
    for i in 0..3 * WRITERS {
        net.now += 1;
        net.set(1 + i % WRITERS, "hot", i as i64);
        net.settle();
    }
    net.join(WRITERS + 1, 0);
    net.settle();
    assert_eq!(net.count("contexts"), 1);
    net.log.clear();
    for i in 0..3 * WRITERS {
        net.set(1 + i % WRITERS, "hot", i as i64);
        net.settle();
    }
    net.assert_converged();
    assert_eq!(
        net.count("want") + net.count("part") + net.count("delta"),
        0
    );
    assert_eq!(net.count("update"), 3 * WRITERS * (WRITERS + 1));
}

#[test]
fn a_lost_update_is_asked_for_once() {
    let (mut net, link) = pair();
    net.set(0, "key-000002", 2);
    net.collect();
    net.links[link].wires[0].frames.clear();
    for i in 3..50 {
        net.set(0, &format!("key-{i:06}"), i);
    }
    net.settle();
    assert_eq!(net.replica(1).document().len(), 1);
    net.pass(200);
    net.assert_converged();
    net.set(0, "key-000050", 50);
    net.pass(20_000);
    net.assert_converged();
    assert_eq!(net.count("want"), 1);
    assert_eq!(net.count("part"), 1);
}

#[test]
fn updates_in_any_order_need_no_request() {
    let (mut net, link) = pair();
    for i in 0..20 {
        net.set(0, "a", i);
    }
    net.unset(0, "a");
    net.set(0, "b", 1);
    net.collect();
    net.links[link].wires[0].frames.make_contiguous().reverse();
    net.settle();
    net.assert_converged();
    net.pass(10_000);
    assert_eq!(net.count("want"), 0);
}

#[test]
fn an_update_that_comes_twice_is_acknowledged_twice() {
    let (mut net, link) = pair();
    net.set(0, "b", 1);
    net.collect();
    let frame = net.links[link].wires[0].frames[0].clone();
    net.settle();
    net.pass(1_000);
    let acks = net.count("ack");
    net.hand_over(link, 0, frame);
    net.pass(10_000);
    assert_eq!(net.count("ack"), acks + 1);
    assert_eq!(net.count("want"), 0);
}

#[test]
fn what_two_servers_pass_on_is_taken_once_from_either() {
    // 0 writes to 1; 1 and 2 both tell 3.
    let mut net = network(4, false);
    for [a, b] in [[0, 1], [1, 2], [1, 3], [2, 3]] {
        net.join(a, b);
    }
    net.settle();
    net.set(0, "a", 0);
    net.settle();
    net.log.clear();
    for i in 0..50 {
        net.set(0, "a", i);
        net.collect();
        // The links take turns in being the slow one.
        for link in 0..4 {
            let link = (link + i as usize) % 4;
            net.deliver(link, 0);
            net.deliver(link, 1);
        }
    }
    net.settle();
    net.pass(5_000);
    net.assert_converged();
    assert_eq!(net.count("want") + net.count("part"), 0);
    let unacknowledged =
        |node: usize| -> u64 { net.replica(node).sessions().map(|s| s.unacknowledged).sum() };
    assert_eq!((0..4).map(unacknowledged).sum::<u64>(), 0);
}

#[test]
fn updates_taken_for_those_of_a_namesake_are_not_acknowledged_and_come_in_the_end() {
    // Two writers of one tag; by its numbers, what the second one writes was here before.
    let mut net = Network::new();
    for id in [7, 0xfeed << 48 | 1, 0xfeed << 48 | 2] {
        net.add_document(Document::new(ReplicaId::new(id)), false, Config::default());
    }
    net.join(1, 0);
    for i in 0..100 {
        net.set(1, "a", i);
    }
    let link = net.join(2, 0);
    net.settle();
    net.set(2, "b", 0);
    net.collect();
    net.links[link].wires[0].frames.clear();
    for i in 1..50 {
        net.set(2, "b", i);
        net.settle();
    }
    let unacknowledged: u64 = net.replica(2).sessions().map(|s| s.unacknowledged).sum();
    assert_eq!((unacknowledged, net.get(0, "b")), (50, None));
    net.pass(60_000);
    net.assert_converged();
    let unacknowledged: u64 = net.replica(2).sessions().map(|s| s.unacknowledged).sum();
    assert_eq!(unacknowledged, 0);
}

#[test]
fn a_damaged_update_changes_nothing_and_is_asked_for() {
    let (mut net, link) = pair();
    net.set(0, "key-000002", 2);
    net.collect();
    let whole = net.links[link].wires[0]
        .frames
        .pop_front()
        .expect("it is told of");
    let before = net.replica(1).document().encode();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(frame) = portolan_core::sync::Frame::decode(bytes.into()) else {
            continue;
        };
        let session = net.session(link, 1);
        // A damaged handle is of another document: the host does not find it.
        if frame.handle() == 70 {
            let taken = net.nodes[1].replica.receive(session, START, frame);
            assert_eq!(taken, Ok(()));
        }
        assert!(net.replica(1).document().encode() == before);
    }
    net.settle();
    net.pass(400);
    net.assert_converged();
    assert_eq!(net.count("want"), 1);
    assert!(net.is_open(link));
}

#[test]
fn who_sends_nonsense_is_asked_ever_more_rarely() {
    let (mut net, link) = pair();
    for _ in 0..600 {
        for at in 0..100u8 {
            let junk = Bytes::from(vec![48, 70, 0xd8, at, 1, 2, 3, 4, 5, 6, 7, 8]);
            net.hand_over(link, 0, junk);
        }
        net.pass(100);
    }
    // A minute: at 200 ms, then twice as long each time up to half a minute.
    let wants = net.count("want");
    assert!((1..=10).contains(&wants), "{wants}");
    assert!(net.is_open(link) && net.errors.is_empty());
    net.set(0, "a", 1);
    net.pass(31_000);
    net.assert_converged();
}

#[test]
fn a_transaction_of_many_kinds_is_one_update() {
    let (mut net, _) = pair();
    let now = net.now;
    for node in &mut net.nodes {
        // The network follows the keys of the root alone.
        node.replica.observe(false);
    }
    let replica = &mut net.nodes[0].replica;
    let done = replica.transact(now, |tx| {
        tx.set("a", 1)?;
        tx.counter("n").add(5)?;
        tx.map("m").map("inner").set(7, true)?;
        tx.array("l").append("x")?;
        tx.or_set("s").insert(1.5)?;
        Ok::<(), Error>(())
    });
    done.expect("within limits");
    net.settle();
    assert_eq!((net.count("update"), net.count("delta")), (1, 0));
    let [here, there] = [0, 1].map(|node| net.replica(node).document().encode());
    assert!(here == there);
}

#[test]
fn an_update_to_who_may_not_write_is_refused() {
    use portolan_core::sync::{Access, ProtocolError};
    let mut net = network(2, false);
    let read = Access {
        read: true,
        write: false,
    };
    net.set(1, "a", 0);
    let link = net.join_with(0, 1, read, read);
    net.settle();
    for content in [&[48, 70, 0xd8, 1, 1, 2, 3, 4, 5, 6, 7, 8][..], &[48, 70]] {
        let bytes = Bytes::copy_from_slice(content);
        let frame = portolan_core::sync::Frame::decode(bytes).expect("it is a frame");
        let session = net.session(link, 1);
        let mut other = Network::of(0);
        std::mem::swap(&mut other, &mut net);
        let taken = other.nodes[1].replica.receive(session, START, frame);
        std::mem::swap(&mut other, &mut net);
        if content.len() > 2 {
            assert_eq!(taken, Err(ProtocolError::NotWritable));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Three writers, two servers between them, links that lose, double, reorder and damage.
    #[test]
    fn whatever_happens_on_the_way_all_is_told_in_the_end(
        script in prop::collection::vec((0..5usize, 0..4u8, any::<u8>(), 0..5usize), 1..120),
    ) {
        let mut net = network(5, false);
        let ends = [[0, 1], [0, 2], [1, 3], [1, 4], [0, 4]];
        let links = ends.map(|[a, b]| net.join(a, b));
        net.settle();
        for (writer, key, fate, at) in script {
            net.now += 7;
            if key == 3 {
                net.unset(writer, "0");
            } else {
                net.set(writer, &format!("{key}"), i64::from(fate));
            }
            net.collect();
            let link = links[at];
            for from in 0..2 {
                let frames = &mut net.links[link].wires[from].frames;
                match fate % 16 {
                    0 => drop(frames.pop_front()),
                    1 => frames.extend(frames.front().cloned().into_iter().collect::<Vec<_>>()),
                    2 => frames.make_contiguous().reverse(),
                    3 => {
                        let update = frames.iter_mut().find(|frame| frame[0] == 48);
                        if let Some(update) = update {
                            let mut bytes = update.to_vec();
                            // Behind type and handle.
                            let place = 2 + usize::from(fate) % (bytes.len() - 2);
                            bytes[place] ^= 1 << (at + 1);
                            *update = bytes.into();
                        }
                    }
                    _ => while net.deliver(link, from) {},
                }
            }
        }
        net.settle();
        prop_assert_eq!(&net.errors, &[]);
        // A digest finds what was lost last of all, the next one what that one's answer lost.
        net.pass(120_000);
        net.assert_converged();
    }
}
