//! Compact updates: whatever expands has one form, and does no harm where it is applied; whatever
//! does not leaves everything as it was.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portolan_core::{Contexts, Delta, Document, Error, ReplicaId};
use portolan_fuzz::assert_sound;

const NOW: u64 = 1_767_225_600_000;
const WRITERS: u64 = 6;

/// A document that has heard of several writers, whose tags are their ids: 1 to 6. The last
/// operation of each is of another kind.
static HEARD: LazyLock<(Document, Contexts)> = LazyLock::new(|| {
    let mut document = Document::new(ReplicaId::new(0xfade_0000_0000_0000));
    let mut contexts = Contexts::new("fuzz");
    for writer in 1..=WRITERS {
        let mut other = Document::new(ReplicaId::new(writer));
        let done = other.transact(NOW, |tx| {
            tx.set("a key", 1)?;
            match writer {
                1 => tx.set("a key, longer", "text")?,
                2 => tx.map("map").map("inner").set(7, true)?,
                3 => {
                    tx.array("list").append("x")?;
                }
                4 => tx.counter("count").add(5)?,
                5 => tx.or_set("set").insert(1.5)?,
                _ => {
                    tx.unset("a key");
                }
            }
            Ok::<(), Error>(())
        });
        done.expect("within limits");
        let delta = other.own_since(0);
        let update = contexts.encode(&other, &delta);
        let heard = contexts.decode(&document, &update);
        document.apply(&heard.expect("it is whole"));
    }
    (document, contexts)
});

fuzz_target!(|content: &[u8]| {
    let (document, contexts) = &*HEARD;
    // As it is: a fuzzer that sees comparisons guesses a checksum now and then.
    drop(contexts.clone().decode(document, content));
    let Some(update) = contexts.sealed(document, content) else {
        return;
    };
    let Ok(delta) = contexts.clone().decode(document, &update) else {
        return;
    };
    assert_eq!(contexts.clone().encode(document, &delta), update);
    let bytes = delta.encode();
    assert_eq!(Delta::decode(&bytes).as_ref(), Ok(&delta));
    let mut receiver = Document::new(ReplicaId::new(7));
    receiver.apply(&document.snapshot());
    receiver.apply(&delta);
    assert!(receiver.covers(delta.applied()));
    assert_sound(&receiver);
    receiver.set(NOW, "a key", 2).expect("within limits");
    assert_sound(&receiver);
});
