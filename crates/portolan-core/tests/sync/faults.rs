//! Frames that no correct peer sends. The document is untouched, the peer is told the rule.

use bytes::Bytes;
use portolan_core::sync::{Access, Config, ErrorCode, Frame, ProtocolError, Replica};
use portolan_core::{DecodeError, Document, ReplicaId};

use crate::network::{Network, START};
use crate::raw;

/// A frame by hand: type, handle, content.
fn frame(kind: u8, content: &[u8]) -> Bytes {
    let mut bytes = vec![kind, 70];
    bytes.extend_from_slice(content);
    seal(bytes)
}

fn seal(bytes: Vec<u8>) -> Bytes {
    raw::seal(bytes).into()
}

/// Two joined replicas with a few operations each.
fn pair() -> (Network, usize) {
    let mut net = Network::of(2);
    net.set(0, "a", 1);
    net.set(1, "b", 2);
    let link = net.join(0, 1);
    net.settle();
    (net, link)
}

/// What happens when the second replica is given a frame.
fn refused(bytes: Bytes) -> ProtocolError {
    let (mut net, link) = pair();
    let before = net.replica(1).document().encode();
    net.hand_over(link, 0, bytes);
    assert_eq!(net.replica(1).document().encode(), before);
    let [(1, error)] = &net.errors[..] else {
        panic!("not refused: {:?}", net.errors);
    };
    let error = error.clone();
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    error
}

/// One frame of each kind, as replicas really send them.
pub(crate) fn samples() -> Vec<Bytes> {
    let mut net = Network::new();
    let config = Config {
        chunk_bytes: 100,
        ..Config::default()
    };
    net.add(false, config.clone());
    net.add(false, config);
    for i in 0..20 {
        net.set(0, &format!("key {i}"), i);
    }
    let link = net.join_with(0, 1, Access::ALL, Access::ALL);
    let mut frames: Vec<Bytes> = Vec::new();
    for round in 0..10 {
        net.collect();
        for from in 0..2 {
            frames.extend(net.links[link].wires[from].frames.iter().cloned());
            while net.deliver(link, from) {}
        }
        if round == 6 {
            net.set(0, "small", 1);
            net.set(1, "first", 1);
            let now = net.now;
            let state = Some(Bytes::from_static(b"here"));
            net.nodes[1].replica.set_presence(now, state).unwrap();
        }
        if round == 8 {
            let now = net.now + 30_000;
            net.nodes[0].replica.handle_timeout(now);
            let session = net.session(link, 0);
            net.nodes[0].replica.refresh(session, b"token");
            let session = net.session(link, 1);
            net.nodes[1].replica.end(session, ErrorCode::Closing, "bye");
        }
    }
    let mut kinds: Vec<&str> = frames
        .iter()
        .map(|f| Frame::decode(f.clone()).unwrap().kind())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let all = [
        "ack",
        "credentials",
        "delta",
        "digest",
        "error",
        "hello",
        "members",
        "part",
        "presence",
        "update",
    ];
    assert_eq!(kinds, all);
    frames.push(frame(13, &[0]));
    frames.push(frame(7, &[0]));
    frames.push(frame(5, &[0]));
    frames
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    for whole in samples() {
        // What is wrong with an update only what is here tells: see `updates`.
        if whole[0] == 48 {
            continue;
        }
        for end in 0..whole.len() {
            assert!(Frame::decode(whole.slice(..end)).is_err());
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(bytes.into()).is_err());
        }
    }
}

#[test]
fn no_content_behind_a_good_checksum_panics() {
    for whole in samples() {
        let content = &whole[..whole.len() - 4];
        for at in 0..content.len() {
            let _ = Frame::decode(seal(content[..at].to_vec()));
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = content.to_vec();
                bytes[at] = byte;
                if let Ok(frame) = Frame::decode(seal(bytes)) {
                    let (mut net, link) = pair();
                    let session = net.session(link, 1);
                    let _ = net.nodes[1].replica.receive(session, START, frame);
                }
            }
        }
    }
}

#[test]
fn frames_round_trip() {
    for whole in samples() {
        let frame = Frame::decode(whole.clone()).unwrap();
        assert_eq!(Frame::decode(whole).unwrap(), frame);
        assert!(frame.handle() >= 70);
    }
}

