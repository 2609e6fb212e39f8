//! The rows of a store: headers, records, pieces of logs. Whatever decodes has one encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_core::Delta;
use portolan_fuzz::Script;

/// Internal to its crate, and taken in as it is so that nothing need be public for this.
#[path = "../../crates/portolan/src/store/record.rs"]
#[allow(dead_code, reason = "the store uses all of it")]
mod record;

use record::{Header, Record, Table};

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let (kind, document) = (script.byte(), u64::from(script.byte()));
    let content = script.rest();
    let sealed = |table, key| {
        let mut row = content.to_vec();
        record::seal(&mut row, table, key);
        row
    };
    match kind % 3 {
        0 => {
            let row = sealed(Table::Header, (0, 0));
            let _ = Header::decode(content);
            if let Ok(header) = Header::decode(&row) {
                assert_eq!(header.encode(), row);
            }
        }
        1 => {
            let row = sealed(Table::Documents, (document, 0));
            let _ = Record::decode(content, document);
            if let Some(record) = Record::decode(&row, document) {
                assert_eq!(record.encode(document), row);
                assert_eq!(Record::decode(&row, document + 1), None);
            }
        }
        _ => {
            let row = sealed(Table::Logs, (document, 7));
            let piece = record::open(&row, Table::Logs, (document, 7));
            let piece = piece.expect("the checksum was just written");
            assert_eq!(record::open(&row, Table::Snapshots, (document, 7)), None);
            let (mut again, mut damaged) = (Vec::new(), false);
            for delta in record::deltas(piece) {
                assert!(!damaged, "damage is the last");
                match delta {
                    Some(delta) => {
                        record::put_delta(&mut again, delta);
                        let _ = Delta::decode(delta);
                    }
                    None => damaged = true,
                }
            }
            assert!(piece.starts_with(&again));
            assert_eq!(damaged, again.len() < piece.len());
        }
    }
});
