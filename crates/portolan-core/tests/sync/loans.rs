//! Ids of replicas that have gone are used again, and never by two.

use std::collections::{BTreeMap, VecDeque};

use portolan_core::sync::{Access, Config, Event, Frame, Replica, SessionId};
use portolan_core::{Document, Dot, ReplicaId, Value};
use proptest::prelude::*;

use crate::network::{NAME, Network, START};

fn config() -> Config {
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
fn forgotten_ids_can_be_lent_again() {
    let mut net = hub(2);
    let lender = |net: &mut Network, seq| {
        net.nodes[0].replica.reclaim(ReplicaId::new(2), seq);
        net.replica(0).spare_ids()
    };
    net.set(1, "a", 1);
    net.settle();
    assert_eq!(lender(&mut net, 1), 0, "it is there");
    net.cut(0);
    assert_eq!(lender(&mut net, 2), 0, "it has not done so much");
    assert_eq!(lender(&mut net, 1), 1);
    net.now += 1;
    net.set(2, "b", 1);
    net.settle();
    assert_eq!(id(&net, 2), ReplicaId::new(2));
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
    let offers = recorded(&mut net, 0, 1);
    net.now += 1;
    assert!(net.nodes[1].replica.give_back());
    net.settle();
    net.now += 1;
    net.set(2, "b", 1);
    net.settle();
    assert_eq!(id(&net, 2), ReplicaId::new(3));
    // It asks again, and hears the old answers first.
    net.set(1, "c", 1);
    for frame in offers {
        net.hand_over(0, 1, frame);
    }
    net.settle();
    assert_ne!(id(&net, 1), id(&net, 2));
    net.assert_converged();
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

/// Sessions of clients that come, write once and go, so many of them at a time.
fn ranges_after(sessions: u64, at_once: usize, orderly: impl Fn(u64) -> bool) -> usize {
    let mut lender = Replica::new(
        NAME,
        1,
        Document::new(ReplicaId::new(1)),
        true,
        Config::default(),
    );
    let mut clients: VecDeque<(u64, Replica, [SessionId; 2])> = VecDeque::new();
    let mut now = START;
    for number in 1..=sessions {
        now += 1;
        let document = Document::new(ReplicaId::new(number + 1));
        let mut client = Replica::new(NAME, 2, document, false, config());
        let here = client.connect(now, Access::ALL, None);
        let hello = Frame::decode(client.poll_frame(here, now).unwrap()).unwrap();
        let there = lender.accept(now, hello.hello().unwrap(), Access::ALL);
        let sessions = [here, there.unwrap()];
        talk(&mut client, &mut lender, sessions, now);
        let key = format!("key {}", number % 20);
        client
            .transact(now, |tx| tx.set(key, number as i64))
            .unwrap();
        talk(&mut client, &mut lender, sessions, now);
        let seq = client.document().own_seq();
        assert!(client.is_flushed(seq), "session {number}");
        clients.push_back((number, client, sessions));
        if clients.len() == at_once {
            let (number, mut client, sessions) = clients.pop_front().unwrap();
            talk(&mut client, &mut lender, sessions, now);
            if orderly(number) {
                assert!(client.give_back(), "session {number}");
                talk(&mut client, &mut lender, sessions, now);
            }
            lender.close(sessions[1]);
        }
    }
    assert_eq!(lender.version().len(), sessions);
    lender.version().ranges().len()
}

/// Moves frames until both are silent.
fn talk(client: &mut Replica, lender: &mut Replica, sessions: [SessionId; 2], now: u64) {
    loop {
        let mut silent = true;
        while let Some(write) = lender.poll_write() {
            lender.stored(write.number, now);
        }
        while let Some(frame) = client.poll_frame(sessions[0], now) {
            silent = false;
            let frame = Frame::decode(frame).unwrap();
            lender.receive(sessions[1], now, frame).unwrap();
        }
        while let Some(frame) = lender.poll_frame(sessions[1], now) {
            silent = false;
            let frame = Frame::decode(frame).unwrap();
            client.receive(sessions[0], now, frame).unwrap();
        }
        while client.poll_event().is_some() || lender.poll_event().is_some() {}
        if silent {
            return;
        }
    }
}

#[test]
fn the_version_grows_with_those_who_write_at_a_time_and_not_with_all_who_ever_did() {
    let ranges = ranges_after(1_500, 50, |_| true);
    assert!(ranges <= 51, "{ranges}");
    // Who goes without a word keeps the id.
    let ranges = ranges_after(500, 50, |number| number % 10 != 0);
    assert!((45..=110).contains(&ranges), "{ranges}");
}

#[test]
#[ignore = "takes a minute without optimisation: cargo test --release -- --ignored"]
fn a_hundred_thousand_sessions_leave_a_version_of_fewer_than_a_thousand() {
    let ranges = ranges_after(100_000, 50, |_| true);
    println!("100,000 sessions, 50 at a time: {ranges} entries in the version");
    assert!(ranges < 1_000, "{ranges}");
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8),
    GiveBack(usize),
    Deliver(usize, usize, u8),
    Lose(usize, usize),
    Double(usize, usize, u8),
    Swap(usize, usize, u8),
    Pass(u32),
    Cut(usize),
    Join(usize, usize),
    Store(usize),
    Crash(usize),
    Settle,
}

const NODES: usize = 6;
/// The first two have stores, and lend.
const LENDERS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let (node, link, end) = (0..NODES, 0..8usize, 0..2usize);
    prop_oneof![
        8 => (node.clone(), 1..4u8).prop_map(|(n, c)| Step::Write(n, c)),
        6 => node.clone().prop_map(Step::GiveBack),
        12 => (link.clone(), end.clone(), 1..8u8).prop_map(|(l, e, c)| Step::Deliver(l, e, c)),
        1 => (link.clone(), end.clone()).prop_map(|(l, e)| Step::Lose(l, e)),
        2 => (link.clone(), end.clone(), any::<u8>()).prop_map(|(l, e, p)| Step::Double(l, e, p)),
        2 => (link.clone(), end, any::<u8>()).prop_map(|(l, e, p)| Step::Swap(l, e, p)),
        3 => (0..3_000u32).prop_map(Step::Pass),
        1 => (60_000..200_000u32).prop_map(Step::Pass),
        1 => link.prop_map(Step::Cut),
        4 => (LENDERS..NODES, 0..NODES).prop_map(|(a, b)| Step::Join(a, b)),
        1 => (0..LENDERS).prop_map(Step::Store),
        2 => node.prop_map(Step::Crash),
        4 => Just(Step::Settle),
    ]
}

