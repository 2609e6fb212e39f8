//! The bytes of every format, as they were first written: what is stored today opens tomorrow.

#![cfg(all(feature = "digest", feature = "packing"))]

use std::collections::BTreeMap;

use portolan_core::{
    Contexts, Delta, Document, Error, Key, ReplicaId, SmolStr, Transaction, Value,
};

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
    let golden = golden("delta-1.bin", &bytes);
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

/// The golden file, which the bytes must be; with `WRITE_GOLDEN` set they become it.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    let path = format!("{folder}{name}");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).expect("the golden file can be written");
    }
    let golden = std::fs::read(path).expect("the golden file is there");
    assert!(
        bytes == golden,
        "the format changed: give it a new version and keep reading the old"
    );
    golden
}

/// A document with every kind of container: at several depths, in elements, with siblings; an
/// array with runs of each kind, moved and deleted elements, and counters that others have reset.
fn nested_sample() -> Document {
    let mut ada = Document::new(ReplicaId::new(0xada));
    let mut ben = Document::new(ReplicaId::new(0xb0b0_b0b0_b0b0_b0b0));
    let first = ada.transact(NOW, |tx| {
        tx.set("list", "a value beside the containers")?;
        tx.map("map").map("inner").set(7, true)?;
        tx.or_set("set").insert(1)?;
        tx.or_set("set").insert(1.0)?;
        tx.or_set("set").insert("one")?;
        tx.counter("count").add(5)?;
        let mut list = tx.array("list");
        list.append_all((0..20).map(Value::from))?;
        list.insert_all(3, ["x", "yz", "x"].map(Value::from))?;
        list.map(0).set("in an element", 0.5)?;
        list.array(1).append(Value::Null)
    });
    first.expect("within limits");
    ben.apply(&ada.snapshot());
    let second = ben.transact(NOW + 5, |tx| {
        tx.counter("count").reset()?;
        tx.or_set("set").remove("one")?;
        tx.map("map").map("inner").set(7, false)?;
        let mut list = tx.array("list");
        list.move_to(5, 1)?;
        list.delete(10)?;
        list.insert(0, "the first")?;
        list.set(4, "b")
    });
    second.expect("within limits");
    let third = ada.transact(NOW + 6, |tx| {
        tx.counter("count").add(2)?;
        tx.map("map").map("inner").set(7, "a sibling")?;
        let mut list = tx.array("list");
        list.set(2, "a")?;
        list.move_to(5, 22)?;
        list.append("the last")
    });
    third.expect("within limits");
    ada.apply(&ben.delta_since(&ada.version()));
    ada
}

#[test]
fn delta_format_2_is_as_it_was() {
    let bytes = nested_sample().encode();
    let golden = golden("delta-2.bin", &bytes);
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&Delta::decode(&golden).expect("the golden file decodes"));
    assert_eq!(document.digest(), nested_sample().digest());
    assert!(document.encode() == golden);
    assert_eq!(document.counter("count"), 2);
    assert_eq!(document.or_set("set").len(), 2);
    assert_eq!(document.map("map").map("inner").get_all(7).count(), 2);
    assert_eq!(document.array("list").len(), 24);
    assert_eq!(
        document.array("list").get(0),
        Some(&Value::from("the first"))
    );
}

/// An array in which positions have taken the places of others that are gone.
fn adopted_sample() -> Document {
    let mut ada = Document::new(ReplicaId::new(0xada));
    let mut ben = Document::new(ReplicaId::new(0xb0b0_b0b0_b0b0_b0b0));
    let first = ada.transact(NOW, |tx| {
        let mut list = tx.array("list");
        list.append_all(["gone", "stays"].map(Value::from))?;
        list.insert_all(1, ["gone too", "c", "d"].map(Value::from))
    });
    first.expect("within limits");
    ben.apply(&ada.snapshot());
    for (writer, name) in [(&mut ada, "a"), (&mut ben, "b")] {
        let done = writer.transact(NOW + 5, |tx| {
            let mut list = tx.array("list");
            list.insert(1, name)?;
            list.move_to(3, 0)
        });
        done.expect("within limits");
    }
    ada.apply(&ben.delta_since(&ada.version()));
    let deleted = ada.transact(NOW + 6, |tx| {
        let list = tx.document().array("list");
        let is_gone = |at: &usize| {
            let text = list.get(*at).and_then(Value::as_str);
            text.is_some_and(|text| text.starts_with("gone"))
        };
        let gone: Vec<usize> = (0..list.len()).filter(is_gone).collect();
        let mut list = tx.array("list");
        gone.into_iter().rev().try_for_each(|at| list.delete(at))
    });
    deleted.expect("within limits");
    let tombstones = ada.tombstones();
    ada.forget_stable(&ada.version(), &ada.version());
    assert!(ada.tombstones() < tombstones);
    ada
}

