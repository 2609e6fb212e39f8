//! Who comes late, who hears twice, and who hears through others.

use portolan_core::UpdateError;

use crate::writer::{Step, Writer};
use crate::{assert_same, catch_up, is_compact};

#[test]
fn who_has_caught_up_follows_at_once() {
    let steps = [
        Step::Set(1, 1),
        Step::Unset(1),
        Step::Add(0, 1),
        Step::Append(0, 1),
        Step::InsertAt(0, 0, 1),
        Step::SetDeep(1),
        Step::Insert(2, 2),
        Step::Set(4, 1),
    ];
    let mut here = Writer::new(1);
    here.write(&[Step::Set(0, 0)]);
    for step in steps {
        // Whatever the operation was that it caught up with, the next one is told against it.
        here.write(&[step]);
        let mut there = Writer::new(7);
        catch_up(&mut there, &here.document);
        let (delta, update) = here.write(&[Step::Set(3, 1)]).expect("it writes");
        assert!(is_compact(&update));
        assert_eq!(there.decode(&update), Ok(delta));
    }
}

#[test]
fn what_others_have_overwritten_since_is_no_context_for_who_comes_late() {
    let (mut ada, mut ben) = (Writer::new(1), Writer::new(2));
    let (first, _) = ada.write(&[Step::Set(0, 1)]).expect("it writes");
    ben.document.apply(&first);
    let (second, _) = ben.write(&[Step::Set(0, 2)]).expect("it writes");
    let mut late = Writer::new(7);
    late.document.apply(&first);
    late.document.apply(&second);
    ada.document.apply(&second);
    let (third, update) = ada.write(&[Step::Set(0, 3)]).expect("it writes");
    assert!(is_compact(&update));
    assert_eq!(late.decode(&update), Err(UpdateError::ContextMissing));
    // Who was there all the time has it.
    assert_eq!(ben.decode(&update), Err(UpdateError::ContextMissing));
    let mut heard = Writer::new(8);
    heard.document.apply(&first);
    heard.contexts = {
        let mut contexts = portolan_core::Contexts::new(crate::writer::NAME);
        assert_eq!(contexts.decode(&heard.document, &first.encode()), Ok(first));
        contexts
    };
    heard.document.apply(&second);
    assert_eq!(heard.decode(&update), Ok(third));
}

#[test]
fn what_comes_twice_is_known() {
    let (mut here, mut there) = (Writer::new(1), Writer::new(7));
    let mut sent = Vec::new();
    for i in 0..200 {
        let (delta, update) = here.write(&[Step::Set(0, i)]).expect("it writes");
        assert_eq!(there.decode(&update), Ok(delta.clone()));
        there.document.apply(&delta);
        sent.push((delta, update));
    }
    // Of what came long ago nobody can tell whose it is.
    let (long_ago, lately) = (&sent[1..50], &sent[100..]);
    for (_, update) in long_ago {
        assert_eq!(there.decode(update), Err(UpdateError::ContextMissing));
    }
    for (delta, update) in lately {
        let known = UpdateError::Known(delta.applied().clone());
        assert_eq!(there.decode(update), Err(known));
    }
    assert_same(&here.document, &there.document);
}

#[test]
fn an_update_of_a_namesake_is_not_taken_for_one_that_is_known() {
    // Two writers whose ids begin with the same 16 bits; by its numbers, what the second one
    // writes was here before.
    let (mut ada, mut ben, mut there) = (Writer::new(3), Writer::new(4), Writer::new(7));
    for i in 0..20 {
        let (delta, update) = ada.write(&[Step::Set(0, i)]).expect("it writes");
        assert_eq!(there.decode(&update), Ok(delta.clone()));
        there.document.apply(&delta);
    }
    ben.write(&[Step::Set(1, 0)]);
    for i in 1..5 {
        let (_, update) = ben.write(&[Step::Set(1, i)]).expect("it writes");
        assert!(is_compact(&update));
        assert_eq!(there.decode(&update), Err(UpdateError::ContextMissing));
    }
    // Neither is followed against what the other one wrote.
    catch_up(&mut there, &ben.document);
    let mut writers = [ada, ben];
    for writer in [0, 1, 0] {
        let writer = &mut writers[writer];
        let (delta, update) = writer.write(&[Step::Set(2, 9)]).expect("it writes");
        assert_eq!(there.decode(&update), Ok(delta.clone()));
        there.document.apply(&delta);
    }
}

#[test]
fn what_overtakes_is_taken_when_the_other_is_here() {
    let (mut here, mut there) = (Writer::new(1), Writer::new(7));
    let told: Vec<_> = (0..3).map(|i| here.write(&[Step::Set(0, i)])).collect();
    let [first, second, third] = [0, 1, 2].map(|i| told[i].clone().expect("it writes"));
    for (delta, update) in [&first, &second, &third] {
        if update == &second.1 {
            assert_eq!(there.decode(&third.1), Err(UpdateError::ContextMissing));
        }
        assert_eq!(there.decode(update).as_ref(), Ok(delta));
        there.document.apply(delta);
    }
}

#[test]
fn more_writers_than_are_remembered_are_followed_all_the_same() {
    let mut writers: Vec<Writer> = (100..700).map(Writer::new).collect();
    let mut there = Writer::new(7);
    for round in 0..3u8 {
        for (i, writer) in writers.iter_mut().enumerate() {
            let steps = [Step::SetIn(0, i as u8, i64::from(round))];
            let (delta, update) = writer.write(&steps).expect("it writes");
            assert_eq!(is_compact(&update), round > 0);
            assert_eq!(there.decode(&update).as_ref(), Ok(&delta));
            there.document.apply(&delta);
        }
    }
}
