//! What stands in a map, copied out of it.

use std::collections::BTreeMap;

use portolan_core::{ArrayView, Dot, Held, Key, Kind, MapView, SmolStr, Value};

use crate::error::{Error, Result};

/// What stands under a key or in an element of an array, of one kind, with all that is in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Values, the winner first. There is at least one.
    Values(Vec<Value>),
    /// The keys of a map in order, each with what stands under it, the kind written last first.
    Map(Vec<(Key, Vec<Content>)>),
    /// The elements of an array in order, each with what it holds, the kind written last first.
    Array(Vec<(Dot, Vec<Content>)>),
    /// The members of a set, in order.
    Set(Vec<Value>),
    /// What a counter shows.
    Counter(i64),
}

impl Content {
    /// Copies. Costs the size of what is there.
    pub fn of(held: &Held<'_>) -> Self {
        match held {
            Held::Values(siblings) => {
                let siblings = siblings.clone();
                Self::Values(siblings.map(|sibling| sibling.value.clone()).collect())
            }
            Held::Map(map) => Self::of_map(*map),
            Held::Array(array) => Self::of_array(*array),
            Held::Set(set) => Self::Set(set.iter().collect()),
            Held::Counter(count) => Self::Counter(*count),
        }
    }

    /// Copies everything that stands at one place.
    pub fn of_all(held: &[Held<'_>]) -> Vec<Self> {
        held.iter().map(Self::of).collect()
    }

    /// Copies a map.
    pub fn of_map(map: MapView<'_>) -> Self {
        let entries = map.iter().held();
        Self::Map(
            entries
                .map(|(key, held)| (key.clone(), Self::of_all(&held)))
                .collect(),
        )
    }

    fn of_array(array: ArrayView<'_>) -> Self {
        let ids = array.iter().map(|(id, _)| id).enumerate();
        Self::Array(
            ids.map(|(index, id)| (id, Self::of_all(&array.held(index))))
                .collect(),
        )
    }

    /// The kind of container; `None` for values.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Values(_) => return None,
            Self::Map(_) => Kind::Map,
            Self::Array(_) => Kind::Array,
            Self::Set(_) => Kind::Set,
            Self::Counter(_) => Kind::Counter,
        })
    }

    /// What shows, as one plain value: a map of winners, an array or a set as a list, a counter as
    /// its number. Keys that are no strings are written as text; fails where two keys of a map
    /// would then be alike.
    pub fn to_value(&self) -> Result<Value> {
        let shown = |all: &[Content]| all.first().map_or(Ok(Value::Null), Self::to_value);
        Ok(match self {
            Self::Values(values) => values.first().cloned().unwrap_or(Value::Null),
            Self::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, all) in entries {
                    let name = SmolStr::new(key.to_string());
                    if map.insert(name, shown(all)?).is_some() {
                        let text = format!("two keys of the map are both written `{key}`");
                        return Err(Error::Conversion(text));
                    }
                }
                Value::from(map)
            }
            Self::Array(elements) => {
                let list: Result<Vec<Value>> = elements.iter().map(|(_, all)| shown(all)).collect();
                Value::from(list?)
            }
            Self::Set(members) => Value::from(members.clone()),
            Self::Counter(count) => Value::Int(*count),
        })
    }
}
