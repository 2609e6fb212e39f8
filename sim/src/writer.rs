//! Random operations on a small tree of containers, each told to the reference. What a write does
//! here is checked at once; what it does elsewhere, by the reference.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{
    ArrayMut, ArrayView, CounterMut, Document, Dot, Error, Key, Kind, MapMut, MapView, SetMut,
    Timestamp, Transaction, Value,
};

use crate::shown::{Path, Shown};
use crate::truth::{Draft, Leaf, Truth};

/// Where decisions come from.
pub trait Dice {
    /// A number below `limit`, which is above 0 and at most 256.
    fn below(&mut self, limit: usize) -> usize;
}

/// The tree that is written into.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Keys of the root.
    pub keys: usize,
    /// Levels of containers at the most; 0 for the root alone.
    pub depth: usize,
    /// Bytes of a text at the most.
    pub text: usize,
}

/// Keys of the maps beneath the root, members of sets.
const FEW: usize = 4;
const KINDS: [Kind; 6] = [
    Kind::Array,
    Kind::Array,
    Kind::Map,
    Kind::Map,
    Kind::Set,
    Kind::Counter,
];

/// One operation, or none where there is nothing to do.
pub fn write(
    tx: &mut Transaction<'_>,
    dice: &mut impl Dice,
    tree: Tree,
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let mut path = Path::new();
    let mut kind = Kind::Map;
    loop {
        let deeper = path.len() < tree.depth;
        let below = match kind {
            Kind::Map => {
                let keys = if path.is_empty() { tree.keys } else { FEW };
                let key = Key::from(format!("key/{}", dice.below(keys)));
                if !deeper || dice.below(5) < 2 {
                    return write_map(tx, dice, tree, (&path, key), truth, draft);
                }
                key
            }
            Kind::Array => {
                let ids = ids(tx.document(), &path);
                if ids.is_empty() || !deeper || dice.below(5) > 0 {
                    return write_array(tx, dice, tree, &path, truth, draft);
                }
                Key::Element(ids[dice.below(ids.len().min(256))])
            }
            Kind::Set => return write_set(tx, dice, &path, truth, draft),
            Kind::Counter => return write_counter(tx, dice, &path, truth, draft),
        };
        kind = KINDS[dice.below(KINDS.len())];
        path.push((below, kind));
    }
}

/// Tells the reference what undoing a transaction has done: the reference does not know how, but
/// what came of it. `since` are the own transactions since the replica was started: it remembers
/// what these have written again.
pub fn undo(
    truth: &mut Truth,
    draft: &mut Draft,
    (undone, since): (usize, &[usize]),
    (before, after): (&Shown, &Shown),
) {
    let mut places: BTreeSet<&(Path, Key)> = before.values.keys().collect();
    places.extend(after.values.keys());
    for place in places {
        let [was, is] = [before, after].map(|shown| {
            let values = shown.values.get(place);
            values.map_or(&[][..], |values| values.as_slice())
        });
        let leaf = Leaf::Key(place.1.clone());
        for (_, dot, _) in was.iter().filter(|value| !is.contains(value)) {
            let gone = truth.remove(draft, |write| {
                write.dot == *dot && write.path == place.0 && write.leaf == leaf
            });
            assert!(gone, "{dot} was there");
        }
        for (time, dot, value) in is.iter().filter(|value| !was.contains(value)) {
            let written = (*dot, *time);
            truth.write(draft, (&place.0, leaf.clone()), value.clone(), written);
        }
    }
    let own = Dot::new(truth.operations_of(undone).0, 0);
    let mut counters: BTreeSet<&Path> = before.counters.keys().collect();
    counters.extend(after.counters.keys());
    for path in counters {
        let [was, is] = [before, after].map(|shown| shown.counters.get(path).copied());
        let difference = is.unwrap_or_default() - was.unwrap_or_default();
        if difference != 0 || (is.is_some() && truth.has_counted(undone, path)) {
            let written = (own, Timestamp::default());
            truth.write(draft, (path, Leaf::Count), difference.into(), written);
        }
    }
    undo_members(truth, draft, (undone, since), own);
    let (was, is) = (before.elements(), after.elements());
    draft.moved.extend(is.difference(&was));
    draft.moved.extend(&truth.transactions[undone].moved);
    truth.transactions[undone].undone = true;
}

