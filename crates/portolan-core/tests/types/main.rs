//! The types by themselves: each against a naive reference, under updates that come late, twice
//! or in another order; ids, clocks, histories, bytes.

#![cfg(all(feature = "digest", feature = "packing"))]

use portolan_core::types::{InstanceId, Replicated, RgArray, Shared, Update};
use portolan_core::{ReplicaId, Value};
use proptest::prelude::*;

mod elements;
mod histories;
mod meaning;
mod reference;
mod sharing;

const NOW: u64 = 1_767_225_600_000;
const ID: InstanceId = InstanceId::new(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);

/// Of how many cases a random test consists.
pub(crate) fn random() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig::with_cases(cases.and_then(|n| n.parse().ok()).unwrap_or(128))
}

/// A replica whose clock goes one millisecond a write.
pub(crate) fn replica<C: Replicated>(id: u64) -> Shared<C> {
    let mut now = NOW;
    Shared::with_clock(ID, ReplicaId::new(id), move || {
        now += 1;
        now
    })
}

pub(crate) fn carried(update: &Update) -> Update {
    let bytes = update.encode();
    let decoded = Update::decode(&bytes).expect("own bytes decode");
    assert_eq!(&decoded, update);
    decoded
}

pub(crate) fn ints(array: &RgArray) -> Vec<i64> {
    array.values(..).filter_map(Value::as_int).collect()
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write {
        at: usize,
        kind: u8,
        what: u8,
    },
    /// One of the updates sent so far reaches somebody, perhaps again.
    Deliver {
        update: usize,
        to: usize,
    },
    /// One catches up with another.
    Sync {
        from: usize,
        to: usize,
    },
    /// One starts anew from its bytes, under a new id.
    Restart {
        at: usize,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3usize, any::<u8>(), 0..8u8).prop_map(|(at, kind, what)| Step::Write { at, kind, what }),
        6 => (any::<usize>(), 0..3usize).prop_map(|(update, to)| Step::Deliver { update, to }),
        2 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => (0..3usize).prop_map(|at| Step::Restart { at }),
    ];
    prop::collection::vec(step, 1..40)
}

pub(crate) fn sync<C: Replicated>(all: &mut [Shared<C>], from: usize, to: usize) {
    let update = carried(&all[from].since(&all[to].version()));
    all[to].apply(&update).unwrap();
}
