//! One replica of a document: a tree of dot stores and what is known of every operation.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Bound, RangeBounds};

use crate::arrays::{Orphans, Unsettled};
use crate::change::Batch;
use crate::clock::{Clock, Timestamp};
use crate::containers::{Containers, ROOT};
use crate::dots::Version;
use crate::entries::{Entries, Siblings};
use crate::error::Error;
use crate::index::Index;
use crate::journal::Recorder;
use crate::key::{Key, KeyRef};
#[cfg(not(feature = "small"))]
use crate::lock::Guard;
use crate::lock::Lock;
use crate::log::RemovalLog;
use crate::order::{self, Order};
use crate::past::Past;
use crate::renaming::Renaming;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::Replicas;
use crate::sequence::{Elements, Spot};
use crate::slab::{Entry, NONE, Operation, Slab, Slot};
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
    pub(crate) index: Index,
    pub(crate) order: Lock<Order>,
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
    /// What own operations were called before they were done again under another id, oldest first.
    pub(crate) renamings: Vec<Renaming>,
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
    pub(crate) recorder: Option<Recorder>,
}

impl Document {
    /// An empty document, written to under the id `replica`.
    pub fn new(replica: ReplicaId) -> Self {
        Self::with_hash_seed(replica, replica.get())
    }

    /// As [`new`](Self::new), keeping nothing of what is replaced or removed until
    /// [`keep_past`](Self::keep_past) says so. A program that never does is smaller: what looks
    /// back is not part of it.
    pub fn without_past(replica: ReplicaId) -> Self {
        Self::with_past(replica, replica.get(), Past::unkept())
    }

    /// As [`new`](Self::new), with random bits that nobody outside knows, so that nobody can
    /// choose keys that collide in the index.
    pub fn with_hash_seed(replica: ReplicaId, seed: u64) -> Self {
        Self::with_past(replica, seed, Past::default())
    }