/// Members have no dots to see: of each that the transaction inserted or removed, what it inserted
/// and still stands goes, and what it removed comes back where nothing stands that others wrote.
fn undo_members(
    truth: &mut Truth,
    draft: &mut Draft,
    (undone, since): (usize, &[usize]),
    own: Dot,
) {
    let is_own = |truth: &Truth, number: usize| {
        let write = &truth.writes[number];
        let origin = &truth.writes[write.origin];
        let again = origin.transaction == undone && since.contains(&write.transaction);
        write.transaction == undone || again
    };
    let mut touched: BTreeMap<(Path, String), Vec<usize>> = BTreeMap::new();
    let place = |truth: &Truth, number: usize| match &truth.writes[number].leaf {
        Leaf::Member(member) => Some((truth.writes[number].path.clone(), format!("{member:?}"))),
        _ => None,
    };
    for number in truth.transactions[undone].removed.clone() {
        if let Some(place) = place(truth, number) {
            touched.entry(place).or_default().push(number);
        }
    }
    for number in (0..truth.writes.len()).filter(|number| is_own(truth, *number)) {
        if let Some(place) = place(truth, number) {
            touched.entry(place).or_default();
        }
    }
    for ((path, member), removed) in touched {
        let standing = draft.live.iter().copied();
        let here = |write: &crate::truth::Write| {
            let same = matches!(&write.leaf, Leaf::Member(m) if format!("{m:?}") == member);
            same && write.path == path
        };
        let standing: Vec<usize> = standing.filter(|n| here(&truth.writes[*n])).collect();
        let wrote: Vec<usize> = standing
            .iter()
            .copied()
            .filter(|n| is_own(truth, *n))
            .collect();
        let removed: Vec<usize> = removed.into_iter().filter(|n| !is_own(truth, *n)).collect();
        if wrote.is_empty() && (removed.is_empty() || !standing.is_empty()) {
            continue;
        }
        for number in wrote {
            draft.live.remove(&number);
            draft.removed.push(number);
        }
        for number in removed {
            let (leaf, value) = (truth.writes[number].leaf.clone(), Value::Null);
            let origin = truth.writes[number].origin;
            truth.write(draft, (&path, leaf), value, (own, Timestamp::default()));
            if let Some(write) = truth.writes.last_mut() {
                write.origin = origin;
            }
        }
    }
}

/// A container to read.
enum View<'a> {
    Map(MapView<'a>),
    Array(ArrayView<'a>),
    Other,
}

fn view<'a>(document: &'a Document, path: &Path) -> View<'a> {
    let mut at = View::Map(document.root());
    for (key, kind) in path {
        at = match (&at, kind, key) {
            (View::Map(map), Kind::Map, key) => View::Map(map.map(key)),
            (View::Map(map), Kind::Array, key) => View::Array(map.array(key)),
            (View::Array(array), Kind::Map, Key::Element(id)) => {
                View::Map(array.map(array.index_of(*id).unwrap_or(usize::MAX)))
            }
            (View::Array(array), Kind::Array, Key::Element(id)) => {
                View::Array(array.array(array.index_of(*id).unwrap_or(usize::MAX)))
            }
            _ => View::Other,
        };
    }
    at
}

fn map_at<'a>(document: &'a Document, path: &Path) -> MapView<'a> {
    match view(document, path) {
        View::Map(map) => map,
        _ => unreachable!("it is a map"),
    }
}

fn array_at<'a>(document: &'a Document, path: &Path) -> ArrayView<'a> {
    match view(document, path) {
        View::Array(array) => array,
        _ => unreachable!("it is an array"),
    }
}

fn ids(document: &Document, path: &Path) -> Vec<Dot> {
    let array = array_at(document, path);
    array.iter().map(|(id, _)| id).collect()
}

/// A container to write into.
enum Target<'t, 'd> {
    Map(MapMut<'t, 'd>),
    Array(ArrayMut<'t, 'd>),
    Set(SetMut<'t, 'd>),
    Counter(CounterMut<'t, 'd>),
}

fn target<'t, 'd>(tx: &'t mut Transaction<'d>, path: &Path) -> Target<'t, 'd> {
    let mut at = Target::Map(tx.root());
    for (key, kind) in path {
        at = match (at, key) {
            (Target::Map(map), key) => match kind {
                Kind::Map => Target::Map(map.into_map(key)),
                Kind::Array => Target::Array(map.into_array(key)),
                Kind::Set => Target::Set(map.into_or_set(key)),
                Kind::Counter => Target::Counter(map.into_counter(key)),
            },
            (Target::Array(array), Key::Element(id)) => {
                let index = array.index_of(*id).expect("it is known");
                let index = index.expect("it shows");
                match kind {
                    Kind::Map => Target::Map(array.into_map(index)),
                    Kind::Array => Target::Array(array.into_array(index)),
                    Kind::Set => Target::Set(array.into_or_set(index)),
                    Kind::Counter => Target::Counter(array.into_counter(index)),
                }
            }
            _ => unreachable!("a path leads through maps and arrays"),
        };
    }
    at
}

