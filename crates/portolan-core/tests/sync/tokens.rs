//! However many come and go, and whatever the network does: few ids, and each held by one.

use std::collections::{BTreeMap, VecDeque};

use portolan_core::sync::{Access, Config, Event, Frame, Replica, SessionId};
use portolan_core::{Document, Dot, ReplicaId, Value};
use proptest::prelude::*;

use crate::loans::config;
use crate::network::{NAME, Network, START};
use crate::weather::{Weather, weather};

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
    let ranges = ranges_after(1_000, 50, |_| true);
    assert!(ranges <= 51, "{ranges}");
    // Who goes without a word keeps the id.
    let ranges = ranges_after(400, 50, |number| number % 10 != 0);
    assert!((35..=100).contains(&ranges), "{ranges}");
}

#[test]
#[ignore = "takes many minutes without optimisation: cargo test --release -- --ignored"]
fn a_hundred_thousand_sessions_leave_a_version_of_fewer_than_a_thousand() {
    let ranges = ranges_after(100_000, 50, |_| true);
    println!("100,000 sessions, 50 at a time: {ranges} entries in the version");
    assert!(ranges < 1_000, "{ranges}");
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8),
    GiveBack(usize),
    Weather(Weather),
    Pass(u32),
    Join(usize, usize),
    Store(usize),
    Crash(usize),
    Settle,
}

const NODES: usize = 6;
/// The first two have stores, and lend.
const LENDERS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        8 => (node.clone(), 1..4u8).prop_map(|(n, c)| Step::Write(n, c)),
        6 => node.clone().prop_map(Step::GiveBack),
        19 => weather().prop_map(Step::Weather),
        3 => (0..3_000u32).prop_map(Step::Pass),
        1 => (60_000..200_000u32).prop_map(Step::Pass),
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
            for (_, siblings) in document.range(..) {
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
            Step::Weather(ref weather) => net.suffer(weather),
            Step::Pass(millis) => {
                net.now += u64::from(millis);
                let now = net.now;
                for node in &mut net.nodes {
                    node.replica.handle_timeout(now);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_dot_names_two_operations_whatever_the_network_did(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(&steps);
    }
}
