//! A map, the root or one within it: reads, writes, and waiting for the others.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use portolan_core::sync::MemberStatus;
use portolan_core::{
    Document, Dot, Entries, Key, KeyRef, MapMut, MapView, ReplicaId, Transaction, Value, Version,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::array::Array;
use crate::bus::BusError;
use crate::content::Content;
use crate::convert::{from_value, to_value};
use crate::core::Core;
use crate::counter::Counter;
use crate::entry::{Entry, Walk};
use crate::error::{Error, Result};
use crate::location::{map_at, map_mut};
use crate::node::Handle;
use crate::pattern::{Pattern, Scope, path_text};
use crate::set::Set;
use crate::shared::Shared;
use crate::site::Site;
use crate::status::MapStatus;
use crate::watch::Watch;
use crate::within::{Held, Within};

/// A map that is open at a [`Node`](crate::Node), or one within it. Cheap to clone, safe to share.
///
/// Reads see the latest state at once; they wait for no network and no disk. Writes are visible
/// here when they return, and reach the others by themselves.
///
/// Under a key stand values, and containers: [`map`](Self::map), [`array`](Self::array),
/// [`or_set`](Self::or_set) and [`counter`](Self::counter) give handles to them, which cost nothing
/// and make nothing. A container is there as long as something is in it. What concerns the whole
/// ([`read`](Self::read), [`transact`](Self::transact), [`flush`](Self::flush), …) concerns the open
/// map, from whichever of its maps it is called.
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let node = portolan::Node::builder().spawn().await?;
/// let fleet = node.open("fleet").await?;
/// let ada = fleet.map("users").map("ada");
/// ada.set("name", "Ada")?;
/// ada.array("inbox").append("hello")?;
/// ada.or_set("tags").insert("admin")?;
/// ada.counter("hits").add(3)?;
/// assert_eq!(ada.counter("hits").get(), 3);
///
/// let mut users: std::collections::BTreeMap<String, serde_json::Value> =
///     fleet.get_as("users")?.unwrap_or_default();
/// let shown = serde_json::json!({"name": "Ada", "inbox": ["hello"], "tags": ["admin"], "hits": 3});
/// assert_eq!(users.remove("ada"), Some(shown));
/// # Ok::<(), portolan::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Map {
    site: Site,
}

impl Map {
    pub(crate) fn new(handle: Arc<Handle>, shared: Arc<Shared>) -> Self {
        let path = Arc::default();
        Self::at(Site {
            handle,
            shared,
            path,
        })
    }

    pub(crate) fn at(site: Site) -> Self {
        Self { site }
    }

    fn core(&self) -> &Arc<Core> {
        self.site.core()
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.site.shared
    }

    fn view<T>(&self, f: impl FnOnce(MapView<'_>) -> T) -> Option<T> {
        self.site
            .read(|document| map_at(document, &self.site.path).map(f))
    }

    fn edit<T>(
        &self,
        f: impl FnOnce(MapMut<'_, '_>) -> Result<T, portolan_core::Error>,
    ) -> Result<T> {
        self.site
            .transact(|transaction| Ok(f(map_mut(transaction, &self.site.path)?)?))
    }

    /// The name of the open map.
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// The keys that lead here; none for the root.
    pub fn path(&self) -> &[Key] {
        &self.site.path
    }

    /// The map under a key.
    #[must_use]
    pub fn map(&self, key: impl Into<Key>) -> Map {
        Map::at(self.site.under(key.into()))
    }

    /// The array under a key.
    pub fn array(&self, key: impl Into<Key>) -> Array {
        Array(self.site.under(key.into()))
    }

    /// The observed-remove set under a key.
    pub fn or_set(&self, key: impl Into<Key>) -> Set {
        Set(self.site.under(key.into()))
    }

    /// The counter under a key.
    pub fn counter(&self, key: impl Into<Key>) -> Counter {
        Counter(self.site.under(key.into()))
    }

    /// The winner under the key; `None` where there are only containers.
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<Value> {
        self.view(|map| map.get(key).cloned())?
    }

    /// What the key shows, as the program's own type: a value, or a container with all that is in
    /// it, whichever was written last. See [`from_value`]; a map is read as a struct or a map, an
    /// array or a set as a list, a counter as a number.
    pub fn get_as<'k, T: DeserializeOwned>(&self, key: impl Into<KeyRef<'k>>) -> Result<Option<T>> {
        let shown = self.view(|map| map.held(key).first().map(Content::of));
        match shown.flatten() {
            None => Ok(None),
            Some(content) => from_value(&content.to_value()?).map(Some),
        }
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Vec<Value> {
        let all = self.view(|map| {
            let siblings = map.get_all(key);
            siblings.map(|sibling| sibling.value.clone()).collect()
        });
        all.unwrap_or_default()
    }

    /// Everything under the key: values and containers with all that is in them, the kind written
    /// last first.
    pub fn held<'k>(&self, key: impl Into<KeyRef<'k>>) -> Vec<Content> {
        let held = self.view(|map| Content::of_all(&map.held(key)));
        held.unwrap_or_default()
    }

