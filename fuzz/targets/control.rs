//! Messages about the connection itself: whatever decodes has one encoding, and a pattern from
//! outside can be matched.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portolan::Pattern;
use portolan_fuzz::sealed;

/// Internal to its crate, and taken in as it is so that nothing need be public for this.
#[path = "../../crates/portolan/src/control.rs"]
mod control;

/// What `control` finds there in its own crate.
mod error {
    pub(crate) use portolan::{Error, Result};
}

use control::Control;

fuzz_target!(|content: &[u8]| {
    let _ = Control::decode(&Bytes::copy_from_slice(content));
    let bytes = Bytes::from(sealed(content));
    let Ok(message) = Control::decode(&bytes) else {
        return;
    };
    assert!(Control::is(&bytes));
    assert_eq!(message.encode(), bytes);
    if let Control::Follow { pattern, .. } = message
        && let Ok(pattern) = Pattern::new(&pattern)
    {
        for name in ["", "fleet/config", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/b/c"] {
            let _ = pattern.matches(name);
        }
    }
});