#[test]
fn a_frame_with_bytes_behind_its_end_is_refused() {
    let error = refused(frame(7, &[0, 1]));
    assert!(error.to_string().contains("bytes after the end"), "{error}");
}

#[test]
fn a_frame_that_is_too_long_is_refused() {
    let bytes = vec![2; 4 * 1024 * 1024 + 1];
    assert_eq!(
        refused(bytes.into()),
        ProtocolError::FrameTooLong(4_194_305)
    );
}

#[test]
fn an_unknown_type_is_refused() {
    assert_eq!(refused(frame(0, &[])), ProtocolError::UnknownType(0));
    assert_eq!(
        refused(frame(99, b"whatever")),
        ProtocolError::UnknownType(99)
    );
}

#[test]
fn another_protocol_version_is_refused_whatever_follows_it() {
    let error = Frame::decode(frame(1, &[1, 0xff, 0xff, 0xff])).unwrap_err();
    assert_eq!(error, ProtocolError::Version { ours: 4, theirs: 1 });
    assert_eq!(error.code(), ErrorCode::Version);
    let told = Frame::decode(error.to_frame("")).unwrap();
    let told = told.error().unwrap();
    assert!(told.message.contains("version 4") && told.message.contains("version 1"));
    assert!(told.document.is_empty());
}

#[test]
fn a_name_out_of_bounds_is_refused() {
    let hello = |name: &[u8]| {
        let mut content = vec![
            4,
            6,
            name.len() as u8 & 0x7f | 0x80,
            (name.len() >> 7) as u8,
        ];
        if name.is_empty() {
            content = vec![4, 6, 0];
        }
        content.extend_from_slice(name);
        content.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Frame::decode(frame(1, &content))
    };
    assert!(hello(&[b'x'; 512]).is_ok());
    assert!(matches!(
        hello(&[b'x'; 513]),
        Err(ProtocolError::Frame(DecodeError::Limit { limit: 512, .. }))
    ));
    assert!(hello(&[0xff; 200]).is_err());
    assert_eq!(hello(b""), Err(ProtocolError::Name(0)));
}

#[test]
fn another_document_is_refused_on_either_side() {
    let mut ours = Replica::new(
        "ours",
        1,
        Document::new(ReplicaId::new(1)),
        false,
        Config::default(),
    );
    let mut other = Replica::new(
        "other",
        1,
        Document::new(ReplicaId::new(2)),
        false,
        Config::default(),
    );
    let asks = ours.connect(START, Access::ALL, None);
    let hello = Frame::decode(ours.poll_frame(asks, START).unwrap()).unwrap();
    let refused = other.accept(START, hello.hello().unwrap(), Access::ALL);
    assert!(matches!(refused, Err(ProtocolError::WrongDocument { .. })));

    let mut third = Replica::new(
        "other",
        1,
        Document::new(ReplicaId::new(3)),
        false,
        Config::default(),
    );
    let asked = third.connect(START, Access::ALL, None);
    let hello = Frame::decode(third.poll_frame(asked, START).unwrap()).unwrap();
    let answers = other
        .accept(START, hello.hello().unwrap(), Access::ALL)
        .unwrap();
    let answer = Frame::decode(other.poll_frame(answers, START).unwrap()).unwrap();
    let error = ours.receive(asks, START, answer).unwrap_err();
    assert!(error.to_string().contains("\"other\"") && error.to_string().contains("\"ours\""));
    let last = Frame::decode(ours.poll_frame(asks, START).unwrap()).unwrap();
    assert_eq!(last.error().unwrap().code, ErrorCode::Protocol);
    assert_eq!(ours.poll_frame(asks, START), None);
}

#[test]
fn data_before_the_hello_is_refused() {
    let mut replica = Replica::new(
        "a",
        1,
        Document::new(ReplicaId::new(1)),
        false,
        Config::default(),
    );
    let session = replica.connect(START, Access::ALL, None);
    let ack = Frame::decode(frame(4, &[0])).unwrap();
    assert_eq!(
        replica.receive(session, START, ack.clone()),
        Err(ProtocolError::DataBeforeHello)
    );
    // And frames after the end.
    assert_eq!(replica.receive(session, START, ack.clone()), Ok(()));
    replica.close(session);
    assert_eq!(
        replica.receive(session, START, ack),
        Err(ProtocolError::Closed)
    );
    assert_eq!(replica.poll_frame(session, START), None);
    replica.close(session);
}

