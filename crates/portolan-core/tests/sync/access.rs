//! Who may read, who may write.

use portolan_core::sync::{Access, ErrorCode, Event, ProtocolError};

use crate::network::Network;

const READ: Access = Access {
    read: true,
    write: false,
};
const WRITE: Access = Access {
    read: false,
    write: true,
};

#[test]
fn a_reader_is_told_and_not_listened_to() {
    for (asked, granted) in [(READ, Access::ALL), (Access::ALL, READ)] {
        let mut net = Network::of(2);
        net.set(0, "mine", 1);
        net.set(1, "theirs", 2);
        let link = net.join_with(0, 1, asked, granted);
        net.settle();
        net.set(0, "mine", 3);
        net.set(1, "more", 4);
        net.pass(100_000);
        assert!(net.errors.is_empty());
        assert_eq!(net.get(1, "mine"), None);
        assert_eq!(net.get(0, "more"), Some(4.into()));
        assert!(net.is_ready(link, 0) && net.is_ready(link, 1) || !net.is_ready(link, 1));
        assert!(net.has_event(0, |e| matches!(e, Event::Connected { access: READ, .. })));
        // Nobody takes its writes, so there is nobody to wait for.
        assert!(net.replica(0).is_flushed(2));
    }
}

#[test]
fn a_writer_is_listened_to_and_not_told() {
    let mut net = Network::of(2);
    net.set(0, "mine", 1);
    net.set(1, "theirs", 2);
    let link = net.join_with(0, 1, WRITE, Access::ALL);
    net.settle();
    net.set(0, "mine", 3);
    net.set(1, "theirs", 4);
    net.pass(100_000);
    assert!(net.errors.is_empty());
    assert_eq!(net.get(1, "mine"), Some(3.into()));
    assert_eq!(net.get(0, "theirs"), None);
    assert!(net.is_ready(link, 0));
    assert!(net.replica(0).is_flushed(2));
}

#[test]
fn operations_of_a_reader_are_refused_and_change_nothing() {
    let mut net = Network::of(3);
    net.set(2, "evil", 1);
    // What a replica with all rights sends, over a link that has none to write.
    let honest = net.join(2, 1);
    net.collect();
    net.deliver(honest, 0);
    net.collect();
    net.deliver(honest, 1);
    net.collect();
    let delta = net.links[honest].wires[0].frames[0].clone();
    net.cut(honest);

    let link = net.join_with(0, 1, READ, READ);
    net.settle();
    net.hand_over(link, 0, delta);
    assert_eq!(net.errors, [(1, ProtocolError::NotWritable)]);
    assert!(net.replica(1).version().is_empty());
    let reason = net.closed(0).unwrap().to_string();
    assert!(reason.contains("without write access"), "{reason}");
}

#[test]
fn no_access_is_no_session() {
    let mut net = Network::of(2);
    net.join_with(0, 1, READ, WRITE);
    net.settle();
    assert!(matches!(net.errors[..], [(1, ProtocolError::Refused(_))]));
    assert_eq!(net.replica(1).sessions().count(), 0);
    assert!(net.closed(0).is_some());
}

#[test]
fn credentials_reach_the_host_and_can_be_renewed() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.settle();
    let session = net.session(link, 0);
    net.nodes[0].replica.refresh(session, b"a token");
    net.settle();
    let session = net.session(link, 1);
    assert!(net.has_event(1, |event| *event
        == Event::Credentials {
            session,
            credentials: "a token".into()
        }));
}

#[test]
fn credentials_that_are_renewed_before_the_answer_follow_the_hello() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    let session = net.session(link, 0);
    net.nodes[0].replica.refresh(session, b"a later token");
    net.settle();
    let session = net.session(link, 1);
    assert!(net.has_event(1, |event| *event
        == Event::Credentials {
            session,
            credentials: "a later token".into()
        }));
    assert!(net.is_ready(link, 0) && net.is_ready(link, 1));
}

#[test]
fn a_revoked_session_says_why() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.settle();
    let session = net.session(link, 1);
    net.nodes[1]
        .replica
        .end(session, ErrorCode::Refused, "the token was revoked");
    net.set(1, "secret", 1);
    net.settle();
    assert_eq!(net.get(0, "secret"), None);
    let reason = net.closed(0).unwrap().to_string();
    assert!(reason.contains("the token was revoked"), "{reason}");
    // The host's own doing is no event to it.
    assert_eq!(net.closed(1), None);
}
