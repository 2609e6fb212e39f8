//! Histories, told and replayed.

use portolan_core::types::{Moment, MvMap, Replicated, Shared, Update, content};
use portolan_core::{ReplicaId, Timestamp, Version};
use proptest::prelude::*;

use crate::elements::write_array;
use crate::reference::Case;
use crate::{ID, Step, carried, replica, steps, sync};

/// Histories between random versions of random replicas, replayed in random order by one that
/// has nothing else, and then is told what it lacks.
fn replays<C: Replicated>(
    steps: Vec<Step>,
    picks: Vec<(usize, usize, usize, u8)>,
    mut write: impl FnMut(&mut Shared<C>, u8, u8) -> Option<Update>,
) {
    let mut all: Vec<Shared<C>> = (1..=3).map(replica).collect();
    let mut sent: Vec<Update> = Vec::new();
    let mut past: Vec<Vec<(Version, Vec<u8>)>> = vec![Vec::new(); 3];
    for step in steps {
        let touched = match step {
            Step::Write { at, kind, what } => {
                sent.extend(write(&mut all[at], kind, what));
                at
            }
            Step::Deliver { update, to } if !sent.is_empty() => {
                all[to].apply(&sent[update % sent.len()]).unwrap();
                to
            }
            Step::Sync { from, to } => {
                sync(&mut all, from, to);
                to
            }
            _ => continue,
        };
        past[touched].push((all[touched].version(), all[touched].encode()));
    }
    let mut late: Shared<C> = replica(9);
    for (at, since, until, open) in picks {
        let versions = &past[at % 3];
        if versions.is_empty() {
            continue;
        }
        let ends = [since % versions.len(), until % versions.len()];
        let (since, until) = (
            &versions[ends[0].min(ends[1])],
            &versions[ends[0].max(ends[1])],
        );
        let from = if open & 1 == 0 {
            Moment::Open
        } else {
            Moment::Version(&since.0)
        };
        let to = if open & 2 == 0 {
            Moment::Open
        } else {
            Moment::Version(&until.0)
        };
        let history = all[at % 3]
            .history(from, to)
            .expect("few values are removed");
        if open & 2 != 0 {
            // Just the state then: no more, no less.
            let mut then: Shared<C> = replica(8);
            then.apply(&history.update).unwrap();
            assert_eq!(then.version(), until.0);
            assert_eq!(then.encode(), until.1);
        }
        late.apply(&carried(&history.update)).unwrap();
    }
    all.push(late);
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 3)] {
        sync(&mut all, from, to);
    }
    for one in &all {
        assert_eq!(one.version(), all[0].version());
        assert_eq!(one.digest(), all[0].digest());
        assert_eq!(one.encode(), all[0].encode());
    }
}

fn picks() -> impl Strategy<Value = Vec<(usize, usize, usize, u8)>> {
    prop::collection::vec((0..3usize, any::<usize>(), any::<usize>(), 0..4u8), 1..6)
}

proptest! {
    #![proptest_config(crate::random())]

    #[test]
    fn histories_of_maps_replayed_in_any_order_converge(steps in steps(), picks in picks()) {
        replays(steps, picks, |all, kind, what| content::Map::write(all, kind, what).3);
    }

    #[test]
    fn histories_of_sets_replayed_in_any_order_converge(steps in steps(), picks in picks()) {
        replays(steps, picks, |all, kind, what| content::Set::write(all, kind, what).3);
    }

    #[test]
    fn histories_of_counters_replayed_in_any_order_converge(steps in steps(), picks in picks()) {
        replays(steps, picks, |all, kind, what| content::Counter::write(all, kind, what).3);
    }

    #[test]
    fn histories_of_arrays_replayed_in_any_order_converge(steps in steps(), picks in picks()) {
        let mut deleted = Vec::new();
        replays(steps, picks, |all, kind, what| write_array(all, kind, what, &mut deleted));
    }
}

#[test]
fn history_is_told_by_version_and_by_time() {
    let mut now = 0;
    let mut map = MvMap::with_clock(ID, ReplicaId::new(1), move || {
        now += 10;
        now
    });
    map.set("a", 1).unwrap();
    let first = map.version();
    map.set("a", 2).unwrap();
    map.set("b", 1).unwrap();
    map.unset("b").unwrap();
    let told = |since, until| {
        let history = map.history(since, until).expect("it is kept");
        let new = history
            .changes
            .into_iter()
            .map(|change| change.new.and_then(|v| v.as_int()));
        let mut then: MvMap = replica(2);
        then.apply(&history.update).unwrap();
        (new.collect::<Vec<_>>(), then.len())
    };
    let (open, version) = (Moment::Open, Moment::from(&first));
    assert_eq!(told(open, open), (vec![Some(2)], 1));
    assert_eq!(told(open, version), (vec![Some(1)], 1));
    assert_eq!(told(version, open), (vec![Some(2)], 1));
    assert_eq!(told(10.into(), 20.into()), (vec![Some(2)], 1));
    assert_eq!(told(20.into(), 30.into()), (vec![Some(1)], 2));
    assert_eq!(
        told(30.into(), Timestamp::from_millis(40).into()),
        (vec![None], 1)
    );
    assert_eq!(told(40.into(), open).0, vec![]);
    map.keep_past(0);
    assert!(map.history(&first, Moment::Open).is_none());
    let never = Version::from_range(ReplicaId::new(9), 1, 1);
    assert!(map.history(Moment::Open, &never).is_none());
}

#[test]
fn a_history_gives_all_siblings() {
    let mut all: Vec<MvMap> = (1..=4).map(replica).collect();
    let sent: Vec<Update> = (1i64..)
        .zip(&mut all[..3])
        .map(|(n, one)| one.set("key", n).unwrap())
        .collect();
    for update in &sent {
        all[0].apply(update).unwrap();
    }
    let then = all[0].version();
    all[0].set("key", "decided").unwrap();
    let history = all[0].history(Moment::Open, &then).expect("it is kept");
    assert_eq!(history.changes[0].siblings.len(), 2);
    all[3].apply(&history.update).unwrap();
    assert_eq!(all[3].get_all("key").count(), 3);
    let later = all[0].history(&then, Moment::Open).expect("it is kept");
    all[3].apply(&later.update).unwrap();
    assert_eq!(all[3].encode(), all[0].encode());
}
