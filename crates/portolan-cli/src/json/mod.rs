//! Keys and values as JSON.
//!
//! Whatever JSON cannot say is written as an object of one field that starts with `$`:
//! bytes as `{"$bytes": "<base64>"}`, the floats without a JSON number as `{"$float": "NaN"}`.
//! A map that could be taken for one of these is wrapped as `{"$map": {…}}`, so that every value
//! comes back as it was.

mod content;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portolan::{Dot, Key, SmolStr, Value, engine_limits as limits};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

pub(crate) use content::{JsonHeld, alike, all_json, content_json, elements_json};

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
const MAP: &str = "$map";
/// Only in keys, and so in no value's way.
const ELEMENT: &str = "$element";

/// Writes a value as JSON.
pub(crate) struct JsonValue<'a>(pub(crate) &'a Value);

/// Writes a key as JSON that keeps its kind.
pub(crate) struct JsonKey<'a>(pub(crate) &'a Key);

/// A value read from JSON.
#[derive(Debug, PartialEq)]
pub(crate) struct ParsedValue(pub(crate) Value);

/// A key read from JSON that keeps its kind.
#[derive(Debug, PartialEq)]
pub(crate) struct ParsedKey(pub(crate) Key);

/// What the command line takes for a value: JSON if it parses as JSON, else a string.
pub(crate) fn value_from_text(text: &str) -> Result<Value, String> {
    match serde_json::from_str::<ParsedValue>(text) {
        Ok(value) => Ok(value.0),
        // The text is JSON, but not a value (a number too large, a field twice, half a surrogate
        // pair): taking it for a string would hide that.
        Err(error) if serde_json::from_str::<IgnoredAny>(text).is_ok() => Err(error.to_string()),
        Err(_) => Ok(Value::from(text)),
    }
}

/// A key as the name of a JSON field: a string as it is, anything else as its JSON text.
pub(crate) fn key_text(key: &Key) -> Cow<'_, str> {
    match key {
        Key::Str(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(key_json(other)),
    }
}

/// A key as JSON text that keeps its kind.
pub(crate) fn key_json(key: &Key) -> String {
    serde_json::to_string(&JsonKey(key)).expect("a key always serialises")
}

/// A value as JSON text.
pub(crate) fn value_json(value: &Value) -> String {
    serde_json::to_string(&JsonValue(value)).expect("a value always serialises")
}

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => out.serialize_unit(),
            Value::Bool(b) => out.serialize_bool(*b),
            Value::Int(i) => out.serialize_i64(*i),
            Value::Float(x) if x.is_finite() => out.serialize_f64(*x),
            Value::Float(x) => marked(out, FLOAT, float_name(*x)),
            Value::Str(s) => out.serialize_str(s),
            Value::Bytes(bytes) => marked(out, BYTES, &BASE64.encode(bytes)),
            Value::List(list) => out.collect_seq(list.iter().map(JsonValue)),
            Value::Map(map) if needs_wrapping(map) => marked(out, MAP, &Fields(map)),
            Value::Map(map) => Fields(map).serialize(out),
        }
    }
}

impl Serialize for JsonKey<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Key::Bool(b) => out.serialize_bool(*b),
            Key::Int(i) => out.serialize_i64(*i),
            Key::Str(s) => out.serialize_str(s),
            Key::Bytes(bytes) => marked(out, BYTES, &BASE64.encode(bytes)),
            Key::Element(id) => marked(out, ELEMENT, &id.to_string()),
        }
    }
}

struct Fields<'a>(&'a BTreeMap<SmolStr, Value>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(
            self.0
                .iter()
                .map(|(key, value)| (key.as_str(), JsonValue(value))),
        )
    }
}

fn marked<S: Serializer>(
    out: S,
    mark: &'static str,
    content: &(impl Serialize + ?Sized),
) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(1))?;
    map.serialize_entry(mark, content)?;
    map.end()
}

