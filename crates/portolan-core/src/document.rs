//! One replica of a document: a tree of dot stores and what is known of every operation.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::arrays::{Orphans, Unsettled};
use crate::change::Batch;
use crate::clock::{Clock, Timestamp};
use crate::containers::{Containers, ROOT};
use crate::dots::Version;
use crate::entries::{Entries, Siblings};
use crate::error::Error;
use crate::key::{Key, KeyRef};
use crate::log::RemovalLog;
use crate::order::Order;
use crate::past::Past;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::Replicas;
use crate::sequence::{Elements, Spot};
use crate::slab::{Entry, NONE, Slab, Slot};
use crate::stability::Tombstones;
use crate::transaction::Transaction;
use crate::value::Value;
use crate::view::MapView;

/// One replica of a document.
///
/// Holds the live values, the operations applied, the dots known to be dead, and a log of what
/// operations removed. Reads and single writes take constant time on average; time and
/// randomness come from the caller.
///
/// ```
/// use portolan_core::{Document, ReplicaId};
///
/// let now = 1_767_225_600_000; // milliseconds since the Unix epoch
/// let mut here = Document::new(ReplicaId::new(1));
/// let mut there = Document::new(ReplicaId::new(2));
/// here.set(now, "rate", 10)?;
/// there.set(now + 1, "rate", 20)?;
///
/// let delta = here.delta_since(&there.version());
/// there.apply(&delta);
/// assert_eq!(there.get("rate").and_then(|rate| rate.as_int()), Some(20));
/// assert_eq!(there.get_all("rate").count(), 2); // both were kept
/// # Ok::<(), portolan_core::Error>(())
/// ```
pub struct Document {
    pub(crate) replicas: Replicas,
    /// The number of the replica that writes here.
    pub(crate) own: u32,
    pub(crate) clock: Clock,
    pub(crate) slab: Slab,
    /// From container and key to the first of what stands under it.
    pub(crate) index: HashTable<Head>,
    hash_seed: u64,
    pub(crate) order: Mutex<Order>,
    /// Keys of the root.
    pub(crate) keys: usize,
    pub(crate) containers: Containers,
    /// The positions of all arrays.
    pub(crate) elements: Elements,
    /// Positions whose parent is not known so far.
    pub(crate) orphans: Orphans,
    pub(crate) unsettled: Unsettled,
    pub(crate) tombstones: Tombstones,
    /// Within a transaction: elements that remember something else now, and what they remembered.
    pub(crate) forgotten: Option<Vec<(Spot, Option<Value>)>>,
    /// The last own operation that came from outside, that is from a store.
    pub(crate) loaded: u64,
    pub(crate) log: RemovalLog,
    pub(crate) past: Past,
    /// Live operations, siblings counted each.
    pub(crate) live: usize,
    /// The sum of all fingerprints but of those to come later.
    pub(crate) digest: u128,
    /// Births whose fingerprints neither the digest nor the sums of pages have so far.
    pub(crate) unhashed: Vec<Spot>,
    /// The bytes of an entry on the way into its fingerprint.
    pub(crate) scratch: Vec<u8>,
    pub(crate) batches: Option<Vec<Batch>>,
}

impl Document {
    /// An empty document, written to under the id `replica`.
    pub fn new(replica: ReplicaId) -> Self {
        Self::with_hash_seed(replica, replica.get())
    }

    /// As [`new`](Self::new), with random bits that nobody outside knows, so that nobody can
    /// choose keys that collide in the index.
    pub fn with_hash_seed(replica: ReplicaId, seed: u64) -> Self {
        let mut replicas = Replicas::default();
        let own = replicas.intern(replica);
        Self {
            replicas,
            own,
            clock: Clock::default(),
            slab: Slab::default(),
            index: HashTable::new(),
            hash_seed: seed,
            order: Mutex::default(),
            keys: 0,
            containers: Containers::default(),
            elements: Elements::default(),
            orphans: Orphans::default(),
            unsettled: Unsettled::default(),
            tombstones: Tombstones::default(),
            forgotten: None,
            loaded: 0,
            log: RemovalLog::default(),
            past: Past::default(),
            live: 0,
            digest: 0,
            unhashed: Vec::new(),
            scratch: Vec::new(),
            batches: None,
        }
    }

    /// The id under which this replica writes.
    pub fn replica(&self) -> ReplicaId {
        self.replicas.get(self.own).id
    }