    /// Whether there is anything under the key.
    pub fn contains_key<'k>(&self, key: impl Into<KeyRef<'k>>) -> bool {
        self.view(|map| map.contains_key(key)).unwrap_or(false)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.view(|map| map.len()).unwrap_or(0)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Key> {
        let keys = self.view(|map| map.iter().map(|(key, _)| key.clone()).collect());
        keys.unwrap_or_default()
    }

    /// All that the map holds, at every depth, in the order of the keys: one moment of it.
    pub fn entries(&self) -> Vec<Entry> {
        self.range(..)
    }

    /// All that stands under the string keys that start so.
    pub fn prefix(&self, prefix: &str) -> Vec<Entry> {
        self.collect(|map| map.prefix(prefix))
    }

    /// All that stands under a range of keys.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Vec<Entry> {
        self.collect(|map| map.range(keys))
    }

    fn collect(&self, keys: impl for<'a> FnOnce(&MapView<'a>) -> Entries<'a>) -> Vec<Entry> {
        let everything = Scope::new(Pattern::all());
        let entries = self.view(|map| {
            let mut walk = Walk::new(&everything, self.site.path.to_vec());
            for (key, held) in keys(&map).held() {
                walk.key(key, &held);
            }
            walk.entries
        });
        entries.unwrap_or_default()
    }

    /// Reads one moment of the open map, from its root, without copying: siblings with their dots,
    /// digest, version.
    ///
    /// Writers wait while `f` runs: it should be quick. What it writes to this map itself is refused
    /// ([`Error::Held`]); where it uses another map, everybody must do so in the same order.
    pub fn read<T>(&self, f: impl FnOnce(&Document) -> T) -> T {
        self.site.read(|document| {
            let _within = Within::new(self.shared(), Held::Reading);
            f(document)
        })
    }

    /// As [`read`](Self::read), with the number of the latest batch that the state holds: a watch
    /// that exists gives the batches after it, and only those, with greater numbers.
    pub fn read_numbered<T>(&self, f: impl FnOnce(&Document, u64) -> T) -> T {
        self.shared().read(|state| {
            let _within = Within::new(self.shared(), Held::Reading);
            f(state.replica.document(), state.number)
        })
    }

    /// Sets the value of a key, in place of every sibling seen here.
    pub fn set(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<()> {
        self.edit(|mut map| map.set(key, value))
    }

    /// As [`set`](Self::set), from the program's own type, as one value. See [`to_value`].
    pub fn set_as<T: Serialize + ?Sized>(&self, key: impl Into<Key>, content: &T) -> Result<()> {
        self.set(key, to_value(content)?)
    }

    /// Removes what is seen here under a key, containers included; false where there was nothing.
    pub fn unset<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<bool> {
        self.edit(|mut map| map.unset(key))
    }

    /// Removes everything that is seen here in the map; false where there was nothing.
    pub fn clear(&self) -> Result<bool> {
        self.edit(|mut map| map.clear())
    }

    /// Several operations that every replica sees as one change. Where `f` fails, none is done.
    /// The transaction starts at the root of the open map.
    ///
    /// Never waits for the disk. While the store cannot take writes, it fails with the reason.
    ///
    /// Readers wait while `f` runs: it should be quick, and use this map through the transaction
    /// alone. A write beside it is refused ([`Error::Held`]). Where it uses another map, everybody
    /// must do so in the same order.
    ///
    /// # Panics
    ///
    /// Where `f` reads this map beside the transaction, or panics itself: nothing is done then.
    pub fn transact<T, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.site.transact(|transaction| {
            let _within = Within::new(self.shared(), Held::Writing);
            f(transaction)
        })
    }

    /// Watches the changes beneath this map whose paths from here match a [`Pattern`], from now on.
    /// What is told has its whole path. The path of an array, a set or a counter is that of the
    /// container, and an element of an array on the way is a segment of its own: `users/*/inbox`
    /// are the changes of all inboxes, `users/**` all that happens beneath `users`.
    pub fn watch(&self, pattern: &str) -> Result<Watch> {
        self.watch_scope(pattern, false)
    }

    /// As [`watch`](Self::watch), starting with a snapshot of what matches now: nothing is missed
    /// between the two.
    pub fn watch_from_snapshot(&self, pattern: &str) -> Result<Watch> {
        self.watch_scope(pattern, true)
    }

    fn watch_scope(&self, pattern: &str, snapshot: bool) -> Result<Watch> {
        let scope = Scope::beneath(&self.site.path, Pattern::new(pattern)?);
        let limit = self.core().options.watch_queue;
        Ok(Watch::new(self.clone(), scope, limit, snapshot))
    }

    /// Waits until the map was synchronised with a server for the first time: what the server had
    /// then is here. What was on the bus counts as well as a server; a server that has not read the
    /// map from its own bus counts once it has. Returns at once where the node was told of no server
    /// that shares this map, and of no bus.
    ///
    /// While no server can be reached, or has the map, it waits: set a timeout if that is not what
    /// you want, and ask [`unready`](Self::unready) for the reason. Fails where every server refuses
    /// the map, or breaks the protocol.
    pub async fn ready(&self) -> Result<()> {
        self.shared().wait(|| self.readiness()).await
    }

    /// Why [`ready`](Self::ready) would wait, or fail; nothing where it would return.
    pub fn unready(&self) -> Option<Error> {
        match self.readiness() {
            Some(Ok(())) => return None,
            Some(Err(error)) => return Some(error),
            None => {}
        }
        let core = self.core();
        let mut servers = self.servers(|access| access.read);
        let cause = servers.find_map(|place| {
            let lane = self.shared().lane;
            let told = self.shared().read(|state| {
                let url = || core.servers[place].peer.url.clone();
                let incomplete = state.is_incomplete_at(place);
                let incomplete = incomplete.then(|| Error::Incomplete { url: url() });
                incomplete.or_else(|| state.refused.get(&place).cloned())
            });
            told.or_else(|| core.servers[place].failure(lane))
        });
        let cause = cause.or_else(|| self.unread());
        Some(cause.unwrap_or(Error::Underway))
    }

    /// Whether all is here that is waited for at first, or will not come.
    fn readiness(&self) -> Option<Result<()>> {
        let servers: Vec<usize> = self.servers(|access| access.read).collect();
        let on_bus = self.core().bus.is_some();
        if servers.is_empty() && !on_bus {
            return Some(Ok(()));
        }
        self.shared().read(|state| {
            if state.synced || (on_bus && state.bus.joined) {
                return Some(Ok(()));
            }
            if self.core().is_closed() {
                return Some(Err(Error::Closed));
            }
            let failures = servers.iter().map(|place| state.refused.get(place));
            let failures: Option<Vec<&Error>> = failures.collect();
            failures
                .filter(|_| !on_bus)
                .and_then(|all| all.first().copied().cloned())
                .map(Err)
        })
    }

    /// Why what is shown may lack what the others on the bus have: the map was not read from there
    /// since it was opened, and no store had it either. Nothing where it was, and without a bus.
    pub fn unread(&self) -> Option<Error> {
        self.shared().read(|state| {
            if !state.replica.is_incomplete() {
                return None;
            }
            let failure = state.bus.failure.clone();
            let unread = || BusError::Unreachable("it was not read yet".to_owned());
            Some(Error::Bus(failure.unwrap_or_else(unread)))
        })
    }

    /// Waits until the store has all that this map holds now, from here or elsewhere, and the bus
    /// has it. Returns at once where there is neither.
    ///
    /// An error says that the store does not take it now; the node goes on trying. While the bus is
    /// away it waits; set a timeout if that is not what you want.
    pub async fn flush(&self) -> Result<()> {
        self.flush_store().await?;
        if self.core().bus.is_none() {
            return Ok(());
        }
        let last = self.shared().read(|state| state.replica.last_publication());
        let flushed = self.shared().wait(|| {
            if self.shared().read(|state| state.replica.last_published()) >= last {
                return Some(Ok(()));
            }
            self.core().is_closed().then_some(Err(Error::Closed))
        });
        flushed.await
    }

    async fn flush_store(&self) -> Result<()> {
        let Some(store) = &self.core().store else {
            return Ok(());
        };
        let written = self.shared().read(|state| state.written);
        let flushed = self.shared().wait(|| {
            if self.shared().read(|state| state.stored) >= written {
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
        let last = self.read(|document| Dot::new(document.replica(), document.own_seq()));
        let flushed = self.shared().wait(|| {
            let failure = self.core().store.as_ref().and_then(|store| store.failure());
            if let Some(error) = failure {
                return Some(Err(error));
            }
            self.shared().read(|state| {
                let mut failures = servers.iter().filter_map(|place| state.refused.get(place));
                if let Some(error) = failures.next() {
                    return Some(Err(error.clone()));
                }
                let document = state.replica.document();
                // Under an id that was given back all is stored.
                let current = Some(document.current(last));
                let own = current.filter(|dot| dot.replica == document.replica());
                let seq = own.map_or(0, |dot| dot.seq);
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
        self.shared().read(|state| state.replica.version().clone())
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
            .shared()
            .with(|state, now| state.replica.set_presence(now, presence));
        set.map_err(|error| Error::Presence(error.to_string()))
    }

    /// The presence of others.
    pub fn presences(&self) -> Vec<(ReplicaId, Bytes)> {
        self.shared().read(|state| {
            let presences = state.replica.presences();
            presences.map(|(id, state)| (id, state.clone())).collect()
        })
    }

    /// Waits until the presence of others is not what it was when this was called.
    pub async fn presence_changed(&self) -> Result<()> {
        let before = self.shared().read(|state| state.presence);
        let changed = self.shared().wait(|| {
            if self.shared().read(|state| state.presence) != before {
                return Some(Ok(()));
            }
            self.core().is_closed().then_some(Err(Error::Closed))
        });
        changed.await
    }

    /// Who else holds the map, as far as is known here; of all sub-maps of one map the same.
    ///
    /// What is deleted in arrays, and what is only kept for replicas that lag behind, goes once all
    /// members have stored the deletion. One that is silent for
    /// [`forget_after`](portolan_core::sync::Config::forget_after) (a week) is not waited for any
    /// more. Should it return later, it goes on from the state of the others, and does again what
    /// it wrote meanwhile: nothing of that is lost, but elements of arrays may get a new id, and
    /// its watchers a snapshot.
    pub fn members(&self) -> Vec<MemberStatus> {
        let now = self.core().clock.now();
        self.shared()
            .read(|state| state.replica.members(now).collect())
    }

    /// Waits for a member no longer; false where it is none. For a replica that will not come back.
    /// It is in the store once [`flush`](Self::flush) has returned.
    pub fn forget(&self, replica: ReplicaId) -> Result<bool> {
        self.shared().core()?;
        Ok(self
            .shared()
            .with(|state, now| state.replica.forget(now, replica)))
    }

    /// How the map stands.
    pub fn status(&self) -> MapStatus {
        self.shared().status()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Map");
        shown.field("name", &self.name());
        if !self.path().is_empty() {
            shown.field("path", &path_text(self.path()));
        }
        shown.finish()
    }
}
