//! Maps, registers, sets and counters beside a list of all writes ever made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use portolan_core::types::{
    Counter, MvMap, MvRegister, OrSet, Replicated, Shared, Update, content,
};
use portolan_core::{Dot, DotRange, Key, ReplicaId, Timestamp, Value, Version};
use proptest::prelude::*;

use crate::{NOW, Step, carried, replica, steps, sync};

/// What a reference knows of one write: what it wrote, and what it removed.
#[derive(Debug)]
struct Write {
    key: Key,
    value: Option<Value>,
    removed: Vec<Dot>,
    timestamp: Timestamp,
}

/// All writes ever made, by their first dots.
#[derive(Debug, Default)]
struct Truth(BTreeMap<Dot, Write>);

impl Truth {
    /// What stands under each key for whoever has applied these operations, the latest first.
    fn shown(&self, version: &Version) -> BTreeMap<Key, Vec<(Dot, Value)>> {
        let applied = || self.0.iter().filter(|(dot, _)| version.contains(**dot));
        let removed: BTreeSet<Dot> = applied().flat_map(|(_, w)| w.removed.clone()).collect();
        let mut shown: BTreeMap<Key, Vec<(Dot, Value)>> = BTreeMap::new();
        for (dot, write) in applied().filter(|(dot, _)| !removed.contains(dot)) {
            if let Some(value) = &write.value {
                let values = shown.entry(write.key.clone()).or_default();
                values.push((*dot, value.clone()));
            }
        }
        for values in shown.values_mut() {
            values.sort_by_key(|(dot, _)| Reverse((self.0[dot].timestamp, *dot)));
        }
        shown
    }

    fn resets(&self, seen: &Version) -> impl Iterator<Item = Dot> {
        let seen = self.0.iter().filter(|(dot, _)| seen.contains(**dot));
        seen.filter(|(_, write)| write.value.is_none())
            .map(|(dot, _)| *dot)
    }

    fn under(&self, version: &Version, key: &Key) -> Vec<Dot> {
        let values = self.shown(version).remove(key).unwrap_or_default();
        values.into_iter().map(|(dot, _)| dot).collect()
    }
}

/// How a type is written to and compared with the reference.
pub(crate) trait Case: Replicated + Sized {
    type Shown: PartialEq + Debug;
    /// Whether what is written brings with it what its replica wrote before, so that the
    /// reference holds as long as nothing is missing in between.
    const SUMS_UP: bool = false;

    /// Does a write of a kind; tells the key it is about, what it writes, and whether it removes
    /// what is there.
    fn write(
        all: &mut Shared<Self>,
        kind: u8,
        at: u8,
    ) -> (Key, Option<Value>, bool, Option<Update>);
    fn shows(all: &Shared<Self>) -> Self::Shown;
    fn expected(shown: BTreeMap<Key, Vec<(Dot, Value)>>) -> Self::Shown;
}

fn key(at: u8) -> Key {
    match at % 4 {
        0 => Key::from(1),
        1 => Key::from("1"),
        2 => Key::from(true),
        _ => Key::from(""),
    }
}

fn values(all: Vec<(Dot, Value)>) -> Vec<Value> {
    all.into_iter().map(|(_, value)| value).collect()
}

impl Case for content::Map {
    type Shown = BTreeMap<Key, Vec<Value>>;

    fn write(map: &mut MvMap, kind: u8, at: u8) -> (Key, Option<Value>, bool, Option<Update>) {
        let key = key(at);
        if kind.is_multiple_of(4) {
            let update = map.unset(&key);
            return (key, None, true, update);
        }
        let update = map.set(&key, i64::from(at)).unwrap();
        (key, Some(Value::from(i64::from(at))), true, Some(update))
    }

    fn shows(map: &MvMap) -> Self::Shown {
        let all = map.iter();
        all.map(|(key, all)| (key.clone(), all.map(|s| s.value.clone()).collect()))
            .collect()
    }

    fn expected(shown: BTreeMap<Key, Vec<(Dot, Value)>>) -> Self::Shown {
        let all = shown.into_iter();
        all.map(|(key, all)| (key, values(all))).collect()
    }
}

impl Case for content::Register {
    type Shown = Vec<Value>;

    fn write(all: &mut MvRegister, kind: u8, at: u8) -> (Key, Option<Value>, bool, Option<Update>) {
        let key = Key::from("");
        if kind.is_multiple_of(4) {
            return (key, None, true, all.clear());
        }
        let value =
            [Value::from(1), Value::from(1.0), Value::from(true)][usize::from(at % 3)].clone();
        let update = all.set(value.clone()).unwrap();
        (key, Some(value), true, Some(update))
    }

    fn shows(all: &MvRegister) -> Self::Shown {
        assert_eq!(all.winner(), all.read().next().map(|s| s.value));
        all.read().map(|sibling| sibling.value.clone()).collect()
    }

    fn expected(shown: BTreeMap<Key, Vec<(Dot, Value)>>) -> Self::Shown {
        shown.into_values().flat_map(values).collect()
    }
}

