//! Deltas: whatever decodes has one encoding, and does no harm where it is applied.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portolan_core::{Delta, Document, ReplicaId, Version};
use portolan_fuzz::{assert_sound, sealed};

/// One holds every kind of key and value, siblings, and dots dead early; the other every kind of
/// container.
static SAMPLES: LazyLock<[Delta; 2]> = LazyLock::new(|| {
    let golden: [&[u8]; 2] = [
        include_bytes!("../../crates/portolan-core/tests/golden/delta-1.bin"),
        include_bytes!("../../crates/portolan-core/tests/golden/delta-2.bin"),
    ];
    golden.map(|bytes| Delta::decode(bytes).expect("the golden file decodes"))
});
const OWN: ReplicaId = ReplicaId::new(0xfade);
const NOW: u64 = 1_767_225_600_000;

fuzz_target!(|content: &[u8]| {
    let _ = Delta::decode(content);
    let bytes = sealed(content);
    let Ok(delta) = Delta::decode(&bytes) else {
        return;
    };
    let forms = [delta.encode(), delta.encode_packed()];
    assert!(forms.contains(&bytes), "it has one encoding in each form");
    for form in forms {
        assert_eq!(Delta::decode(&form).as_ref(), Ok(&delta));
    }
    // Synchronisation refuses who claims to know more of a replica than it does itself.
    if delta.applied().last_seq(OWN) > 0 {
        return;
    }
    let mut empty = Document::new(OWN);
    assert_eq!(&empty.apply(&delta), delta.applied());
    assert_eq!(&empty.version(), delta.applied());
    check(empty, &delta);
    for sample in &*SAMPLES {
        let mut document = Document::new(OWN);
        document.apply(sample);
        document.apply(&delta);
        check(document, &delta);
    }
});

/// That a document to which the delta was applied is sound and can be written to.
fn check(mut document: Document, delta: &Delta) {
    assert!(document.covers(delta.applied()));
    assert_sound(&document);
    let (bytes, version) = (document.encode(), document.version());
    assert!(document.apply(delta).is_empty());
    assert_eq!(document.encode(), bytes);
    let everything = document.delta_since(&Version::new());
    assert_eq!(everything.applied(), &version);

    document.observe(true);
    let keys: Vec<_> = document.iter().map(|(key, _)| key.clone()).collect();
    for (i, key) in keys.iter().enumerate() {
        if i % 2 == 0 {
            assert!(document.unset(NOW, key));
        } else {
            let set = document.set(NOW, key, 1);
            set.expect("the key was there, and the value is small");
        }
    }
    assert_eq!(document.len(), keys.len() / 2);
    // What a counter or a moved element shows may be the same as before.
    assert!(document.take_changes().len() <= keys.len());
    assert_sound(&document);
    let mut follower = Document::new(ReplicaId::new(0xf0110));
    follower.apply(&everything);
    follower.apply(&document.delta_since(&version));
    assert_eq!(follower.version(), document.version());
    assert_eq!(follower.encode(), document.encode());
}