    /// Number of this replica's latest own operation, 0 before the first.
    pub fn own_seq(&self) -> u64 {
        self.replicas.get(self.own).applied.last_seq(self.replica())
    }

    /// The operations applied. Linear in the number of replicas.
    pub fn version(&self) -> Version {
        self.replicas.applied()
    }

    /// Whether every dot of `other` is applied. Linear in the size of `other`.
    pub fn covers(&self, other: &Version) -> bool {
        self.replicas.covers(other)
    }

    /// Fingerprint of the live state: equal states have equal digests. Constant time, but for the
    /// elements of arrays that were loaded since something was last removed or synchronised: these
    /// are counted each time.
    ///
    /// The sum of the XXH3-128 hashes of all live operations (dot, timestamp, key and value), so
    /// that it does not depend on the order in which they came.
    pub fn digest(&self) -> u128 {
        self.digest.wrapping_add(self.unhashed_sum())
    }

    /// The latest timestamp given or seen.
    pub fn latest(&self) -> Timestamp {
        self.clock.last()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The root, as a map among maps.
    pub fn root(&self) -> MapView<'_> {
        MapView::new(self, Some(ROOT))
    }

    /// The winner under the key: the sibling of the highest timestamp, then replica id. `None`
    /// where there are only containers; [`held`](Self::held) gives these too.
    #[inline]
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<&Value> {
        self.winner(ROOT, key.into())
    }

    #[inline]
    pub(crate) fn winner(&self, container: u32, key: KeyRef<'_>) -> Option<&Value> {
        let entry = &self.slab[self.find(container, key)?];
        (!entry.is_container()).then_some(&entry.value)
    }

    /// Whether there is anything under the key.
    pub fn contains_key<'k>(&self, key: impl Into<KeyRef<'k>>) -> bool {
        self.find(ROOT, key.into()).is_some()
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Siblings<'_> {
        Siblings::new(self, self.find(ROOT, key.into()).unwrap_or(NONE))
    }

    /// All keys in order, each with its siblings; a key that has only containers has none.
    pub fn iter(&self) -> Entries<'_> {
        self.range(..)
    }

    /// The keys of a range, in order. Finding the first costs log n (the first time that
    /// anything asks for an order, n log n), each further one constant time.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Entries<'_> {
        let bounds = (keys.start_bound().cloned(), keys.end_bound().cloned());
        Entries::new(self, ROOT, bounds)
    }

    /// The string keys that start so, in order.
    pub fn prefix(&self, prefix: &str) -> Entries<'_> {
        Entries::new(self, ROOT, starting_with(prefix))
    }

    /// Runs several operations as one: every replica sees all of them at once. Where the closure
    /// fails or panics, none of them has happened.
    ///
    /// `now` is the time in milliseconds since the Unix epoch.
    pub fn transact<T, E>(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut transaction = Transaction::begin(self, now);
        let done = f(&mut transaction)?;
        transaction.commit();
        Ok(done)
    }

    /// A transaction of one `set`: replaces every sibling seen here.
    pub fn set(
        &mut self,
        now: u64,
        key: impl Into<Key>,
        value: impl Into<Value>,
    ) -> Result<(), Error> {
        self.transact(now, |tx| tx.set(key, value))
    }

    /// A transaction of one `unset`: removes what is seen here under the key. False, and no
    /// operation, where there is nothing.
    pub fn unset<'k>(&mut self, now: u64, key: impl Into<KeyRef<'k>>) -> bool {
        let mut transaction = Transaction::begin(self, now);
        let removed = transaction.unset(key);
        transaction.commit();
        removed
    }

    /// Lets go of the log of what the operations in `stable` removed, those that every replica
    /// which may still ask is known to have applied. A replica that lacks any of them all the
    /// same gets the whole state instead of the difference.
    pub fn prune_log(&mut self, stable: &Version) {
        self.log.prune(stable, self.live);
    }

    /// Whether to record changes for [`take_changes`](Self::take_changes); off at first.
    pub fn observe(&mut self, on: bool) {
        if on != self.batches.is_some() {
            self.batches = on.then(Vec::new);
        }
    }

    /// The batches recorded since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Batch> {
        self.batches
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    pub(crate) fn dot_of(&self, entry: &Entry) -> Dot {
        Dot::new(self.replicas.get(entry.replica).id, entry.seq)
    }

    /// The order, settled.
    pub(crate) fn settled_order(&self) -> MutexGuard<'_, Order> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.settle(&self.slab);
        order
    }

    /// The order, built and settled.
    pub(crate) fn built_order(&self) -> MutexGuard<'_, Order> {
        let mut order = self.settled_order();
        if !order.is_built() {
            order.build(
                &self.slab,
                self.index.iter().map(|head| head.slot).collect(),
            );
        }
        order
    }

    /// The slots of what stands under a key, from the first.
    pub(crate) fn chain(&self, head: Slot) -> impl Iterator<Item = Slot> + '_ {
        let mut slot = head;
        std::iter::from_fn(move || {
            let current = Some(slot).filter(|slot| *slot != NONE)?;
            slot = self.slab[current].next;
            Some(current)
        })
    }

    /// The values under a key, winner first.
    pub(crate) fn values(&self, head: Slot) -> impl Iterator<Item = &Entry> + '_ {
        let entries = self.chain(head).map(|slot| &self.slab[slot]);
        entries.take_while(|entry| !entry.is_container())
    }

    /// The first of what stands under each key of a container, in order.
    pub(crate) fn heads(&self, container: u32) -> Vec<Slot> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut entries = Entries::new(self, container, all);
        std::iter::from_fn(|| entries.next_head()).collect()
    }

    /// Whether nothing shows in a container.
    pub(crate) fn is_bare(&self, container: u32) -> bool {
        match container {
            ROOT => self.keys == 0,
            inner => self.containers.get(inner).holder == NONE,
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    #[inline]
    pub(crate) fn hash(&self, container: u32, key: KeyRef<'_>) -> u32 {
        hash(self.hash_seed, container, key)
    }

    #[inline]
    pub(crate) fn find(&self, container: u32, key: KeyRef<'_>) -> Option<Slot> {
        let hash = self.hash(container, key);
        let same = |head: &Head| head.holds(&self.slab, hash, container, key);
        let head = self.index.find(spread(hash), same)?;
        Some(head.slot)
    }

    /// Room for so many more keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.index.reserve(keys, |head| spread(head.hash));
    }
}

