//! Whoever begins anew loses nothing that he has written, and brings nothing back.

use proptest::prelude::*;

use super::Misfit;
use super::image::image_of;
use crate::dots::DotSet;
use crate::edit::{ArrayMut, CounterMut, MapMut, SetMut};
use crate::transaction::Transaction;
use crate::view::{ArrayView, Held, MapView};
use crate::{Document, Dot, Error, Kind, ReplicaId, Value};

const NOW: u64 = 1_767_225_600_000;

#[test]
fn what_was_inserted_into_an_element_that_is_gone_is_done_again() {
    let mut here = Document::new(ReplicaId::new(1));
    let write = |tx: &mut Transaction<'_>| tx.array("list").append("element");
    let id = here.transact(1, write).unwrap();
    let mut away = Document::new(ReplicaId::new(2));
    away.apply(&here.snapshot());
    let inside = away.transact(2, |tx| {
        tx.array("list").array(0).append(7)?;
        tx.array("list").map(0).set("key", 8)
    });
    inside.unwrap();
    here.transact(2, |tx| tx.array("list").delete(0)).unwrap();
    for _ in 0..3 {
        let now = here.version();
        here.forget_stable(&now, &now);
    }
    assert_eq!(here.tombstones(), 0);

    let again = away.begin_anew(&here.snapshot(), 3);
    let list = away.array("list");
    assert_eq!(list.len(), 1);
    assert_ne!(list.id(0), Some(id));
    assert_eq!(list.array(0).get(0), Some(&Value::from(7)));
    assert_eq!(list.map(0).get("key"), Some(&Value::from(8)));
    // A program that has the old id finds it.
    assert!(again.contains(&(id, list.id(0).unwrap())));
    assert_eq!(away.current(id), list.id(0).unwrap());
    let delta = away.delta_since(&here.version());
    assert_eq!(here.misfit_of_peer(&delta, &DotSet::new(), false), None);
    here.apply(&delta);
    assert_eq!(here.encode(), away.encode());
}

/// What others had removed too is not known after it to have been removed by own operations.
#[test]
fn what_was_done_before_is_not_taken_back_in_part() {
    let mut here = Document::new(ReplicaId::new(1));
    here.transact(1, |tx| tx.or_set("members").insert(7))
        .unwrap();
    let mut away = Document::new(ReplicaId::new(2));
    away.apply(&here.snapshot());
    away.transact(2, |tx| tx.or_set("members").remove(7))
        .unwrap();
    here.transact(2, |tx| tx.or_set("members").remove(7))
        .unwrap();
    away.begin_anew(&here.snapshot(), 3);
    assert_eq!(away.undo(4, 1..=1), Err(Error::PastForgotten));
    away.transact(5, |tx| tx.or_set("members").insert(8))
        .unwrap();
    away.undo(6, 2..=2).unwrap();
    assert_eq!(away.or_set("members").len(), 0);
}

/// All replicas have to agree on it, those of other releases too.
#[test]
fn the_replica_of_images_follows_from_that_of_what_they_are_of() {
    let image = |level| image_of(ReplicaId::new(1), level).to_string();
    assert_eq!(image(0), "889fd949d13f564d");
    assert_ne!(image(128), image(0));
}

/// A whole state tells of the position as well; what is applied here is not placed again.
#[test]
fn a_write_to_an_element_that_is_gone_is_refused_though_its_position_comes_with_it() {
    let mut here = Document::new(ReplicaId::new(1));
    let write = |tx: &mut Transaction<'_>| tx.array("list").append("element");
    here.transact(1, write).unwrap();
    let mut away = Document::new(ReplicaId::new(2));
    away.apply(&here.snapshot());
    away.transact(2, |tx| tx.array("list").set(0, 7)).unwrap();
    here.transact(2, |tx| tx.array("list").delete(0)).unwrap();
    for _ in 0..3 {
        let now = here.version();
        here.forget_stable(&now, &now);
    }
    let misfit = here.misfit_of_peer(&away.snapshot(), &DotSet::new(), false);
    assert_eq!(misfit, Some(Misfit::Theirs));
}

