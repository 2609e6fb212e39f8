//! Live operations in memory, each at a slot that does not move: two lists.

use alloc::vec::Vec;
use core::mem::replace;
use core::ops::{Index, IndexMut};

use crate::key::Key;
pub(crate) use crate::record::{BIRTH, Entry, NONE, Operation, Record, Slot, Stamp};

#[derive(Debug, Default)]
pub(crate) struct Slab {
    records: Vec<Record>,
    /// Those of each record.
    stamps: Vec<Stamp>,
    vacant: Vec<Slot>,
}

impl Slab {
    pub(crate) fn insert(&mut self, entry: Entry) -> Slot {
        let (record, stamp, _) = entry.split();
        self.place(record, stamp)
    }

    /// Lets a container of that number stand among the siblings of its key.
    pub(crate) fn insert_container(
        &mut self,
        container: u32,
        key: Key,
        _hash: u32,
        number: u32,
    ) -> Slot {
        self.place(Record::container(container, key, number), Stamp::default())
    }

    fn place(&mut self, record: Record, stamp: Stamp) -> Slot {
        if let Some(slot) = self.vacant.pop() {
            self.records[slot as usize] = record;
            self.stamps[slot as usize] = stamp;
            return slot;
        }
        let slot = self.records.len() as Slot;
        assert!(
            slot < BIRTH,
            "a document holds at most 2^31 values in maps, sets and counters"
        );
        self.records.push(record);
        self.stamps.push(stamp);
        slot
    }

    /// Takes an entry out; with the last one the memory is given back.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        let record = replace(&mut self.records[slot as usize], Record::vacant(0));
        let stamp = self.stamp(slot);
        self.vacant.push(slot);
        if self.vacant.len() == self.records.len() {
            *self = Self::default();
        }
        Entry::of(record, stamp, 0)
    }

    /// Puts an entry in the place of another, and gives that.
    pub(crate) fn replace(&mut self, slot: Slot, entry: Entry) -> Entry {
        let (record, stamp, _) = entry.split();
        let record = replace(&mut self.records[slot as usize], record);
        let stamp = replace(&mut self.stamps[slot as usize], stamp);
        Entry::of(record, stamp, 0)
    }

    pub(crate) fn stamp(&self, slot: Slot) -> Stamp {
        self.stamps[slot as usize]
    }

    /// The live operation at a slot.
    pub(crate) fn operation(&self, slot: Slot) -> Operation<'_> {
        let (record, stamp) = (&self[slot], self.stamp(slot));
        Operation {
            container: record.container,
            key: &record.key,
            value: &record.value,
            replica: record.replica,
            timestamp: stamp.timestamp,
            seq: stamp.seq,
        }
    }
}

impl Index<Slot> for Slab {
    type Output = Record;

    fn index(&self, slot: Slot) -> &Record {
        &self.records[slot as usize]
    }
}

impl IndexMut<Slot> for Slab {
    fn index_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.records[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_stays_at_its_slot_until_it_is_taken_out(
            steps in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 0..200),
        ) {
            let (mut slab, mut model) = (Slab::default(), Vec::<(Slot, u64)>::new());
            for (seq, (step, at)) in (1..).zip(steps) {
                let stamp = Stamp { seq, ..Stamp::default() };
                let fresh = Entry::of(Record::vacant(NONE), stamp, 0);
                let at = (!model.is_empty()).then(|| at.index(model.len()));
                match (step, at) {
                    (0, Some(at)) => {
                        let (slot, seq) = model.swap_remove(at);
                        prop_assert_eq!(slab.remove(slot).seq, seq);
                    }
                    (1, Some(at)) => {
                        let before = core::mem::replace(&mut model[at].1, seq);
                        prop_assert_eq!(slab.replace(model[at].0, fresh).seq, before);
                    }
                    _ => model.push((slab.insert(fresh), seq)),
                }
                for (slot, seq) in &model {
                    prop_assert_eq!(slab.operation(*slot).seq, *seq);
                }
            }
        }
    }
}
