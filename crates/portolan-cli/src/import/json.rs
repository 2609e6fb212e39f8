//! Entries from JSON: an object, rows inside a document, or an object a line.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use portolan::{Key, engine_limits as limits};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Entries, Entry, Held, ParseError};
use crate::json::{ParsedKey, ParsedValue, ValueSeed};

/// An object: every field is a key with its value.
pub(super) fn read_object(file: &[u8], entries: &mut Entries) -> Result<(), ParseError> {
    read_document(file, Fields(entries))
}

/// A list of rows at a pointer in a document.
pub(super) fn read_rows(
    file: &[u8],
    pointer: &[String],
    key: &str,
    entries: &mut Entries,
) -> Result<(), ParseError> {
    read_document(
        file,
        Place {
            whole: pointer,
            rest: pointer,
            key,
            entries,
        },
    )
}

/// A line an entry, in the typed form, or, with a key, a row.
pub(super) fn read_lines(
    file: &[u8],
    key: Option<&str>,
    entries: &mut Entries,
) -> Result<(), ParseError> {
    for (index, line) in file.split(|&byte| byte == b'\n').enumerate() {
        let number = index as u64 + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at_line = |error: serde_json::Error| ParseError {
            line: number,
            ..located(&error)
        };
        let at_start = |message| ParseError {
            line: number,
            column: 1,
            message,
        };
        if let Some(key) = key {
            let row: ParsedValue = serde_json::from_slice(line).map_err(at_line)?;
            entries.push_row(row.0, key).map_err(at_start)?;
        } else {
            let line = keyed_held(line).map_err(at_line)?;
            entries.push(line.0).map_err(at_start)?;
        }
    }
    Ok(())
}

/// Deepest nesting of a line in the typed form: a list and an object for each container, then a
/// value, and the line itself.
const MAX_LINE_DEPTH: usize = 2 * limits::MAX_DEPTH + limits::MAX_VALUE_DEPTH + 4;

/// Reads a line in the typed form, which may be nested deeper than `serde_json` allows by itself.
fn keyed_held(line: &[u8]) -> serde_json::Result<KeyedHeld> {
    if depth(line) > MAX_LINE_DEPTH {
        return Err(de::Error::custom(format_args!(
            "the entry is nested deeper than {} containers and {} levels of a value",
            limits::MAX_DEPTH,
            limits::MAX_VALUE_DEPTH
        )));
    }
    let mut input = serde_json::Deserializer::from_slice(line);
    input.disable_recursion_limit();
    let read = KeyedHeld::deserialize(&mut input)?;
    input.end()?;
    Ok(read)
}

/// How deep lists and objects are nested at the deepest.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'[' | b'{' if !text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What stands under a key, in the typed form.
struct KeyedHeld(Entry);

/// What an element of an array holds, in the typed form.
struct ElementHeld(Held);

impl<'de> Deserialize<'de> for KeyedHeld {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let (key, held) = input.deserialize_map(HeldVisitor { keyed: true })?;
        let key = key.ok_or_else(|| de::Error::missing_field("key"))?;
        Ok(Self(Entry { key, held }))
    }
}

impl<'de> Deserialize<'de> for ElementHeld {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let (_, held) = input.deserialize_map(HeldVisitor { keyed: false })?;
        Ok(Self(held))
    }
}

struct HeldVisitor {
    keyed: bool,
}

impl<'de> Visitor<'de> for HeldVisitor {
    type Value = (Option<Key>, Held);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a value or containers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
        const FIELDS: &[&str] = &["key", "value", "siblings", "map", "array", "set", "counter"];
        let values = |all: Vec<ParsedValue>| all.into_iter().map(|value| value.0).collect();
        let (mut key, mut held) = (None, Held::default());
        let mut seen: Vec<Cow<'de, str>> = Vec::new();
        while let Some(name) = input.next_key::<Cow<'de, str>>()? {
            if seen.contains(&name) {
                return Err(de::Error::custom(format_args!(
                    "the field {name:?} occurs twice"
                )));
            }
            match &*name {
                "key" if self.keyed => key = Some(input.next_value::<ParsedKey>()?.0),
                "value" => held.value = Some(input.next_value::<ParsedValue>()?.0),
                "siblings" => held.siblings = values(input.next_value()?),
                "map" => {
                    let entries: Vec<KeyedHeld> = input.next_value()?;
                    held.map = entries.into_iter().map(|entry| entry.0).collect();
                    let mut keys = HashSet::new();
                    if let Some(twice) = held.map.iter().find(|entry| !keys.insert(&entry.key)) {
                        let key = &twice.key;
                        let text = format_args!("the key {key:?} is in one map twice");
                        return Err(de::Error::custom(text));
                    }
                }
                "array" => {
                    let elements: Vec<ElementHeld> = input.next_value()?;
                    held.array = elements.into_iter().map(|element| element.0).collect();
                }
                "set" => held.set = values(input.next_value()?),
                "counter" => held.counter = Some(input.next_value()?),
                other => return Err(de::Error::unknown_field(other, FIELDS)),
            }
            seen.push(name);
        }
        if self.keyed && key.is_none() {
            return Err(de::Error::missing_field("key"));
        }
        if held.value.is_none() && !held.has_containers() {
            return Err(de::Error::missing_field("value"));
        }
        Ok((key, held))
    }
}