/// It would wait for a position that never comes.
#[test]
fn what_refers_to_what_was_refused_is_refused_too() {
    type Write = fn(&mut Transaction<'_>) -> Result<(), Error>;
    let mut here = Document::new(ReplicaId::new(1));
    let append = |tx: &mut Transaction<'_>| tx.array("list").append("element").map(drop);
    here.transact(1, append).unwrap();
    let [mut away, mut next] = [2, 3].map(|id| Document::new(ReplicaId::new(id)));
    away.apply(&here.snapshot());
    away.transact(2, |tx| tx.array("list").insert(0, "beside").map(drop))
        .unwrap();
    next.apply(&away.snapshot());
    here.transact(2, |tx| tx.array("list").delete(0)).unwrap();
    for _ in 0..3 {
        let now = here.version();
        here.forget_stable(&now, &now);
    }
    let mut refused = DotSet::new();
    let delta = away.delta_since(&here.version());
    assert_eq!(
        here.misfit_of_peer(&delta, &refused, false),
        Some(Misfit::Theirs)
    );
    refused.union_with(delta.applied());
    let before = next.version();
    let writes: [Write; 4] = [
        |tx| tx.array("list").insert(0, "next to it").map(drop),
        |tx| tx.array("list").set(1, "written to it"),
        |tx| tx.array("list").map(1).set("inside", 7),
        |tx| tx.array("list").move_to(1, 0),
    ];
    for write in writes {
        let before = next.version();
        next.transact(3, write).unwrap();
        let delta = next.delta_since(&before);
        assert_eq!(here.misfit_of_peer(&delta, &DotSet::new(), false), None);
        let misfit = here.misfit_of_peer(&delta, &refused, false);
        assert_eq!(misfit, Some(Misfit::Theirs));
        refused.union_with(delta.applied());
    }
    // What refers to none of it is none of that.
    let before_last = next.version();
    next.transact(4, |tx| tx.set("key", 8)).unwrap();
    next.transact(4, append).unwrap();
    let delta = next.delta_since(&before_last);
    assert_eq!(here.misfit_of_peer(&delta, &refused, false), None);
    // Who had not heard of it does it again as well.
    next.begin_anew(&here.snapshot(), 5);
    assert!(next.version().covers(&before));
    let delta = next.delta_since(&here.version());
    assert_eq!(here.misfit_of_peer(&delta, &refused, false), None);
    here.apply(&delta);
    assert_eq!(here.encode(), next.encode());
}

/// What the others have seen of a counter, they have removed; what came after comes again. Who
/// comes back later with what another has done again of his adds to it, and counts nothing twice.
#[test]
fn of_a_counter_that_is_gone_what_nobody_has_removed_is_added_again() {
    let [here, away, late] = [1, 2, 3].map(ReplicaId::new);
    let mut here = Document::new(here);
    here.transact(1, |tx| tx.array("list").append("element"))
        .unwrap();
    let mut away = Document::new(away);
    let mut late = Document::new(late);
    away.apply(&here.snapshot());
    late.apply(&here.snapshot());
    let add = |document: &mut Document, n: i64| {
        let write = |tx: &mut Transaction<'_>| tx.array("list").counter(0).add(n);
        document.transact(2, write).unwrap();
    };
    add(&mut away, 2);
    here.apply(&away.delta_since(&here.version()));
    add(&mut away, 3);
    add(&mut late, 10);
    away.apply(&late.delta_since(&away.version()));
    add(&mut late, 20);
    here.transact(3, |tx| tx.array("list").delete(0)).unwrap();
    let present = |id| id == ReplicaId::new(1);
    for _ in 0..3 {
        let now = here.version();
        here.forget_stable_among(&now, &now, present);
    }
    assert_eq!(here.tombstones(), 0);

    away.begin_anew(&here.snapshot(), 4);
    assert_eq!(away.array("list").counter(0), 13);
    here.apply(&away.delta_since(&here.version()));
    late.begin_anew(&here.snapshot(), 5);
    let counts = |document: &Document| -> Vec<i64> {
        let list = document.array("list");
        (0..list.len()).map(|at| list.counter(at)).collect()
    };
    assert_eq!(counts(&late), [33]);
    here.apply(&late.delta_since(&here.version()));
    away.apply(&late.delta_since(&away.version()));
    assert_eq!(counts(&here), counts(&late));
    assert_eq!([here.digest(); 2], [away.digest(), late.digest()]);
}

#[derive(Clone, Debug)]
struct Operation {
    path: Vec<(u8, Kind)>,
    what: u8,
    place: u8,
}

fn operation() -> impl Strategy<Value = Operation> {
    let kinds = vec![
        Kind::Array,
        Kind::Array,
        Kind::Array,
        Kind::Map,
        Kind::Set,
        Kind::Counter,
    ];
    let path = prop::collection::vec((any::<u8>(), prop::sample::select(kinds)), 1..4);
    (path, any::<u8>(), any::<u8>()).prop_map(|(path, what, place)| Operation { path, what, place })
}

enum At<'t, 'd> {
    Map(MapMut<'t, 'd>),
    Array(ArrayMut<'t, 'd>),
    Set(SetMut<'t, 'd>),
    Counter(CounterMut<'t, 'd>),
}

/// Does one operation where its path leads, as far as that is; `n` is written nowhere else.
fn operate(
    tx: &mut Transaction<'_>,
    operation: &Operation,
    n: i64,
    ids: &mut Vec<Dot>,
) -> Result<(), Error> {
    let Operation { path, what, place } = operation;
    let mut at = At::Map(tx.root());
    for (pick, kind) in path {
        at = match at {
            At::Map(map) => {
                let key = format!("{}", pick % 2);
                match kind {
                    Kind::Map => At::Map(map.into_map(key)),
                    Kind::Array => At::Array(map.into_array(key)),
                    Kind::Set => At::Set(map.into_or_set(key)),
                    Kind::Counter => At::Counter(map.into_counter(key)),
                }
            }
            At::Array(array) if array.len()? > 0 && pick % 4 > 0 => {
                let index = usize::from(*pick) % array.len()?;
                match kind {
                    Kind::Map => At::Map(array.into_map(index)),
                    Kind::Array => At::Array(array.into_array(index)),
                    Kind::Set => At::Set(array.into_or_set(index)),
                    Kind::Counter => At::Counter(array.into_counter(index)),
                }
            }
            other => other,
        };
    }
    let place = usize::from(*place);
    match at {
        At::Map(mut map) if what % 3 > 0 => map.set(format!("{}", place % 2), n),
        At::Map(mut map) => map.unset(&*format!("{}", place % 2)).map(drop),
        At::Set(mut set) if what % 3 > 0 => set.insert(place as i64 % 4),
        At::Set(mut set) => set.remove(place as i64 % 4).map(drop),
        At::Counter(mut counter) if what % 4 > 0 => counter.add(place as i64 + 1),
        At::Counter(mut counter) => counter.reset().map(drop),
        At::Array(mut array) => {
            let len = array.len()?;
            match what % 12 {
                0..4 => {
                    ids.push(array.insert(place % (len + 1), n)?);
                    Ok(())
                }
                4 => {
                    ids.push(array.append(n)?);
                    Ok(())
                }
                5 | 6 if len > 0 => array.set(place % len, n),
                7..10 if len > 0 => array.delete(place % len),
                10 if len > 0 => array.move_to(place % len, usize::from(*what) % len),
                11 if !ids.is_empty() => array.undelete(ids[place % ids.len()]).map(drop),
                _ => Ok(()),
            }
        }
    }
}

/// A replica, and one that does the same and never lets go of anything.
struct Twins {
    real: Document,
    archive: Document,
    ids: Vec<Dot>,
}

impl Twins {
    fn new(id: u64) -> Self {
        Self {
            real: Document::new(ReplicaId::new(id)),
            archive: Document::new(ReplicaId::new(id)),
            ids: Vec::new(),
        }
    }

    fn operate(&mut self, operation: &Operation, n: i64) {
        let mut ids = self.ids.clone();
        let real = self
            .real
            .transact(NOW, |tx| operate(tx, operation, n, &mut ids));
        // An element that was let go of does not come back.
        if real.is_ok() {
            let archive = &mut self.archive;
            let again = archive.transact(NOW, |tx| operate(tx, operation, n, &mut self.ids));
            assert_eq!(again, Ok(()));
        }
        assert_eq!(self.real.version(), self.archive.version());
    }

    fn pull(&mut self, other: &Twins) {
        let delta = other.real.delta_since(&self.real.version());
        self.real.apply(&delta);
        let delta = other.archive.delta_since(&self.archive.version());
        self.archive.apply(&delta);
        self.ids.extend(&other.ids);
        self.ids.sort_unstable();
        self.ids.dedup();
    }
}

/// What shows, but for the order and the ids of elements.
fn shape(document: &Document) -> String {
    map_shape(document.root())
}

fn map_shape(map: MapView<'_>) -> String {
    let mut all = Vec::new();
    for (key, _) in &map {
        all.push(format!("{key}: {}", all_shapes(map.held(key))));
    }
    format!("{{{}}}", all.join(", "))
}

fn array_shape(array: ArrayView<'_>) -> String {
    let mut all = Vec::new();
    for at in 0..array.len() {
        all.push(all_shapes(array.held(at)));
    }
    all.sort();
    format!("[{}]", all.join(", "))
}

/// The kinds that a key holds, in whatever order they were written.
fn all_shapes<'a>(held: impl IntoIterator<Item = Held<'a>>) -> String {
    let mut all: Vec<String> = held.into_iter().map(held_shape).collect();
    all.sort();
    all.join(" ")
}

