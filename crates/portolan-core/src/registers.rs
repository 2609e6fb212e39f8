//! Putting live operations into the chains of siblings, and taking them out.
//!
//! A chain holds what stands under one key: the values, winner first, then the containers. Its
//! first is in the index, and in the order once that is built.

use alloc::vec::Vec;

use crate::hashing::xxh3_128;

use crate::clock::Timestamp;
use crate::codec::{Line, line_of, put_key, put_value};
use crate::containers::{Containers, Form, ROOT};
use crate::document::Document;
use crate::index::Place;
use crate::journal::Journal;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::Replicas;
use crate::slab::{Entry, NONE, Operation, Slab, Slot};
use crate::sorting::sort;
use crate::value::Value;

/// What orders siblings, the highest first.
pub(crate) type Rank = (Timestamp, ReplicaId, u64);

pub(crate) fn rank_of(replicas: &Replicas, of: Operation<'_>) -> Rank {
    (of.timestamp, replicas.get(of.replica).id, of.seq)
}

impl Document {
    /// Writes a value with the dot `own:seq`, in place of every sibling; these are noted as
    /// `removed`, each with that number.
    pub(crate) fn put(
        &mut self,
        container: u32,
        key: Key,
        value: Value,
        seq: u64,
        timestamp: Timestamp,
        removed: &mut Vec<(u64, Entry)>,
    ) {
        let hash = self.index.hash(container, key.borrowed());
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
        let print = self.print_in(&fresh);
        let key = fresh.key.borrowed();
        let place = self.index.place(&self.slab, hash, container, key);
        let slot = match place {
            Place::Vacant(place) => {
                let slot = self.slab.insert(fresh);
                place.insert(slot);
                self.live += 1;
                self.head_gained(container, slot);
                slot
            }
            Place::Occupied(place) => {
                let head = place.head();
                if self.slab[head].is_container() {
                    let slot = self.slab.insert(Entry {
                        next: head,
                        ..fresh
                    });
                    let order = self.order.get_mut();
                    order.replace(&self.slab, head, slot);
                    place.replace(slot);
                    self.live += 1;
                    slot
                } else {
                    let old = self.slab.replace(head, fresh);
                    let mut next = old.next;
                    self.bury(&old);
                    removed.push((seq, old));
                    while next != NONE && !self.slab[next].is_container() {
                        let sibling = self.slab.remove(next);
                        next = sibling.next;
                        self.live -= 1;
                        self.bury(&sibling);
                        removed.push((seq, sibling));
                    }
                    self.slab[head].next = next;
                    head
                }
            }
        };
        self.replicas.get_mut(replica).live.insert(seq, slot, print);
        self.entry_gained(slot);
    }

    /// Writes a value with the dot `own:seq`, beside every sibling.
    pub(crate) fn put_beside(
        &mut self,
        container: u32,
        key: Key,
        value: Value,
        seq: u64,
        timestamp: Timestamp,
    ) {
        let hash = self.index.hash(container, key.borrowed());
        let fresh = Entry {
            key,
            value,
            timestamp,
            seq,
            replica: self.own,
            container,
            hash,
            next: NONE,
        };
        self.restore(fresh, NONE);
    }

    /// Adds a live operation to the digest; gives its fingerprint.
    #[inline]
    fn print_in(&mut self, entry: &Entry) -> u128 {
        let id = self.replicas.get(entry.replica).id;
        let print = fingerprint(&mut self.scratch, id, &self.containers, entry.operation());
        self.digest = self.digest.wrapping_add(print);
        print
    }

    /// Takes a live operation out of everything but the slab and the chain of siblings.
    pub(crate) fn bury(&mut self, entry: &Entry) {
        let known = self.replicas.get_mut(entry.replica);
        let print = fingerprint(
            &mut self.scratch,
            known.id,
            &self.containers,
            entry.operation(),
        );
        self.digest = self.digest.wrapping_sub(print);
        known.live.remove(entry.seq, print);
        self.entry_lost(entry);
    }

