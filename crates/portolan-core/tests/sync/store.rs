//! Persist before publish.

use portolan_core::sync::{Config, Event, Frame};
use portolan_core::{Delta, Document, ReplicaId};

use crate::network::{NAME, Network, START};

/// A replica with a store that writes when told to, joined to one without.
fn pair() -> (Network, usize) {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.add(false, Config::default());
    net.nodes[0].stores = false;
    let link = net.join(0, 1);
    net.settle();
    (net, link)
}

#[test]
fn own_operations_leave_only_when_stored() {
    let (mut net, _) = pair();
    net.set(0, "a", 1);
    net.set(0, "b", 2);
    net.settle();
    assert!(net.replica(1).version().is_empty());
    assert!(!net.replica(0).is_flushed(1));
    assert_eq!(net.replica(0).unstored(), 2);

    let first = net.nodes[0].replica.poll_write().unwrap();
    assert_eq!((first.number, first.replaces), (1, false));
    let now = net.now;
    net.nodes[0].replica.stored(1, now);
    net.settle();
    assert_eq!(net.get(1, "a"), Some(1.into()));
    assert_eq!(net.get(1, "b"), None);

    net.nodes[0].stores = true;
    net.settle();
    net.pass(10);
    net.assert_converged();
    assert!(net.replica(0).is_flushed(2));
    assert_eq!(net.replica(0).unstored(), 0);
}

#[test]
fn a_catch_up_waits_for_the_store_and_the_hello_is_silent_about_it() {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.add(false, Config::default());
    net.set(0, "stored", 1);
    net.collect();
    net.nodes[0].stores = false;
    net.set(0, "not stored", 2);
    net.set(1, "theirs", 3);
    let link = net.join(0, 1);
    let session = net.session(link, 0);
    net.collect();
    let hello = Frame::decode(net.links[link].wires[0].frames[0].clone()).unwrap();
    assert_eq!(hello.hello().unwrap().version.len(), 1);
    assert_eq!(net.replica(0).session(session).unwrap().peer, None);
    net.settle();
    assert!(
        net.replica(1)
            .version()
            .ranges()
            .iter()
            .all(|r| r.replica == ReplicaId::new(2))
    );
    // What comes from others is applied all the same.
    assert_eq!(net.get(0, "theirs"), Some(3.into()));
    // The hello told of what is stored: the peer waits for that only.
    assert!(!net.is_ready(link, 1));

    net.nodes[0].stores = true;
    net.settle();
    assert!(net.is_ready(link, 1));
    net.assert_converged();
}

#[test]
fn an_unstored_removal_does_not_show_in_a_catch_up() {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.add(false, Config::default());
    net.add(false, Config::default());
    net.set(1, "k", 1);
    net.join(0, 1);
    net.settle();
    net.nodes[0].stores = false;
    net.unset(0, "k");
    // A third replica comes: it must not learn that the value is gone, and then outlive a crash.
    net.join(0, 2);
    net.settle();
    net.crash(0);
    net.nodes[0].stores = true;
    net.join(0, 2);
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert_eq!(net.get(2, "k"), Some(1.into()));
}

#[test]
fn nothing_unstored_is_known_outside_after_a_crash() {
    let (mut net, _) = pair();
    net.set(0, "a", 1);
    net.settle();
    net.pass(100_000);
    net.crash(0);
    assert!(net.replica(0).version().is_empty());
    // The dot is used again, for something else.
    net.nodes[0].stores = true;
    net.set(0, "b", 2);
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert_eq!(net.get(1, "a"), None);
    assert!(!net.has_event(0, |event| *event == Event::ReplicaReused));
}

#[test]
fn operations_of_others_are_passed_on_at_once_and_acknowledged_when_stored() {
    let mut net = Network::new();
    net.add(false, Config::default());
    net.add(true, Config::default());
    net.add(false, Config::default());
    net.join(0, 1);
    net.join(2, 1);
    net.settle();
    net.nodes[1].stores = false;
    net.set(0, "a", 1);
    net.settle();
    net.pass(70_000);
    assert_eq!(net.get(2, "a"), Some(1.into()));
    assert!(!net.replica(0).is_flushed(1));

    net.nodes[1].stores = true;
    net.settle();
    assert!(net.replica(0).is_flushed(1));
}

#[test]
fn what_was_not_stored_is_sent_again_after_a_crash() {
    let mut net = Network::new();
    net.add(false, Config::default());
    net.add(true, Config::default());
    let link = net.join(0, 1);
    net.settle();
    net.nodes[1].stores = false;
    net.set(0, "a", 1);
    net.settle();
    assert_eq!(net.get(1, "a"), Some(1.into()));
    net.cut(link);
    net.crash(1);
    assert_eq!(net.get(1, "a"), None);
    net.nodes[1].stores = true;
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert!(net.replica(0).is_flushed(1));
}

