//! Presence.

use portolan_core::ReplicaId;
use portolan_core::sync::{Config, Event};

use crate::network::Network;

fn present(net: &Network, at: usize) -> Vec<(u64, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    net.replica(at)
        .presences()
        .map(|(id, state)| (id.get(), text(state)))
        .collect()
}

fn set(net: &mut Network, at: usize, state: Option<&'static str>) {
    let now = net.now;
    let state = state.map(Into::into);
    net.nodes[at].replica.set_presence(now, state).unwrap();
    net.settle();
}

#[test]
fn presence_is_relayed_and_vanishes_with_its_connection() {
    let mut net = Network::of(3);
    let link = net.join(0, 1);
    set(&mut net, 0, Some("here"));
    net.join(2, 1);
    net.settle();
    for at in [1, 2] {
        assert_eq!(present(&net, at), [(1, "here".to_owned())]);
    }
    set(&mut net, 0, Some("there"));
    assert_eq!(present(&net, 2), [(1, "there".to_owned())]);
    net.cut(link);
    net.settle();
    for at in [1, 2] {
        assert!(present(&net, at).is_empty());
        let gone = Event::Presence {
            replica: ReplicaId::new(1),
            state: None,
        };
        assert_eq!(net.nodes[at].events.last(), Some(&gone));
    }
    assert!(net.replica(2).version().is_empty());
}

#[test]
fn presence_ends_when_it_is_ended() {
    let mut net = Network::of(2);
    net.join(0, 1);
    set(&mut net, 0, Some("here"));
    set(&mut net, 0, None);
    assert!(present(&net, 1).is_empty());
    set(&mut net, 0, Some("again"));
    assert_eq!(present(&net, 1).len(), 1);
}

#[test]
fn a_ring_keeps_presence_that_has_another_way() {
    let mut net = Network::of(4);
    let links = [(0, 1), (1, 2), (2, 3), (3, 0)].map(|(a, b)| net.join(a, b));
    net.settle();
    for at in 0..4 {
        set(&mut net, at, Some("x"));
    }
    for link in links {
        for at in 0..4 {
            assert_eq!(present(&net, at).len(), 3, "before {link}, at {at}");
        }
        let [a, b] = net.links[link].ends;
        net.cut(link);
        net.settle();
        for at in 0..4 {
            assert_eq!(present(&net, at).len(), 3, "without {link}, at {at}");
        }
        net.join(a, b);
        net.settle();
    }
}

#[test]
fn a_ring_forgets_who_left_it() {
    let mut net = Network::of(4);
    let stem = net.join(0, 1);
    net.join(1, 2);
    net.join(2, 3);
    net.join(3, 1);
    net.settle();
    set(&mut net, 0, Some("x"));
    assert_eq!(present(&net, 3).len(), 1);
    net.cut(stem);
    net.settle();
    for at in 1..4 {
        assert!(present(&net, at).is_empty(), "{at}");
    }
}

#[test]
fn presence_is_bounded() {
    let mut net = Network::new();
    let config = Config {
        presence_bytes: 1_000,
        ..Config::default()
    };
    for _ in 0..20 {
        net.add(false, config.clone());
    }
    let now = net.now;
    let long = vec![0; 64 * 1024 + 1];
    assert!(
        net.nodes[0]
            .replica
            .set_presence(now, Some(long.into()))
            .is_err()
    );

    net.join(0, 1);
    for peer in 2..20 {
        net.join(peer, 0);
    }
    net.settle();
    for peer in 2..20 {
        set(&mut net, peer, Some("state"));
    }
    // Each brings its own to the relay; who hears of all through one session sees some of them.
    assert!(net.errors.is_empty());
    assert_eq!(present(&net, 0).len(), 18);
    let seen = present(&net, 1).len();
    assert!(0 < seen && seen < 18, "{seen}");
}