#[test]
fn adopted_positions_of_delta_format_2_are_as_they_were() {
    let bytes = adopted_sample().encode();
    let golden = golden("delta-2-adopted.bin", &bytes);
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&Delta::decode(&golden).expect("the golden file decodes"));
    assert_eq!(document.digest(), adopted_sample().digest());
    assert_eq!(document.encode(), golden);
    let list = document.array("list");
    let texts: Vec<_> = (0..list.len()).map(|at| list.get(at).cloned()).collect();
    let want = ["c", "a", "b", "d", "stays"].map(|text| Some(Value::from(text)));
    assert_eq!(texts, want);
}

/// As [`nested_sample`], with a text that is worth packing and a few hundred keys.
fn large_sample() -> Document {
    let mut ada = nested_sample();
    let done = ada.transact(NOW + 7, |tx| {
        for number in 0..300i64 {
            tx.set(format!("key-{number:06}"), number * number * number - 1000)?;
        }
        let text = "The quick brown fox jumps over the lazy dog; "
            .chars()
            .cycle();
        let letters = text.map(|letter| Value::from(letter.to_string()));
        tx.array("text")
            .append_all(letters.take(2000).collect::<Vec<_>>())?;
        for at in 0..100 {
            tx.array("text").delete(at * 3)?;
            tx.array("text").insert(at * 7, "é")?;
        }
        Ok::<(), portolan_core::Error>(())
    });
    done.expect("within limits");
    ada
}

#[test]
fn delta_format_3_is_as_it_was() {
    let bytes = large_sample().encode();
    let golden = golden("delta-3.bin", &bytes);
    let delta = Delta::decode(&golden).expect("the golden file decodes");
    assert_eq!(delta, large_sample().snapshot());
    let mut document = Document::new(ReplicaId::new(1));
    document.apply(&delta);
    assert_eq!(document.digest(), large_sample().digest());
    assert!(document.encode() == golden);
    assert!(document.encode_packed() == golden);
}

#[test]
fn packed_and_plain_bytes_say_the_same() {
    for document in [sample(), nested_sample(), large_sample()] {
        let packed = document.encode_packed();
        assert_eq!(packed[0], 3);
        assert_eq!(Delta::decode(&packed), Ok(document.snapshot()));
    }
}

const EXAMPLE: u64 = 1_767_268_800_001;

/// The bytes under a heading of `docs/format.md`, in hexadecimal, without what is said of them.
fn told(heading: &str) -> String {
    let page = include_str!("../../../docs/format.md");
    let example = page.split(heading).nth(1).expect("the heading is there");
    let block = example.split("```").nth(1).expect("the bytes are there");
    let is_bytes = |word: &&str| {
        word.len().is_multiple_of(2) && word.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let lines = block.lines();
    lines
        .flat_map(|line| line.split_whitespace().take_while(is_bytes))
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    digits.collect()
}

#[test]
fn the_examples_of_deltas_are_the_bytes_that_are_written() {
    let replica = ReplicaId::new(0x0102_0304_0506_0708);
    let mut flat = Document::new(replica);
    flat.set(EXAMPLE - 1, "course", "north")
        .expect("within limits");
    let done = flat.transact(EXAMPLE, |tx| {
        tx.set("course", "east")?;
        tx.set("count", 3)?;
        tx.set(7, true)
    });
    done.expect("within limits");
    let delta = flat.own_since(1).encode();
    assert_eq!(told("### An example"), hexadecimal(&delta));

    let mut nested = Document::new(replica);
    let done = nested.transact(EXAMPLE, |tx| {
        tx.counter("c").add(5)?;
        tx.array("l").append_all(["a", "b", "c"].map(Value::from))?;
        tx.array("l").move_to(2, 0)?;
        tx.or_set("s").insert(7)
    });
    done.expect("within limits");
    assert_eq!(told("### A nested example"), hexadecimal(&nested.encode()));
}

#[test]
fn the_examples_of_updates_are_the_bytes_that_are_written() {
    let mut contexts = Contexts::new("fleet/config");
    let mut document = Document::new(ReplicaId::new(0x0102_0304_0506_0708));
    let mut other = Document::new(ReplicaId::new(0xb0b0_b0b0_b0b0_b0b0));
    other.set(EXAMPLE, "limit", 5).expect("within limits");
    let mut update = |millis, write: &dyn Fn(&mut Transaction<'_>) -> Result<(), Error>| {
        let before = document.own_seq();
        if before == 2 {
            document.apply(&other.snapshot());
        }
        document
            .transact(EXAMPLE + millis, write)
            .expect("within limits");
        let delta = document.own_since(before);
        hexadecimal(&contexts.encode(&document, &delta))
    };
    update(0, &|tx| tx.set("key-000122", 5));
    let second = update(20, &|tx| tx.set("key-000123", 7));
    assert_eq!(told("A write:"), second);
    let third = update(2_000, &|tx| {
        tx.set("limit", "none")?;
        tx.unset("key-000123");
        tx.map("m").array(1).append(true)?;
        tx.map("m").array(1).insert(0, false)?;
        Ok(())
    });
    assert_eq!(told("A transaction of four operations:"), third);
}
