//! What holds whatever features are left out.

use portolan_core::{Delta, Document, ReplicaId};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Containers of each kind, keys, and an array of two thousand elements, packed.
const PACKED: &[u8] = include_bytes!("golden/delta-3.bin");

fn holding(delta: &Delta) -> Document {
    let mut document = Document::without_past(ReplicaId::new(7));
    document.apply(delta);
    document
}

#[test]
fn what_is_packed_is_read_by_who_does_not_pack() {
    let delta = Delta::decode(PACKED).expect("the golden file decodes");
    let document = holding(&delta);
    assert!(document.array("text").len() >= 2000);
    assert_eq!(document.snapshot(), delta);
    let again = Delta::decode(&document.encode());
    assert_eq!(again, Ok(delta));
    assert_eq!(document.encode() == PACKED, cfg!(feature = "packing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes that no replica wrote are refused, or come to something that is like any other.
    #[test]
    fn damaged_bytes_with_a_checksum_that_fits_do_no_harm(
        plain: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = if plain {
            holding(&Delta::decode(PACKED).expect("it decodes")).encode()
        } else {
            PACKED.to_vec()
        };
        let mut bytes = whole[..whole.len() - 4].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()) + 1);
        }
        let sum = xxh3_64(&bytes) as u32;
        bytes.extend(sum.to_le_bytes());
        if let Ok(delta) = Delta::decode(&bytes) {
            let mut document = holding(&delta);
            let bytes = document.encode();
            let again = Delta::decode(&bytes);
            prop_assert_eq!(again.as_ref(), Ok(&document.snapshot()));
            prop_assert!(document.apply(&delta).is_empty());
            document.apply(&Delta::decode(PACKED).expect("it decodes"));
            document.write(1 << 41, |tx| tx.unset("text"));
            prop_assert_eq!(Delta::decode(&document.encode()), Ok(document.snapshot()));
        }
    }
}
