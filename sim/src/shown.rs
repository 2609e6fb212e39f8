//! Everything that a document shows, read through its views, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{
    ArrayView, Document, Dot, Held, Key, Kind, MapView, Siblings, Timestamp, Value,
};

/// The containers from the root to one of them.
pub type Path = Vec<(Key, Kind)>;

/// A value with what orders it among siblings.
pub type Ranked = (Timestamp, Dot, Value);

/// What a document shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// By the container and the key in it, ids of elements included; the winner first.
    pub values: BTreeMap<(Path, Key), Vec<Ranked>>,
    /// The elements in order, of arrays in which there are any.
    pub arrays: BTreeMap<Path, Vec<Dot>>,
    /// Of sets in which there are any, as text: values have no order.
    pub members: BTreeMap<Path, BTreeSet<String>>,
    /// Of counters in which there is anything.
    pub counters: BTreeMap<Path, i64>,
}

impl Shown {
    /// Reads everything; each way of reading it must say the same.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut shown = Self::default();
        shown.map(&mut Path::new(), document.root());
        shown
    }

    /// All elements that show.
    #[must_use]
    pub fn elements(&self) -> BTreeSet<Dot> {
        self.arrays.values().flatten().copied().collect()
    }

    fn map(&mut self, path: &mut Path, map: MapView<'_>) {
        let mut keys = 0;
        for (key, siblings) in &map {
            keys += 1;
            assert_eq!(map.get(key), siblings.clone().next().map(|s| s.value));
            assert!(map.get_all(key).map(|s| s.dot).eq(siblings.map(|s| s.dot)));
            let held = map.held(key);
            assert!(!held.is_empty(), "{path:?} {key:?} shows for a reason");
            for held in held {
                self.held(path, key, held);
            }
        }
        assert_eq!(map.len(), keys, "{path:?}");
    }

    fn array(&mut self, path: &mut Path, array: ArrayView<'_>) {
        let mut ids = Vec::new();
        for (index, (id, siblings)) in array.iter().enumerate() {
            assert_eq!(array.id(index), Some(id));
            assert_eq!(array.index_of(id), Some(index));
            assert_eq!(array.get(index), siblings.clone().next().map(|s| s.value));
            ids.push(id);
            let held = array.held(index);
            assert!(!held.is_empty(), "{path:?} {id:?} shows for a reason");
            for held in held {
                self.held(path, &Key::Element(id), held);
            }
        }
        assert_eq!(array.len(), ids.len(), "{path:?}");
        assert!(!ids.is_empty(), "{path:?} shows for a reason");
        self.arrays.insert(path.clone(), ids);
    }

    fn held(&mut self, path: &mut Path, key: &Key, held: Held<'_>) {
        if let Held::Values(siblings) = held {
            let values = ranked(siblings);
            assert!(values.is_sorted_by(|a, b| (a.0, a.1) > (b.0, b.1)));
            self.values.insert((path.clone(), key.clone()), values);
            return;
        }
        path.extend(held.kind().map(|kind| (key.clone(), kind)));
        match held {
            Held::Values(_) => {}
            Held::Map(map) => {
                assert!(!map.is_empty(), "{path:?} shows for a reason");
                self.map(path, map);
            }
            Held::Array(array) => self.array(path, array),
            Held::Set(set) => {
                let members: BTreeSet<String> = set.iter().map(|m| format!("{m:?}")).collect();
                assert!(!members.is_empty(), "{path:?} shows for a reason");
                assert_eq!(set.len(), members.len());
                self.members.insert(path.clone(), members);
            }
            Held::Counter(count) => {
                self.counters.insert(path.clone(), count);
            }
        }
        path.pop();
    }
}

fn ranked(siblings: Siblings<'_>) -> Vec<Ranked> {
    siblings
        .map(|s| (s.timestamp, s.dot, s.value.clone()))
        .collect()
}
