//! A replica under test, with a watcher that only ever sees its events.

use std::fmt;

use portolan_core::{
    ArrayMut, ArrayView, CounterMut, Delta, Document, Dot, Error, Key, Kind, MapMut, MapView,
    Origin, ReplicaId, SetMut, Transaction, Value, Version,
};

use crate::reference::{Draft, Leaf, Reference, beneath, reachable};
use crate::shadow::Shadow;
use crate::shown::{Path, Shown};

/// An operation: a path to a container, each step a key (or an index) and a kind; what to do
/// there, by number; and numbers for it.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) path: Vec<(u8, Kind)>,
    pub(crate) act: u8,
    pub(crate) numbers: (u8, u8),
}

/// In one line, however it is asked for: failing runs are long enough.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, act, numbers) = (&self.path, self.act, self.numbers);
        write!(f, "{path:?} do {act} with {numbers:?}")
    }
}

pub(crate) struct Peer {
    pub(crate) document: Document,
    pub(crate) shadow: Shadow,
    pub(crate) skew: u64,
    /// Where it was, oldest first.
    pub(crate) versions: Vec<Version>,
}

enum Target<'t, 'd> {
    Map(MapMut<'t, 'd>),
    Array(ArrayMut<'t, 'd>),
    Set(SetMut<'t, 'd>),
    Counter(CounterMut<'t, 'd>),
}

