//! Updates of the types by themselves: whatever decodes has one encoding, and does no harm where it
//! is applied.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_core::types::{
    Counter, DataType, InstanceId, MvMap, MvRegister, OrSet, Replicated, RgArray, Shared, Update,
};
use portolan_core::{Error, ReplicaId};
use portolan_fuzz::{assert_sound, sealed};

const OWN: ReplicaId = ReplicaId::new(0xfade);
const NOW: u64 = 1_767_225_600_000;

fuzz_target!(|content: &[u8]| {
    let _ = Update::decode(content);
    let bytes = sealed(content);
    let Ok(update) = Update::decode(&bytes) else {
        return;
    };
    // What is packed and short has a plain form, which is the one that is sent.
    let plain = update.encode();
    let again = Update::decode(&plain).map(|update| update.encode());
    assert_eq!(again.as_ref(), Ok(&plain));
    // Whoever brings his own transport sees to it that nobody writes under another's id.
    if update.applied().last_seq(OWN) > 0 {
        return;
    }
    let instance = update.instance();
    match update.data_type() {
        DataType::MvMap => check(MvMap::with_clock(instance, OWN, clock), &update, |map| {
            map.set("a", 1)
        }),
        DataType::RgArray => check(
            RgArray::with_clock(instance, OWN, clock),
            &update,
            |array| array.insert(0, 1).map(|(_, update)| update),
        ),
        DataType::OrSet => check(OrSet::with_clock(instance, OWN, clock), &update, |set| {
            set.insert(1)
        }),
        DataType::Counter => check(
            Counter::with_clock(instance, OWN, clock),
            &update,
            |counter| counter.add(1),
        ),
        DataType::MvRegister => check(
            MvRegister::with_clock(instance, OWN, clock),
            &update,
            |register| register.set(1),
        ),
    }
});

fn clock() -> u64 {
    NOW
}

/// That one which takes the update holds all of it, can be written to, and passes it on.
fn check<C: Replicated>(
    mut here: Shared<C>,
    update: &Update,
    write: impl FnOnce(&mut Shared<C>) -> Result<Update, Error>,
) {
    let other = InstanceId::new(!update.instance().get());
    assert!(
        Shared::<C>::with_clock(other, OWN, clock)
            .apply(update)
            .is_err()
    );
    here.observe(true);
    assert_eq!(
        &here.apply(update).expect("it is of this one"),
        update.applied()
    );
    assert!(here.apply(update).expect("again").is_empty());
    assert_sound(here.document());
    here.take_changes();

    let there = Shared::<C>::decode_with_clock(ReplicaId::new(0xdead), &here.encode(), clock);
    let mut there = there.expect("its own bytes decode");
    // What strangers made up may be at its limits.
    if let Ok(written) = write(&mut here) {
        assert_eq!(here.take_changes().len(), 1);
        there.apply(&written).expect("it is of this one");
    }
    assert_eq!(there.version(), here.version());
    assert_eq!(there.digest(), here.digest());
    assert_eq!(there.encode(), here.encode());
}