fn map_mut<'t, 'd>(tx: &'t mut Transaction<'d>, path: &Path) -> MapMut<'t, 'd> {
    match target(tx, path) {
        Target::Map(map) => map,
        _ => unreachable!("it is a map"),
    }
}

fn array_mut<'t, 'd>(tx: &'t mut Transaction<'d>, path: &Path) -> ArrayMut<'t, 'd> {
    match target(tx, path) {
        Target::Array(array) => array,
        _ => unreachable!("it is an array"),
    }
}

/// Elements that show, where some may not; `None` where all do.
fn showing(document: &Document, draft: &Draft) -> Option<BTreeSet<Dot>> {
    (!draft.closed).then(|| Shown::of(document).elements())
}

/// Has the reference remove everything that `gone` tells and that shows; it and the document
/// agree on whether there was anything.
fn removed(
    truth: &Truth,
    draft: &mut Draft,
    showing: Option<&BTreeSet<Dot>>,
    done: bool,
    gone: impl Fn(&crate::truth::Write) -> bool,
) {
    let shows = |write: &crate::truth::Write| showing.is_none_or(|ids| write.is_reachable(ids));
    let found = truth.remove(draft, |write| gone(write) && shows(write));
    // Where not all is known, a counter may show what others built upon.
    let known = found == done || (done && !draft.closed);
    assert!(known, "removed: {done}");
}

fn some_value(dice: &mut impl Dice, tree: Tree) -> Value {
    match dice.below(3) {
        0 => Value::from(dice.below(256) as i64 * 1_000_003),
        1 => Value::from("x".repeat(dice.below(tree.text.clamp(1, 256)))),
        _ => Value::from(dice.below(2) == 0),
    }
}

fn write_map(
    tx: &mut Transaction<'_>,
    dice: &mut impl Dice,
    tree: Tree,
    (path, key): (&Path, Key),
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let leaf = Leaf::Key(key.clone());
    let what = dice.below(12);
    if what < 8 {
        let value = some_value(dice, tree);
        let done = map_mut(tx, path).set(&key, value.clone());
        done.expect("within limits");
        let siblings = map_at(tx.document(), path).get_all(&key);
        let all: Vec<_> = siblings.map(|s| (s.dot, s.timestamp)).collect();
        assert_eq!(all.len(), 1, "a write replaces all that it sees");
        truth.remove(draft, |write| write.path == *path && write.leaf == leaf);
        truth.write(draft, (path, leaf), value, all[0]);
    } else if what < 11 || path.is_empty() {
        let showing = showing(tx.document(), draft);
        let done = map_mut(tx, path).unset(&key).expect("within limits");
        assert!(!map_at(tx.document(), path).contains_key(&key));
        removed(truth, draft, showing.as_ref(), done, |write| {
            write.is_beneath(path, &key)
        });
    } else {
        let showing = showing(tx.document(), draft);
        let done = map_mut(tx, path).clear().expect("within limits");
        assert!(map_at(tx.document(), path).is_empty());
        removed(truth, draft, showing.as_ref(), done, |write| {
            write.is_within(path)
        });
    }
}

fn write_set(
    tx: &mut Transaction<'_>,
    dice: &mut impl Dice,
    path: &Path,
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let member = match dice.below(FEW) {
        0 => Value::from(1),
        1 => Value::from(1.0),
        2 => Value::from(true),
        _ => Value::from("1"),
    };
    let own = Dot::new(tx.document().replica(), 0);
    let leaf = Leaf::Member(member.clone());
    let Target::Set(mut set) = target(tx, path) else {
        unreachable!("it is a set");
    };
    match dice.below(10) {
        0..6 => {
            set.insert(member.clone()).expect("within limits");
            truth.remove(draft, |write| write.path == *path && write.leaf == leaf);
            let place = (path, leaf);
            truth.write(draft, place, Value::Null, (own, Timestamp::default()));
        }
        6..9 => {
            let done = set.remove(member).expect("within limits");
            removed(truth, draft, None, done, |write| {
                write.path == *path && write.leaf == leaf
            });
        }
        _ => {
            let done = set.clear().expect("within limits");
            removed(truth, draft, None, done, |write| write.path == *path);
        }
    }
}

fn write_counter(
    tx: &mut Transaction<'_>,
    dice: &mut impl Dice,
    path: &Path,
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let own = Dot::new(tx.document().replica(), 0);
    let Target::Counter(mut counter) = target(tx, path) else {
        unreachable!("it is a counter");
    };
    if dice.below(4) == 0 {
        let done = counter.reset().expect("within limits");
        removed(truth, draft, None, done, |write| write.path == *path);
    } else {
        let n = dice.below(40) as i64 - 10;
        counter.add(n).expect("within limits");
        let place = (path, Leaf::Count);
        truth.write(draft, place, n.into(), (own, Timestamp::default()));
    }
}

