//! Equal versions, unequal states.

use portolan_core::sync::{Config, Event};
use portolan_core::{Document, ReplicaId};

use crate::network::{Network, START};

/// Two documents of one version, of which each holds what the other does not.
fn damaged(durable: bool) -> Network {
    let mut net = Network::new();
    for (id, first) in [(1, "left"), (2, "right")] {
        let mut writer = Document::new(ReplicaId::new(7));
        writer.set(START, "both", 1).unwrap();
        writer.set(START, first, 2).unwrap();
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&writer.snapshot());
        net.add_document(document, durable, Config::default());
    }
    assert_eq!(net.replica(0).version(), net.replica(1).version());
    net
}

#[test]
fn a_divergence_is_reported_and_repaired() {
    let mut net = damaged(false);
    net.join(0, 1);
    net.settle();
    assert_ne!(
        net.replica(0).document().digest(),
        net.replica(1).document().digest()
    );
    net.pass(30_000);
    net.assert_converged();
    for node in 0..2 {
        assert!(net.has_event(node, |e| matches!(e, Event::Repaired { .. })));
    }
    assert!((0..2).any(|n| net.has_event(n, |e| matches!(e, Event::Diverged { .. }))));
    let before = net.count("part");
    net.pass(300_000);
    assert_eq!(net.count("part"), before);
}

#[test]
fn a_repair_is_stored() {
    let mut net = damaged(true);
    net.join(0, 1);
    net.pass(30_000);
    net.assert_converged();
    let bytes = net.replica(0).document().encode();
    net.crash(0);
    assert_eq!(net.replica(0).document().encode(), bytes);
}