fn needs_wrapping(map: &BTreeMap<SmolStr, Value>) -> bool {
    map.contains_key(MAP)
        || (map.len() == 1 && (map.contains_key(BYTES) || map.contains_key(FLOAT)))
}

fn float_name(x: f64) -> &'static str {
    match x {
        x if x.is_nan() => "NaN",
        x if x > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

impl<'de> Deserialize<'de> for ParsedValue {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        ValueSeed::default().deserialize(input).map(Self)
    }
}

impl<'de> Deserialize<'de> for ParsedKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let key = match ValueSeed::default().deserialize(input)? {
            Value::Bool(b) => Key::Bool(b),
            Value::Int(i) => Key::Int(i),
            Value::Str(s) => Key::Str(s),
            Value::Bytes(bytes) => Key::Bytes(bytes),
            Value::Map(map) if map.len() == 1 && map.contains_key(ELEMENT) => {
                let id = map.get(ELEMENT).and_then(Value::as_str).and_then(dot);
                Key::Element(id.ok_or_else(|| {
                    de::Error::custom(
                        "{\"$element\": …} is the id of an element, \"replica:number\"",
                    )
                })?)
            }
            other => {
                return Err(de::Error::custom(format_args!(
                    "a key is a string, an integer, a boolean or {{\"$bytes\": …}}, not a {}",
                    other.kind()
                )));
            }
        };
        check_key(&key).map_err(de::Error::custom)?;
        Ok(Self(key))
    }
}

/// The id of an element, as it is shown.
pub(crate) fn dot(text: &str) -> Option<Dot> {
    let (replica, seq) = text.split_once(':')?;
    Some(Dot::new(replica.parse().ok()?, seq.parse().ok()?))
}

/// Refuses a key that no map takes, so that it is reported where it stands.
pub(crate) fn check_key(key: &Key) -> Result<(), String> {
    if key.byte_len() > limits::MAX_KEY_BYTES {
        let (found, limit) = (key.byte_len(), limits::MAX_KEY_BYTES);
        return Err(format!("the key has {found} bytes; the limit is {limit}"));
    }
    Ok(())
}

/// Reads a value, counting its nesting.
#[derive(Clone, Copy, Default)]
pub(crate) struct ValueSeed {
    depth: usize,
    /// This is the content of `{"$map": …}`: a map whatever its fields are called.
    wrapped: bool,
}

impl ValueSeed {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == limits::MAX_VALUE_DEPTH {
            return Err(E::custom(format_args!(
                "the value is nested more than {} levels deep",
                limits::MAX_VALUE_DEPTH
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            wrapped: false,
        })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i))
    }

    fn visit_u64<E: de::Error>(self, u: u64) -> Result<Value, E> {
        i64::try_from(u).map(Value::Int).map_err(|_| {
            E::custom(format_args!(
                "the integer {u} does not fit in 64 bits with a sign: write it as a string, \
                 or with a decimal point as a float"
            ))
        })
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::from(s))
    }

    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::from(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = input.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = BTreeMap::new();
        while let Some(name) = input.next_key::<Cow<'de, str>>()? {
            let seed = if name == MAP && !self.wrapped {
                Self {
                    wrapped: true,
                    ..self
                }
            } else {
                inner
            };
            let value = input.next_value_seed(seed)?;
            if map.insert(SmolStr::new(&name), value).is_some() {
                return Err(de::Error::custom(format_args!(
                    "the field {name:?} occurs twice"
                )));
            }
        }
        if self.wrapped || !needs_wrapping(&map) {
            return Ok(Value::from(map));
        }
        unmark(map).map_err(de::Error::custom)
    }
}

