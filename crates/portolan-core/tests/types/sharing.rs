//! Ids, clocks, transactions, changes and bytes.

use portolan_core::types::{
    Counter, DataType, InstanceId, MvRegister, OrSet, Refused, RgArray, Update,
};
use portolan_core::{DecodeError, Error, Origin, Place, ReplicaId, Timestamp, Value};

use crate::{ID, NOW, ints, replica};

#[test]
fn updates_of_another_instance_or_type_are_refused() {
    let mut set: OrSet = replica(1);
    let other = InstanceId::new(7);
    let mut stranger = OrSet::new(other, ReplicaId::new(2));
    let (ours, theirs) = (ID, other);
    let refused = set.apply(&stranger.insert("spy").unwrap());
    assert_eq!(refused, Err(Refused::OtherInstance { ours, theirs }));
    let told = refused.unwrap_err().to_string();
    assert!(
        told.contains(&ours.to_string()) && told.contains(&theirs.to_string()),
        "{told}"
    );

    let mut counter: Counter = replica(2);
    let update = counter.add(1).unwrap();
    let (ours, theirs) = (DataType::OrSet, DataType::Counter);
    assert_eq!(set.apply(&update), Err(Refused::OtherType { ours, theirs }));
    assert!(set.is_empty() && set.version().is_empty());
    let as_set = OrSet::decode(ReplicaId::new(3), &counter.encode());
    assert!(matches!(as_set, Err(DecodeError::Malformed { .. })));
    assert_eq!(ID.to_string().parse(), Ok(ID));
}

#[test]
fn each_type_can_be_given_another_clock() {
    let mut early = MvRegister::with_clock(ID, ReplicaId::new(1), || 1_000);
    let mut late = MvRegister::with_clock(ID, ReplicaId::new(2), || 2_000);
    early.set("early").unwrap();
    late.apply(&early.snapshot()).unwrap();
    late.set("late").unwrap();
    let at = |register: &MvRegister| register.read().next().unwrap().timestamp;
    assert_eq!(at(&early), Timestamp::from_millis(1_000));
    assert_eq!(at(&late), Timestamp::from_millis(2_000));
    // Whoever has heard of a later time goes on from there.
    early.apply(&late.snapshot()).unwrap();
    early.set("after it").unwrap();
    assert!(at(&early) > Timestamp::from_millis(2_000));
    early.set_clock(|| 9_000);
    early.set("on another clock").unwrap();
    assert_eq!(at(&early).millis(), 9_000);
    // That of this machine, unless told otherwise.
    let mut own = Counter::new(ID, ReplicaId::new(3));
    own.add(1).unwrap();
    assert!(own.document().latest().millis() > NOW);
}

#[test]
fn changes_are_told_of_each_type() {
    let (mut here, mut there): (RgArray, RgArray) = (replica(1), replica(2));
    here.observe(true);
    here.append(1).unwrap();
    there.apply(&here.snapshot()).unwrap();
    let (id, update) = there.insert(0, 2).unwrap();
    here.apply(&update).unwrap();
    let batches = here.take_changes();
    assert!(
        batches
            .iter()
            .map(|batch| batch.origin)
            .eq([Origin::Local, Origin::Remote])
    );
    let change = &batches[1].changes[0];
    assert_eq!(change.place, Place::Element { id, index: 0 });
    assert_eq!(change.new, Some(Value::from(2)));

    let mut counter: Counter = replica(1);
    counter.observe(true);
    counter.add(5).unwrap();
    let batches = counter.take_changes();
    assert_eq!(batches[0].changes[0].new, Some(Value::from(5)));
    assert!(counter.take_changes().is_empty());
}

#[test]
fn several_operations_are_one_update_or_none() {
    let mut array: RgArray = replica(1);
    let (ids, update) = array
        .transact(|tx| Ok::<_, Error>([tx.append(1)?, tx.insert(0, 0)?]))
        .unwrap();
    assert_eq!(ints(&array), [0, 1]);
    assert_eq!(array.index_of(ids[0]), Some(1));
    let mut there: RgArray = replica(2);
    there.observe(true);
    there.apply(&update).unwrap();
    assert_eq!((ints(&there), there.take_changes().len()), (vec![0, 1], 1));

    let failed = array.transact(|tx| {
        tx.append(2)?;
        tx.delete(9)
    });
    assert_eq!(
        failed.unwrap_err(),
        Error::IndexOutOfBounds { index: 9, len: 3 }
    );
    assert_eq!(array.encode(), there.encode());
    let ((), nothing) = array.transact(|_| Ok::<_, Error>(())).unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn damaged_or_foreign_bytes_are_refused() {
    let mut set: OrSet = replica(1);
    let bytes = set.insert("member").unwrap().encode();
    for cut in 0..bytes.len() {
        assert!(Update::decode(&bytes[..cut]).is_err());
    }
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(Update::decode(&damaged), Err(DecodeError::Checksum));
    }
    assert!(Update::decode(&set.document().encode()).is_err());
}

#[test]
fn update_format_1_is_as_it_was() {
    let mut set = OrSet::with_clock(ID, ReplicaId::new(0xada), || NOW);
    let bytes = set.insert("ada").unwrap().encode();
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = "01 21436587a9cbed0ff0debc9a78563412 03";
    let delta =
        "02 01da0a00000000000001000000010005000301010104056164610100010000010180808080d5b6bb9b0300";
    let expected: String = [header, delta, "5ce10216"].concat();
    assert_eq!(hex.concat(), expected.replace(' ', ""));
}
