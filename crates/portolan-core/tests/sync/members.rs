//! Who holds the document, and what goes when all have it.

use portolan_core::Error;
use portolan_core::sync::{Config, Standing};

use crate::network::Network;

fn append(net: &mut Network, node: usize, values: i64) {
    let now = net.now;
    let replica = &mut net.nodes[node].replica;
    let write = replica.transact(now, |tx| {
        let mut list = tx.array("list");
        for n in 0..values {
            let len = list.len()?;
            list.insert(len, n)?;
        }
        Ok::<_, Error>(())
    });
    write.unwrap();
}

fn clear(net: &mut Network, node: usize) {
    let now = net.now;
    let replica = &mut net.nodes[node].replica;
    replica
        .transact(now, |tx| tx.array("list").clear())
        .unwrap();
}

fn tombstones(net: &Network) -> Vec<usize> {
    let all = net.nodes.iter();
    all.map(|node| node.replica.document().tombstones())
        .collect()
}

/// A chain, so that two replicas only know each other by what a third tells.
fn chain(count: usize) -> Network {
    let mut net = Network::new();
    for _ in 0..count {
        net.add(true, Config::default());
    }
    for node in &mut net.nodes {
        node.replica.observe(false);
    }
    for node in 1..count {
        net.join(node, node - 1);
    }
    net
}

#[test]
fn what_is_deleted_goes_by_itself_once_all_have_it() {
    let mut net = chain(3);
    append(&mut net, 0, 100);
    net.set(1, "k", 1);
    net.pass(1_000);
    clear(&mut net, 2);
    net.unset(1, "k");
    net.pass(1_000);
    assert_eq!(tombstones(&net), [100, 100, 100]);
    net.pass(120_000);
    assert_eq!(tombstones(&net), [0, 0, 0]);
    let bytes = net.replica(0).document().encode();
    for node in &net.nodes {
        let document = node.replica.document();
        assert_eq!(document.encode(), bytes);
        assert!(document.encode().len() < 120, "{}", document.encode().len());
        assert!(!document.has_past());
        let members: Vec<_> = node.replica.members(net.now).collect();
        assert_eq!(members.len(), 2);
        assert!(
            members
                .iter()
                .all(|m| m.standing == Standing::Member && m.missing == 0)
        );
    }
    // Then there is nothing to tell any more.
    let before = net.count("members");
    net.pass(120_000);
    assert_eq!(net.count("members"), before);
}