fn write_array(
    tx: &mut Transaction<'_>,
    dice: &mut impl Dice,
    tree: Tree,
    path: &Path,
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let before = ids(tx.document(), path);
    let len = before.len();
    let some_index = |dice: &mut _| Dice::below(dice, len.clamp(1, 256));
    let mut after = before.clone();
    let what = dice.below(20);
    match what {
        0..10 => {
            let count = 1 + dice.below(3);
            let values: Vec<Value> = (0..count).map(|_| some_value(dice, tree)).collect();
            let index = (what >= 4).then(|| dice.below((len + 1).min(256)));
            let mut array = array_mut(tx, path);
            let first = match index {
                Some(index) => array.insert_all(index, values.clone()),
                None => array.append_all(values.clone()),
            };
            let first = first.expect("within limits").expect("an element");
            let born = (0..).zip(&values);
            let born: Vec<Dot> = born
                .map(|(at, _)| Dot::new(first.replica, first.seq + at))
                .collect();
            if let Some(index) = index {
                after.splice(index..index, born.iter().copied());
            } else {
                // Where they stand is for their timestamps to say.
                after = ids(tx.document(), path);
                let others = after.iter().filter(|id| !born.contains(id));
                assert!(others.eq(&before), "an append leaves the others in place");
                draft.appended.extend(&born);
            }
            for (id, value) in born.iter().zip(values) {
                let array = array_at(tx.document(), path);
                let index = array.index_of(*id).expect("it shows");
                let birth = array.get_all(index).next().expect("it holds its value");
                assert_eq!((birth.dot, birth.value), (*id, &value));
                let written = (*id, birth.timestamp);
                let leaf = Leaf::Key(Key::Element(*id));
                truth.write(draft, (path, leaf), value, written);
            }
        }
        10..12 if len > 0 => {
            let index = some_index(dice);
            let (id, value) = (before[index], some_value(dice, tree));
            let done = array_mut(tx, path).set(index, value.clone());
            done.expect("within limits");
            note_set(tx.document(), (path, id, index), value, truth, draft);
        }
        12..14 if len > 0 => {
            let index = some_index(dice);
            let showing = showing(tx.document(), draft);
            array_mut(tx, path).delete(index).expect("it is there");
            let id = Key::Element(after.remove(index));
            removed(truth, draft, showing.as_ref(), true, |write| {
                write.is_beneath(path, &id)
            });
        }
        14..16 => {
            let born = truth.born_in(path);
            if born.is_empty() {
                return;
            }
            // One that was done again is found by the id that it had.
            let id = born[dice.below(born.len().min(256))];
            let id = tx.document().current(id);
            let done = array_mut(tx, path).undelete(id);
            if before.contains(&id) {
                assert_eq!(done, Ok(false));
            } else if done == Ok(true) {
                after = ids(tx.document(), path);
                let array = array_at(tx.document(), path);
                let index = array.index_of(id).expect("it is back");
                let value = array.get(index).expect("it holds a value").clone();
                assert!(truth.has_held(id, &value), "{value:?} was there");
                let others = after.iter().filter(|other| **other != id);
                assert!(others.eq(&before), "the others stay in place");
                draft.moved.push(id);
                note_set(tx.document(), (path, id, index), value, truth, draft);
            } else {
                assert_eq!(done, Err(Error::NoSuchElement));
            }
        }
        16..19 if len > 0 => {
            let (from, to) = (some_index(dice), some_index(dice));
            array_mut(tx, path)
                .move_to(from, to)
                .expect("they are there");
            let id = after.remove(from);
            after.insert(to, id);
            draft.moved.push(id);
        }
        19 => {
            let showing = showing(tx.document(), draft);
            let done = array_mut(tx, path).clear().expect("within limits");
            after.clear();
            removed(truth, draft, showing.as_ref(), done, |write| {
                write.is_within(path)
            });
        }
        _ => {}
    }
    assert_eq!(ids(tx.document(), path), after, "the order of {path:?}");
}

/// An element holds what was just set, and nothing beside it.
fn note_set(
    document: &Document,
    (path, id, index): (&Path, Dot, usize),
    value: Value,
    truth: &mut Truth,
    draft: &mut Draft,
) {
    let siblings = array_at(document, path).get_all(index);
    let all: Vec<_> = siblings.map(|s| (s.dot, s.timestamp)).collect();
    assert_eq!(all.len(), 1, "a write replaces all that it sees");
    let leaf = Leaf::Key(Key::Element(id));
    truth.remove(draft, |write| write.path == *path && write.leaf == leaf);
    truth.write(draft, (path, leaf), value, all[0]);
}