#[test]
fn the_digest_is_silent_about_what_is_not_stored() {
    let (mut net, _) = pair();
    net.set(0, "a", 1);
    net.pass(100_000);
    assert!(net.count("digest") >= 4);
    assert_eq!(net.count("want"), 0);
    for event in [0, 1].iter().flat_map(|n| &net.nodes[*n].events) {
        assert!(!matches!(event, Event::Diverged { .. }));
    }
    assert!(net.replica(1).version().is_empty());
}

#[test]
fn a_snapshot_stands_for_all_writes_up_to_its_number() {
    let mut net = Network::new();
    net.add(true, Config::default());
    net.set(0, "a", 1);
    net.set(0, "a", 2);
    let snapshot = net.replica(0).snapshot();
    assert_eq!(snapshot.number, 2);
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&Delta::decode(&snapshot.delta).unwrap());
    assert_eq!(document.encode(), net.replica(0).document().encode());
}

/// A replica that was copied while its store held one operation, and went on to five.
fn restored_from_backup() -> (Network, Delta) {
    let mut original = Document::new(ReplicaId::new(1));
    original.set(START, "before", 0).unwrap();
    let backup = Delta::decode(&original.encode()).unwrap();
    for i in 0..4 {
        original.set(START, format!("lost {i}"), i).unwrap();
    }
    let mut restored = Document::new(ReplicaId::new(1));
    restored.apply(&backup);
    let mut witness = Document::new(ReplicaId::new(2));
    witness.apply(&original.snapshot());
    let mut net = Network::new();
    net.add_document(restored, true, Config::default());
    net.add_document(witness, false, Config::default());
    net.nodes[0]
        .disk
        .as_mut()
        .unwrap()
        .stored
        .push(portolan_core::sync::Write {
            number: 0,
            delta: backup.encode().into(),
            replaces: false,
            members: None,
        });
    (net, backup)
}

#[test]
fn an_old_backup_is_noticed_and_continues_under_a_new_id() {
    for opener in [0, 1] {
        let (mut net, _) = restored_from_backup();
        net.set(0, "after", 1);
        net.settle();
        net.join(opener, 1 - opener);
        net.settle();
        assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
        assert_eq!(net.replica(0).document().get("lost 1"), None);
        assert_eq!(net.replica(0).sessions().count(), 0);

        net.nodes[0].id = ReplicaId::new(99);
        net.nodes[0].replica.change_replica(ReplicaId::new(99));
        net.settle();
        net.join(opener, 1 - opener);
        net.settle();
        net.assert_converged();
        for (key, value) in [("before", 0), ("lost 3", 3), ("after", 1)] {
            assert_eq!(net.get(0, key), Some(value.into()), "{key}");
        }
        // The store holds it too, without the dots that were used twice.
        net.crash(0);
        assert_eq!(net.get(0, "after"), Some(1.into()));
        assert_eq!(net.replica(0).document().replica(), ReplicaId::new(99));
        net.join(0, 1);
        net.settle();
        net.assert_converged();
    }
}

#[test]
fn an_old_backup_that_has_written_more_is_noticed_before_it_tells() {
    let (mut net, _) = restored_from_backup();
    net.nodes[0].stores = false;
    for i in 0..10 {
        net.set(0, &format!("after {i}"), i);
    }
    net.join(0, 1);
    net.settle();
    assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
}

#[test]
fn an_old_backup_is_noticed_through_a_third_replica() {
    let (mut net, _) = restored_from_backup();
    net.add(false, Config::default());
    net.join(0, 2);
    net.settle();
    net.join(1, 2);
    net.settle();
    assert!(net.has_event(0, |event| *event == Event::ReplicaReused));
}

/// Where a backup has used names again and somebody took them, two operations have one name.
#[test]
fn a_name_with_two_contents_is_noticed_and_one_stays() {
    let mut net = Network::new();
    for (id, value) in [(2, "lost"), (3, "again")] {
        let mut writer = Document::new(ReplicaId::new(1));
        writer.set(START, "key", value).unwrap();
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&writer.snapshot());
        net.add_document(document, false, Config::default());
    }
    net.join(0, 1);
    net.pass(200_000);
    net.assert_converged();
    let is_told = |event: &Event| matches!(event, Event::Diverged { .. });
    assert!([0, 1].iter().any(|node| net.has_event(*node, is_told)));
}

#[test]
fn changing_the_id_ends_all_sessions() {
    let (mut net, _) = pair();
    net.nodes[0].replica.change_replica(ReplicaId::new(50));
    net.settle();
    assert!(net.closed(0).is_some());
    assert!(
        net.closed(1)
            .is_some_and(|reason| reason.to_string().contains("new id"))
    );
    assert_eq!(net.replica(0).name(), NAME);
}