enum View<'a> {
    Map(MapView<'a>),
    Array(ArrayView<'a>),
    Leaf,
}

pub(crate) fn key(number: u8) -> Key {
    match number % 3 {
        0 => Key::from("a"),
        1 => Key::from(1i64),
        _ => Key::from("b"),
    }
}

fn member(number: u8) -> Value {
    match number % 4 {
        0 => Value::from(1i64),
        1 => Value::from(1.0),
        2 => Value::from(true),
        _ => Value::from("1"),
    }
}

impl Peer {
    pub(crate) fn new(id: u64, skew: u64) -> Self {
        let mut document = Document::new(ReplicaId::new(id));
        document.observe(true);
        Self {
            document,
            shadow: Shadow::default(),
            skew,
            versions: Vec::new(),
        }
    }

    /// Another process that starts from its bytes.
    pub(crate) fn restarted(&self, id: u64) -> Self {
        let mut new = Self::new(id, self.skew);
        let bytes = self.document.encode();
        new.apply(&Delta::decode(&bytes).expect("own bytes decode"));
        assert_eq!(new.document.encode(), bytes);
        assert_eq!(new.document.digest(), self.document.digest());
        new
    }

    /// What is told leads to what is shown.
    pub(crate) fn watch(&mut self, origin: Origin) -> Shown {
        let shown = Shown::of(&self.document);
        for batch in self.document.take_changes() {
            assert_eq!(batch.origin, origin);
            self.shadow.follow(batch);
        }
        assert_eq!(self.shadow, Shadow::of(&shown), "events lead to what shows");
        self.versions.push(self.document.version());
        shown
    }

    pub(crate) fn apply(&mut self, delta: &Delta) -> Shown {
        let bytes = delta.encode();
        let decoded = Delta::decode(&bytes).expect("own bytes decode");
        assert_eq!(&decoded, delta);
        assert_eq!(decoded.encode(), bytes);
        let before = self.document.version();
        let new = self.document.apply(&decoded);
        assert_eq!(new, delta.applied().difference(&before));
        assert_eq!(self.document.version(), before.union(delta.applied()));
        self.watch(Origin::Remote)
    }

    /// A transaction; in the end it fails, or is taken into the reference.
    pub(crate) fn transact(
        &mut self,
        reference: &mut Reference,
        now: u64,
        operations: &[Operation],
        fails: bool,
    ) {
        let bytes = self.document.encode();
        let before = (self.document.digest(), self.document.own_seq());
        let version = self.document.version();
        let mark = reference.mark();
        let mut draft = reference.begin(self.document.replica(), &version);
        let outcome = self.document.transact(now + self.skew, |tx| {
            for operation in operations {
                operate(tx, reference, &mut draft, operation);
            }
            if fails { Err(()) } else { Ok(()) }
        });
        if outcome.is_err() {
            *reference = mark;
            assert_eq!((self.document.digest(), self.document.own_seq()), before);
            assert!(self.document.encode() == bytes, "nothing has happened");
            assert!(self.document.take_changes().is_empty());
        } else if self.document.own_seq() > before.1 {
            let last = Dot::new(self.document.replica(), self.document.own_seq());
            reference.commit(draft, last, self.document.latest());
        } else {
            *reference = mark;
            assert!(self.document.encode() == bytes, "nothing has happened");
        }
        let shown = self.watch(Origin::Local);
        reference.agree(&self.document.version(), &shown);
    }
}

/// Where an operation leads: through arrays by index, as far as there are elements.
fn resolve(document: &Document, steps: &[(u8, Kind)]) -> Path {
    let mut path = Path::new();
    let mut at = View::Map(document.root());
    for (number, kind) in steps {
        let step = match &at {
            View::Map(_) => key(number % 2),
            View::Array(array) if !array.is_empty() => {
                let id = array.id(usize::from(*number) % array.len());
                Key::Element(id.expect("an index within"))
            }
            _ => break,
        };
        at = match (&at, kind, &step) {
            (View::Map(map), Kind::Map, key) => View::Map(map.map(key)),
            (View::Map(map), Kind::Array, key) => View::Array(map.array(key)),
            (View::Array(array), kind, Key::Element(id)) => {
                let index = array.index_of(*id).expect("it shows");
                match kind {
                    Kind::Map => View::Map(array.map(index)),
                    Kind::Array => View::Array(array.array(index)),
                    _ => View::Leaf,
                }
            }
            _ => View::Leaf,
        };
        path.push((step, *kind));
    }
    path
}

fn target<'t, 'd>(tx: &'t mut Transaction<'d>, path: &Path) -> Target<'t, 'd> {
    let mut at = Target::Map(tx.root());
    for (key, kind) in path {
        at = match (at, kind) {
            (Target::Map(map), Kind::Map) => Target::Map(map.into_map(key)),
            (Target::Map(map), Kind::Array) => Target::Array(map.into_array(key)),
            (Target::Map(map), Kind::Set) => Target::Set(map.into_or_set(key)),
            (Target::Map(map), Kind::Counter) => Target::Counter(map.into_counter(key)),
            (Target::Array(array), kind) => {
                let Key::Element(id) = key else {
                    unreachable!("elements are in arrays");
                };
                let index = array.index_of(*id).expect("within limits");
                let index = index.expect("it shows");
                match kind {
                    Kind::Map => Target::Map(array.into_map(index)),
                    Kind::Array => Target::Array(array.into_array(index)),
                    Kind::Set => Target::Set(array.into_or_set(index)),
                    Kind::Counter => Target::Counter(array.into_counter(index)),
                }
            }
            _ => unreachable!("nothing is in sets and counters"),
        };
    }
    at
}

fn ids(tx: &Transaction<'_>, path: &Path) -> Vec<Dot> {
    let arrays = Shown::of(tx.document()).arrays;
    arrays.get(path).cloned().unwrap_or_default()
}

/// Does an operation, and tells the reference what it is meant to do.
fn operate(
    tx: &mut Transaction<'_>,
    reference: &mut Reference,
    draft: &mut Draft,
    operation: &Operation,
) {
    let path = resolve(tx.document(), &operation.path);
    let shown = Shown::of(tx.document()).elements();
    let (a, b) = operation.numbers;
    let value = Value::from(i64::from(a) * 256 + i64::from(b));
    let clear = |reference: &Reference, draft: &mut Draft, cleared: bool| {
        let inside = |w: &_| reachable(w, path.len(), &shown) && within(w, &path);
        if cleared {
            reference.remove(draft, inside);
        }
    };
    match target(tx, &path) {
        Target::Map(mut map) => {
            let key = key(b);
            match operation.act % 8 {
                0..=4 => {
                    map.set(&key, value.clone()).expect("within limits");
                    let leaf = Leaf::Key(key);
                    reference.remove(draft, |w| w.path == path && w.leaf == leaf);
                    reference.write(draft, &path, leaf, value);
                }
                5 if a < 32 => {
                    let cleared = map.clear().expect("within limits");
                    clear(reference, draft, cleared);
                }
                _ => {
                    if map.unset(&key).expect("within limits") {
                        reference.remove(draft, |w| {
                            beneath(w, &path, &key) && reachable(w, path.len(), &shown)
                        });
                    }
                }
            }
        }
        Target::Set(mut set) => {
            let member = member(b);
            let leaf = Leaf::Member(member.clone());
            match operation.act % 8 {
                0..=4 => {
                    set.insert(member).expect("within limits");
                    reference.remove(draft, |w| w.path == path && w.leaf == leaf);
                    reference.write(draft, &path, leaf, Value::Null);
                }
                5 => {
                    let cleared = set.clear().expect("within limits");
                    clear(reference, draft, cleared);
                }
                _ => {
                    let gone = reference.remove(draft, |w| w.path == path && w.leaf == leaf);
                    assert_eq!(set.remove(member), Ok(gone));
                }
            }
        }
        Target::Counter(mut counter) => {
            if operation.act % 8 < 6 {
                let n = i64::from(a) - 100;
                counter.add(n).expect("within limits");
                reference.write(draft, &path, Leaf::Count, n.into());
            } else {
                let cleared = counter.reset().expect("within limits");
                clear(reference, draft, cleared);
            }
        }
        Target::Array(_) => operate_on_array(tx, reference, draft, operation, &path, value),
    }
}

fn within(write: &crate::reference::Write, path: &Path) -> bool {
    write.path.starts_with(path)
}

fn operate_on_array(
    tx: &mut Transaction<'_>,
    reference: &mut Reference,
    draft: &mut Draft,
    operation: &Operation,
    path: &Path,
    value: Value,
) {
    let before = ids(tx, path);
    let shown = Shown::of(tx.document()).elements();
    let len = before.len();
    let (a, b) = (
        usize::from(operation.numbers.0),
        usize::from(operation.numbers.1),
    );
    let Target::Array(mut array) = target(tx, path) else {
        unreachable!("it is an array");
    };
    assert_eq!(array.len(), Ok(len));
    let mut after = before.clone();
    match operation.act % 16 {
        act @ 0..=7 if act < 6 || len == 0 => {
            // Long ones too: the order of a long array is held otherwise.
            let count = if b >= 240 { 40 } else { 1 + b % 3 };
            let values = vec![value; count];
            let index = if act < 2 || len == 0 {
                len
            } else {
                a % (len + 1)
            };
            let first = match (act < 2 || len == 0, count) {
                (true, 1) => array.append(values[0].clone()).map(Some),
                (true, _) => array.append_all(values.clone()),
                (false, 1) => array.insert(index, values[0].clone()).map(Some),
                (false, _) => array.insert_all(index, values.clone()),
            };
            let first = first.expect("within limits").expect("an element");
            for (i, value) in (0..).zip(values) {
                let id = Dot::new(first.replica, first.seq + i);
                if act < 2 || len == 0 {
                    reference.appended.insert(id);
                } else {
                    after.insert(index + i as usize, id);
                }
                reference.write(draft, path, Leaf::Key(Key::Element(id)), value);
            }
            if act < 2 || len == 0 {
                // Where they stand is for their timestamps to say.
                let now = ids(tx, path);
                assert_eq!(now.len(), len + count);
                after.clone_from(&now);
                let old: Vec<Dot> = now.into_iter().filter(|id| before.contains(id)).collect();
                assert_eq!(old, before);
            }
        }
        8..=9 if len > 0 => {
            let id = before[a % len];
            array.set(a % len, value.clone()).expect("within limits");
            let leaf = Leaf::Key(Key::Element(id));
            reference.remove(draft, |w| w.path == *path && w.leaf == leaf);
            reference.write(draft, path, leaf, value);
        }
        10 | 6 if len > 0 => {
            let id = before[a % len];
            array.delete(a % len).expect("within limits");
            after.remove(a % len);
            reference.remove(draft, |w| {
                beneath(w, path, &Key::Element(id)) && reachable(w, path.len(), &shown)
            });
        }
        11 | 7 => {
            let born = reference.born_in(path);
            let Some(id) = born.get(a % born.len().max(1)).copied() else {
                return;
            };
            let done = array.undelete(id);
            if before.contains(&id) {
                assert_eq!(done, Ok(false));
            } else if done == Ok(true) {
                after = ids(tx, path);
                let index = after.iter().position(|other| *other == id);
                let index = index.expect("it is back");
                let held = tx.document();
                let held = Shown::of(held).values[&(path.clone(), Key::Element(id))].clone();
                assert_eq!(held.len(), 1);
                let value = held[0].2.clone();
                assert!(
                    reference.ever_held(id).contains(&value),
                    "{value:?} was there"
                );
                let others = after.iter().copied().filter(|other| *other != id);
                assert_eq!(others.collect::<Vec<_>>(), before);
                assert!(index < after.len());
                reference.moved.insert(id);
                reference.write(draft, path, Leaf::Key(Key::Element(id)), value);
            } else {
                assert_eq!(done, Err(Error::NoSuchElement));
            }
        }
        12..=13 if len > 0 => {
            let (from, to) = (a % len, b % len);
            array.move_to(from, to).expect("within limits");
            let id = after.remove(from);
            after.insert(to, id);
            reference.moved.insert(id);
        }
        14 if a < 64 => {
            let cleared = array.clear().expect("within limits");
            assert_eq!(cleared, len > 0);
            after.clear();
            if cleared {
                reference.remove(draft, |w| {
                    within(w, path) && reachable(w, path.len(), &shown)
                });
            }
        }
        _ => {
            let beyond = Err(Error::IndexOutOfBounds { index: len, len });
            assert_eq!(array.set(len, 0), beyond);
            assert_eq!(array.delete(len), beyond);
            let index = len + 1;
            let beyond = Err(Error::IndexOutOfBounds { index, len });
            assert_eq!(array.insert(index, 0).map(drop), beyond);
        }
    }
    assert_eq!(ids(tx, path), after);
}