/// What was written by whom, and what stands for it at the replicas.
#[derive(Default)]
struct Ledger {
    wrote: i64,
    by_dot: BTreeMap<Dot, Value>,
}

impl Ledger {
    /// Writes that nobody replaces: each has a key of its own.
    fn write(&mut self, net: &mut Network, node: usize, count: u8) {
        let now = net.now + 500 * node as u64;
        let numbers = self.wrote + 1..=self.wrote + i64::from(count);
        self.wrote += i64::from(count);
        let replica = &mut net.nodes[node].replica;
        let write = |tx: &mut portolan_core::Transaction<'_>| {
            numbers.clone().try_for_each(|n| tx.set(n.to_string(), n))
        };
        replica.transact(now, write).unwrap();
    }

    /// No dot names two operations; and the later operations of
    /// an id are stamped later.
    fn check(&mut self, net: &Network) {
        for (at, node) in net.nodes.iter().enumerate() {
            let document = node.replica.document();
            let own = document.replica();
            let mut all = BTreeMap::new();
            for (_, siblings) in document.iter() {
                for sibling in siblings {
                    all.insert(sibling.dot, (sibling.value.clone(), sibling.timestamp));
                }
            }
            assert_eq!(all.len() as u64, document.version().len());
            let pairs = all.iter().zip(all.iter().skip(1));
            for ((a, (_, earlier)), (b, (_, later))) in pairs {
                assert!(a.replica != b.replica || earlier <= later, "{a:?} {b:?}");
            }
            for (dot, (value, _)) in all {
                // What a crash may take from a lender before it tells of it is nobody's.
                if dot.replica == own && at < LENDERS {
                    continue;
                }
                let first = self.by_dot.entry(dot).or_insert_with(|| value.clone());
                assert_eq!(*first, value, "{dot:?} names two operations");
            }
        }
    }
}

