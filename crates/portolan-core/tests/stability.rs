//! Letting go of what is stable changes nothing that anybody can see.

#![cfg(all(feature = "digest", feature = "packing"))]

use portolan_core::{Document, Dot, Error, ReplicaId, Value, Version};
use proptest::prelude::*;

const NOW: u64 = 1_767_225_600_000;

fn list(document: &Document) -> Vec<(Dot, Vec<Value>)> {
    let list = document.array("l");
    list.iter()
        .map(|(id, siblings)| (id, siblings.map(|s| s.value.clone()).collect()))
        .collect()
}

/// Replicas that let go of what is stable, and an archive that never does.
struct World {
    replicas: Vec<Document>,
    archive: Document,
    /// What each has heard of each: what it has applied, and what it knows to be stable.
    heard: Vec<Vec<(Version, Version)>>,
    stable: Vec<Version>,
    deleted: Vec<Dot>,
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        kind: u8,
        index: usize,
        n: i64,
    },
    Pull {
        at: usize,
        from: usize,
    },
    Forget {
        at: usize,
    },
    Restart {
        at: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3usize, 0..9u8, 0..12usize, 0..100i64)
            .prop_map(|(at, kind, index, n)| Step::Write { at, kind, index, n }),
        5 => (0..3usize, 0..3usize).prop_map(|(at, from)| Step::Pull { at, from }),
        3 => (0..3usize).prop_map(|at| Step::Forget { at }),
        1 => (0..3usize).prop_map(|at| Step::Restart { at }),
    ]
}

impl World {
    fn new() -> Self {
        Self {
            replicas: (1..4).map(|id| Document::new(ReplicaId::new(id))).collect(),
            archive: Document::new(ReplicaId::new(99)),
            heard: vec![vec![Default::default(); 3]; 3],
            stable: vec![Version::new(); 3],
            deleted: Vec::new(),
        }
    }