    /// Removes every value under a key, of which `head` is the first; what they were is noted in
    /// the journal.
    pub(crate) fn take_values(&mut self, head: Slot, killer: u64, journal: &mut Journal) {
        let mut rest = head;
        while rest != NONE && !self.slab[rest].is_container() {
            rest = self.slab[rest].next;
        }
        if rest == head {
            return;
        }
        self.keep_last(head);
        self.unlink_head(head, rest);
        let mut next = head;
        while next != rest {
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
                self.keep_last(slot);
                self.unlink_head(slot, NONE);
                killed.push(self.take(slot));
            } else {
                crowded.push((head, slot));
            }
        }
        sort(&mut crowded);
        for group in crowded.chunk_by(|a, b| a.0 == b.0) {
            self.thin_out(group[0].0, |slot| {
                group.binary_search_by_key(&slot, |(_, slot)| *slot).is_ok()
            });
            killed.extend(group.iter().map(|(_, slot)| self.take(*slot)));
        }
        killed
    }

    /// The first of the chain in which a live operation stands.
    fn head_of(&self, slot: Slot) -> Slot {
        let head = self.index.head_of(&self.slab, slot);
        // proof: what is live stands in a chain, and the first of a chain is in the index.
        head.expect("the head of its chain")
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
            if first == NONE || self.slab[first].is_container() {
                self.keep_last(head);
            }
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

    /// Makes `next` the first of the chain in place of `head`, which still stands.
    fn unlink_head(&mut self, head: Slot, next: Slot) {
        let order = self.order.get_mut();
        let place = self.index.place_of(&self.slab, head);
        // proof: the first of a chain is in the index under its hash.
        let place = place.expect("the first of a chain is indexed");
        if next == NONE {
            order.remove(&self.slab, head);
            place.remove();
            self.index.shrink(&self.slab);
            self.head_lost(head);
        } else {
            order.replace(&self.slab, head, next);
            place.replace(next);
        }
    }

    /// Puts an entry among the siblings of its key; somewhere `behind` one of them, where the
    /// caller knows one that outranks it, so that many siblings can come in their order without
    /// passing each other.
    pub(crate) fn restore(&mut self, mut entry: Entry, behind: Slot) -> Slot {
        entry.next = NONE;
        let (hash, container) = (entry.hash, entry.container);
        let (replica, seq) = (entry.replica, entry.seq);
        let print = self.print_in(&entry);
        self.live += 1;
        let slot = if behind == NONE {
            let key = entry.key.borrowed();
            let place = self.index.place(&self.slab, hash, container, key);
            match place {
                Place::Vacant(place) => {
                    let slot = self.slab.insert(entry);
                    place.insert(slot);
                    self.head_gained(container, slot);
                    slot
                }
                Place::Occupied(place) => {
                    let head = place.head();
                    let slot = self.slab.insert(entry);
                    let rank = rank_of(&self.replicas, self.slab.operation(slot));
                    if rank > rank_of_link(&self.replicas, &self.slab, head) {
                        self.slab[slot].next = head;
                        let order = self.order.get_mut();
                        order.replace(&self.slab, head, slot);
                        place.replace(slot);
                    } else {
                        self.link(slot, rank, head);
                    }
                    slot
                }
            }
        } else {
            let slot = self.slab.insert(entry);
            let rank = rank_of(&self.replicas, self.slab.operation(slot));
            self.link(slot, rank, behind);
            slot
        };
        self.replicas.get_mut(replica).live.insert(seq, slot, print);
        self.entry_gained(slot);
        slot
    }

    /// Gives an entry its place in a chain, behind `before`, which outranks it.
    fn link(&mut self, slot: Slot, rank: Rank, mut before: Slot) {
        loop {
            let next = self.slab[before].next;
            if next == NONE || rank > rank_of_link(&self.replicas, &self.slab, next) {
                self.slab[slot].next = next;
                self.slab[before].next = slot;
                return;
            }
            before = next;
        }
    }

    /// A key has come into being in a container.
    #[inline]
    fn head_gained(&mut self, container: u32, slot: Slot) {
        let order = self.order.get_mut();
        order.insert(slot);
        if container == ROOT {
            self.keys += 1;
        } else {
            self.inner_head_gained(container, slot);
        }
    }

    fn inner_head_gained(&mut self, container: u32, slot: Slot) {
        let known = self.containers.get_mut(container);
        match (known.form, &self.slab[slot].key) {
            (Form::Map | Form::Set, _) => self.item_gained(container),
            (Form::Array, Key::Element(id)) => {
                known.written += 1;
                self.unsettled.elements.push(*id);
            }
            (Form::Counter, Key::Element(epoch)) => {
                if let Err(at) = known.epochs.binary_search(epoch) {
                    known.epochs.insert(at, *epoch);
                }
            }
            _ => {}
        }
    }

    /// A key is about to go; the entry that was its first still stands.
    fn head_lost(&mut self, slot: Slot) {
        let container = self.slab[slot].container;
        if container == ROOT {
            self.keys -= 1;
            return;
        }
        let known = self.containers.get_mut(container);
        match (known.form, &self.slab[slot].key) {
            (Form::Map | Form::Set, _) => self.item_lost(container),
            (Form::Array, Key::Element(id)) => {
                known.written -= 1;
                self.unsettled.elements.push(*id);
            }
            (Form::Counter, Key::Element(epoch)) => {
                if let Ok(at) = known.epochs.binary_search(epoch) {
                    known.epochs.remove(at);
                }
            }
            _ => {}
        }
    }

    /// A live operation has come into a chain.
    #[inline]
    fn entry_gained(&mut self, slot: Slot) {
        if self.slab[slot].container != ROOT {
            self.inner_entry_gained(slot);
        }
    }

    fn inner_entry_gained(&mut self, slot: Slot) {
        let entry = &self.slab[slot];
        let container = entry.container;
        let known = self.containers.get_mut(container);
        known.records += 1;
        match (known.form, &entry.key) {
            (Form::Counter, Key::Element(epoch)) => {
                if matches!(entry.value, Value::Int(_)) {
                    self.item_gained(container);
                } else {
                    let seq = self.slab.stamp(slot).seq;
                    let dot = Dot::new(self.replicas.get(entry.replica).id, seq);
                    self.tombstones.note_reset(dot, *epoch);
                }
            }
            (Form::Moves, Key::Element(id)) => self.unsettled.moves.push((container, *id)),
            _ => {}
        }
    }

    #[inline]
    fn entry_lost(&mut self, entry: &Entry) {
        if entry.container == ROOT {
            return;
        }
        match (self.containers.get(entry.container).form, &entry.key) {
            (Form::Counter, _) if matches!(entry.value, Value::Int(_)) => {
                self.item_lost(entry.container);
            }
            (Form::Moves, Key::Element(id)) => self.unsettled.moves.push((entry.container, *id)),
            _ => {}
        }
        self.containers.release(entry.container);
    }

    /// One more thing shows in a container.
    pub(crate) fn item_gained(&mut self, container: u32) {
        let known = self.containers.get_mut(container);
        known.items += 1;
        if known.items == 1 {
            self.attach(container);
        }
    }

    /// One thing less shows in a container.
    pub(crate) fn item_lost(&mut self, container: u32) {
        let known = self.containers.get_mut(container);
        known.items -= 1;
        if known.items == 0 {
            self.detach(container);
        }
    }

    /// Lets a container show under its key.
    fn attach(&mut self, number: u32) {
        let known = self.containers.get(number);
        let (container, key, form) = (known.parent, known.key.clone(), known.form);
        let hash = self.index.hash(container, key.borrowed());
        let place = self
            .index
            .place(&self.slab, hash, container, key.borrowed());
        let slot = match place {
            Place::Vacant(place) => {
                let slot = self.slab.insert_container(container, key, hash, number);
                place.insert(slot);
                self.head_gained(container, slot);
                slot
            }
            Place::Occupied(place) => {
                let head = place.head();
                let slot = self.slab.insert_container(container, key, hash, number);
                let (mut before, mut next) = (NONE, head);
                while next != NONE
                    && self.slab[next]
                        .inner()
                        .is_none_or(|other| self.containers.get(other).form < form)
                {
                    (before, next) = (next, self.slab[next].next);
                }
                self.slab[slot].next = next;
                if before == NONE {
                    let order = self.order.get_mut();
                    order.replace(&self.slab, head, slot);
                    place.replace(slot);
                } else {
                    self.slab[before].next = slot;
                }
                slot
            }
        };
        self.containers.get_mut(number).holder = slot;
    }

    /// Takes a container in which nothing shows any more from under its key.
    fn detach(&mut self, number: u32) {
        let known = self.containers.get_mut(number);
        let slot = core::mem::replace(&mut known.holder, NONE);
        let head = self.head_of(slot);
        if head == slot && self.slab[slot].next == NONE {
            self.unlink_head(slot, NONE);
        } else {
            self.thin_out(head, |other| other == slot);
        }
        self.slab.remove(slot);
        self.containers.offer(number);
    }
}