    fn with_past(replica: ReplicaId, seed: u64, past: Past) -> Self {
        let mut replicas = Replicas::default();
        let own = replicas.intern(replica);
        Self {
            replicas,
            own,
            clock: Clock::default(),
            slab: Slab::default(),
            index: Index::with_seed(seed),
            order: Lock::default(),
            keys: 0,
            containers: Containers::new(seed),
            elements: Elements::default(),
            orphans: Orphans::default(),
            unsettled: Unsettled::default(),
            tombstones: Tombstones::default(),
            forgotten: None,
            loaded: 0,
            renamings: Vec::new(),
            log: RemovalLog::default(),
            past,
            live: 0,
            digest: 0,
            unhashed: Vec::new(),
            scratch: Vec::new(),
            recorder: None,
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
    /// elements of arrays that were loaded, or inserted by a large transaction, since something was
    /// last removed or synchronised: these are counted each time.
    ///
    /// The sum of the XXH3-128 hashes of all live operations (dot, timestamp, key and value), so
    /// that it does not depend on the order in which they came.
    #[cfg(feature = "digest")]
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
        let (_, entry) = self.index.find(&self.slab, container, key)?;
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

    /// As [`transact`](Self::transact), but what was written stands, whatever the closure gives: for
    /// single operations, each of which is done or fails without a trace. A program that uses
    /// nothing else is smaller: what takes back is not part of it.
    pub fn write<T>(&mut self, now: u64, f: impl FnOnce(&mut Transaction<'_>) -> T) -> T {
        let mut transaction = Transaction::begin_to_stand(self, now);
        let done = f(&mut transaction);
        transaction.commit();
        done
    }

    /// A transaction of one `set`: replaces every sibling seen here.
    pub fn set(
        &mut self,
        now: u64,
        key: impl Into<Key>,
        value: impl Into<Value>,
    ) -> Result<(), Error> {
        if crate::SMALL || self.recorder.is_some() {
            return self.write(now, |tx| tx.set(key, value));
        }
        self.set_alone(now, key.into(), value.into())
    }

    /// A transaction of one `unset`: removes what is seen here under the key. False, and no
    /// operation, where there is nothing.
    pub fn unset<'k>(&mut self, now: u64, key: impl Into<KeyRef<'k>>) -> bool {
        self.write(now, |tx| tx.unset(key))
    }

    /// Lets go of the log of what the operations in `stable` removed, those that every replica
    /// which may still ask is known to have applied. A replica that lacks any of them all the
    /// same gets the whole state instead of the difference.
    pub fn prune_log(&mut self, stable: &Version) {
        self.log.prune(stable, self.live);
    }

    /// Whether to record changes for [`take_changes`](Self::take_changes); off at first.
    pub fn observe(&mut self, on: bool) {
        if on != self.recorder.is_some() {
            self.recorder = on.then(Recorder::new);
        }
    }

    /// The batches recorded since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Batch> {
        self.recorder
            .as_mut()
            .map(Recorder::take)
            .unwrap_or_default()
    }

    pub(crate) fn dot_of(&self, entry: &Entry) -> Dot {
        self.replicas.dot(entry.replica, entry.seq)
    }

    /// The dot of the live operation at a slot.
    #[inline]
    pub(crate) fn dot(&self, slot: Slot) -> Dot {
        let replica = self.slab[slot].replica;
        self.replicas.dot(replica, self.slab.stamp(slot).seq)
    }

    /// The first of what stands under each key, in order.
    #[cfg(not(feature = "small"))]
    pub(crate) fn sorted_heads(&self) -> Vec<Slot> {
        let order = self.settled_order();
        let mut heads = Vec::with_capacity(self.index.len());
        if order.is_built() {
            let start = (ROOT, order::LEAST);
            order.fetch(&self.slab, start, false, usize::MAX, &mut heads);
            return heads;
        }
        heads.extend(self.index.heads());
        order::sort(&self.slab, heads)
    }

    /// Up to `most` firsts of what stands under the keys from a position on, or from what is
    /// `behind` it, into `out`.
    #[cfg(not(feature = "small"))]
    pub(crate) fn fetch_heads(
        &self,
        start: order::Position<'_>,
        behind: bool,
        most: usize,
        out: &mut Vec<Slot>,
    ) {
        let mut order = self.settled_order();
        if !order.is_built() {
            order.build(&self.slab, self.index.heads().collect());
        }
        order.fetch(&self.slab, start, behind, most, out);
    }

    /// The order, settled.
    #[cfg(not(feature = "small"))]
    fn settled_order(&self) -> Guard<'_, Order> {
        let mut order = self.order.lock();
        order.settle(&self.slab);
        order
    }

    /// As above: there the index has the keys in order.
    #[cfg(feature = "small")]
    pub(crate) fn sorted_heads(&self) -> Vec<Slot> {
        self.index.heads().collect()
    }

    /// As above.
    #[cfg(feature = "small")]
    pub(crate) fn fetch_heads(
        &self,
        start: order::Position<'_>,
        behind: bool,
        most: usize,
        out: &mut Vec<Slot>,
    ) {
        self.index.fetch(&self.slab, start, behind, most, out);
    }

    /// The slots of what stands under a key, from the first.
    pub(crate) fn chain(&self, head: Slot) -> impl Iterator<Item = Slot> + '_ {
        let mut slot = head;
        core::iter::from_fn(move || {
            let current = Some(slot).filter(|slot| *slot != NONE)?;
            slot = self.slab[current].next;
            Some(current)
        })
    }

    /// The slots of the values under a key, winner first.
    pub(crate) fn value_slots(&self, head: Slot) -> impl Iterator<Item = Slot> {
        let slots = self.chain(head);
        slots.take_while(|slot| !self.slab[*slot].is_container())
    }

    /// The values under a key, winner first.
    pub(crate) fn values(&self, head: Slot) -> impl Iterator<Item = Operation<'_>> {
        let values = self.value_slots(head);
        values.map(|slot| self.slab.operation(slot))
    }

    /// The first of what stands under each key of a container, in order.
    pub(crate) fn heads(&self, container: u32) -> Vec<Slot> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut entries = Entries::new(self, container, all);
        core::iter::from_fn(|| entries.next_head()).collect()
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
    pub(crate) fn find(&self, container: u32, key: KeyRef<'_>) -> Option<Slot> {
        let (head, _) = self.index.find(&self.slab, container, key)?;
        Some(head)
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