fn unmark(mut map: BTreeMap<SmolStr, Value>) -> Result<Value, String> {
    let alone = map.len() == 1;
    let (mark, content) = map
        .pop_first()
        .expect("a map that needs wrapping has a field");
    match (mark.as_str(), content) {
        (BYTES, Value::Str(text)) if alone => match BASE64.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Value::from(bytes)),
            Err(error) => Err(format!("{{\"$bytes\": …}} is not base64: {error}")),
        },
        (FLOAT, Value::Str(name)) if alone => match name.as_str() {
            "NaN" => Ok(Value::Float(f64::NAN)),
            "Infinity" => Ok(Value::Float(f64::INFINITY)),
            "-Infinity" => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => Err("{\"$float\": …} is \"NaN\", \"Infinity\" or \"-Infinity\"".to_owned()),
        },
        (MAP, content @ Value::Map(_)) if alone => Ok(content),
        _ => Err(
            "an object with a field \"$bytes\", \"$float\" or \"$map\" has a meaning of its \
                  own; a plain one is written as {\"$map\": {…}}"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &Value) {
        let text = value_json(value);
        let back: ParsedValue = serde_json::from_str(&text).expect(&text);
        assert_eq!(&back.0, value, "{text}");
    }

    fn map(fields: &[(&str, Value)]) -> Value {
        let fields = fields.iter().map(|(k, v)| (SmolStr::new(k), v.clone()));
        Value::from(fields.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn every_value_comes_back_as_it_was() {
        let bytes = Value::from(&[0u8, 255, 7][..]);
        for value in [
            Value::Null,
            Value::from(i64::MIN),
            Value::from(1.0),
            Value::from(-0.0),
            Value::from(0.1 + 0.2),
            Value::from(f64::MAX),
            Value::from(f64::NAN),
            Value::from(f64::INFINITY),
            Value::from(f64::NEG_INFINITY),
            Value::from("\u{0}\"\u{1f600}"),
            bytes.clone(),
            Value::from(vec![bytes.clone(), Value::Null]),
        ] {
            round_trip(&value);
            for name in ["plain", BYTES, FLOAT, MAP] {
                let one = map(&[(name, value.clone())]);
                round_trip(&one);
                round_trip(&map(&[(MAP, one.clone()), ("more", Value::Null)]));
                round_trip(&map(&[(MAP, map(&[(MAP, one)]))]));
            }
        }
    }

    #[test]
    fn what_a_value_cannot_hold_is_refused() {
        for text in [
            "9223372036854775808",
            r#"{"a":1,"a":2}"#,
            r#"{"$bytes":"not base64!"}"#,
            r#"{"$bytes":1}"#,
            r#"{"$map":1}"#,
            r#"{"$map":{},"a":1}"#,
        ] {
            assert!(serde_json::from_str::<ParsedValue>(text).is_err(), "{text}");
            assert!(value_from_text(text).is_err(), "{text}");
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(value_from_text(&nested(limits::MAX_VALUE_DEPTH)).is_ok());
        assert!(value_from_text(&nested(limits::MAX_VALUE_DEPTH + 1)).is_err());
    }

    #[test]
    fn text_that_is_no_json_is_a_string() {
        for text in ["", "hello", "{", "007", "1 2"] {
            assert_eq!(value_from_text(text), Ok(Value::from(text)));
        }
        assert_eq!(value_from_text(" 7 "), Ok(Value::from(7i64)));
        assert_eq!(value_from_text("\"7\""), Ok(Value::from("7")));
    }

    #[test]
    fn keys_keep_their_kind() {
        for key in [
            Key::from(1i64),
            Key::from("1"),
            Key::from(true),
            Key::from(&b"\x00\xff"[..]),
        ] {
            let text = key_json(&key);
            assert_eq!(
                serde_json::from_str::<ParsedKey>(&text).expect(&text).0,
                key
            );
        }
        for text in ["1.5", "null", "[1]", "{}"] {
            assert!(serde_json::from_str::<ParsedKey>(text).is_err(), "{text}");
        }
        assert_eq!(key_text(&Key::from(1i64)), key_text(&Key::from("1")));
    }
}
