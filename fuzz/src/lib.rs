//! What the fuzz targets share: reading decisions from the fuzzer's bytes, and a naive reference
//! of the document.
//!
//! Each program in `targets/` is one target. `cargo xtask fuzz` runs them; CONTRIBUTING.md says
//! how.

mod script;
mod truth;

pub use script::Script;
pub use truth::{Operation, Truth};

use portolan_core::{Delta, Document, ReplicaId};
use xxhash_rust::xxh3::xxh3_64;

/// Appends the checksum that deltas, frames and control messages end in: no fuzzer guesses it.
#[must_use]
pub fn sealed(content: &[u8]) -> Vec<u8> {
    let checksum = xxh3_64(content) as u32;
    [content, &checksum.to_le_bytes()].concat()
}

/// Checks that a document's bytes stand for it: another one that takes them holds the same, to
/// the byte.
pub fn assert_sound(document: &Document) {
    let bytes = document.encode();
    let state = Delta::decode(&bytes).expect("the document's own bytes decode");
    assert_eq!(state.encode(), bytes);
    assert_eq!(document.snapshot(), state);
    let mut other = Document::new(ReplicaId::new(u64::MAX));
    other.apply(&state);
    assert_eq!(other.version(), document.version());
    assert_eq!(other.digest(), document.digest());
    assert_eq!(other.encode(), bytes);
}
