//! A copy of what a document shows that is kept from events alone.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Batch, Change, Dot, Key, Place, Value};

use crate::shown::{Path, Ranked, Shown};

/// What a watcher has that is told of changes, or that reads everything at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    values: BTreeMap<Vec<Key>, Vec<Value>>,
    arrays: BTreeMap<Vec<Key>, Vec<(Dot, Vec<Value>)>>,
    members: BTreeMap<Vec<Key>, BTreeSet<String>>,
    counters: BTreeMap<Vec<Key>, i64>,
}

impl Watched {
    /// Does what a batch tells; each change must fit what there is.
    pub fn follow(&mut self, batch: Batch) {
        assert!(!batch.changes.is_empty(), "a batch of nothing");
        for change in batch.changes {
            self.change(change);
        }
        self.arrays.retain(|_, elements| !elements.is_empty());
        self.members.retain(|_, members| !members.is_empty());
        self.counters.retain(|_, count| *count != 0);
    }

    fn change(&mut self, change: Change) {
        let told = format!("{change:?}");
        let (path, old, new) = (change.path, change.old, change.new);
        let siblings = change.siblings;
        assert!(new.is_some() || siblings.is_empty(), "{told}");
        let now: Vec<Value> = new.iter().cloned().chain(siblings).collect();
        match change.place {
            Place::Key => {
                let before = self.values.get(&path).and_then(|values| values.first());
                assert_eq!(before, old.as_ref(), "{told}");
                if now.is_empty() {
                    self.values.remove(&path);
                } else {
                    self.values.insert(path, now);
                }
            }
            Place::Element { id, index } => {
                let elements = self.arrays.entry(path).or_default();
                match old {
                    None => {
                        assert!(elements.iter().all(|(other, _)| *other != id), "{told}");
                        assert!(index <= elements.len() && !now.is_empty(), "{told}");
                        elements.insert(index, (id, now));
                    }
                    Some(old) => {
                        let there = elements.get_mut(index).filter(|(other, _)| *other == id);
                        let Some((_, values)) = there else {
                            panic!("{told} is not at its index");
                        };
                        assert_eq!(values.first(), Some(&old), "{told}");
                        if now.is_empty() {
                            elements.remove(index);
                        } else {
                            *values = now;
                        }
                    }
                }
            }
            Place::Member => {
                let members = self.members.entry(path).or_default();
                let fits = match (old, new) {
                    (None, Some(member)) => members.insert(format!("{member:?}")),
                    (Some(member), None) => members.remove(&format!("{member:?}")),
                    _ => false,
                };
                assert!(fits, "{told}");
            }
            Place::Count => {
                let count = self.counters.entry(path).or_default();
                assert_eq!(old, Some(Value::from(*count)), "{told}");
                assert_ne!(old, new, "{told}");
                *count = new.and_then(|new| new.as_int()).expect("a count");
            }
        }
    }

    /// What a watcher has that reads everything at once.
    #[must_use]
    pub fn of(shown: &Shown) -> Self {
        let mut watched = Self::default();
        for ((path, key), values) in &shown.values {
            if !matches!(key, Key::Element(_)) {
                let mut path = keys(path);
                path.push(key.clone());
                watched.values.insert(path, plain(values));
            }
        }
        for (path, ids) in &shown.arrays {
            let held = ids.iter().map(|id| {
                let values = shown.values.get(&(path.clone(), Key::Element(*id)));
                // What holds containers alone is told as null.
                (
                    *id,
                    values.map_or(vec![Value::Null], |values| plain(values)),
                )
            });
            watched.arrays.insert(keys(path), held.collect());
        }
        for (path, members) in &shown.members {
            watched.members.insert(keys(path), members.clone());
        }
        for (path, count) in shown.counters.iter().filter(|(_, count)| **count != 0) {
            watched.counters.insert(keys(path), *count);
        }
        watched
    }

    /// Checks that the events told are what a document shows.
    pub fn assert_shows(&self, shown: &Shown) {
        assert_eq!(*self, Self::of(shown), "events replayed are not the state");
    }
}

fn plain(values: &[Ranked]) -> Vec<Value> {
    values.iter().map(|(.., value)| value.clone()).collect()
}

fn keys(path: &Path) -> Vec<Key> {
    path.iter().map(|(key, _)| key.clone()).collect()
}
