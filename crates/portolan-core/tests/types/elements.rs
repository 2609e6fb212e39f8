//! Arrays.

use portolan_core::types::{RgArray, Shared, Update};
use portolan_core::{Dot, Error, ReplicaId, Value};
use proptest::prelude::*;

use crate::{ID, NOW, Step, carried, ints, replica, steps, sync};

/// One write to an array and to a plain list; the update, where it did anything.
pub(crate) fn write_array(
    array: &mut RgArray,
    kind: u8,
    what: u8,
    deleted: &mut Vec<Dot>,
) -> Option<Update> {
    let mut list: Vec<(Dot, i64)> = array.iter().map(|(id, _)| id).zip(ints(array)).collect();
    let (len, value) = (list.len(), i64::from(what));
    let at = usize::from(what) * 7 % len.max(1);
    let update = match kind % 8 {
        0 | 1 => {
            let (id, update) = array.append(value).unwrap();
            // Behind all, but for what others have appended at a later time than is known here.
            list.push((id, value));
            Some(update)
        }
        2 | 3 => {
            let (id, update) = array.insert(at, value).unwrap();
            list.insert(at, (id, value));
            Some(update)
        }
        4 if len > 0 => {
            list[at].1 = value;
            Some(array.set(at, value).unwrap())
        }
        5 if len > 0 => {
            deleted.push(list.remove(at).0);
            Some(array.delete(at).unwrap())
        }
        6 if len > 0 => {
            let to = usize::from(what) % len;
            let moved = list.remove(at);
            list.insert(to, moved);
            Some(array.move_to(at, to).unwrap())
        }
        7 => {
            let id = deleted.pop().filter(|id| array.index_of(*id).is_none())?;
            let update = array.undelete(id).ok().flatten()?;
            let index = array.index_of(id).expect("it is back");
            let back = array.get(index).and_then(Value::as_int).unwrap();
            list.insert(index, (id, back));
            Some(update)
        }
        _ => None,
    };
    let ids: Vec<Dot> = list.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ints(array),
        list.iter().map(|(_, v)| *v).collect::<Vec<_>>()
    );
    assert!(array.iter().map(|(id, _)| id).eq(ids.iter().copied()));
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(
            (array.id(index), array.index_of(*id)),
            (Some(*id), Some(index))
        );
        assert_eq!(array.element(*id), array.get(index));
    }
    let (from, end) = (len / 3, len / 2 + 1);
    let slice: Vec<Dot> = array.slice(from..end).map(|(id, _)| id).collect();
    assert_eq!(slice, ids[from.min(ids.len())..end.min(ids.len())]);
    update
}

proptest! {
    #![proptest_config(crate::random())]

    #[test]
    fn an_array_is_a_list_to_each_replica_and_the_same_to_all(steps in steps()) {
        let mut all: Vec<RgArray> = (1..=3).map(replica).collect();
        let mut sent: Vec<Update> = Vec::new();
        let mut deleted = Vec::new();
        for step in steps {
            match step {
                Step::Write { at, kind, what } => {
                    let before = all[at].version();
                    let update = write_array(&mut all[at], kind, what, &mut deleted);
                    if let Some(update) = update {
                        prop_assert_eq!(update.applied(), &all[at].version().difference(&before));
                        sent.push(carried(&update));
                    }
                }
                Step::Deliver { update, to } if !sent.is_empty() => {
                    let update = &sent[update % sent.len()];
                    all[to].apply(update).unwrap();
                }
                Step::Sync { from, to } => sync(&mut all, from, to),
                _ => {}
            }
        }
        // One by its bytes, one by every update in the opposite order.
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
            sync(&mut all, from, to);
        }
        let mut late: RgArray = replica(9);
        for update in sent.iter().rev() {
            late.apply(update).unwrap();
        }
        all.push(late);
        all.push(Shared::decode(ReplicaId::new(10), &all[0].encode()).unwrap());
        for one in &all {
            prop_assert_eq!(one.version(), all[0].version());
            prop_assert_eq!(ints(one), ints(&all[0]));
            prop_assert_eq!(one.digest(), all[0].digest());
            prop_assert_eq!(one.encode(), all[0].encode());
        }
    }
}

#[test]
fn an_element_that_has_no_place_so_far_is_unknown() {
    let (mut here, mut there): (RgArray, RgArray) = (replica(1), replica(2));
    here.append("neighbour").unwrap();
    let (id, update) = here.insert(0, "early").unwrap();
    there.apply(&update).unwrap();
    assert_eq!(
        (there.len(), there.index_of(id), there.element(id)),
        (0, None, None)
    );
    assert_eq!(there.undelete(id), Err(Error::NoSuchElement));
    let unknown = there.transact(|array| array.index_of(id));
    assert_eq!(unknown.unwrap_err(), Error::NoSuchElement);
}

#[test]
fn three_equal_appends_are_three_elements() {
    let mut all: Vec<RgArray> = (1..=3).map(replica).collect();
    let sent: Vec<(Dot, Update)> = all
        .iter_mut()
        .map(|one| one.append("same").unwrap())
        .collect();
    for one in &mut all {
        for (_, update) in sent.iter().rev() {
            one.apply(update).unwrap();
        }
        let ids: Vec<Dot> = one.iter().map(|(id, _)| id).collect();
        // All at one time, so in the order of the replicas.
        assert!(ids.iter().eq(sent.iter().map(|(id, _)| id)));
        assert!(one.values(..).all(|value| value == &Value::from("same")));
    }
}

#[test]
fn appends_stand_in_the_order_of_time_then_replica() {
    let mut all: Vec<RgArray> = Vec::new();
    for (id, start) in [(1, 20), (2, 10), (3, 10)] {
        let mut now = NOW + start;
        all.push(Shared::with_clock(ID, ReplicaId::new(id), move || {
            now += 5;
            now
        }));
    }
    let mut sent = Vec::new();
    for (at, one) in (1i64..).zip(&mut all) {
        sent.extend([1, 2].map(|n| one.append(at * 10 + n).unwrap().1));
    }
    for one in &mut all {
        for update in &sent {
            one.apply(update).unwrap();
        }
        assert_eq!(ints(one), [21, 31, 22, 32, 11, 12]);
    }
}
