//! The bytes of every format, as they were first written: what is stored today opens tomorrow.

use std::collections::BTreeMap;

use portolan_core::{Delta, Document, Key, ReplicaId, SmolStr, Value};

const NOW: u64 = 1_767_225_600_000;

/// A document with every kind of key and value, siblings, removals, and dots dead early.
fn sample() -> Document {
    let mut ada = Document::new(ReplicaId::new(0xada));
    let mut ben = Document::new(ReplicaId::new(0xb0b0_b0b0_b0b0_b0b0));
    let map = BTreeMap::from([
        (SmolStr::new("b"), Value::Null),
        (SmolStr::new("a"), Value::from(0.5)),
    ]);
    let values = [
        Value::Null,
        Value::from(false),
        Value::from(true),
        Value::from(i64::MIN),
        Value::from(f64::NAN),
        Value::from("text, longer than what is held in place"),
        Value::from(vec![0u8, 255]),
        Value::from(vec![Value::from(1), Value::from(vec![Value::Null])]),
        Value::from(map),
    ];
    let keys = [
        Key::from(false),
        Key::from(true),
        Key::from(-1),
        Key::from(i64::MAX),
        Key::from(""),
        Key::from("key/0001"),
        Key::from("key/0002, which is a long one"),
        Key::from("ключ"),
        Key::from(vec![1u8, 2, 3]),
    ];
    for (key, value) in keys.iter().zip(values) {
        ada.set(NOW, key, value).expect("within limits");
    }
    ben.set(NOW + 5, "key/0001", "a sibling")
        .expect("within limits");
    ben.set(NOW + 6, "gone", 1).expect("within limits");
    let early = ben.own_since(0);
    ben.unset(NOW + 7, "gone");
    ada.apply(&ben.own_since(2));
    assert!(!ada.covers(early.applied()));
    let first = ben.delta_of(&portolan_core::DotSet::from_range(ben.replica(), 1, 1));
    ada.apply(&first);
    ada.unset(NOW + 8, "");
    ada
}

#[test]
fn delta_format_1_is_as_it_was() {
    let bytes = sample().encode();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/delta-1.bin");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(path, &bytes).expect("the golden file can be written");
    }
    let golden = std::fs::read(path).expect("the golden file is there");
    assert_eq!(
        bytes, golden,
        "the format changed: give it a new version and keep reading the old"
    );
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&Delta::decode(&golden).expect("the golden file decodes"));
    assert_eq!(document.digest(), sample().digest());
    assert_eq!(document.encode(), golden);
}

#[test]
fn the_digest_is_the_same_on_every_machine() {
    assert_eq!(
        format!("{:032x}", sample().digest()),
        include_str!("golden/digest.txt").trim()
    );
}
