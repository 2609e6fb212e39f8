//! Values and keys as JSON, as the command line and HTTP show them.
//!
//! | value | JSON |
//! |---|---|
//! | null, boolean, integer, string, list, map | itself |
//! | float | a number with a point or exponent; `{"$float": "NaN"}`, `"Infinity"`, `"-Infinity"` where JSON has none |
//! | bytes | `{"$bytes": "<base64>"}` |
//! | a map whose only key starts with `$` | `{"$map": {…}}`, so that it is none of the above |
//!
//! Reading what was written gives the same value. An integer beyond 64 signed bits is refused
//! rather than rounded.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portolan_core::limits::MAX_VALUE_DEPTH;
use portolan_core::{Key, SmolStr, Value};
use serde_json::Value as Json;

use crate::error::{Error, Result};

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
const MAP: &str = "$map";

/// A value as JSON.
pub fn from_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(x) => match serde_json::Number::from_f64(*x) {
            Some(number) => Json::Number(number),
            None => tagged(FLOAT, Json::from(float_name(*x))),
        },
        Value::Str(s) => Json::from(s.as_str()),
        Value::Bytes(b) => tagged(BYTES, Json::from(BASE64.encode(b))),
        Value::List(list) => Json::Array(list.iter().map(from_value).collect()),
        Value::Map(map) => {
            let entries = map.iter();
            let entries = entries.map(|(key, value)| (key.to_string(), from_value(value)));
            let object = Json::Object(entries.collect());
            match map.keys().next() {
                Some(only) if map.len() == 1 && only.starts_with('$') => tagged(MAP, object),
                _ => object,
            }
        }
    }
}

/// The value that JSON stands for.
pub fn to_value(json: &Json) -> Result<Value> {
    value_at(json, 0)
}

fn value_at(json: &Json, depth: usize) -> Result<Value> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Error::Operation(portolan_core::Error::ValueTooDeep));
    }
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(i), _) => Value::Int(i),
            (None, Some(x)) if number.is_f64() => Value::Float(x),
            _ => {
                let message = format!("the integer {number} takes more than 64 signed bits");
                return Err(Error::Conversion(message));
            }
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(list) => {
            let items = list.iter().map(|item| value_at(item, depth + 1));
            Value::from(items.collect::<Result<Vec<_>>>()?)
        }
        Json::Object(object) => {
            let only = object.iter().next().filter(|_| object.len() == 1);
            match only {
                Some((tag, Json::String(text))) if tag == BYTES => Value::from(bytes(text)?),
                Some((tag, Json::String(text))) if tag == FLOAT => Value::Float(float(text)?),
                Some((tag, Json::Object(inner))) if tag == MAP => map(inner, depth)?,
                _ => map(object, depth)?,
            }
        }
    })
}

fn map(object: &serde_json::Map<String, Json>, depth: usize) -> Result<Value> {
    let entries = object.iter();
    let entries = entries.map(|(key, item)| Ok((SmolStr::new(key), value_at(item, depth + 1)?)));
    Ok(Value::from(entries.collect::<Result<BTreeMap<_, _>>>()?))
}

/// A key as JSON: a string, an integer, a boolean, or `{"$bytes": "<base64>"}`.
pub fn from_key(key: &Key) -> Json {
    match key {
        Key::Bool(b) => Json::Bool(*b),
        Key::Int(i) => Json::from(*i),
        Key::Str(s) => Json::from(s.as_str()),
        Key::Bytes(b) => tagged(BYTES, Json::from(BASE64.encode(b))),
    }
}

/// The key that JSON stands for.
pub fn to_key(json: &Json) -> Result<Key> {
    match to_value(json)? {
        Value::Bool(b) => Ok(Key::Bool(b)),
        Value::Int(i) => Ok(Key::Int(i)),
        Value::Str(s) => Ok(Key::Str(s)),
        Value::Bytes(b) => Ok(Key::Bytes(b)),
        other => Err(Error::Conversion(format!(
            "a key is a string, an integer, a boolean or bytes, not a {}",
            other.kind()
        ))),
    }
}

