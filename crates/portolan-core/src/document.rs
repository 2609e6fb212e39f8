//! One replica of a document: a tree of dot stores and what is known of every operation.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use crate::change::Batch;
use crate::clock::{Clock, Timestamp};
use crate::codec::{put_key, put_value};
use crate::delta::{Delta, DeltaEntry, EntryRef, encode};
use crate::dots::{DotSet, Version};
use crate::entries::{Entries, Siblings};
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{Key, KeyRef};
use crate::log::RemovalLog;
use crate::order::{self, Order};
use crate::replica::{Dot, ReplicaId};
use crate::replicas::Replicas;
use crate::slab::{Entry, NONE, Slab, Slot};
use crate::transaction::Transaction;
use crate::value::Value;

/// The container that is the document's root.
pub(crate) const ROOT: u32 = 0;

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
    /// From container and key to the first of the siblings.
    index: HashTable<Head>,
    hash_seed: u64,
    order: Mutex<Order>,
    pub(crate) log: RemovalLog,
    /// Live values, siblings counted each.
    live: usize,
    pub(crate) digest: u128,
    /// The bytes of an entry on the way into its fingerprint.
    scratch: Vec<u8>,
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
            log: RemovalLog::default(),
            live: 0,
            digest: 0,
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

    /// Fingerprint of the live state: equal states have equal digests. Constant time.
    ///
    /// The sum of the XXH3-128 hashes of all live operations (dot, timestamp, key and value), so
    /// that it does not depend on the order in which they came.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The latest timestamp given or seen.
    pub fn latest(&self) -> Timestamp {
        self.clock.last()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The winner under the key: the sibling of the highest timestamp, then replica id.
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<&Value> {
        self.find(ROOT, key.into())
            .map(|slot| &self.slab[slot].value)
    }

    /// Whether there is a value under the key.
    pub fn contains_key<'k>(&self, key: impl Into<KeyRef<'k>>) -> bool {
        self.find(ROOT, key.into()).is_some()
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Siblings<'_> {
        Siblings::new(self, self.find(ROOT, key.into()).unwrap_or(NONE))
    }

    /// All keys in order, each with its siblings.
    pub fn iter(&self) -> Entries<'_> {
        self.range(..)
    }

    /// The keys of a range, in order. Finding the first costs log n (the first time that
    /// anything asks for an order, n log n), each further one constant time.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Entries<'_> {
        Entries::new(self, keys.start_bound().cloned(), keys.end_bound().cloned())
    }

    /// The string keys that start so, in order.
    pub fn prefix(&self, prefix: &str) -> Entries<'_> {
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
                return self.range((start, Bound::Excluded(Key::from(end))));
            }
        }
        let behind_all_text = Bound::Excluded(Key::Bytes([].into()));
        self.range((start, behind_all_text))
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

    /// What a replica at `version` lacks. Costs the difference; where the log of what was removed
    /// meanwhile is gone, it names all that is known to be dead and that the other may hold live,
    /// and costs as much as there are gaps among the live operations.
    pub fn delta_since(&self, version: &Version) -> Delta {
        self.delta_for(self.replicas.applied_beyond(version))
    }

    /// What stands for these of the applied operations.
    ///
    /// Either the operations of the latest transaction, or all that the receiver may lack: what a
    /// delta shows as dead, an operation in it must have removed, or one that the receiver has.
    pub fn delta_of(&self, operations: &DotSet) -> Delta {
        self.delta_for(self.replicas.split(operations, true))
    }

    /// What stands for the own operations numbered above `seq`.
    pub fn own_since(&self, seq: u64) -> Delta {
        match self.own_seq() {
            last if last > seq => self.delta_of(&DotSet::from_range(self.replica(), seq + 1, last)),
            _ => Delta::default(),
        }
    }

    /// The whole state.
    pub fn snapshot(&self) -> Delta {
        let entries = self
            .sorted()
            .into_iter()
            .map(|slot| self.delta_entry(slot))
            .collect();
        Delta {
            applied: self.version(),
            dead: self.replicas.early(),
            entries,
        }
    }

    /// The bytes of the [`snapshot`](Self::snapshot): equal for equal states, whatever led there.
    pub fn encode(&self) -> Vec<u8> {
        let slots = self.sorted();
        let entries = slots.iter().map(|slot| {
            let entry = &self.slab[*slot];
            EntryRef {
                key: &entry.key,
                value: &entry.value,
                dot: self.dot_of(entry),
                timestamp: entry.timestamp,
            }
        });
        encode(&self.version(), &self.replicas.early(), entries)
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

    fn delta_for(&self, applied: DotSet) -> Delta {
        let removed = self.log.removed_by(&applied).unwrap_or_else(|| {
            let other = self.version().difference(&applied);
            self.dead_among(&other).union(&self.replicas.early())
        });
        Delta {
            entries: self.entries_among(&applied),
            dead: removed.difference(&applied),
            applied,
        }
    }

    /// The live ones of these operations, in the order of a delta.
    pub(crate) fn entries_among(&self, dots: &DotSet) -> crate::delta::Entries {
        let mut entries = crate::delta::Entries::new();
        for range in dots.ranges() {
            let Some(known) = self.replicas.by_id(range.replica) else {
                continue;
            };
            let live = known.live.range(range.first, range.last);
            entries.extend(live.map(|(_, slot)| self.delta_entry(slot)));
        }
        entries.sort_unstable_by(|a, b| {
            let newest_first = || {
                (b.timestamp, b.dot.replica, b.dot.seq).cmp(&(
                    a.timestamp,
                    a.dot.replica,
                    a.dot.seq,
                ))
            };
            a.key.cmp(&b.key).then_with(newest_first)
        });
        entries
    }

    fn delta_entry(&self, slot: Slot) -> DeltaEntry {
        let entry = &self.slab[slot];
        DeltaEntry {
            key: entry.key.clone(),
            value: entry.value.clone(),
            dot: self.dot_of(entry),
            timestamp: entry.timestamp,
        }
    }

    pub(crate) fn dot_of(&self, entry: &Entry) -> Dot {
        Dot::new(self.replicas.get(entry.replica).id, entry.seq)
    }

    /// Every live slot in the order of keys and siblings.
    fn sorted(&self) -> Vec<Slot> {
        let order = self.order();
        let mut heads = Vec::with_capacity(self.len());
        if order.is_built() {
            order.fetch(&self.slab, |_| false, usize::MAX, &mut heads);
        } else {
            heads.extend(self.index.iter().map(|head| head.slot));
            heads = order::sort(&self.slab, heads);
        }
        if self.live == heads.len() {
            return heads;
        }
        heads
            .into_iter()
            .flat_map(|head| self.chain(head))
            .collect()
    }

    /// The order, settled.
    fn order(&self) -> MutexGuard<'_, Order> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.settle(&self.slab);
        order
    }

    /// The order, built and settled.
    pub(crate) fn built_order(&self) -> MutexGuard<'_, Order> {
        let mut order = self.order();
        if !order.is_built() {
            order.build(
                &self.slab,
                self.index.iter().map(|head| head.slot).collect(),
            );
        }
        order
    }

    /// The slots of siblings, from the first.
    pub(crate) fn chain(&self, head: Slot) -> impl Iterator<Item = Slot> + '_ {
        let mut slot = head;
        std::iter::from_fn(move || {
            let current = Some(slot).filter(|slot| *slot != NONE)?;
            slot = self.slab[current].next;
            Some(current)
        })
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    #[inline]
    fn hash(&self, container: u32, key: KeyRef<'_>) -> u32 {
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

    /// Writes a value with the dot `own:seq`, in place of every sibling. What it replaces is
    /// noted in the journal.
    pub(crate) fn put(
        &mut self,
        container: u32,
        key: Key,
        value: Value,
        seq: u64,
        timestamp: Timestamp,
        journal: &mut Journal,
    ) {
        let hash = self.hash(container, key.borrowed());
        let replica = self.own;
        let fresh = Entry {
            key,
            value,
            timestamp,
            seq,
            replica,
            container,
            hash,
            next: NONE,
        };
        let id = self.replicas.get(replica).id;
        let print = fingerprint(&mut self.scratch, id, &fresh);
        self.digest = self.digest.wrapping_add(print);
        let slab = &self.slab;
        let place = self.index.entry(
            spread(hash),
            |head| head.holds(slab, hash, container, fresh.key.borrowed()),
            |head| spread(head.hash),
        );
        let slot = match place {
            Place::Vacant(place) => {
                let slot = self.slab.insert(fresh);
                place.insert(Head { hash, slot });
                self.order
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(slot);
                self.live += 1;
                slot
            }
            Place::Occupied(place) => {
                let slot = place.get().slot;
                let old = std::mem::replace(&mut self.slab[slot], fresh);
                let mut next = old.next;
                self.bury(&old);
                journal.removed(seq, old);
                while next != NONE {
                    let sibling = self.slab.remove(next);
                    next = sibling.next;
                    self.live -= 1;
                    self.bury(&sibling);
                    journal.removed(seq, sibling);
                }
                slot
            }
        };
        self.replicas.get_mut(replica).live.insert(seq, slot, print);
    }

    /// Takes a live operation out of everything but the slab and the chain of siblings.
    fn bury(&mut self, entry: &Entry) {
        let known = self.replicas.get_mut(entry.replica);
        let print = fingerprint(&mut self.scratch, known.id, entry);
        known.live.remove(entry.seq, print);
        self.digest = self.digest.wrapping_sub(print);
    }

    /// Removes every sibling under a key; what they were is noted in the journal.
    pub(crate) fn take_key(&mut self, head: Slot, killer: u64, journal: &mut Journal) {
        self.unlink_head(head, NONE);
        let mut next = head;
        while next != NONE {
            let entry = self.slab.remove(next);
            next = entry.next;
            self.live -= 1;
            self.bury(&entry);
            journal.removed(killer, entry);
        }
    }

    /// Removes live operations and gives their entries. Costs the siblings of the keys touched,
    /// once for each key.
    pub(crate) fn kill(&mut self, slots: impl IntoIterator<Item = Slot>) -> Vec<Entry> {
        let slots = slots.into_iter();
        let mut killed = Vec::with_capacity(slots.size_hint().0);
        // Those that share their key with others, each behind the first of its chain.
        let mut crowded: Vec<(Slot, Slot)> = Vec::new();
        for slot in slots {
            let head = self.head_of(slot);
            if head == slot && self.slab[slot].next == NONE {
                self.unlink_head(slot, NONE);
                killed.push(self.take(slot));
            } else {
                crowded.push((head, slot));
            }
        }
        crowded.sort_unstable();
        for group in crowded.chunk_by(|a, b| a.0 == b.0) {
            self.thin_out(group[0].0, |slot| {
                group.binary_search_by_key(&slot, |(_, slot)| *slot).is_ok()
            });
            killed.extend(group.iter().map(|(_, slot)| self.take(*slot)));
        }
        killed
    }

    /// The first of the siblings among which a live operation stands.
    fn head_of(&self, slot: Slot) -> Slot {
        let entry = &self.slab[slot];
        let key = entry.key.borrowed();
        let same = |head: &Head| {
            head.slot == slot || head.holds(&self.slab, entry.hash, entry.container, key)
        };
        let head = self.index.find(spread(entry.hash), same);
        // proof: what is live stands in a chain, and the first of a chain is in the index.
        head.expect("the head of its chain").slot
    }

    /// Takes the `doomed` out of a chain; their entries still stand.
    fn thin_out(&mut self, head: Slot, doomed: impl Fn(Slot) -> bool) {
        let (mut first, mut last, mut next) = (NONE, NONE, head);
        while next != NONE {
            let slot = next;
            next = self.slab[slot].next;
            if doomed(slot) {
                continue;
            }
            if last == NONE {
                first = slot;
            } else {
                self.slab[last].next = slot;
            }
            last = slot;
        }
        if last != NONE {
            self.slab[last].next = NONE;
        }
        if first != head {
            self.unlink_head(head, first);
        }
    }

    /// Takes the entry of an operation that stands in no chain any more.
    fn take(&mut self, slot: Slot) -> Entry {
        let entry = self.slab.remove(slot);
        self.live -= 1;
        self.bury(&entry);
        entry
    }

    /// Makes `next` the first of the siblings in place of `head`, which still stands.
    fn unlink_head(&mut self, head: Slot, next: Slot) {
        let order = self.order.get_mut().unwrap_or_else(PoisonError::into_inner);
        let place = self
            .index
            .find_entry(spread(self.slab[head].hash), |indexed| indexed.slot == head);
        // proof: the first of a chain is in the index under its hash.
        let mut place = place.expect("the first sibling is indexed");
        if next == NONE {
            order.remove(&self.slab, head);
            place.remove();
            if self.index.len() < self.index.capacity() / 8 {
                let room = self.index.len() * 2;
                self.index.shrink_to(room, |head| spread(head.hash));
            }
        } else {
            order.replace(&self.slab, head, next);
            place.get_mut().slot = next;
        }
    }

    /// Puts an operation of any replica among the siblings of its key; `behind` as in
    /// [`restore`](Self::restore).
    pub(crate) fn place(
        &mut self,
        container: u32,
        key: Key,
        value: Value,
        dot: (u32, u64),
        timestamp: Timestamp,
        behind: Slot,
    ) -> Slot {
        let (replica, seq) = dot;
        let hash = self.hash(container, key.borrowed());
        let entry = Entry {
            key,
            value,
            timestamp,
            seq,
            replica,
            container,
            hash,
            next: NONE,
        };
        self.restore(entry, behind)
    }

    /// Puts an entry among the siblings of its key; somewhere `behind` one of them, where the
    /// caller knows one that outranks it, so that many siblings can come in their order without
    /// passing each other.
    pub(crate) fn restore(&mut self, mut entry: Entry, behind: Slot) -> Slot {
        entry.next = NONE;
        let (hash, replica, seq) = (entry.hash, entry.replica, entry.seq);
        let id = self.replicas.get(replica).id;
        let print = fingerprint(&mut self.scratch, id, &entry);
        self.digest = self.digest.wrapping_add(print);
        let rank = (entry.timestamp, id, seq);
        if behind != NONE {
            self.live += 1;
            let slot = self.slab.insert(entry);
            self.link(slot, rank, behind);
            let known = self.replicas.get_mut(replica);
            known.live.insert(seq, slot, print);
            return slot;
        }
        let slab = &self.slab;
        let place = self.index.entry(
            spread(hash),
            |head| head.holds(slab, hash, entry.container, entry.key.borrowed()),
            |head| spread(head.hash),
        );
        self.live += 1;
        let slot = match place {
            Place::Vacant(place) => {
                let slot = self.slab.insert(entry);
                place.insert(Head { hash, slot });
                self.order
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(slot);
                slot
            }
            Place::Occupied(mut place) => {
                let head = place.get().slot;
                let slot = self.slab.insert(entry);
                if rank > rank_of(&self.replicas, &self.slab[head]) {
                    self.slab[slot].next = head;
                    let order = self.order.get_mut().unwrap_or_else(PoisonError::into_inner);
                    order.replace(&self.slab, head, slot);
                    place.get_mut().slot = slot;
                } else {
                    self.link(slot, rank, head);
                }
                slot
            }
        };
        let known = self.replicas.get_mut(replica);
        known.live.insert(seq, slot, print);
        slot
    }

    /// Gives an entry its place in a chain, behind `before`, which outranks it.
    fn link(&mut self, slot: Slot, rank: Rank, mut before: Slot) {
        loop {
            let next = self.slab[before].next;
            if next == NONE || rank > rank_of(&self.replicas, &self.slab[next]) {
                self.slab[slot].next = next;
                self.slab[before].next = slot;
                return;
            }
            before = next;
        }
    }
}

