//! A plain tree that is kept from events alone.

use std::collections::BTreeMap;

use portolan_core::{Batch, Change, Dot, Key, Kind, Place, Value};

use crate::shown::{Path, Ranked, Shown};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shadow {
    values: BTreeMap<Vec<Key>, Vec<Value>>,
    arrays: BTreeMap<Vec<Key>, Vec<(Dot, Vec<Value>)>>,
    members: BTreeMap<Vec<Key>, Vec<Value>>,
    counters: BTreeMap<Vec<Key>, i64>,
}

impl Shadow {
    /// Does what a batch tells; each change has to fit what there is.
    pub(crate) fn follow(&mut self, batch: Batch) {
        assert!(!batch.changes.is_empty());
        for change in batch.changes {
            self.change(change);
        }
        self.arrays.retain(|_, elements| !elements.is_empty());
        self.members.retain(|_, members| !members.is_empty());
        self.counters.retain(|_, count| *count != 0);
    }

    fn change(&mut self, change: Change) {
        let told = format!("{change:?}");
        let Change {
            path,
            place,
            old,
            new,
            siblings,
            ..
        } = change;
        assert!(new.is_some() || siblings.is_empty(), "{told}");
        let now: Vec<Value> = new.iter().cloned().chain(siblings).collect();
        match place {
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
                let there = elements.get(index).is_some_and(|(other, _)| *other == id);
                match (old, new) {
                    (None, Some(_)) => {
                        assert!(elements.iter().all(|(other, _)| *other != id), "{told}");
                        elements.insert(index, (id, now));
                    }
                    (Some(old), new) => {
                        assert!(there, "{told} in {elements:?}");
                        assert_eq!(elements[index].1.first(), Some(&old), "{told}");
                        if new.is_some() {
                            elements[index].1 = now;
                        } else {
                            elements.remove(index);
                        }
                    }
                    (None, None) => panic!("nothing happened: {told}"),
                }
            }
            Place::Member => {
                let members = self.members.entry(path).or_default();
                match (old, new) {
                    (None, Some(member)) => {
                        assert!(!members.contains(&member), "{told}");
                        members.push(member);
                        *members = sorted(std::mem::take(members));
                    }
                    (Some(member), None) => {
                        let at = members.iter().position(|other| *other == member);
                        members.remove(at.expect("it is a member"));
                    }
                    _ => panic!("nothing happened: {told}"),
                }
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
    pub(crate) fn of(shown: &Shown) -> Self {
        let plain = |values: &[Ranked]| -> Vec<Value> {
            values.iter().map(|(.., value)| value.clone()).collect()
        };
        let mut shadow = Self::default();
        for ((path, key), values) in &shown.values {
            if !matches!(key, Key::Element(_)) {
                let mut keys = keys(path);
                keys.push(key.clone());
                shadow.values.insert(keys, plain(values));
            }
        }
        for (path, ids) in &shown.arrays {
            let held = ids.iter().map(|id| {
                let values = shown.values.get(&(path.clone(), Key::Element(*id)));
                // What holds containers alone is told as null.
                let values = values.map_or(vec![Value::Null], |values| plain(values));
                (*id, values)
            });
            shadow.arrays.insert(keys(path), held.collect());
        }
        for (path, members) in &shown.members {
            shadow.members.insert(keys(path), sorted(members.clone()));
        }
        for (path, count) in shown.counters.iter().filter(|(_, count)| **count != 0) {
            shadow.counters.insert(keys(path), *count);
        }
        shadow
    }
}

fn sorted(mut members: Vec<Value>) -> Vec<Value> {
    members.sort_by_key(|member| format!("{member:?}"));
    members
}

fn keys(path: &Path) -> Vec<Key> {
    path.iter()
        .map(|(key, _): &(Key, Kind)| key.clone())
        .collect()
}