#[test]
fn a_second_hello_is_refused() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.collect();
    let hello = net.links[link].wires[0].frames[0].clone();
    net.settle();
    net.hand_over(link, 0, hello);
    assert_eq!(net.errors, [(1, ProtocolError::DuplicateHello)]);
}

#[test]
fn a_hello_and_its_answer_are_not_confused() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.collect();
    let hello = net.links[link].wires[0].frames[0].clone();
    net.nodes[1].replica.connect(net.now, Access::ALL, None);
    let session = net.replica(1).sessions().next().unwrap().id;
    let confused = net.nodes[1]
        .replica
        .receive(session, net.now, Frame::decode(hello).unwrap());
    assert_eq!(confused, Err(ProtocolError::HelloDirection));

    net.settle();
    let (mut other, link) = (Network::of(2), 0);
    other.join(0, 1);
    other.collect();
    other.deliver(link, 0);
    other.collect();
    let answer = Frame::decode(other.links[link].wires[1].frames[0].clone()).unwrap();
    let confused = net.nodes[0]
        .replica
        .accept(START, answer.hello().unwrap(), Access::ALL);
    assert_eq!(confused, Err(ProtocolError::HelloDirection));
}

#[test]
fn a_peer_with_our_own_id_is_refused() {
    let mut net = Network::of(1);
    let twin = Document::new(ReplicaId::new(1));
    net.add_document(twin, false, Config::default());
    net.join(0, 1);
    net.settle();
    assert_eq!(
        net.errors,
        [(1, ProtocolError::SameReplica(ReplicaId::new(1)))]
    );
}

#[test]
fn an_operation_from_the_future_is_refused() {
    let mut net = Network::of(2);
    let link = net.join(0, 1);
    net.settle();
    let later = net.now + 2 * 60 * 60 * 1000;
    let replica = &mut net.nodes[0].replica;
    replica.transact(later, |tx| tx.set("a", 1)).unwrap();
    net.settle();
    let [(1, ProtocolError::ClockAhead { ahead, limit })] = net.errors[..] else {
        panic!("{:?}", net.errors);
    };
    assert_eq!((ahead, limit), (7_200_000, 3_600_000));
    assert!(net.replica(1).version().is_empty());
    assert!(!net.links[link].up);
    // An hour and a little later it is welcome.
    net.now += 3_600_001;
    net.join(0, 1);
    net.settle();
    net.assert_converged();
}

#[test]
fn pieces_are_bounded_and_consistent() {
    let part = |transfer: u8, repair: u8, total: &[u8], offset: u8, bytes: &[u8]| {
        let content = [&[transfer, repair], total, &[offset], bytes].concat();
        frame(3, &content)
    };
    // A claim of more than may be staged takes no memory.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(
        refused(part(9, 0, &huge, 0, b"x")),
        ProtocolError::Staged { .. }
    ));
    for bad in [
        part(9, 3, &[10], 0, b"x"),
        part(9, 0, &[10], 10, b"x"),
        part(9, 0, &[10], 0, b""),
        part(9, 0, &[1], 0, b"xx"),
        part(9, 0, &[1], 0, b"x"), // whole, but no delta
    ] {
        assert!(matches!(refused(bad), ProtocolError::Frame(_)));
    }
    let (mut net, link) = pair();
    net.hand_over(link, 0, part(9, 0, &[10], 0, b"x"));
    net.hand_over(link, 0, part(9, 0, &[11], 1, b"x"));
    assert_eq!(net.errors.len(), 1);
}

#[test]
fn one_peer_s_fault_does_not_touch_another() {
    let mut net = Network::of(3);
    let bad = net.join(0, 1);
    let good = net.join(2, 1);
    net.settle();
    net.hand_over(bad, 0, frame(99, &[]));
    assert!(net.links[good].up);
    net.set(2, "a", 1);
    net.settle();
    assert_eq!(net.get(1, "a"), Some(1.into()));
}
