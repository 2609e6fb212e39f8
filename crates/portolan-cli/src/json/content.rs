//! Containers as JSON.
//!
//! As it shows, a map is an object, an array or a set a list, and a counter its number. The typed
//! form keeps kinds, keys and siblings: `{"value": …, "siblings": […], "map": [{"key": …, …}, …],
//! "array": [{…}, …], "set": […], "counter": …}`, of which only what is there is written.

use std::borrow::Cow;
use std::collections::HashSet;

use portolan::{Content, Key};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{BYTES, FLOAT, JsonKey, JsonValue, MAP, key_text, marked};

/// What is in a container, or the winner, as it shows.
pub(crate) struct JsonContent<'a>(pub(crate) &'a Content);

/// All that stands in one place, in the typed form; the key first, if there is one.
pub(crate) struct JsonHeld<'a> {
    pub(crate) key: Option<&'a Key>,
    pub(crate) held: &'a [Content],
}

/// What stands in one place as a reader of JSON is to see all of it: each sibling and each
/// container, what shows first.
pub(crate) fn all_json(held: &[Content]) -> String {
    let mut parts = Vec::new();
    for content in held {
        match content {
            Content::Values(values) => parts.extend(values.iter().map(super::value_json)),
            content => parts.push(content_json(content)),
        }
    }
    format!("[{}]", parts.join(","))
}

/// The elements of the array that stands in a place, each with its id: `{"id": …, "value": …}`.
pub(crate) fn elements_json(held: &[Content]) -> Option<String> {
    let elements = held.iter().find_map(|content| match content {
        Content::Array(elements) => Some(elements),
        _ => None,
    })?;
    let elements = elements.iter().map(|(id, held)| {
        let value = held.first().map_or_else(|| "null".to_owned(), content_json);
        format!("{{\"id\":\"{id}\",\"value\":{value}}}")
    });
    Some(format!("[{}]", elements.collect::<Vec<_>>().join(",")))
}

/// What shows, as JSON text.
pub(crate) fn content_json(content: &Content) -> String {
    // proof: keys are text, and values always serialise.
    serde_json::to_string(&JsonContent(content)).expect("content always serialises")
}

/// The text that two keys of one map share as the names of JSON fields, if any do.
pub(crate) fn alike(content: &Content) -> Option<String> {
    match content {
        Content::Map(entries) => {
            // Kinds other than strings have different texts among themselves.
            let others = entries.iter().filter(|(key, _)| key.as_str().is_none());
            let others: HashSet<Cow<'_, str>> = others.map(|(key, _)| key_text(key)).collect();
            let mut strings = entries.iter().filter_map(|(key, _)| key.as_str());
            let clash = strings.find(|text| others.contains(*text));
            let inner = || entries.iter().find_map(|(_, held)| alike(held.first()?));
            clash.map(str::to_owned).or_else(inner)
        }
        Content::Array(elements) => elements.iter().find_map(|(_, held)| alike(held.first()?)),
        Content::Values(_) | Content::Set(_) | Content::Counter(_) => None,
    }
}

impl Serialize for JsonContent<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Content::Values(values) => match values.first() {
                Some(winner) => JsonValue(winner).serialize(out),
                None => out.serialize_unit(),
            },
            Content::Map(entries) if needs_wrapping(entries) => marked(out, MAP, &Fields(entries)),
            Content::Map(entries) => Fields(entries).serialize(out),
            Content::Array(elements) => {
                out.collect_seq(elements.iter().map(|(_, held)| Shown(held)))
            }
            Content::Set(members) => out.collect_seq(members.iter().map(JsonValue)),
            Content::Counter(count) => out.serialize_i64(*count),
        }
    }
}

/// What shows in one place.
struct Shown<'a>(&'a [Content]);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0.first() {
            Some(content) => JsonContent(content).serialize(out),
            None => out.serialize_unit(),
        }
    }
}

struct Fields<'a>(&'a [(Key, Vec<Content>)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(
            self.0
                .iter()
                .map(|(key, held)| (key_text(key), Shown(held))),
        )
    }
}

fn needs_wrapping(entries: &[(Key, Vec<Content>)]) -> bool {
    let has = |mark: &str| entries.iter().any(|(key, _)| key.as_str() == Some(mark));
    has(MAP) || (entries.len() == 1 && (has(BYTES) || has(FLOAT)))
}

impl Serialize for JsonHeld<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut fields = out.serialize_map(None)?;
        if let Some(key) = self.key {
            fields.serialize_entry("key", &JsonKey(key))?;
        }
        for content in self.held {
            match content {
                Content::Values(values) => {
                    let Some((winner, siblings)) = values.split_first() else {
                        continue;
                    };
                    fields.serialize_entry("value", &JsonValue(winner))?;
                    if !siblings.is_empty() {
                        let siblings: Vec<_> = siblings.iter().map(JsonValue).collect();
                        fields.serialize_entry("siblings", &siblings)?;
                    }
                }
                Content::Map(entries) => {
                    let entries = entries.iter();
                    let entries = entries.map(|(key, held)| JsonHeld {
                        key: Some(key),
                        held,
                    });
                    fields.serialize_entry("map", &entries.collect::<Vec<_>>())?;
                }
                Content::Array(elements) => {
                    let elements = elements.iter();
                    let elements = elements.map(|(_, held)| JsonHeld { key: None, held });
                    fields.serialize_entry("array", &elements.collect::<Vec<_>>())?;
                }
                Content::Set(members) => {
                    let members: Vec<_> = members.iter().map(JsonValue).collect();
                    fields.serialize_entry("set", &members)?;
                }
                Content::Counter(count) => fields.serialize_entry("counter", count)?,
            }
        }
        fields.end()
    }
}
