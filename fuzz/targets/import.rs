//! Files to import, in every format and layout: refused with a place, or entries that say in JSON
//! what they are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_fuzz::Script;

/// Internal to the binary, and taken in as it is.
#[path = "../../crates/portolan-cli/src/import/mod.rs"]
#[allow(dead_code, reason = "the command uses all of it")]
mod import;
/// Internal to the binary, and taken in as it is.
#[path = "../../crates/portolan-cli/src/json/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the server uses all of it")]
mod json;

/// What `import` finds there in its own crate, without the command line's parser.
mod arguments {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum ImportFormat {
        Json,
        Ndjson,
        Csv,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Duplicates {
        Refuse,
        First,
        Last,
    }
}

use arguments::{Duplicates, ImportFormat};
use import::{Layout, Pointer};
use json::{ParsedKey, ParsedValue};

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let format = [ImportFormat::Json, ImportFormat::Ndjson, ImportFormat::Csv][script.below(3)];
    let keyed = script.flag();
    let rows = (keyed && format == ImportFormat::Json)
        .then(|| Pointer::parse(["", "/rows", "/a~1b/1"][script.below(3)]).expect("a pointer"));
    let layout = Layout {
        format,
        rows,
        key: keyed.then(|| "id".to_owned()),
        duplicates: [Duplicates::Refuse, Duplicates::First, Duplicates::Last][script.below(3)],
    };
    let file = script.rest();
    if let Ok(text) = std::str::from_utf8(file) {
        let _ = json::value_from_text(text);
        let _ = Pointer::parse(text);
    }
    let entries = match layout.parse(file) {
        Ok(entries) => entries,
        Err(error) => {
            assert!(error.line >= 1, "{error}");
            return;
        }
    };
    for entry in &entries.list {
        let text = json::key_json(&entry.key);
        let key: ParsedKey = serde_json::from_str(&text).expect("a key's JSON is a key");
        assert_eq!(key.0, entry.key);
        for value in entry.held.siblings.iter().chain(&entry.held.value) {
            let text = json::value_json(value);
            let again: ParsedValue = serde_json::from_str(&text).expect("a value's JSON is one");
            assert_eq!(&again.0, value, "{text}");
        }
    }
});
