//! Counters of replicas that are started again.

use portolan_core::{Document, Error, ReplicaId, Transaction};

const NOW: u64 = 1_767_225_600_000;

fn document(id: u64) -> Document {
    Document::new(ReplicaId::new(id))
}

fn write(document: &mut Document, f: impl FnOnce(&mut Transaction<'_>) -> Result<(), Error>) {
    document.transact(NOW, f).unwrap();
}

#[test]
fn what_a_backup_adds_counts_beside_what_was_added_since() {
    let mut first = document(1);
    write(&mut first, |tx| tx.counter("c").add(5));
    let backup = first.snapshot();
    let mut other = document(2);
    other.apply(&backup);
    // The disk burns after this.
    write(&mut first, |tx| tx.counter("c").add(2));
    other.apply(&first.delta_since(&other.version()));

    let mut again = document(1);
    again.apply(&backup);
    let loaded = again.own_seq();
    write(&mut again, |tx| tx.counter("c").add(3));
    again.change_replica(ReplicaId::new(3), loaded);
    assert_eq!(again.counter("c"), 8);
    write(&mut again, |tx| tx.counter("c").add(100));
    assert_eq!(again.counter("c"), 108);
    let (there, here) = (other.version(), again.version());
    let delta = other.delta_since(&here);
    other.apply(&again.delta_since(&there));
    again.apply(&delta);
    assert_eq!((other.counter("c"), again.counter("c")), (110, 110));
    assert_eq!(other.encode(), again.encode());
}

#[test]
fn a_backup_takes_back_what_it_has_seen_and_no_more() {
    let mut first = document(1);
    write(&mut first, |tx| tx.counter("c").add(5));
    let backup = first.snapshot();
    write(&mut first, |tx| tx.counter("c").add(2));
    let mut other = document(2);
    other.apply(&first.snapshot());

    let mut again = document(1);
    again.apply(&backup);
    write(&mut again, |tx| tx.counter("c").reset().map(drop));
    again.change_replica(ReplicaId::new(3), 1);
    other.apply(&again.delta_since(&other.version()));
    assert_eq!(other.counter("c"), 2);
}

/// What a transaction did to a counter and took back is not told with what is done instead.
#[test]
fn a_transaction_that_fails_leaves_no_trace_of_a_reset() {
    let mut first = document(1);
    write(&mut first, |tx| tx.counter("c").add(5));
    let mut other = document(2);
    other.apply(&first.snapshot());
    let mut again = document(1);
    again.apply(&first.snapshot());
    let failed: Result<(), Error> = again.transact(NOW, |tx| {
        tx.counter("c").reset()?;
        tx.counter("c").add(2)?;
        Err(Error::CounterOverflow)
    });
    assert_eq!(failed, Err(Error::CounterOverflow));
    write(&mut again, |tx| {
        tx.set("a", 1)?;
        tx.set("b", 2)
    });
    other.apply(&again.delta_since(&other.version()));
    assert_eq!((again.counter("c"), other.counter("c")), (5, 5));
}
