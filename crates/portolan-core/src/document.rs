//! The document (draft of the interface; bodies follow).

use std::ops::RangeBounds;

use crate::change::Batch;
use crate::clock::Timestamp;
use crate::delta::Delta;
use crate::dots::{DotSet, Version};
use crate::error::Error;
use crate::key::{Key, KeyRef};
use crate::replica::{Dot, ReplicaId};
use crate::value::Value;

/// One replica of a document.
#[derive(Debug)]
pub struct Document {}

/// One of the concurrent values of a key.
#[derive(Clone, Copy, Debug)]
pub struct Sibling<'a> {
    /// Its value.
    pub value: &'a Value,
    /// The operation that wrote it.
    pub dot: Dot,
    /// When that was.
    pub timestamp: Timestamp,
}

/// The siblings of a key, winner first (highest timestamp, then replica id).
#[derive(Clone, Debug)]
pub struct Siblings<'a>(std::marker::PhantomData<&'a ()>);
impl<'a> Iterator for Siblings<'a> {
    type Item = Sibling<'a>;
    fn next(&mut self) -> Option<Sibling<'a>> {
        todo!()
    }
}

/// Keys in order, each with its siblings.
pub struct Entries<'a>(std::marker::PhantomData<&'a ()>);
impl<'a> Iterator for Entries<'a> {
    type Item = (&'a Key, Siblings<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// Operations that every replica sees as one change. Reads see what it has written so far.
#[derive(Debug)]
pub struct Transaction<'a>(std::marker::PhantomData<&'a ()>);

impl Transaction<'_> {
    /// Replaces every sibling seen here.
    pub fn set(&mut self, _key: impl Into<Key>, _value: impl Into<Value>) -> Result<(), Error> {
        todo!()
    }
    /// Removes what is seen here under the key; false (and no operation) where there is nothing.
    pub fn unset<'k>(&mut self, _key: impl Into<KeyRef<'k>>) -> bool {
        todo!()
    }
    /// The document as this transaction has left it so far.
    pub fn document(&self) -> &Document {
        todo!()
    }
}

impl Document {
    /// An empty document.
    pub fn new(_replica: ReplicaId) -> Self {
        todo!()
    }
    /// As [`new`](Self::new), with random bits that nobody outside knows, so that nobody can
    /// choose keys that collide in the index.
    pub fn with_hash_seed(_replica: ReplicaId, _seed: u64) -> Self {
        todo!()
    }
    /// The id under which this replica writes.
    pub fn replica(&self) -> ReplicaId {
        todo!()
    }
    /// Number of this replica's latest own operation, 0 before the first.
    pub fn own_seq(&self) -> u64 {
        todo!()
    }
    /// Takes a new id for what is written from now on. Own operations with a number above
    /// `after` are done again under the new id, and the old dots are forgotten, so that what
    /// others know under those dots can be applied (for a replica restored from a backup).
    pub fn change_replica(&mut self, _id: ReplicaId, _after: u64, _now: u64) {
        todo!()
    }
    /// The operations applied.
    pub fn version(&self) -> Version {
        todo!()
    }
    /// Whether every dot of `other` is applied, without building a version.
    pub fn covers(&self, _other: &Version) -> bool {
        todo!()
    }
    /// Fingerprint of the live state; constant time.
    pub fn digest(&self) -> u128 {
        todo!()
    }
    /// How many keys there are.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The winner under the key.
    pub fn get<'k>(&self, _key: impl Into<KeyRef<'k>>) -> Option<&Value> {
        todo!()
    }
    /// All siblings under the key, winner first.
    pub fn get_all<'k>(&self, _key: impl Into<KeyRef<'k>>) -> Siblings<'_> {
        todo!()
    }
    /// All keys in order.
    pub fn iter(&self) -> Entries<'_> {
        todo!()
    }
    /// The keys of a range, in order.
    pub fn range(&self, _keys: impl RangeBounds<Key>) -> Entries<'_> {
        todo!()
    }
    /// The string keys that start so, in order.
    pub fn prefix(&self, _prefix: &str) -> Entries<'_> {
        todo!()
    }
    /// Several operations as one; where the closure fails, none.
    pub fn transact<T, E>(
        &mut self,
        _now: u64,
        _f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        todo!()
    }
    /// A transaction of one `set`.
    pub fn set(
        &mut self,
        now: u64,
        key: impl Into<Key>,
        value: impl Into<Value>,
    ) -> Result<(), Error> {
        self.transact(now, |tx| tx.set(key, value))
    }
    /// A transaction of one `unset`.
    pub fn unset<'k>(&mut self, _now: u64, _key: impl Into<KeyRef<'k>>) -> bool {
        todo!()
    }
    /// What a replica at `version` lacks.
    pub fn delta_since(&self, _version: &Version) -> Delta {
        todo!()
    }
    /// What stands for these of the applied operations (at least; where the log of any of them
    /// was pruned, for all applied operations).
    pub fn delta_of(&self, _dots: &DotSet) -> Delta {
        todo!()
    }
    /// The own operations numbered above `seq`.
    pub fn own_since(&self, _seq: u64) -> Delta {
        todo!()
    }
    /// Joins a delta in; returns the operations that were new.
    pub fn apply(&mut self, _delta: &Delta) -> DotSet {
        todo!()
    }
    /// Whether to record changes for [`take_changes`](Self::take_changes); off at first.
    pub fn observe(&mut self, _on: bool) {
        todo!()
    }
    /// The batches recorded since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Batch> {
        todo!()
    }
    /// The whole state as the bytes of a [`Delta`], faster than through one.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}
