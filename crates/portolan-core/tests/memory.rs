//! What comes and goes leaves no memory behind. Alone in its process: it reads how much that has.

#![cfg(target_os = "linux")]

use portolan_core::{Delta, Document, Error, ReplicaId, Transaction, Value};

const NOW: u64 = 1_767_225_600_000;

/// Pages of memory that the process has.
fn pages() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let resident = text
        .split(' ')
        .nth(1)
        .expect("the second is what is resident");
    resident.parse().expect("a number")
}

fn put(tx: &mut Transaction<'_>, i: i64) -> Result<(), Error> {
    tx.map("m").map(i).set("value", i)?;
    tx.map("m").map(i).map("deeper").or_set("set").insert(i)?;
    tx.map("m").map(i).counter("count").add(i)?;
    tx.or_set("set").insert(i)?;
    tx.map("looked at only").map(i).array("never");
    tx.counter(i).add(1)
}

fn remove(tx: &mut Transaction<'_>, i: i64) -> Result<(), Error> {
    tx.map("m").unset(i)?;
    tx.or_set("set").remove(i)?;
    tx.counter(i).reset().map(drop)
}

fn fail(tx: &mut Transaction<'_>, i: i64) -> Result<(), Error> {
    put(tx, i)?;
    tx.array("a").insert_all(1, vec![Value::from(i); 3])?;
    tx.array("a").map(1).set("inner", i)?;
    tx.array("a").move_to(0, 2)?;
    tx.array("a").set(1, i)?;
    tx.array("a").delete(0)?;
    tx.array(i).append(i)?;
    Err(Error::ElementAsKey)
}

#[test]
fn cycles_of_creation_and_removal_take_no_memory() {
    const ROUNDS: i64 = 10_000;
    let mut document = Document::new(ReplicaId::new(1));
    let mut other = Document::new(ReplicaId::new(2));
    document
        .transact(NOW, |tx| {
            tx.array("a").append_all([1, 2, 3].map(Value::from))
        })
        .expect("within limits");
    let mut before = 0;
    for i in 0..ROUNDS {
        let now = NOW + i as u64;
        let base = document.own_seq();
        document
            .transact(now, |tx| put(tx, i))
            .expect("within limits");
        let created = document.own_since(base);
        document
            .transact(now, |tx| fail(tx, i))
            .expect_err("it fails");
        document
            .transact(now, |tx| remove(tx, i))
            .expect("within limits");
        if i % 2 == 0 {
            other.apply(&created);
        }
        let delta = document.delta_since(&other.version());
        other.apply(&Delta::decode(&delta.encode()).expect("own bytes decode"));
        if i % 100 == 0 {
            // What the log keeps is bounded otherwise.
            document.prune_log(&other.version());
            other.prune_log(&document.version());
        }
        if i == ROUNDS / 3 {
            before = pages();
        }
    }
    assert_eq!((document.len(), other.len()), (1, 1));
    assert_eq!(document.encode(), other.encode());
    let grown = pages().saturating_sub(before) * 4096;
    // Forty bytes a round: less than any record that could have been left behind.
    assert!(grown < 1 << 18, "{grown} bytes for {ROUNDS} rounds");
}
