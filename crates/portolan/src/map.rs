//! A map: reads, writes, and waiting for the others.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use portolan_core::{Document, Key, KeyRef, ReplicaId, Transaction, Value, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::convert::{from_value, to_value};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::node::Handle;
use crate::pattern::Pattern;
use crate::shared::Shared;
use crate::status::MapStatus;
use crate::watch::{Entry, Watch};

/// A map that is open at a [`Node`](crate::Node). Cheap to clone, safe to share.
///
/// Reads see the latest state at once; they wait for no network and no disk. Writes are visible
/// here when they return, and reach the others by themselves.
#[derive(Clone)]
pub struct Map {
    handle: Arc<Handle>,
    pub(crate) shared: Arc<Shared>,
}

impl Map {
    pub(crate) fn new(handle: Arc<Handle>, shared: Arc<Shared>) -> Self {
        Self { handle, shared }
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The winner under the key.
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<Value> {
        self.read(|document| document.get(key).cloned())
    }

    /// The winner under the key, as the program's own type. See [`from_value`].
    pub fn get_as<'k, T: DeserializeOwned>(&self, key: impl Into<KeyRef<'k>>) -> Result<Option<T>> {
        self.get(key).map(|value| from_value(&value)).transpose()
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Vec<Value> {
        self.read(|document| {
            let siblings = document.get_all(key);
            siblings.map(|sibling| sibling.value.clone()).collect()
        })
    }

    /// Whether there is anything under the key.
    pub fn contains_key<'k>(&self, key: impl Into<KeyRef<'k>>) -> bool {
        self.read(|document| document.contains_key(key))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.read(Document::len)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Key> {
        self.read(|document| document.iter().map(|(key, _)| key.clone()).collect())
    }

    /// All entries, in the order of their keys: one moment of the map.
    pub fn entries(&self) -> Vec<Entry> {
        self.read(|document| Entry::matching(document, &Pattern::all()))
    }

    /// The entries whose string keys start so.
    pub fn prefix(&self, prefix: &str) -> Vec<Entry> {
        self.read(|document| {
            let entries = document.prefix(prefix);
            let entries = entries.filter_map(|(key, siblings)| Entry::new(key, siblings));
            entries.collect()
        })
    }

    /// The entries of a range of keys.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Vec<Entry> {
        self.read(|document| {
            let entries = document.range(keys);
            let entries = entries.filter_map(|(key, siblings)| Entry::new(key, siblings));
            entries.collect()
        })
    }

    /// Reads one moment of the map, without copying: siblings with their dots, digest, version.
    ///
    /// Writers wait while `f` runs: it should be quick, and must not use this map.
    pub fn read<T>(&self, f: impl FnOnce(&Document) -> T) -> T {
        self.shared.read(|state| f(state.replica.document()))
    }

    /// As [`read`](Self::read), with the number of the latest batch that the state holds: a watch
    /// that exists gives the batches after it, and only those, with greater numbers.
    pub fn read_numbered<T>(&self, f: impl FnOnce(&Document, u64) -> T) -> T {
        self.shared
            .read(|state| f(state.replica.document(), state.number))
    }

    /// Sets the value of a key, in place of every sibling seen here.
    pub fn set(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<()> {
        self.transact(|transaction| Ok(transaction.set(key, value)?))
    }

    /// As [`set`](Self::set), from the program's own type. See [`to_value`].
    pub fn set_as<T: Serialize + ?Sized>(&self, key: impl Into<Key>, content: &T) -> Result<()> {
        self.set(key, to_value(content)?)
    }

    /// Removes what is seen here under a key; false where there was nothing.
    pub fn unset<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<bool> {
        self.transact(|transaction| Ok(transaction.unset(key)))
    }

    /// Several operations that every replica sees as one change. Where `f` fails, none is done.
    ///
    /// Never waits for the disk. While the store cannot take writes, it fails with the reason.
    ///
    /// Readers wait while `f` runs: it should be quick, and must not use this map but through the
    /// transaction.
    pub fn transact<T, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.core().check_writable()?;
        self.shared
            .with(|state, now| state.replica.transact(now, f))
    }

    /// Watches the changes of keys that match a [`Pattern`], from now on.
    pub fn watch(&self, pattern: &str) -> Result<Watch> {
        let limit = self.core().options.watch_queue;
        Ok(Watch::new(
            self.clone(),
            Pattern::new(pattern)?,
            limit,
            false,
        ))
    }

    /// As [`watch`](Self::watch), starting with a snapshot of what matches now: nothing is missed
    /// between the two.
    pub fn watch_from_snapshot(&self, pattern: &str) -> Result<Watch> {
        let limit = self.core().options.watch_queue;
        Ok(Watch::new(
            self.clone(),
            Pattern::new(pattern)?,
            limit,
            true,
        ))
    }

