//! How few bytes there are.

use portolan_core::{Contexts, Document, ReplicaId};

use crate::writer::START;

/// Sends writes of one key each, so many milliseconds apart; gives the bytes of each but the first.
fn sent(keys: impl Iterator<Item = String>, pause: u64) -> Vec<usize> {
    let mut document = Document::new(ReplicaId::new(0x9e37_79b9_7f4a_7c15));
    let mut contexts = Contexts::new("sizes");
    let mut sizes = Vec::new();
    for (i, key) in (0..).zip(keys) {
        let (now, value) = (START + i * pause, (i * 7_919 % 1_000_000) as i64);
        let set = document.set(now, key.as_str(), value);
        set.expect("within limits");
        let delta = document.own_since(i);
        sizes.push(contexts.encode(&document, &delta).len());
    }
    sizes.split_off(1)
}

#[test]
fn a_write_of_one_key_takes_20_bytes() {
    // Neighbours share what keys of a map share, and no more.
    let keys = || (0..5_000u64).map(|i| format!("key-{:06}", i * 6_271 % 100_000));
    for pause in [0, 1, 20, 5_000] {
        let sizes = sent(keys(), pause);
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        assert!(mean <= 20.0, "{mean} bytes, {pause} ms apart");
        assert!(sizes.iter().all(|size| *size <= 23), "{pause} ms apart");
    }
}

#[test]
fn a_write_over_the_last_one_takes_15_bytes() {
    let sizes = sent((0..1_000).map(|_| "the key".to_owned()), 20);
    assert!(sizes.iter().all(|size| *size <= 15), "{sizes:?}");
}