/// The range of the string keys that start so.
pub(crate) fn starting_with(prefix: &str) -> (Bound<Key>, Bound<Key>) {
    let start = Bound::Included(Key::from(prefix));
    // The first text behind all that start so: the last character that can grow, grown.
    let mut text: Vec<char> = prefix.chars().collect();
    while let Some(last) = text.pop() {
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(last as u32 + 1)
        };
        if let Some(next) = next {
            let end = text.into_iter().chain([next]).collect::<String>();
            return (start, Bound::Excluded(Key::from(end)));
        }
    }
    let behind_all_text = Bound::Excluded(Key::Bytes([].into()));
    (start, behind_all_text)
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("replica", &self.replica())
            .field("version", &self.version())
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

#[inline]
fn hash(seed: u64, container: u32, key: KeyRef<'_>) -> u32 {
    let seed = seed ^ u64::from(container).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = match key {
        // Most keys are short: the branch for them alone is small enough to stand in line.
        KeyRef::Str(s) if s.len() <= 16 => xxh3_64_with_seed(s.as_bytes(), seed),
        KeyRef::Str(s) => hash_long(s.as_bytes(), seed),
        KeyRef::Int(i) => xxh3_64_with_seed(&i.to_le_bytes(), seed ^ 1),
        KeyRef::Bool(b) => xxh3_64_with_seed(&[u8::from(b)], seed ^ 2),
        KeyRef::Bytes(b) => xxh3_64_with_seed(b, seed ^ 3),
        KeyRef::Element(id) => {
            let bytes = [id.replica.get(), id.seq].map(u64::to_le_bytes);
            xxh3_64_with_seed(bytes.as_flattened(), seed ^ 4)
        }
    };
    (hash ^ (hash >> 32)) as u32
}

#[inline(never)]
fn hash_long(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// The index takes the place from the low bits and a tag from the high ones.
#[inline]
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A key in the index: the first of its siblings, beside the hash, so that neither growing nor
/// passing by reads entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) hash: u32,
    pub(crate) slot: Slot,
}

impl Head {
    #[inline]
    pub(crate) fn holds(self, slab: &Slab, hash: u32, container: u32, key: KeyRef<'_>) -> bool {
        self.hash == hash && {
            let entry = &slab[self.slot];
            entry.container == container && entry.key.is(key)
        }
    }
}