fn read_document<'f>(
    file: &'f [u8],
    seed: impl DeserializeSeed<'f, Value = ()>,
) -> Result<(), ParseError> {
    let mut input = serde_json::Deserializer::from_slice(file);
    let read = seed.deserialize(&mut input).and_then(|()| input.end());
    read.map_err(|error| located(&error))
}

/// The error with its place apart from its text.
fn located(error: &serde_json::Error) -> ParseError {
    let (line, column) = (error.line() as u64, error.column() as u64);
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    ParseError {
        line: line.max(1),
        column: column.max(1),
        message,
    }
}

struct Fields<'a>(&'a mut Entries);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of keys and values (for rows say --rows POINTER --key FIELD)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        while let Some(name) = input.next_key::<Cow<'de, str>>()? {
            let value = input.next_value_seed(ValueSeed::default())?;
            let entry = Entry {
                key: Key::from(&*name),
                held: Held::from(value),
            };
            self.0.push(entry).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

/// Walks down a pointer; what is beside the way is skipped.
struct Place<'a> {
    whole: &'a [String],
    rest: &'a [String],
    key: &'a str,
    entries: &'a mut Entries,
}

impl Place<'_> {
    fn missing<E: de::Error>(&self, what: &str) -> E {
        E::custom(format_args!(
            "nothing at \"/{}\": {what}",
            self.whole.join("/")
        ))
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rest.first() {
            Some(token) => write!(f, "an object with a field {token:?}"),
            None => f.write_str("a list of rows"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let Some((token, rest)) = self.rest.split_first() else {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        };
        let (mut found, mut others) = (false, Vec::new());
        while let Some(name) = input.next_key::<Cow<'de, str>>()? {
            if name != token.as_str() {
                input.next_value::<IgnoredAny>()?;
                if others.len() < 8 {
                    others.push(format!("{name:?}"));
                }
            } else if found {
                return Err(de::Error::custom(format_args!(
                    "the field {name:?} occurs twice"
                )));
            } else {
                found = true;
                let entries = &mut *self.entries;
                input.next_value_seed(Place {
                    rest,
                    entries,
                    ..self
                })?;
            }
        }
        if !found {
            let others = others.join(", ");
            return Err(self.missing(&format!("no field {token:?} among {others}")));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let Some((token, rest)) = self.rest.split_first() else {
            let Self { key, entries, .. } = self;
            while input
                .next_element_seed(Row {
                    key,
                    entries: &mut *entries,
                })?
                .is_some()
            {}
            return Ok(());
        };
        let skipped: usize = token.parse().map_err(|_| {
            self.missing::<A::Error>(&format!("there is a list, of which {token:?} is no index"))
        })?;
        for index in 0..skipped {
            if input.next_element::<IgnoredAny>()?.is_none() {
                return Err(self.missing(&format!("the list has {index} elements")));
            }
        }
        let entries = &mut *self.entries;
        if input
            .next_element_seed(Place {
                rest,
                entries,
                ..self
            })?
            .is_none()
        {
            return Err(de::Error::custom(format_args!(
                "the list has {skipped} elements"
            )));
        }
        while input.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct Row<'a> {
    key: &'a str,
    entries: &'a mut Entries,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        let row = ValueSeed::default().deserialize(input)?;
        self.entries
            .push_row(row, self.key)
            .map_err(de::Error::custom)
    }
}
