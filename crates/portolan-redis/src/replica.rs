//! The map in this process's memory.
//!
//! Many short locks in place of one: a read takes the lock of its shard alone, so it meets a
//! writer once in `SHARDS` times, and readers on several threads share no line of cache but that
//! of the value they clone. Who writes holds the lock of `Order` too, so there is one at a time.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry as Slot, HashTable};
use parking_lot::RwLock;

use crate::key::Key;

/// A power of two.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(crate) struct Replica {
    shards: Box<[Shard]>,
    hasher: DefaultHashBuilder,
    len: AtomicUsize,
}

/// Two shards share no line of cache, nor the pair of lines that processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<HashTable<(Key, Bytes)>>);

impl Default for Replica {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            len: AtomicUsize::new(0),
        }
    }
}

impl Replica {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        let hash = self.hash(key);
        let shard = self.shard(hash).read();
        let entry = shard.find(hash, |(held, _)| held.as_bytes() == key);
        entry.map(|(_, value)| value.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Writes an entry; returns what was there.
    pub(crate) fn set(&self, key: Key, value: Bytes) -> Option<Bytes> {
        let hash = self.hash(key.as_bytes());
        let mut shard = self.shard(hash).write();
        let same = |(held, _): &(Key, Bytes)| *held == key;
        match shard.entry(hash, same, |(held, _)| self.hash(held.as_bytes())) {
            Slot::Occupied(mut slot) => Some(std::mem::replace(&mut slot.get_mut().1, value)),
            Slot::Vacant(slot) => {
                slot.insert((key, value));
                self.len.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Writes an entry that is copied, its key only where it is new.
    pub(crate) fn set_copied(&self, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        let hash = self.hash(key);
        let mut shard = self.shard(hash).write();
        if let Some((_, held)) = shard.find_mut(hash, |(held, _)| held.as_bytes() == key) {
            *held = value;
            return;
        }
        let rehash = |(held, _): &(Key, Bytes)| self.hash(held.as_bytes());
        shard.insert_unique(hash, (Key::copy(key), value), rehash);
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Option<Bytes> {
        let hash = self.hash(key);
        let mut shard = self.shard(hash).write();
        let same = |(held, _): &(Key, Bytes)| held.as_bytes() == key;
        let slot = shard.find_entry(hash, same).ok()?;
        let ((_, value), _) = slot.remove();
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(value)
    }

    /// Removes all; returns what was there, in no order.
    pub(crate) fn clear(&self) -> Vec<(Key, Bytes)> {
        let mut gone = Vec::with_capacity(self.len());
        for Shard(shard) in &self.shards {
            gone.extend(shard.write().drain());
        }
        self.len.store(0, Ordering::Relaxed);
        gone
    }

    /// Makes room for so many entries.
    pub(crate) fn reserve(&self, entries: usize) {
        let each = entries / SHARDS;
        // Shards are not of one size: a margin of an eighth saves most of them a second table.
        for Shard(shard) in &self.shards {
            let hash = |(key, _): &(Key, Bytes)| self.hash(key.as_bytes());
            shard.write().reserve(each + each / 8, hash);
        }
    }

    /// Calls with every entry, in no order. One shard is locked at a time.
    pub(crate) fn each(&self, mut call: impl FnMut(&Key, &Bytes)) {
        for Shard(shard) in &self.shards {
            for (key, value) in shard.read().iter() {
                call(key, value);
            }
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// By bits that the tables themselves do not look at.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<(Key, Bytes)>> {
        &self.shards[(hash >> 40) as usize % SHARDS].0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_replica_is_a_map(steps in prop::collection::vec((0u8..40, prop::option::of(0u8..9), any::<bool>()), 0..300)) {
            let replica = Replica::default();
            let mut model = BTreeMap::new();
            for (key, value, copied) in steps {
                let key = [b'k', key];
                let (held, expected) = match value {
                    Some(value) => {
                        let value = Bytes::from(vec![value]);
                        let held = if copied {
                            let held = replica.get(&key);
                            replica.set_copied(&key, &value);
                            held
                        } else {
                            replica.set(Key::copy(&key), value.clone())
                        };
                        (held, model.insert(key, value))
                    }
                    None => (replica.delete(&key), model.remove(&key)),
                };
                prop_assert_eq!(held, expected);
                prop_assert_eq!(replica.get(&key), model.get(&key).cloned());
                prop_assert_eq!(replica.len(), model.len());
            }
            let mut all = BTreeMap::new();
            replica.each(|key, value| drop(all.insert(key.as_bytes().to_vec(), value.clone())));
            let model: BTreeMap<_, _> = model.into_iter().map(|(k, v)| (k.to_vec(), v)).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!(replica.clear().len(), model.len());
            prop_assert_eq!(replica.len(), 0);
        }
    }
}