fn held_shape(held: Held<'_>) -> String {
    match held {
        Held::Values(siblings) => {
            let mut all: Vec<String> = siblings.map(|s| format!("{:?}", s.value)).collect();
            all.sort();
            all.join("|")
        }
        Held::Map(map) => map_shape(map),
        Held::Array(array) => array_shape(array),
        Held::Set(set) => {
            let mut all: Vec<String> = set.iter().map(|member| format!("{member:?}")).collect();
            all.sort();
            format!("set({})", all.join(" "))
        }
        Held::Counter(count) => format!("count({count})"),
    }
}

/// How two come back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Returns {
    /// At once, to two that are alike, and they have the same.
    Alike,
    /// One after the other, and they do not have the same.
    InTurn,
    /// At once, and they do not have the same.
    AtOnce,
}

/// The values in a shape that are written once.
fn written(shape: &str) -> Vec<u32> {
    let numbers = shape.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter_map(|number| number.parse().ok());
    numbers.filter(|n| *n > 100_000).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256)
    ))]

    /// Two that were together and one that is cut off write on, and let go of what they can. What
    /// shows once the one has begun anew is what would show if nobody had let go of anything.
    #[test]
    fn whoever_begins_anew_loses_nothing_and_brings_nothing_back(
        common in prop::collection::vec((0..3usize, operation()), 1..30),
        apart in prop::collection::vec((0..3usize, operation(), any::<bool>()), 1..40),
        after in prop::collection::vec((0..3usize, operation()), 0..10),
    ) {
        let mut all = [1, 2, 3].map(Twins::new);
        let mut n = 0;
        for (at, operation) in &common {
            n += 1;
            all[*at].operate(operation, n);
            for other in 0..3 {
                let [a, b] = [at, &other].map(|at| *at);
                if let Ok([from, to]) = all.get_disjoint_mut([a, b]) {
                    to.pull(from);
                }
            }
        }
        // The first two stay together; the third is cut off.
        for (at, operation, forget) in &apart {
            n += 1;
            all[*at].operate(operation, n);
            let [a, b, away] = &mut all;
            a.pull(b);
            b.pull(a);
            if !forget {
                continue;
            }
            if *at == 2 {
                let stable = away.real.version();
                away.real.forget_stable_among(&stable, &stable, |id| id == ReplicaId::new(3));
            } else {
                let stable = a.real.version();
                for twins in [a, b] {
                    let present = |id| id != ReplicaId::new(3);
                    twins.real.forget_stable_among(&stable, &stable, present);
                }
            }
        }
        let [a, b, away] = &mut all;
        let again = away.real.begin_anew(&a.real.snapshot(), NOW + 1);
        for (old, new) in again {
            let [there, here] = [&a.real, &away.real].map(Document::version);
            prop_assert!(here.contains(old) && here.contains(new) && !there.contains(new));
        }
        let delta = away.real.delta_since(&a.real.version());
        for there in [&mut *a, &mut *b] {
            prop_assert_eq!(there.real.misfit_of_peer(&delta, &DotSet::new(), false), None);
            there.real.apply(&delta);
        }
        let expected = {
            let mut merged = Document::new(ReplicaId::new(9));
            merged.apply(&a.archive.snapshot());
            merged.apply(&away.archive.delta_since(&merged.version()));
            shape(&merged)
        };
        let fresh = |of: &Document| {
            let mut fresh = Document::new(ReplicaId::new(9));
            fresh.apply(&of.snapshot());
            fresh
        };
        let documents = [&a.real, &b.real, &away.real, &fresh(&a.real)];
        for document in documents {
            prop_assert_eq!(shape(document), expected.clone());
            prop_assert_eq!(document.version(), a.real.version());
            prop_assert_eq!(document.digest(), a.real.digest());
        }
        // And they go on together.
        for (at, operation) in &after {
            n += 1;
            let document = &mut all[*at].real;
            let before = document.own_seq();
            let _ = document.transact(NOW + 2, |tx| operate(tx, operation, n, &mut Vec::new()));
            let delta = document.own_since(before);
            for other in &mut all {
                prop_assert_eq!(other.real.misfit_of_peer(&delta, &DotSet::new(), false), None);
                other.real.apply(&delta);
            }
        }
        prop_assert_eq!(shape(&all[0].real), shape(&all[2].real));
        prop_assert_eq!(all[0].real.digest(), all[2].real.digest());
    }

    /// As above, with two that were cut off together. Where these knew the same, or return one
    /// after the other, what shows is what would show if nobody had let go of anything. Where each
    /// knew something else, and they return at once, what only one of them had removed may come
    /// back; no value is there twice, and none is lost.
    #[test]
    fn two_that_return_bring_together_what_each_would_alone(
        common in prop::collection::vec((0..4usize, operation()), 1..30),
        apart in prop::collection::vec((0..4usize, operation(), any::<(bool, bool)>()), 1..50),
        returns in prop::sample::select(vec![Returns::Alike, Returns::InTurn, Returns::AtOnce]),
    ) {
        let mut all = [1, 2, 3, 4].map(Twins::new);
        let mut n = 100_000;
        for (at, operation) in &common {
            n += 1;
            all[*at].operate(operation, n);
            for other in 0..4 {
                if let Ok([from, to]) = all.get_disjoint_mut([*at, other]) {
                    to.pull(from);
                }
            }
        }
        for (at, operation, (forget, meet)) in &apart {
            n += 1;
            all[*at].operate(operation, n);
            let [a, b, c, d] = &mut all;
            a.pull(b);
            b.pull(a);
            if *meet {
                c.pull(d);
                d.pull(c);
            }
            let stable = a.real.version();
            for twins in [a, b].into_iter().filter(|_| *forget) {
                let present = |id| id < ReplicaId::new(3);
                twins.real.forget_stable_among(&stable, &stable, present);
            }
        }
        let [a, b, c, d] = &mut all;
        if returns == Returns::Alike {
            c.pull(d);
            d.pull(c);
        }
        let mut merged = Document::new(ReplicaId::new(9));
        for twins in [&*a, c, d] {
            merged.apply(&twins.archive.delta_since(&merged.version()));
        }
        let expected = shape(&merged);
        c.real.begin_anew(&a.real.snapshot(), NOW + 1);
        if returns == Returns::InTurn {
            a.real.apply(&c.real.delta_since(&a.real.version()));
            d.real.begin_anew(&a.real.snapshot(), NOW + 2);
        } else {
            d.real.begin_anew(&b.real.snapshot(), NOW + 1);
        }
        for [from, to] in [[2, 0], [3, 1], [0, 1], [1, 0], [0, 2], [1, 3]] {
            let [from, to] = all.get_disjoint_mut([from, to]).unwrap();
            let delta = from.real.delta_since(&to.real.version());
            prop_assert_eq!(to.real.misfit_of_peer(&delta, &DotSet::new(), false), None);
            to.real.apply(&delta);
        }
        let shown = shape(&all[0].real);
        if returns == Returns::AtOnce {
            let once = |shape: &str| {
                let mut all = written(shape);
                all.sort_unstable();
                all
            };
            let (shown, expected) = (once(&shown), once(&expected));
            prop_assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", shown);
            prop_assert!(expected.iter().all(|n| shown.contains(n)));
        } else {
            prop_assert_eq!(shown, expected);
        }
        for twins in &all {
            prop_assert_eq!(shape(&twins.real), shape(&all[0].real));
            prop_assert_eq!(twins.real.version(), all[0].real.version());
            prop_assert_eq!(twins.real.digest(), all[0].real.digest());
        }
    }
}
