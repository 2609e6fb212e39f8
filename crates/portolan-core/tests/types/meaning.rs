//! What concurrent writes come to.

use portolan_core::types::{Counter, Moment, MvMap, MvRegister, OrSet, Shared, Update};
use portolan_core::{Error, Key, ReplicaId, Value};

use crate::{ID, NOW, replica};

#[test]
fn a_sum_that_comes_after_what_reset_it_does_not_count() {
    let (mut here, mut there): (Counter, Counter) = (replica(1), replica(2));
    let sums: Vec<Update> = (1..=3).map(|n| here.add(n).unwrap()).collect();
    there.apply(&sums[2]).unwrap();
    assert_eq!(there.read(), 6);
    there.reset().unwrap().expect("there was something");
    for late in [0, 1] {
        there.apply(&sums[late]).unwrap();
        assert_eq!(there.read(), 0);
    }
}

#[test]
fn a_removal_that_several_did_travels_with_each_of_them() {
    let mut all: Vec<OrSet> = (1..=4).map(replica).collect();
    let first = all[0].insert("member").unwrap();
    for other in &mut all[1..] {
        other.apply(&first).unwrap();
    }
    let mine = all[0].remove("member").unwrap().expect("a member");
    let before = all[0].version();
    let theirs = all[1].remove("member").unwrap().expect("a member");
    all[0].apply(&theirs).unwrap();
    all[1].apply(&mine).unwrap();
    // The second removal by way of the first remover, the first by way of the second.
    let second = all[0].since(&before);
    all[2].apply(&second).unwrap();
    assert!(!all[2].contains("member"));
    let rest = all[1].since(&all[2].version());
    all[2].apply(&rest).unwrap();
    assert_eq!(all[2].version(), all[0].version());
    assert_eq!(all[2].encode(), all[0].encode());
}

#[test]
fn siblings_list_in_one_order_and_the_winner_leads() {
    let mut all: Vec<MvRegister> = (1..=3).map(replica).collect();
    let written: Vec<Update> = all.iter_mut().map(|one| one.set(7).unwrap()).collect();
    let more = all[0].set("later").unwrap();
    for (at, one) in all.iter_mut().enumerate() {
        for update in written.iter().cycle().skip(at).take(3).chain([&more]) {
            one.apply(update).unwrap();
        }
        let siblings: Vec<Value> = one.read().map(|sibling| sibling.value.clone()).collect();
        assert_eq!(
            siblings,
            [Value::from("later"), Value::from(7), Value::from(7)]
        );
        assert_eq!(one.winner(), Some(&Value::from("later")));
        let by: Vec<u64> = one
            .read()
            .map(|sibling| sibling.dot.replica.get())
            .collect();
        assert_eq!(by, [1, 3, 2]);
    }
    let cleared = all[1].clear().expect("three values");
    all[2].apply(&cleared).unwrap();
    assert_eq!((all[2].read().count(), all[2].clear()), (0, None));
}

#[test]
fn a_set_survives_an_unset_and_a_third_fed_by_history_alone_agrees() {
    for ids in [[1, 2], [2, 1]] {
        for skews in [[0, 0], [0, 60_000], [60_000, 0]] {
            for busy in [[0, 0], [60, 0], [0, 60]] {
                let side = |at: usize| -> MvMap {
                    let mut now = NOW + skews[at];
                    Shared::with_clock(ID, ReplicaId::new(ids[at]), move || {
                        now += 1;
                        now
                    })
                };
                let (mut setter, mut remover) = (side(0), side(1));
                let first = setter.set("k", "seen").unwrap();
                remover.apply(&first).unwrap();
                for (one, busy) in [&mut setter, &mut remover].into_iter().zip(busy) {
                    for n in 0..busy {
                        one.set(format!("busy {}", n % 3), n).unwrap();
                    }
                }
                setter.set("k", "survives").unwrap();
                remover.unset("k").expect("it is there");
                let histories = [&setter, &remover]
                    .map(|one| one.history(Moment::Open, Moment::Open).expect("it is kept"));
                let mut thirds: [MvMap; 2] = [replica(3), replica(4)];
                for (at, third) in thirds.iter_mut().enumerate() {
                    third.apply(&histories[at].update).unwrap();
                    third.apply(&histories[1 - at].update).unwrap();
                }
                let [to_remover, to_setter] = [
                    setter.since(&remover.version()),
                    remover.since(&setter.version()),
                ];
                setter.apply(&to_setter).unwrap();
                remover.apply(&to_remover).unwrap();
                for one in [&setter, &remover].into_iter().chain(&thirds) {
                    let all: Vec<&Value> = one.get_all("k").map(|sibling| sibling.value).collect();
                    assert_eq!(
                        all,
                        ["survives".into()].each_ref(),
                        "{ids:?} {skews:?} {busy:?}"
                    );
                    assert_eq!(one.encode(), setter.encode());
                }
            }
        }
    }
}

#[test]
fn five_beside_three_is_eight() {
    let (mut here, mut there): (Counter, Counter) = (replica(1), replica(2));
    let (five, three) = (here.add(5).unwrap(), there.add(3).unwrap());
    here.apply(&three).unwrap();
    there.apply(&five).unwrap();
    there.apply(&five).unwrap();
    assert_eq!((here.read(), there.read()), (8, 8));
    assert_eq!(here.reset().map(|update| update.is_some()), Ok(true));
    assert_eq!((here.read(), here.reset()), (0, Ok(None)));
    here.add(i64::MAX).unwrap();
    assert_eq!(here.add(1), Err(Error::CounterOverflow));
    assert_eq!(here.read(), i64::MAX);
}

#[test]
fn members_and_keys_that_look_alike_are_several() {
    let mut set: OrSet = replica(1);
    set.insert(1).unwrap();
    set.insert(1.0).unwrap();
    set.insert(true).unwrap();
    set.insert(vec![Value::from(1)]).unwrap();
    assert_eq!(set.len(), 4);
    assert!(set.contains(1.0) && !set.contains("1") && !set.contains(2));
    assert!(set.remove(1.0).unwrap().is_some() && set.remove(1.0).unwrap().is_none());
    assert!(set.contains(1) && set.contains(true));

    let mut map: MvMap = replica(1);
    let keys = [Key::from("__proto__"), Key::from("toString"), Key::from("")];
    let more = [
        Key::from(0),
        Key::from("0"),
        Key::from(false),
        Key::from(vec![0u8]),
    ];
    for (n, key) in (0i64..).zip(keys.iter().chain(&more)) {
        map.set(key, n).unwrap();
    }
    assert_eq!(map.len(), 7);
    assert_eq!(
        (map.get(0), map.get("0")),
        (Some(&3.into()), Some(&4.into()))
    );
    let texts = map.range(Key::from("")..=Key::from("toString"));
    assert_eq!(
        texts.map(|(key, _)| key.to_string()).collect::<Vec<_>>(),
        ["", "0", "__proto__", "toString"]
    );
}
