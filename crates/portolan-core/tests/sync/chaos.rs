//! Random clusters over links that lose, double and reorder, with crashes and reconnects.

use portolan_core::ReplicaId;
use portolan_core::sync::{Config, Event};
use proptest::prelude::*;

use crate::network::Network;
use crate::weather::{Weather, weather};

#[derive(Clone, Debug)]
enum Step {
    Set(usize, u8, i64),
    Unset(usize, u8),
    Batch(usize, u8, u8),
    Weather(Weather),
    Pass(u16),
    Join(usize, usize),
    Store(usize),
    Crash(usize),
    Presence(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..4usize;
    prop_oneof![
        6 => (node.clone(), 0..12u8, any::<i64>()).prop_map(|(n, k, v)| Step::Set(n, k, v)),
        3 => (node.clone(), 0..12u8).prop_map(|(n, k)| Step::Unset(n, k)),
        2 => (node.clone(), 0..12u8, 1..40u8).prop_map(|(n, k, c)| Step::Batch(n, k, c)),
        19 => weather().prop_map(Step::Weather),
        2 => (0..3_000u16).prop_map(Step::Pass),
        3 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Join(a, b)),
        2 => node.clone().prop_map(Step::Store),
        1 => node.clone().prop_map(Step::Crash),
        1 => (node, any::<bool>()).prop_map(|(n, on)| Step::Presence(n, on)),
    ]
}

fn run(count: usize, durable: &[bool], fresh: bool, steps: &[Step]) {
    let mut net = Network::new();
    let config = Config {
        queue_bytes: 400,
        chunk_bytes: 120,
        digest_period: 5_000,
        ..Config::default()
    };
    for durable in &durable[..count] {
        net.add(*durable, config.clone());
    }
    for step in steps {
        match *step {
            Step::Set(node, key, value) => net.set(node % count, &key.to_string(), value),
            Step::Unset(node, key) => net.unset(node % count, &key.to_string()),
            Step::Batch(node, key, len) => {
                let now = net.now;
                let replica = &mut net.nodes[node % count].replica;
                let keys = (0..len).map(|i| (key + i).to_string());
                replica
                    .transact(now, |tx| {
                        keys.into_iter()
                            .try_for_each(|key| tx.set(key, i64::from(len)))
                    })
                    .unwrap();
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
                let (a, b) = (a % count, b % count);
                if a != b && net.links.iter().filter(|l| l.up).count() < 8 {
                    net.links.retain(|l| l.up);
                    net.join(a, b);
                }
            }
            Step::Store(node) => {
                let node = &mut net.nodes[node % count];
                node.stores = !node.stores;
            }
            Step::Crash(node) => {
                if net.nodes[node % count].disk.is_some() {
                    net.crash(node % count);
                }
            }
            Step::Presence(node, on) => {
                let now = net.now;
                let state = on.then(|| bytes::Bytes::from_static(b"here"));
                net.nodes[node % count]
                    .replica
                    .set_presence(now, state)
                    .unwrap();
            }
        }
    }
    // Calm weather: stores work, and good links join all. Where `fresh`, they are new ones, and
    // hellos find what is missing; else those that went through it all must find it themselves.
    if fresh {
        (0..net.links.len()).for_each(|link| net.cut(link));
    }
    for node in &mut net.nodes {
        node.stores = true;
    }
    net.settle();
    for link in 0..net.links.len() {
        if !net.is_open(link) {
            net.cut(link);
        }
    }
    net.settle();
    net.errors.clear();
    let mut group: Vec<usize> = (0..count).collect();
    let up: Vec<[usize; 2]> = net.links.iter().filter(|l| l.up).map(|l| l.ends).collect();
    for [a, b] in up {
        let (old, new) = (group[a], group[b]);
        group
            .iter_mut()
            .filter(|g| **g == old)
            .for_each(|g| *g = new);
    }
    for node in 1..count {
        if group[node] != group[0] {
            net.join(node, 0);
            let (old, new) = (group[node], group[0]);
            group
                .iter_mut()
                .filter(|g| **g == old)
                .for_each(|g| *g = new);
        }
    }
    net.pass(120_000);
    assert!(net.errors.is_empty(), "{:?}", net.errors);
    net.assert_converged();
    for (index, node) in net.nodes.iter().enumerate() {
        let diverged =
            |event: &&Event| matches!(event, Event::Diverged { .. } | Event::ReplicaReused);
        assert_eq!(node.events.iter().find(diverged), None, "at {index}");
        assert!(node.replica.is_flushed(node.replica.document().own_seq()));
        for status in node.replica.sessions() {
            assert!(
                status.ready && status.missing == 0 && status.unacknowledged == 0,
                "{status:?}"
            );
        }
        assert_eq!(
            node.replica.document().replica(),
            ReplicaId::new(index as u64 + 1)
        );
    }
}

proptest! {
    #[test]
    fn replicas_converge_whatever_the_network_did(
        count in 2..5usize,
        durable in prop::collection::vec(any::<bool>(), 4),
        fresh in any::<bool>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        run(count, &durable, fresh, &steps);
    }
}
