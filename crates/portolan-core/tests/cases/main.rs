//! The cases that must hold, by name.

#![cfg(all(feature = "digest", feature = "packing"))]

mod containers;
mod counters;
mod delivery;
mod elements;
mod keys;
mod lean;

use portolan_core::{Delta, Document, Error, ReplicaId, Transaction, Value};

const NOW: u64 = 1_767_225_600_000;

fn replica(id: u64) -> Document {
    Document::new(ReplicaId::new(id))
}

/// One that has what `other` has.
fn copy(id: u64, other: &Document) -> Document {
    let mut copy = replica(id);
    copy.apply(&read(&other.snapshot()));
    copy
}

fn read(delta: &Delta) -> Delta {
    let read = Delta::decode(&delta.encode()).expect("own bytes decode");
    assert_eq!(&read, delta);
    read
}

fn write<T>(
    document: &mut Document,
    now: u64,
    f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
) -> T {
    document.transact(now, f).expect("within limits")
}

/// Lets all know what any of them knows; they agree to the byte.
fn meet(documents: &mut [&mut Document]) {
    for _ in 0..2 {
        for from in 0..documents.len() {
            for to in 0..documents.len() {
                let delta = documents[from].delta_since(&documents[to].version());
                documents[to].apply(&read(&delta));
            }
        }
    }
    let (first, others) = documents.split_first().expect("there are some");
    for other in others {
        assert_eq!(other.version(), first.version());
        assert_eq!(other.digest(), first.digest());
        assert_eq!(other.encode(), first.encode());
    }
}

/// Every order in which three deltas can come, one of them twice.
fn orders<T: Clone>(deltas: &[T; 3]) -> Vec<Vec<T>> {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let orders = orders.iter().map(|order| order.iter().chain(&order[..1]));
    orders
        .map(|order| order.map(|at| deltas[*at].clone()).collect())
        .collect()
}

fn array(document: &Document, key: &str) -> Vec<Value> {
    let elements = document.array(key);
    let elements = elements.iter();
    elements
        .map(|(_, mut siblings)| siblings.next().map_or(Value::Null, |s| s.value.clone()))
        .collect()
}

fn ints(values: impl IntoIterator<Item = i64>) -> Vec<Value> {
    values.into_iter().map(Value::from).collect()
}
