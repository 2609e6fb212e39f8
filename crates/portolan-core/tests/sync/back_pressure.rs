//! Peers that do not read.

use portolan_core::sync::Config;

use crate::network::Network;

#[test]
fn a_slow_peer_costs_a_bounded_queue_and_catches_up_by_version() {
    let mut net = Network::new();
    let config = Config {
        queue_bytes: 10_000,
        ..Config::default()
    };
    net.add(false, config.clone());
    net.add(false, config);
    let link = net.join(0, 1);
    net.settle();
    let session = net.session(link, 0);
    for i in 0..2_000 {
        net.set(0, &format!("key {}", i % 50), format!("value {i}"));
        let status = net.replica(0).session(session).unwrap();
        assert!(status.queued_bytes <= 10_000, "{status:?}");
    }
    let status = net.replica(0).session(session).unwrap();
    assert_eq!((status.queued_bytes, status.unacknowledged), (0, 2_000));
    assert_eq!(status.missing, 2_000);

    net.log.clear();
    net.settle();
    net.assert_converged();
    // One delta for all of it, proportional to the 50 keys that there are.
    let bytes: usize = net.log.iter().filter(|f| f.2 == "part").map(|f| f.3).sum();
    assert_eq!(net.count("part"), 1);
    assert!(bytes < 3_000, "{bytes}");
    net.pass(10);
    assert!(net.replica(0).is_flushed(2_000));
}

#[test]
fn one_slow_peer_does_not_hold_up_another() {
    let mut net = Network::new();
    let config = Config {
        queue_bytes: 2_000,
        ..Config::default()
    };
    for _ in 0..3 {
        net.add(false, config.clone());
    }
    net.join(0, 1);
    let slow = net.join(0, 2);
    net.settle();
    net.links[slow].up = false;
    for i in 0..500 {
        net.set(0, "k", i);
        net.settle();
    }
    assert_eq!(net.get(1, "k"), Some(499.into()));
    net.cut(slow);
    net.join(2, 0);
    net.settle();
    net.assert_converged();
}

#[test]
fn a_large_transaction_travels_as_a_catch_up() {
    let mut net = Network::new();
    let config = Config {
        chunk_bytes: 1_000,
        queue_bytes: 2_000,
        ..Config::default()
    };
    net.add(true, config.clone());
    for _ in 1..4 {
        net.add(false, config.clone());
    }
    for peer in 1..3 {
        net.join(peer, 0);
    }
    net.join(3, 2);
    net.settle();
    net.log.clear();
    let now = net.now;
    let replica = &mut net.nodes[0].replica;
    replica
        .transact(now, |tx| {
            (0..1_000).try_for_each(|i| tx.set(format!("key {i}"), i))
        })
        .unwrap();
    net.settle();
    net.assert_converged();
    assert_eq!(net.count("delta"), 0);
    assert!(net.count("part") > 10);
}