impl Case for content::Set {
    type Shown = BTreeSet<String>;

    fn write(set: &mut OrSet, kind: u8, at: u8) -> (Key, Option<Value>, bool, Option<Update>) {
        let members = [
            Value::from(1),
            Value::from(1.0),
            Value::from(true),
            Value::Null,
        ];
        let member = members[usize::from(at % 4)].clone();
        let key = Key::from(format!("{member:?}"));
        if kind.is_multiple_of(3) {
            return (key, None, true, set.remove(member).unwrap());
        }
        let update = set.insert(member.clone()).unwrap();
        (key, Some(member), true, Some(update))
    }

    fn shows(set: &OrSet) -> Self::Shown {
        let shown: BTreeSet<String> = set.iter().map(|member| format!("{member:?}")).collect();
        assert_eq!(shown.len(), set.len());
        assert!(set.iter().all(|member| set.contains(member)));
        shown
    }

    fn expected(shown: BTreeMap<Key, Vec<(Dot, Value)>>) -> Self::Shown {
        shown.into_keys().map(|key| key.to_string()).collect()
    }
}

impl Case for content::Counter {
    type Shown = i64;
    const SUMS_UP: bool = true;

    fn write(all: &mut Counter, kind: u8, at: u8) -> (Key, Option<Value>, bool, Option<Update>) {
        let key = Key::from("");
        if kind.is_multiple_of(4) {
            return (key, None, true, all.reset().unwrap());
        }
        let n = i64::from(at) - 3;
        (key, Some(Value::from(n)), false, Some(all.add(n).unwrap()))
    }

    fn shows(all: &Counter) -> Self::Shown {
        all.read()
    }

    fn expected(shown: BTreeMap<Key, Vec<(Dot, Value)>>) -> Self::Shown {
        let all = shown.into_values().flatten();
        all.filter_map(|(_, value)| value.as_int()).sum()
    }
}

fn obeys_the_reference<C: Case>(steps: Vec<Step>) {
    let mut truth = Truth::default();
    let mut all: Vec<Shared<C>> = (1..=3).map(replica).collect();
    // Each with what its writer had seen.
    let mut sent: Vec<(Update, Version)> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write { at, kind, what } => {
                let before = all[at].version();
                let (key, value, removes, update) = C::write(&mut all[at], kind, what);
                let removed = if removes {
                    truth.under(&before, &key)
                } else {
                    Vec::new()
                };
                assert_eq!(update.is_none(), value.is_none() && removed.is_empty());
                let Some(update) = update else { continue };
                let own = all[at].version().difference(&before);
                assert_eq!(update.applied(), &own);
                let timestamp = all[at].document().latest();
                let write = Write {
                    key,
                    value,
                    removed,
                    timestamp,
                };
                truth.0.insert(own.iter().next().unwrap(), write);
                sent.push((carried(&update), before));
            }
            Step::Deliver { update, to } if !sent.is_empty() => {
                let (update, seen) = &sent[update % sent.len()];
                let before = all[to].version();
                let gap = |range: &DotRange| range.first > before.last_seq(range.replica) + 1;
                // A sum that begins after a reset brings with it that the one before it is gone.
                let missing = truth.resets(seen).any(|dot| !before.contains(dot));
                if C::SUMS_UP && (missing || update.applied().ranges().iter().any(gap)) {
                    continue;
                }
                let new = all[to].apply(update).unwrap();
                assert_eq!(new, update.applied().difference(&before));
            }
            Step::Deliver { .. } => {}
            Step::Sync { from, to } => sync(&mut all, from, to),
            Step::Restart { at } => {
                let (bytes, id) = (all[at].encode(), ReplicaId::new(100 + number as u64));
                let again = Shared::decode_with_clock(id, &bytes, move || NOW).unwrap();
                assert_eq!(again.encode(), bytes);
                assert_eq!(again.digest(), all[at].digest());
                all[at] = again;
            }
        }
        for one in &all {
            let version = one.version();
            let expected = C::expected(truth.shown(&version));
            assert_eq!(C::shows(one), expected);
        }
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
        sync(&mut all, from, to);
    }
    let mut late: Shared<C> = replica(9);
    for (update, _) in sent.iter().rev() {
        late.apply(update).unwrap();
    }
    all.push(late);
    assert!(all.iter().all(|one| one.encode() == all[0].encode()));
    assert!(all.iter().all(|one| one.digest() == all[0].digest()));
}

proptest! {
    #![proptest_config(crate::random())]

    #[test]
    fn a_map_shows_what_the_reference_does(steps in steps()) {
        obeys_the_reference::<content::Map>(steps);
    }

    #[test]
    fn a_register_shows_what_the_reference_does(steps in steps()) {
        obeys_the_reference::<content::Register>(steps);
    }

    #[test]
    fn a_set_shows_what_the_reference_does(steps in steps()) {
        obeys_the_reference::<content::Set>(steps);
    }

    #[test]
    fn a_counter_shows_what_the_reference_does(steps in steps()) {
        obeys_the_reference::<content::Counter>(steps);
    }
}