/// Everything of a live operation that replicas must agree on, hashed; 0 of what each lets go by
/// itself.
#[inline]
pub(crate) fn fingerprint(
    scratch: &mut Vec<u8>,
    replica: ReplicaId,
    containers: &Containers,
    of: Operation<'_>,
) -> u128 {
    if !crate::DIGEST {
        return 0;
    }
    let head = [replica.get(), of.seq, of.timestamp.bits()];
    if let (Key::Str(text), Value::Int(value), ROOT, false) =
        (of.key, of.value, of.container, crate::SMALL)
    {
        let mut line: Line = [0; 64];
        if let Some(len) = line_of(&mut line, head, text, *value) {
            return xxh3_128(&line[..len]);
        }
    }
    fingerprint_of_any(scratch, head, containers, of)
}

/// As [`fingerprint`], of what is not a short text with an integer in the root.
fn fingerprint_of_any(
    scratch: &mut Vec<u8>,
    head: [u64; 3],
    containers: &Containers,
    of: Operation<'_>,
) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(head.map(u64::to_le_bytes).as_flattened());
    put_key(scratch, of.key);
    put_value(scratch, of.value);
    if of.container != ROOT {
        let container = containers.get(of.container);
        if !container.form.keeps(of.value) {
            return 0;
        }
        scratch.extend_from_slice(&container.print.to_le_bytes());
    }
    xxh3_128(scratch)
}

/// As [`rank_of`]; containers stand behind all values.
fn rank_of_link(replicas: &Replicas, slab: &Slab, slot: Slot) -> Rank {
    if slab[slot].is_container() {
        return (Timestamp::default(), ReplicaId::new(0), 0);
    }
    rank_of(replicas, slab.operation(slot))
}