/// What orders siblings, the highest first.
type Rank = (Timestamp, ReplicaId, u64);

fn rank_of(replicas: &Replicas, entry: &Entry) -> Rank {
    (entry.timestamp, replicas.get(entry.replica).id, entry.seq)
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
        KeyRef::Str(s) => xxh3_64_with_seed(s.as_bytes(), seed),
        KeyRef::Int(i) => xxh3_64_with_seed(&i.to_le_bytes(), seed ^ 1),
        KeyRef::Bool(b) => xxh3_64_with_seed(&[u8::from(b)], seed ^ 2),
        KeyRef::Bytes(b) => xxh3_64_with_seed(b, seed ^ 3),
    };
    (hash ^ (hash >> 32)) as u32
}

/// The index takes the place from the low bits and a tag from the high ones.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A key in the index: the first of its siblings, beside the hash, so that neither growing nor
/// passing by reads entries.
#[derive(Clone, Copy, Debug)]
struct Head {
    hash: u32,
    slot: Slot,
}

impl Head {
    #[inline]
    fn holds(self, slab: &Slab, hash: u32, container: u32, key: KeyRef<'_>) -> bool {
        self.hash == hash && {
            let entry = &slab[self.slot];
            entry.container == container && entry.key.borrowed() == key
        }
    }
}

/// Everything of a live operation that replicas must agree on, hashed.
pub(crate) fn fingerprint(scratch: &mut Vec<u8>, replica: ReplicaId, entry: &Entry) -> u128 {
    scratch.clear();
    let head = [replica.get(), entry.seq, entry.timestamp.bits()].map(u64::to_le_bytes);
    scratch.extend_from_slice(head.as_flattened());
    put_key(scratch, &entry.key);
    put_value(scratch, &entry.value);
    xxh3_128(scratch)
}