fn run(steps: &[Step]) {
    let mut net = Network::new();
    let config = Config {
        digest_period: 5_000,
        ..config()
    };
    for node in 0..NODES {
        net.add(node < LENDERS, config.clone());
    }
    let mut ledger = Ledger::default();
    let mut next_id = NODES as u64;
    for step in steps {
        match *step {
            Step::Write(node, count) => ledger.write(&mut net, node, count),
            Step::GiveBack(node) => {
                net.nodes[node].replica.give_back();
            }
            Step::Deliver(link, from, count) => {
                net.collect();
                for _ in 0..count {
                    if link < net.links.len() {
                        net.deliver(link, from);
                    }
                }
            }
            Step::Lose(link, from) => disturb(&mut net, link, from, |frames| {
                frames.pop_front();
            }),
            Step::Double(link, from, place) => disturb(&mut net, link, from, |frames| {
                let again = frames[place as usize % frames.len()].clone();
                frames.push_back(again);
            }),
            Step::Swap(link, from, place) => disturb(&mut net, link, from, |frames| {
                let len = frames.len();
                frames.swap(0, place as usize % len);
            }),
            Step::Pass(millis) => {
                net.now += u64::from(millis);
                let now = net.now;
                for node in &mut net.nodes {
                    node.replica.handle_timeout(now);
                }
            }
            Step::Cut(link) => {
                if link < net.links.len() {
                    net.cut(link);
                }
            }
            Step::Join(a, b) => {
                net.links.retain(|link| link.up);
                if a != b && net.links.len() < 8 {
                    net.join(a, b);
                }
            }
            Step::Store(node) => net.nodes[node].stores ^= true,
            Step::Crash(node) if node < LENDERS => net.crash(node),
            Step::Crash(node) => {
                for link in 0..net.links.len() {
                    if net.links[link].ends.contains(&node) {
                        net.cut(link);
                    }
                }
                next_id += 1;
                let fresh = Document::new(ReplicaId::new(next_id));
                let mut replica =
                    Replica::new(NAME, node as u32 + 70, fresh, false, config.clone());
                replica.observe(true);
                let old = &mut net.nodes[node];
                (old.replica, old.watched) = (replica, BTreeMap::new());
            }
            Step::Settle => net.settle(),
        }
        net.collect();
        ledger.check(&net);
    }
    // Calm weather.
    (0..net.links.len()).for_each(|link| net.cut(link));
    net.links.clear();
    for node in &mut net.nodes {
        node.stores = true;
    }
    net.settle();
    net.errors.clear();
    for node in 1..NODES {
        net.join(node, 0);
    }
    net.pass(120_000);
    ledger.check(&net);
    assert!(net.errors.is_empty(), "{:?}", net.errors);
    net.assert_converged();
    for (index, node) in net.nodes.iter().enumerate() {
        let wrong = |event: &&Event| matches!(event, Event::Diverged { .. } | Event::ReplicaReused);
        assert_eq!(node.events.iter().find(wrong), None, "at {index}");
        let own_seq = node.replica.document().own_seq();
        assert!(node.replica.is_flushed(own_seq));
        // All have given back what they held.
        assert!(index < LENDERS || own_seq == 0, "{index} holds an id");
    }
}

/// Does something to the frames of a wire, hellos excepted: they are a session's first frames on
/// any transport.
fn disturb(
    net: &mut Network,
    link: usize,
    from: usize,
    f: impl FnOnce(&mut VecDeque<bytes::Bytes>),
) {
    net.collect();
    let Some(link) = net.links.get_mut(link) else {
        return;
    };
    let frames = &mut link.wires[from].frames;
    let hello = |bytes: &bytes::Bytes| {
        Frame::decode(bytes.clone()).is_ok_and(|frame| frame.hello().is_some())
    };
    if !frames.is_empty() && !frames.iter().any(hello) {
        f(frames);
    }
}

proptest! {
    #[test]
    fn no_dot_names_two_operations_whatever_the_network_did(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(&steps);
    }
}
