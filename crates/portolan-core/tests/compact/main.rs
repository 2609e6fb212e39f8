//! Compact updates: what comes out is the delta that went in, or nothing.

#![cfg(all(feature = "digest", feature = "packing"))]

mod damage;
mod order;
mod sizes;
mod writer;

use portolan_core::{Delta, Document, UpdateError, Version};
use proptest::prelude::*;

use crate::writer::{Step, Writer, steps};

/// Whether an update is told by the difference.
fn is_compact(update: &[u8]) -> bool {
    update[0] & 0x80 != 0
}

/// What went wrong at a receiver is made good as over any transport: by a delta.
fn catch_up(to: &mut Writer, from: &Document) {
    let missing = from.delta_since(&to.document.version());
    to.document.apply(&missing);
}

fn assert_same(a: &Document, b: &Document) {
    assert_eq!(a.version(), b.version());
    assert_eq!(a.digest(), b.digest());
    assert!(a.encode() == b.encode());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Three writers, each of whom hears all the others in order, but late.
    #[test]
    fn every_transaction_comes_out_as_its_delta(
        script in prop::collection::vec((0..3usize, steps(), any::<bool>()), 1..40),
    ) {
        let mut writers: Vec<Writer> = (0..3).map(Writer::new).collect();
        let mut sent: Vec<Vec<(Delta, Vec<u8>)>> = vec![Vec::new(); 3];
        let mut heard = [[0; 3]; 3];
        let first = (0..3).map(|at| (at, vec![Step::Set(1, 0)], true));
        let first: Vec<_> = first.chain((0..3).map(|at| (at, Vec::new(), true))).collect();
        for (at, steps, hears) in first.into_iter().chain(script) {
            let told = writers[at].write(&steps);
            sent[at].extend(told);
            let other = (at + 1) % 3;
            if hears {
                hear(&mut writers, &sent, &mut heard, other);
            }
        }
        for at in [0, 1, 2, 0, 1, 2] {
            hear(&mut writers, &sent, &mut heard, at);
        }
        assert_same(&writers[0].document, &writers[1].document);
        assert_same(&writers[0].document, &writers[2].document);
    }

    /// A receiver that misses some, hears some twice and some too late, and asks where it must.
    #[test]
    fn what_does_not_fit_is_refused_and_asked_for(
        script in prop::collection::vec((0..2usize, steps(), 0..6u8), 1..40),
    ) {
        let mut writers: Vec<Writer> = [1, 2].map(Writer::new).into();
        let mut there = Writer::new(7);
        let mut late: Vec<(Delta, Vec<u8>)> = Vec::new();
        for (at, steps, fate) in script {
            let Some((delta, update)) = writers[at].write(&steps) else {
                continue;
            };
            let times = match fate {
                0 => 0,
                1 => 2,
                2 => {
                    late.push((delta, update));
                    continue;
                }
                _ => 1,
            };
            for _ in 0..times {
                take(&mut there, &writers[at].document, &delta, &update);
            }
            if fate == 3 {
                for (delta, update) in std::mem::take(&mut late) {
                    let of = usize::from(delta.applied() != &delta.applied().intersection(&writers[0].document.version()));
                    take(&mut there, &writers[of].document, &delta, &update);
                }
            }
        }
        for writer in &writers {
            catch_up(&mut there, &writer.document);
        }
        let mut all = Document::new(portolan_core::ReplicaId::new(9));
        for writer in &writers {
            all.apply(&writer.document.snapshot());
        }
        assert_same(&all, &there.document);
    }
}

fn hear(
    writers: &mut [Writer],
    sent: &[Vec<(Delta, Vec<u8>)>],
    heard: &mut [[usize; 3]; 3],
    at: usize,
) {
    for from in (0..3).filter(|from| *from != at) {
        for (delta, update) in &sent[from][heard[at][from]..] {
            let decoded = writers[at].decode(update);
            assert_eq!(decoded.as_ref(), Ok(delta));
            writers[at].document.apply(delta);
        }
        heard[at][from] = sent[from].len();
    }
}

/// Gives a receiver an update, as it is or not: it may refuse it, and may not get it wrong.
fn take(there: &mut Writer, source: &Document, sent: &Delta, update: &[u8]) {
    match there.decode(update) {
        Ok(delta) => {
            assert_eq!(&delta, sent);
            there.document.apply(&delta);
        }
        Err(UpdateError::Known(dots)) => {
            assert_eq!(&dots, sent.applied());
            assert!(there.document.covers(&dots));
        }
        Err(UpdateError::ContextMissing) => catch_up(there, source),
        Err(refused) => panic!("{refused}"),
    }
    assert!(there.document.covers(sent.applied()));
}

/// What a transaction of these steps is sent as, after some of another kind.
fn told(before: &[Step], steps: &[Step]) -> (Delta, Vec<u8>) {
    let mut writer = Writer::new(1);
    writer.write(before);
    writer.write(steps).expect("it does something")
}

#[test]
fn a_document_has_its_own_updates() {
    let mut writer = Writer::new(1);
    let mut sent = Vec::new();
    for i in 0..2 {
        sent.extend(writer.write(&[Step::Set(0, i)]));
    }
    let mut other = Writer::named(2, "another");
    let snapshot = writer.document.delta_since(&Version::new());
    let first = &sent[0].0;
    other.document.apply(first);
    assert_eq!(other.decode(&sent[1].1), Err(UpdateError::ContextMissing));
    let mut same = Writer::new(2);
    same.document.apply(first);
    let second = same.decode(&sent[1].1).expect("it fits");
    same.document.apply(&second);
    assert_eq!(same.document.version(), *snapshot.applied());
}

#[test]
fn most_kinds_of_writes_have_a_compact_form() {
    let kinds = [
        Step::Set(3, 1),
        Step::Unset(0),
        Step::SetIn(1, 2, 3),
        Step::Add(0, 5),
        Step::Reset(0),
        Step::Insert(0, 5),
        Step::Remove(0, 1),
        Step::Append(0, 5),
        Step::InsertAt(0, 1, 5),
        Step::SetAt(0, 1, 5),
        Step::Delete(0, 1),
        Step::SetDeep(4),
    ];
    let before = [
        Step::Set(0, 1),
        Step::Add(0, 1),
        Step::Insert(0, 1),
        Step::Append(0, 1),
        Step::Append(0, 1),
    ];
    for step in &kinds {
        let (_, update) = told(&before, std::slice::from_ref(step));
        assert!(is_compact(&update), "{step:?}");
    }
    let (_, update) = told(&before, &kinds[..9]);
    assert!(is_compact(&update));
    let (_, update) = told(&before, &[Step::Move(0, 0, 1)]);
    assert!(!is_compact(&update), "a move has none");
}