/// A key as the name of a JSON object's member: a string is itself, others are their JSON text.
pub fn key_text(key: &Key) -> String {
    match key {
        Key::Str(s) => s.to_string(),
        other => from_key(other).to_string(),
    }
}

/// A map as one JSON object.
///
/// Fails where two keys have the same [`key_text`], such as `1` and `"1"`: take the form with
/// typed keys then (NDJSON).
pub fn object<'a>(entries: impl IntoIterator<Item = (&'a Key, &'a Value)>) -> Result<Json> {
    let mut object = serde_json::Map::new();
    for (key, value) in entries {
        let text = key_text(key);
        if object.contains_key(&text) {
            return Err(Error::Conversion(format!(
                "two keys look alike as `{text}` in a JSON object: ask for NDJSON, which keeps keys typed"
            )));
        }
        object.insert(text, from_value(value));
    }
    Ok(Json::Object(object))
}

fn tagged(tag: &str, content: Json) -> Json {
    Json::Object(std::iter::once((tag.to_owned(), content)).collect())
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    let decoded = BASE64.decode(text);
    decoded.map_err(|error| Error::Conversion(format!("`$bytes` is not base64: {error}")))
}

fn float_name(x: f64) -> &'static str {
    if x.is_nan() {
        "NaN"
    } else if x > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn float(text: &str) -> Result<f64> {
    match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => Err(Error::Conversion(format!(
            "`$float` is NaN, Infinity or -Infinity, not `{text}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(json: &str) -> Value {
        to_value(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn values_have_the_json_that_the_design_names() {
        let shown = |value: Value| from_value(&value).to_string();
        assert_eq!(shown(Value::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(shown(Value::Float(1.0)), "1.0");
        assert_eq!(shown(Value::Float(f64::NAN)), r#"{"$float":"NaN"}"#);
        assert_eq!(shown(Value::from(&b"\x00\xff"[..])), r#"{"$bytes":"AP8="}"#);
        assert_eq!(text(r#"{"$bytes":"AP8="}"#), Value::from(&b"\x00\xff"[..]));
        assert_eq!(text("1"), Value::Int(1));
        assert_eq!(text("1.0"), Value::Float(1.0));
        assert_eq!(text("1e3"), Value::Float(1000.0));
    }

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        let refused = |json: &str| to_value(&serde_json::from_str(json).unwrap()).is_err();
        assert!(refused("18446744073709551615"));
        assert!(refused(r#"{"$bytes":"*"}"#));
        assert!(refused(r#"{"$float":"many"}"#));
        assert!(refused(&format!("{}{}", "[".repeat(66), "]".repeat(66))));
        assert!(!refused(&format!("{}{}", "[".repeat(64), "]".repeat(64))));
    }

    #[test]
    fn keys_that_look_alike_are_not_merged() {
        let (one, text, value) = (Key::from(1i64), Key::from("1"), Value::Null);
        assert_eq!(key_text(&one), key_text(&text));
        assert!(object([(&one, &value), (&text, &value)]).is_err());
        assert!(object([(&one, &value)]).is_ok());
        assert_eq!(key_text(&Key::from(&b"\x01"[..])), r#"{"$bytes":"AQ=="}"#);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop_oneof![
                any::<f64>(),
                Just(f64::NAN),
                Just(-0.0),
                Just(f64::INFINITY)
            ]
            .prop_filter("one NaN is all that JSON keeps", |x| {
                !x.is_nan() || x.to_bits() == f64::NAN.to_bits()
            })
            .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let keys = prop_oneof![
                "[a-z$]{0,3}",
                Just("$bytes".to_owned()),
                Just("$map".to_owned())
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys.prop_map(SmolStr::from), inner, 0..3)
                    .prop_map(Value::from),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_returns_from_its_json_text(value in values()) {
            let text = from_value(&value).to_string();
            let json: Json = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(to_value(&json).unwrap(), value);
        }

        #[test]
        fn a_key_returns_from_its_json(value in values()) {
            if let Ok(key) = to_key(&from_value(&value)) {
                prop_assert_eq!(to_key(&from_key(&key)).unwrap(), key);
            }
        }
    }
}
