//! Damage on the way, and what nobody would send: nothing comes out.

use portolan_core::{Document, UpdateError};
use proptest::prelude::*;

use crate::writer::{Writer, step, steps};

/// Gives `there` bytes that are not those that were sent: they must not become a delta.
fn assert_refused(there: &mut Writer, bytes: &[u8]) {
    match there.decode(bytes) {
        Err(UpdateError::Known(dots)) => assert!(there.document.covers(&dots)),
        Err(_) => {}
        Ok(delta) => panic!("{bytes:02x?} became {delta:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn no_flipped_bit_and_no_cut_becomes_a_delta(
        before in prop::collection::vec(step(), 1..6),
        steps in steps(),
    ) {
        let (mut here, mut there) = (Writer::new(1), Writer::new(7));
        for step in before {
            if let Some((delta, update)) = here.write(&[step]) {
                prop_assert_eq!(there.decode(&update), Ok(delta.clone()));
                there.document.apply(&delta);
            }
        }
        let Some((delta, update)) = here.write(&steps) else {
            return Ok(());
        };
        for bit in 0..update.len() * 8 {
            let mut damaged = update.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_refused(&mut there, &damaged);
        }
        for end in 0..update.len() {
            assert_refused(&mut there, &update[..end]);
        }
        // None of it is in the way of what was really sent.
        prop_assert_eq!(there.decode(&update), Ok(delta));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), tag in any::<bool>()) {
        let (mut here, mut there) = (Writer::new(2), Writer::new(7));
        let (delta, _) = here.write(&[crate::Step::Set(1, 1)]).expect("it writes");
        there.document.apply(&delta);
        let mut update = bytes;
        if tag && update.len() > 5 {
            // Of the writer that is known, and its next operation.
            update[0] |= 0x80;
            update[1..5].copy_from_slice(&[2, 0, 2, 0]);
        }
        let document = there.document.encode();
        assert_refused(&mut there, &update);
        prop_assert!(there.document.encode() == document);
    }
}

#[test]
fn an_update_of_nobody_known_is_not_expanded() {
    let mut writer = Writer::new(1);
    writer.write(&[crate::Step::Set(0, 0)]);
    let (_, update) = writer.write(&[crate::Step::Set(0, 1)]).expect("it writes");
    let mut there = Writer::new(7);
    assert_eq!(there.decode(&update), Err(UpdateError::ContextMissing));
    there.document = Document::new(there.document.replica());
    assert_eq!(there.decode(&update), Err(UpdateError::ContextMissing));
}
