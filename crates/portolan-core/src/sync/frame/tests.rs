//! Every kind of frame keeps its bytes, and has no other.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::document::Document;
use crate::reconcile::{self, Span};
use crate::sync::members::{Member, Standing};

fn dots() -> DotSet {
    let mut dots = DotSet::from_range(ReplicaId::new(0x0102), 1, 300);
    dots.insert_range(ReplicaId::new(0x0102), 305, 305);
    dots
}

/// One of each kind, but for deltas.
fn frames() -> [Bytes; 23] {
    let greeting = Hello {
        protocol: PROTOCOL,
        reply: false,
        document: "fleet".to_owned(),
        replica: ReplicaId::new(7),
        access: Access::ALL,
        visits: false,
        incomplete: false,
        version: dots(),
        required: DotSet::from_range(ReplicaId::new(0x0102), 1, 2),
        heard: DotSet::new(),
        credentials: Some(Bytes::from_static(b"token")),
    };
    let wary = Hello {
        heard: DotSet::from_range(ReplicaId::new(9), 300, 300),
        ..greeting.clone()
    };
    let piece = Part {
        transfer: 1,
        purpose: Purpose::CatchUp,
        total: 300,
        offset: 256,
        bytes: Bytes::from_static(b"piece"),
    };
    let comparison = Digest {
        version: dots(),
        unstored: DotSet::new(),
        fingerprint: Some(0x0102_0304),
        incomplete: false,
        members: 0x0506,
    };
    let span = |first, end| reconcile::Part {
        span: Span { first, end },
        print: end << 40,
    };
    let question = Compare {
        search: 3,
        round: 1,
        domain: Some(dots()),
        parts: vec![span(0, 200), span(200, 201), span(300, 301)],
    };
    let answer = Compared {
        search: 3,
        round: 1,
        unequal: vec![0, 2],
    };
    let state = Presence {
        replica: ReplicaId::new(7),
        number: 300,
        hops: 2,
        state: Some(Bytes::from_static(b"here")),
    };
    let left = Member {
        generation: 2,
        standing: Standing::Gone,
        beat: 300,
        acknowledged: Version::new(),
        sealed: Version::new(),
    };
    let member = Member {
        generation: 0,
        standing: Standing::Member,
        beat: 1,
        acknowledged: DotSet::from_range(ReplicaId::new(0x0102), 1, 310),
        sealed: DotSet::from_range(ReplicaId::new(0x0102), 1, 300),
    };
    let required = DotSet::from_range(ReplicaId::new(0x0102), 1, 2);
    let table = [(ReplicaId::new(7), &member), (ReplicaId::new(9), &left)];
    let before = (3, &required);
    let news = News::new(before, (5, &dots()), Some(&required), table.into_iter());
    let time = Timestamp::from_millis(0x0102_0304);
    let spare = loans::Spare {
        replica: ReplicaId::new(9),
        seq: 300,
        latest: time,
    };
    let offer = |spare| loans::Message::Offer { number: 1, spare };
    let back = loans::Back {
        seq: 300,
        latest: time,
    };
    let rename = |back| {
        loans::Message::Rename(loans::Rename {
            number: 2,
            old: ReplicaId::new(7),
            new: ReplicaId::new(9),
            back,
        })
    };
    let steps = [("a".into(), crate::containers::Form::Map)];
    let key = Some("b".into());
    let context = Context::new(300, Timestamp::from_bits(9), steps.into(), key);
    [
        hello(200, &greeting),
        part(200, &piece),
        ack(200, &dots()),
        want(200, &dots()),
        digest(200, &comparison),
        repair(200, &dots()),
        presence(200, &state),
        credentials(200, b"token"),
        error(200, ErrorCode::Refused, "fleet", "no"),
        compare(200, &question),
        compared(200, &answer),
        members(200, &news),
        missed(200),
        anew(200),
        update(200, &[0xd9, 1, 2, 3, 4, 2, 0x54, b'b', 2, 5, 6, 7, 8]),
        contexts(200, &[(ReplicaId::new(7), context)]),
        loan(loans::Message::Ask {
            number: 1,
            first: time,
        }),
        loan(offer(Some(spare))),
        loan(offer(None)),
        loan(loans::Message::Decline { number: 1 }),
        loan(rename(None)),
        loan(rename(Some(back))),
        hello(200, &wary),
    ]
}

fn loan(message: loans::Message) -> Bytes {
    loans::encode(200, &message)
}

/// The bytes of protocol version 4. Where one of these must change, so must [`PROTOCOL`].
#[test]
fn frames_keep_their_bytes() {
    let frames = frames();
    let golden = include_str!("golden.txt");
    let mut written = String::new();
    for bytes in &frames {
        let frame = Frame::decode(bytes.clone()).expect("it was just written");
        assert_eq!(frame.handle(), 200);
        write!(written, "{} ", frame.kind()).expect("a string takes all");
        for byte in bytes {
            write!(written, "{byte:02x}").expect("a string takes all");
        }
        written.push('\n');
    }
    assert_eq!(written, golden);
}

fn small_delta() -> Bytes {
    let mut document = Document::new(ReplicaId::new(7));
    document.set(1, "a", 1).expect("within limits");
    document.set(2, "ab", "text").expect("within limits");
    delta(3, &document.encode())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn what_is_not_refused_has_one_encoding(
        pick in 0..24usize,
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let whole = frames().get(pick).cloned().unwrap_or_else(small_delta);
        let mut bytes = whole[..whole.len() - 4].to_vec();
        let inner = bytes[0] == DELTA;
        if inner {
            bytes.truncate(bytes.len() - 4);
        }
        for (at, byte, how) in edits {
            let at = at % bytes.len().max(1);
            match how {
                _ if bytes.is_empty() => {}
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if inner && bytes.len() > 2 {
            let mut content = bytes.split_off(2);
            put_checksum(&mut content);
            bytes.append(&mut content);
        }
        put_checksum(&mut bytes);
        let bytes = Bytes::from(bytes);
        if let Ok(frame) = Frame::decode(bytes.clone()) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }
}
