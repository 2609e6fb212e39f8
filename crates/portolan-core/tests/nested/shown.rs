//! Everything that a document shows, read through its views, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{
    ArrayView, Document, Dot, Held, Key, Kind, MapView, ReplicaId, Siblings, Timestamp, Value,
};

/// The containers from the root to one of them.
pub(crate) type Path = Vec<(Key, Kind)>;

/// A value with what orders it among siblings.
pub(crate) type Ranked = (Timestamp, ReplicaId, Value);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shown {
    /// By the container and the key in it, elements' ids included; the winner first.
    pub(crate) values: BTreeMap<(Path, Key), Vec<Ranked>>,
    /// Element ids in order; of arrays in which there are any.
    pub(crate) arrays: BTreeMap<Path, Vec<Dot>>,
    /// Of sets in which there are any.
    pub(crate) members: BTreeMap<Path, Vec<Value>>,
    pub(crate) counters: BTreeMap<Path, i64>,
}

impl Shown {
    pub(crate) fn of(document: &Document) -> Self {
        let mut shown = Self::default();
        shown.map(&mut Path::new(), document.root());
        shown
    }

    /// All elements that show.
    pub(crate) fn elements(&self) -> BTreeSet<Dot> {
        self.arrays.values().flatten().copied().collect()
    }

    fn map(&mut self, path: &mut Path, map: MapView<'_>) {
        let mut keys = 0;
        for (key, siblings) in &map {
            keys += 1;
            assert!(map.contains_key(key));
            assert_eq!(map.get(key), siblings.clone().next().map(|s| s.value));
            assert!(map.get_all(key).map(|s| s.dot).eq(siblings.map(|s| s.dot)));
            let held = map.held(key);
            assert!(!held.is_empty(), "{path:?} {key:?} holds something");
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
            assert!(!held.is_empty(), "{path:?} {id:?} holds something");
            for held in held {
                self.held(path, &Key::Element(id), held);
            }
        }
        assert_eq!(array.len(), ids.len(), "{path:?}");
        assert_eq!(array.id(ids.len()), None);
        assert!(!ids.is_empty(), "{path:?} shows for a reason");
        assert!(self.arrays.insert(path.clone(), ids).is_none());
    }

    fn held(&mut self, path: &mut Path, key: &Key, held: Held<'_>) {
        let Some(kind) = held.kind() else {
            let Held::Values(siblings) = held else {
                unreachable!("values are of no kind");
            };
            let values = ranked(siblings);
            assert!(values.is_sorted_by(|a, b| (a.0, a.1) > (b.0, b.1)));
            self.values.insert((path.clone(), key.clone()), values);
            return;
        };
        path.push((key.clone(), kind));
        match held {
            Held::Values(_) => {}
            Held::Map(map) => {
                assert!(!map.is_empty(), "{path:?} shows for a reason");
                self.map(path, map);
            }
            Held::Array(array) => self.array(path, array),
            Held::Set(set) => {
                let members: Vec<Value> = set.iter().collect();
                assert!(!members.is_empty(), "{path:?} shows for a reason");
                assert_eq!(set.len(), members.len());
                assert!(members.iter().all(|member| set.contains(member.clone())));
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
        .map(|s| (s.timestamp, s.dot.replica, s.value.clone()))
        .collect()
}
