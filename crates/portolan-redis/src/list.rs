//! Lists of strings as values.

use crate::error::{Error, Result, excerpt};

/// The list that a value is: a JSON array of strings, or the older text with commas. The same
/// rule as in `lua/list.lua`.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<Vec<String>> {
    if let Ok(items) = serde_json::from_slice(value) {
        return Ok(items);
    }
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
    let first = value.trim_ascii_start().first();
    let text = std::str::from_utf8(value).ok();
    match text.filter(|_| !is_json && !matches!(first, Some(b'[' | b'{' | b'"'))) {
        Some(text) => {
            let items = text.split(',').filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect())
        }
        None => Err(not_a_list(key, value)),
    }
}

pub(crate) fn not_a_list(key: &[u8], value: &[u8]) -> Error {
    Error::NotAList {
        key: String::from_utf8_lossy(key).into_owned(),
        found: excerpt(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_text_with_commas_are_lists_and_other_json_is_none() {
        let list = |value: &str| parse(b"k", value.as_bytes()).ok();
        let items = |items: &[&str]| Some(items.iter().map(ToString::to_string).collect());
        assert_eq!(list(r#"["a","b,c"]"#), items(&["a", "b,c"]));
        assert_eq!(list("a,b"), items(&["a", "b"]));
        assert_eq!(list("0x1f"), items(&["0x1f"]));
        assert_eq!(list(""), items(&[]));
        assert_eq!(list("[]"), items(&[]));
        for other in ["5", "null", r#"{"a":1}"#, "[1]", r#""a""#, "[a", "true"] {
            assert_eq!(list(other), None, "{other}");
        }
    }
}
