//! A map: reads, writes, and waiting for the others.

use std::ops::RangeBounds;

use bytes::Bytes;
use portolan_core::{Document, Key, KeyRef, ReplicaId, Transaction, Value, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::status::MapStatus;
use crate::watch::{Entry, Watch};

/// A map that is open at a [`Node`](crate::Node). Cheap to clone, safe to share.
///
/// Reads see the latest state at once; they wait for no network and no disk. Writes are visible
/// here when they return, and reach the others by themselves.
#[derive(Clone)]
pub struct Map {}

impl Map {
    /// Its name.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// The winner under the key.
    pub fn get<'k>(&self, _key: impl Into<KeyRef<'k>>) -> Option<Value> {
        todo!()
    }

    /// The winner under the key, as the program's own type. See [`from_value`](crate::from_value).
    pub fn get_as<'k, T: DeserializeOwned>(
        &self,
        _key: impl Into<KeyRef<'k>>,
    ) -> Result<Option<T>> {
        todo!()
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, _key: impl Into<KeyRef<'k>>) -> Vec<Value> {
        todo!()
    }

    /// Whether there is anything under the key.
    pub fn contains_key<'k>(&self, _key: impl Into<KeyRef<'k>>) -> bool {
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

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Key> {
        todo!()
    }

    /// All entries, in the order of their keys: one moment of the map.
    pub fn entries(&self) -> Vec<Entry> {
        todo!()
    }

    /// The entries whose string keys start so.
    pub fn prefix(&self, _prefix: &str) -> Vec<Entry> {
        todo!()
    }

    /// The entries of a range of keys.
    pub fn range(&self, _keys: impl RangeBounds<Key>) -> Vec<Entry> {
        todo!()
    }

    /// Reads one moment of the map, without copying: siblings with their dots, digest, version.
    ///
    /// Writers wait while `f` runs: it should be quick, and must not write to this map.
    pub fn read<T>(&self, _f: impl FnOnce(&Document) -> T) -> T {
        todo!()
    }

    /// As [`read`](Self::read), with the number of the latest batch that the state holds: a watch
    /// that exists gives the batches after it, and only those, with greater numbers.
    pub fn read_numbered<T>(&self, _f: impl FnOnce(&Document, u64) -> T) -> T {
        todo!()
    }

    /// Sets the value of a key, in place of every sibling seen here.
    pub fn set(&self, _key: impl Into<Key>, _value: impl Into<Value>) -> Result<()> {
        todo!()
    }

    /// As [`set`](Self::set), from the program's own type. See [`to_value`](crate::to_value).
    pub fn set_as<T: Serialize + ?Sized>(&self, _key: impl Into<Key>, _content: &T) -> Result<()> {
        todo!()
    }

    /// Removes what is seen here under a key; false where there was nothing.
    pub fn unset<'k>(&self, _key: impl Into<KeyRef<'k>>) -> Result<bool> {
        todo!()
    }

    /// Several operations that every replica sees as one change. Where `f` fails, none is done.
    ///
    /// Readers wait while `f` runs: it should be quick, and must not use this map but through the
    /// transaction.
    pub fn transact<T, E: From<Error>>(
        &self,
        _f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        todo!()
    }

    /// Watches the changes of keys that match a [`Pattern`](crate::Pattern), from now on.
    pub fn watch(&self, _pattern: &str) -> Result<Watch> {
        todo!()
    }

    /// As [`watch`](Self::watch), starting with a snapshot of what matches now: nothing is missed
    /// between the two.
    pub fn watch_from_snapshot(&self, _pattern: &str) -> Result<Watch> {
        todo!()
    }

    /// Waits until the map was synchronised with a peer for the first time: what the peer had then
    /// is here. Returns at once where the node is told of no server that shares this map.
    ///
    /// While no server can be reached it waits; set a timeout if that is not what you want.
    pub async fn ready(&self) -> Result<()> {
        todo!()
    }

    /// Waits until the store has all that this map holds now, from here or elsewhere. Returns at
    /// once where there is no store.
    ///
    /// An error says that the store does not take it now; the node goes on trying.
    pub async fn flush(&self) -> Result<()> {
        todo!()
    }

    /// Waits until every connected peer that takes writes has stored what was written here, and
    /// every server that this node was told of is among them: offline it waits.
    pub async fn flush_peers(&self) -> Result<()> {
        todo!()
    }

    /// The operations applied.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Fingerprint of the live state: replicas of equal versions have equal digests.
    pub fn digest(&self) -> u128 {
        todo!()
    }

    /// Tells the others a small state (at most 64 KiB) that lasts as long as the connection, such
    /// as a cursor; `None` ends it. It is never stored.
    pub fn set_presence(&self, _state: Option<Bytes>) -> Result<()> {
        todo!()
    }

    /// The presence of others.
    pub fn presences(&self) -> Vec<(ReplicaId, Bytes)> {
        todo!()
    }

    /// Waits until the presence of others is not what it was when this was called.
    pub async fn presence_changed(&self) -> Result<()> {
        todo!()
    }

    /// How the map stands.
    pub fn status(&self) -> MapStatus {
        todo!()
    }
}
