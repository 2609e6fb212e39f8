//! All that a map holds, entry by entry.

use portolan_core::{
    ArrayView, Document, Held, Key, MapView, Place, ReplicaId, Siblings, Timestamp, Value,
};

use crate::pattern::{Pattern, Scope};

/// One key, element, member or counter at one moment: what a [`Change`](portolan_core::Change) from
/// nothing to now would tell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The keys from the root to the key, or to the array, set or counter.
    pub path: Vec<Key>,
    /// What it is about: the value of a key, unless there are containers.
    pub place: Place,
    /// The winner; null for an element in which there are only containers.
    pub value: Value,
    /// The siblings beside it, in their order.
    pub siblings: Vec<Value>,
    /// Who wrote the winner; `None` for members, counters, and where there are only containers.
    pub by: Option<ReplicaId>,
    /// When; `None` as above.
    pub timestamp: Option<Timestamp>,
}

impl Entry {
    fn plain(path: &[Key], place: Place, value: Value) -> Self {
        Self {
            path: path.to_vec(),
            place,
            value,
            siblings: Vec::new(),
            by: None,
            timestamp: None,
        }
    }

    fn written(path: &[Key], place: Place, mut siblings: Siblings<'_>) -> Option<Self> {
        let winner = siblings.next()?;
        Some(Self {
            siblings: siblings.map(|sibling| sibling.value.clone()).collect(),
            by: Some(winner.dot.replica),
            timestamp: Some(winner.timestamp),
            ..Self::plain(path, place, winner.value.clone())
        })
    }

    /// All that stands in a document under paths that match, in the order of the keys.
    pub fn matching(document: &Document, pattern: &Pattern) -> Vec<Self> {
        Self::within(document, &Scope::new(pattern.clone()))
    }

    pub(crate) fn within(document: &Document, scope: &Scope) -> Vec<Self> {
        let mut walk = Walk::new(scope, Vec::new());
        walk.map(document.root());
        walk.entries
    }
}

/// Goes through containers, what is in them after themselves.
pub(crate) struct Walk<'s> {
    scope: &'s Scope,
    path: Vec<Key>,
    pub(crate) entries: Vec<Entry>,
}

impl<'s> Walk<'s> {
    pub(crate) fn new(scope: &'s Scope, path: Vec<Key>) -> Self {
        Self {
            scope,
            path,
            entries: Vec::new(),
        }
    }

    fn map(&mut self, map: MapView<'_>) {
        for (key, held) in map.iter().held() {
            self.key(key, &held);
        }
    }

    /// All that stands under a key.
    pub(crate) fn key(&mut self, key: &Key, held: &[Held<'_>]) {
        self.path.push(key.clone());
        let values = held.iter().find_map(|held| match held {
            Held::Values(siblings) => Some(siblings.clone()),
            _ => None,
        });
        if let Some(siblings) = values
            && self.scope.matches(&self.path)
        {
            let entry = Entry::written(&self.path, Place::Key, siblings);
            self.entries.extend(entry);
        }
        self.containers(held);
        self.path.pop();
    }

    fn containers(&mut self, held: &[Held<'_>]) {
        for held in held {
            match held {
                Held::Map(map) => self.map(*map),
                Held::Array(array) => self.array(*array),
                Held::Set(set) if self.scope.matches(&self.path) => {
                    let (path, members) = (&self.path, set.iter());
                    let members = members.map(|value| Entry::plain(path, Place::Member, value));
                    self.entries.extend(members);
                }
                Held::Counter(count) if self.scope.matches(&self.path) => {
                    let entry = Entry::plain(&self.path, Place::Count, Value::Int(*count));
                    self.entries.push(entry);
                }
                Held::Values(_) | Held::Set(_) | Held::Counter(_) => {}
            }
        }
    }

    fn array(&mut self, array: ArrayView<'_>) {
        if self.scope.matches(&self.path) {
            for (index, (id, siblings)) in array.iter().enumerate() {
                let place = Place::Element { id, index };
                let entry = Entry::written(&self.path, place, siblings);
                let bare = || Entry::plain(&self.path, place, Value::Null);
                self.entries.push(entry.unwrap_or_else(bare));
            }
        }
        for (index, (id, _)) in array.iter().enumerate() {
            let held = array.held(index);
            if held.iter().any(|held| held.kind().is_some()) {
                self.path.push(Key::Element(id));
                self.containers(&held);
                self.path.pop();
            }
        }
    }
}
