//! Frames: whatever decodes has one encoding, and a replica takes or refuses it in every phase
//! of a session.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portolan_core::sync::{Access, Config, Frame, Replica, SessionId};
use portolan_core::{Document, ReplicaId};
use portolan_fuzz::{assert_sound, sealed};

const NAME: &str = "fleet";
const NOW: u64 = 1_767_225_600_000;
/// The type of a frame that has a delta with a checksum of its own behind a handle of one byte.
const DELTA: u8 = 2;
/// The version of the format of packed deltas.
const PACKED: u8 = 3;

fuzz_target!(|content: &[u8]| {
    let _ = Frame::decode(Bytes::copy_from_slice(content));
    let bytes = Bytes::from(match content {
        [DELTA, handle @ ..128, delta @ ..] => {
            sealed(&[&[DELTA, *handle], sealed(delta).as_slice()].concat())
        }
        other => sealed(other),
    });
    let Ok(frame) = Frame::decode(bytes.clone()) else {
        return;
    };
    // What is packed and short has a plain form, which is the one that is sent.
    let packed = matches!(content, [DELTA, ..128, PACKED, ..]);
    assert!(packed || frame.encode() == bytes);

    // As the answer to a hello, as a hello, within a session.
    let mut opening = replica(1);
    let session = opening.connect(NOW, Access::ALL, None);
    take(&mut opening, session, frame.clone());
    if let Some(hello) = frame.hello() {
        let mut accepting = replica(1);
        if let Ok(session) = accepting.accept(NOW, hello, Access::ALL) {
            drain(&mut accepting, session);
        }
    }
    let (mut open, mut peer) = (replica(1), replica(2));
    let session = peer.connect(NOW, Access::ALL, None);
    let hello = peer.poll_frame(session, NOW).expect("a hello is ready");
    let hello = Frame::decode(hello).expect("a replica's frames decode");
    let hello = hello.hello().expect("the first frame is a hello");
    let session = open.accept(NOW, hello, Access::ALL);
    let session = session.expect("all access was asked for and granted");
    take(&mut open, session, frame);
});

/// A replica with a write of its own, on one key that the other's is on too.
fn replica(id: u64) -> Replica {
    let mut document = Document::new(ReplicaId::new(id));
    document.set(NOW, "a", id as i64).expect("within limits");
    document.set(NOW, id as i64, "b").expect("within limits");
    Replica::new(NAME, 3, document, false, Config::default())
}

fn take(replica: &mut Replica, session: SessionId, frame: Frame) {
    let before = replica.document().encode();
    let taken = replica.receive(session, NOW, frame);
    if taken.is_err() {
        assert_eq!(replica.document().encode(), before);
        let status = replica.session(session).expect("it is not closed here yet");
        assert!(status.closed);
    }
    drain(replica, session);
}

/// Sends all that is to be sent now and a minute later.
fn drain(replica: &mut Replica, session: SessionId) {
    for now in [NOW, NOW + 60_000] {
        replica.handle_timeout(now);
        while let Some(frame) = replica.poll_frame(session, now) {
            Frame::decode(frame).expect("a replica's frames decode");
        }
    }
    while replica.poll_event().is_some() {}
    assert_eq!(replica.version(), &replica.document().version());
    assert_sound(replica.document());
    replica.close(session);
}