    /// Waits until the map was synchronised with a server for the first time: what the server had
    /// then is here. Returns at once where the node was told of no server that shares this map.
    ///
    /// While no server can be reached it waits; set a timeout if that is not what you want. Fails
    /// where every server refuses the map, or breaks the protocol.
    pub async fn ready(&self) -> Result<()> {
        let servers: Vec<usize> = self.servers(|access| access.read).collect();
        if servers.is_empty() {
            return Ok(());
        }
        let ready = self.shared.wait(|| {
            self.shared.read(|state| {
                if state.synced {
                    return Some(Ok(()));
                }
                if self.core().is_closed() {
                    return Some(Err(Error::Closed));
                }
                let failures = servers.iter().map(|place| state.refused.get(place));
                let failures: Option<Vec<&Error>> = failures.collect();
                failures
                    .and_then(|all| all.first().copied().cloned())
                    .map(Err)
            })
        });
        ready.await
    }

    /// Waits until the store has all that this map holds now, from here or elsewhere. Returns at
    /// once where there is no store.
    ///
    /// An error says that the store does not take it now; the node goes on trying.
    pub async fn flush(&self) -> Result<()> {
        let Some(store) = &self.core().store else {
            return Ok(());
        };
        let written = self.shared.read(|state| state.written);
        let flushed = self.shared.wait(|| {
            if self.shared.read(|state| state.stored) >= written {
                return Some(Ok(()));
            }
            let closed = || store.is_closed().then_some(Error::Closed);
            store.failure().or_else(closed).map(Err)
        });
        flushed.await
    }

    /// Waits until every connected peer that takes writes has stored what was written here, and
    /// every server that this node was told of is among them: offline it waits. Fails where a
    /// server refuses the map or breaks the protocol, and where the own store takes no writes.
    pub async fn flush_peers(&self) -> Result<()> {
        let servers: Vec<usize> = self.servers(|access| access.write).collect();
        let seq = self.read(Document::own_seq);
        let replica = self.read(Document::replica);
        let flushed = self.shared.wait(|| {
            let failure = self.core().store.as_ref().and_then(|store| store.failure());
            if let Some(error) = failure {
                return Some(Err(error));
            }
            self.shared.read(|state| {
                let mut failures = servers.iter().filter_map(|place| state.refused.get(place));
                if let Some(error) = failures.next() {
                    return Some(Err(error.clone()));
                }
                // After a change of id what was written has new numbers: all that there are.
                let document = state.replica.document();
                let seq = if document.replica() == replica {
                    seq
                } else {
                    document.own_seq()
                };
                let connected = |place: &usize| {
                    let mut links = state.links.iter();
                    links.any(|(session, link)| {
                        link.place() == Some(*place)
                            && state
                                .replica
                                .session(*session)
                                .is_some_and(|session| session.peer.is_some() && !session.closed)
                    })
                };
                if servers.iter().all(connected) && state.replica.is_flushed(seq) {
                    return Some(Ok(()));
                }
                self.core().is_closed().then_some(Err(Error::Closed))
            })
        });
        flushed.await
    }

    /// The servers that share this map and are asked for such access.
    fn servers(
        &self,
        asked: impl Fn(portolan_core::sync::Access) -> bool,
    ) -> impl Iterator<Item = usize> {
        let servers = self.core().servers.iter().enumerate();
        servers.filter_map(move |(place, server)| {
            (server.peer.maps.matches(self.name()) && asked(server.peer.access)).then_some(place)
        })
    }

    /// The operations applied.
    pub fn version(&self) -> Version {
        self.shared.read(|state| state.replica.version().clone())
    }

    /// Fingerprint of the live state: replicas of equal versions have equal digests.
    pub fn digest(&self) -> u128 {
        self.read(Document::digest)
    }

    /// Tells the others a small state (at most 64 KiB) that lasts as long as the connection, such
    /// as a cursor; `None` ends it. It is never stored.
    pub fn set_presence(&self, state: Option<Bytes>) -> Result<()> {
        let presence = state;
        let set = self
            .shared
            .with(|state, now| state.replica.set_presence(now, presence));
        set.map_err(|error| Error::Presence(error.to_string()))
    }

    /// The presence of others.
    pub fn presences(&self) -> Vec<(ReplicaId, Bytes)> {
        self.shared.read(|state| {
            let presences = state.replica.presences();
            presences.map(|(id, state)| (id, state.clone())).collect()
        })
    }

    /// Waits until the presence of others is not what it was when this was called.
    pub async fn presence_changed(&self) -> Result<()> {
        let before = self.shared.read(|state| state.presence);
        let changed = self.shared.wait(|| {
            if self.shared.read(|state| state.presence) != before {
                return Some(Ok(()));
            }
            self.core().is_closed().then_some(Err(Error::Closed))
        });
        changed.await
    }

    /// How the map stands.
    pub fn status(&self) -> MapStatus {
        self.shared.status()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("name", &self.name()).finish()
    }
}