    fn write(&mut self, at: usize, kind: u8, index: usize, n: i64) {
        let document = &mut self.replicas[at];
        let before = document.own_seq();
        let deleted = &mut self.deleted;
        document
            .transact(NOW, |tx| {
                let mut list = tx.array("l");
                let len = list.len()?;
                match kind {
                    0 => drop(list.append(n)?),
                    1 | 2 => drop(list.insert(index % (len + 1), n)?),
                    3 if len > 0 => {
                        deleted.push(list.id(index % len)?);
                        list.delete(index % len)?;
                    }
                    4 if len > 0 => list.set(index % len, n)?,
                    5 if len > 0 => list.move_to(index % len, n as usize % len)?,
                    6 if !deleted.is_empty() => {
                        let id = deleted[index % deleted.len()];
                        match list.undelete(id) {
                            Err(Error::NoSuchElement) => {}
                            other => drop(other?),
                        }
                    }
                    7 => tx.counter("c").add(n)?,
                    8 => drop(tx.counter("c").reset()?),
                    _ => {}
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        let delta = document.own_since(before);
        if delta.applied().len() <= document.own_seq() - before {
            self.archive.apply(&delta);
        }
    }

    fn pull(&mut self, at: usize, from: usize) {
        if at == from {
            return;
        }
        let delta = self.replicas[from].delta_since(&self.replicas[at].version());
        self.archive.apply(&delta);
        let bytes = delta.encode();
        let delta = portolan_core::Delta::decode(&bytes).unwrap();
        assert_eq!(delta.encode(), bytes);
        self.replicas[at].apply(&delta);
        self.heard[at][from] = (self.replicas[from].version(), self.stable[from].clone());
    }

    fn forget(&mut self, at: usize) {
        let others = || (0..3).filter(|other| *other != at);
        let mut stable = self.replicas[at].version();
        for other in others() {
            stable = stable.intersection(&self.heard[at][other].0);
        }
        self.stable[at] = stable.clone();
        let mut settled = stable.clone();
        for other in others() {
            settled = settled.intersection(&self.heard[at][other].1);
        }
        self.replicas[at].forget_stable(&stable, &settled);
    }

    /// Continues from the bytes of its state, as after a restart.
    fn restart(&mut self, at: usize) {
        let old = &self.replicas[at];
        let mut again = Document::new(old.replica());
        let bytes = old.encode();
        again.apply(&portolan_core::Delta::decode(&bytes).unwrap());
        assert_eq!(again.encode(), bytes);
        assert_eq!(again.digest(), old.digest());
        assert_eq!(list(&again), list(old));
        self.replicas[at] = again;
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { at, kind, index, n } => self.write(at, kind, index, n),
            Step::Pull { at, from } => self.pull(at, from),
            Step::Forget { at } => self.forget(at),
            Step::Restart { at } => self.restart(at),
        }
    }

    fn meet(&mut self) {
        for _ in 0..2 {
            for at in 0..3 {
                for from in 0..3 {
                    self.pull(at, from);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256)
    ))]

    #[test]
    fn forgetting_what_is_stable_changes_nothing(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.meet();
        let archive = &world.archive;
        for replica in &world.replicas {
            prop_assert_eq!(replica.version(), archive.version());
            prop_assert_eq!(list(replica), list(archive));
            prop_assert_eq!(replica.counter("c"), archive.counter("c"));
            prop_assert_eq!(replica.digest(), archive.digest());
        }
        for _ in 0..8 {
            (0..3).for_each(|at| world.forget(at));
            world.meet();
        }
        let bytes: Vec<_> = world.replicas.iter().map(Document::encode).collect();
        for replica in &world.replicas {
            prop_assert_eq!(list(replica), list(&world.archive));
            prop_assert_eq!(replica.digest(), world.archive.digest());
        }
        prop_assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn deleted_elements_leave_nothing_once_stable() {
    let mut document = Document::new(ReplicaId::new(1));
    let bare = document.encode().len();
    document
        .transact(NOW, |tx| {
            let mut list = tx.array("l");
            for n in 0..10_000i64 {
                list.insert(n as usize / 2, n)?;
            }
            for _ in 0..10_000 {
                list.delete(0)?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(document.tombstones(), 10_000);
    document.forget_stable(&document.version(), &document.version());
    assert_eq!(document.tombstones(), 0);
    assert!(
        document.encode().len() < bare + 20,
        "{}",
        document.encode().len()
    );
}

#[test]
fn a_chain_of_tombstones_goes_though_something_stands_at_its_end() {
    let mut document = Document::new(ReplicaId::new(1));
    document
        .transact(NOW, |tx| {
            let mut list = tx.array("l");
            for n in 0..10_000usize {
                list.insert(n, n as i64)?;
            }
            for _ in 0..9_999 {
                list.delete(0)?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    document.forget_stable(&document.version(), &document.version());
    assert_eq!(document.tombstones(), 0);
    assert!(document.encode().len() < 100, "{}", document.encode().len());
    document
        .transact(NOW, |tx| tx.array("l").insert(1, -1))
        .unwrap();
    let mut again = Document::new(ReplicaId::new(2));
    again.apply(&document.snapshot());
    assert_eq!(list(&again), list(&document));
    assert_eq!(again.array("l").get(0), Some(&Value::from(9_999)));
}

#[test]
fn resets_of_counters_leave_nothing_once_stable() {
    let [mut a, mut b] = [1, 2].map(|id| Document::new(ReplicaId::new(id)));
    a.transact(NOW, |tx| tx.counter("c").add(5)).unwrap();
    b.apply(&a.snapshot());
    b.unset(NOW, "c");
    let with_note = b.encode().len();
    b.forget_stable(&b.version(), &b.version());
    assert!(b.encode().len() < with_note - 8);
    assert_eq!((b.counter("c"), b.len()), (0, 0));
}

/// Of concurrent moves one counts; the position that another made goes once all have both.
#[test]
fn where_a_concurrent_move_lost_nothing_is_left_once_stable() {
    let mut a = Document::new(ReplicaId::new(1));
    a.transact(NOW, |tx| {
        let mut list = tx.array("l");
        for n in 0..5usize {
            list.insert(n, n as i64)?;
        }
        Ok::<_, Error>(())
    })
    .unwrap();
    let mut b = Document::new(ReplicaId::new(2));
    b.apply(&a.snapshot());
    let common = a.version();
    a.transact(NOW + 1, |tx| tx.array("l").move_to(0, 2))
        .unwrap();
    b.transact(NOW + 2, |tx| tx.array("l").move_to(0, 4))
        .unwrap();
    let (from_a, from_b) = (a.delta_since(&common), b.delta_since(&common));
    a.apply(&from_b);
    b.apply(&from_a);
    let before = list(&a);
    let all = a.version();
    a.forget_stable(&all, &all);
    assert_eq!((a.tombstones(), list(&a)), (0, before.clone()));
    // One moves it again who has let go of that position; the other has not.
    a.transact(NOW + 3, |tx| tx.array("l").move_to(4, 1))
        .unwrap();
    b.apply(&a.delta_since(&all));
    assert_eq!(list(&b), list(&a));
    let all = a.version();
    for document in [&mut a, &mut b] {
        document.forget_stable(&all, &all);
        assert_eq!(document.tombstones(), 0);
    }
    assert_eq!(list(&b), list(&a));
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.encode(), b.encode());
}

/// Where an element stood before goes while it is not stable that it is deleted. If it comes back,
/// it stands where it was moved to, for whoever is sent the whole state too.
#[test]
fn an_element_that_comes_back_stands_where_it_was_moved_to() {
    let mut here = Document::new(ReplicaId::new(1));
    let appended = here.transact(NOW, |tx| {
        (0..4).try_for_each(|n| tx.array("l").append(n).map(drop))
    });
    appended.unwrap();
    let moves = [(0, 3), (3, 1)];
    for (from, to) in moves {
        let moved = here.transact(NOW + 1, |tx| tx.array("l").move_to(from, to));
        moved.unwrap();
    }
    let mut there = Document::new(ReplicaId::new(2));
    there.apply(&here.snapshot());
    let moved = here.version();
    here.forget_stable(&moved, &Version::new());
    let id = here.array("l").id(1).unwrap();
    here.transact(NOW + 2, |tx| tx.array("l").delete(1))
        .unwrap();
    here.forget_stable(&moved, &moved);
    there
        .transact(NOW + 2, |tx| tx.array("l").set(1, 7))
        .unwrap();
    here.apply(&there.delta_since(&here.version()));
    there.apply(&here.delta_since(&there.version()));
    let mut fresh = Document::new(ReplicaId::new(9));
    fresh.apply(&here.snapshot());
    for document in [&here, &there, &fresh] {
        assert_eq!(document.array("l").index_of(id), Some(1));
        assert_eq!(list(document), list(&here));
    }
}

/// A move that is taken back after somebody has deleted the element makes a position that never
/// shows anything.
#[test]
fn a_move_undone_after_the_deletion_leaves_nothing_once_stable() {
    let mut a = Document::new(ReplicaId::new(1));
    a.keep_past(100);
    a.transact(NOW, |tx| {
        let mut list = tx.array("l");
        for n in 0..5usize {
            list.insert(n, n as i64)?;
        }
        Ok::<_, Error>(())
    })
    .unwrap();
    let before = a.own_seq();
    a.transact(NOW, |tx| tx.array("l").move_to(0, 4)).unwrap();
    let moved = a.own_seq();
    let mut b = Document::new(ReplicaId::new(2));
    b.apply(&a.snapshot());
    b.transact(NOW, |tx| tx.array("l").delete(4)).unwrap();
    a.apply(&b.delta_since(&a.version()));
    a.undo(NOW, before + 1..=moved).unwrap();
    assert!(a.own_seq() > moved, "the move is taken back");
    let all = a.version();
    a.forget_stable(&all, &all);
    assert_eq!(a.tombstones(), 0);
}

/// A position that waited already, because the element had moved away, waits anew once the
/// element is deleted.
#[test]
fn a_deletion_waits_for_itself_where_a_move_waited_before() {
    use Step::{Forget, Pull, Write};
    let mut world = World::new();
    let steps = [
        Write {
            at: 1,
            kind: 0,
            index: 0,
            n: 0,
        },
        Write {
            at: 1,
            kind: 0,
            index: 0,
            n: 0,
        },
        Write {
            at: 1,
            kind: 0,
            index: 0,
            n: 0,
        },
        Write {
            at: 1,
            kind: 5,
            index: 0,
            n: 94,
        },
        Write {
            at: 1,
            kind: 0,
            index: 0,
            n: 0,
        },
        Pull { at: 2, from: 1 },
        Write {
            at: 2,
            kind: 0,
            index: 0,
            n: 0,
        },
        Forget { at: 1 },
        Pull { at: 0, from: 1 },
        Pull { at: 2, from: 0 },
        Forget { at: 2 },
        Pull { at: 1, from: 2 },
        Pull { at: 0, from: 2 },
        Write {
            at: 0,
            kind: 3,
            index: 6,
            n: 0,
        },
        Write {
            at: 0,
            kind: 0,
            index: 0,
            n: 0,
        },
        Forget { at: 0 },
        Pull { at: 1, from: 0 },
        Pull { at: 2, from: 0 },
        Forget { at: 1 },
        Write {
            at: 0,
            kind: 6,
            index: 0,
            n: 0,
        },
    ];
    for step in &steps {
        world.step(step);
    }
    world.meet();
    for _ in 0..4 {
        (0..3).for_each(|at| world.forget(at));
        world.meet();
    }
    for replica in &world.replicas {
        assert_eq!(list(replica), list(&world.archive));
        assert_eq!(replica.encode(), world.replicas[0].encode());
    }
}

/// What a replica has let go of, and one that was restarted has not, goes there too.
#[test]
fn tombstones_of_moved_elements_go_after_a_restart() {
    use Step::{Forget, Pull, Restart, Write};
    let write = |at, kind| Write {
        at,
        kind,
        index: 0,
        n: 0,
    };
    let pull = |at, from| Pull { at, from };
    let steps = [
        write(1, 0),
        write(1, 5),
        pull(0, 1),
        write(0, 3),
        pull(2, 0),
        Forget { at: 0 },
        pull(1, 0),
        pull(2, 1),
        pull(1, 2),
        Forget { at: 1 },
        pull(0, 1),
        write(0, 0),
        Forget { at: 2 },
        pull(0, 2),
        Forget { at: 0 },
        Restart { at: 0 },
    ];
    let mut world = World::new();
    for step in &steps {
        world.step(step);
    }
    world.meet();
    for _ in 0..8 {
        (0..3).for_each(|at| world.forget(at));
        world.meet();
    }
    for replica in &world.replicas {
        assert_eq!(replica.tombstones(), 0);
        assert_eq!(replica.encode(), world.replicas[0].encode());
    }
}
