//! Several operations as one.

use smallvec::SmallVec;

use crate::change::Origin;
use crate::clock::Timestamp;
use crate::document::{Document, ROOT};
use crate::dots::DotSet;
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{Key, KeyRef};
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH};
use crate::replica::Dot;
use crate::slab::{Entry, NONE, Slot};
use crate::value::Value;

/// Operations that every replica sees as one change, one event batch, one delta. Reads through
/// [`document`](Self::document) see what it has written so far.
#[derive(Debug)]
pub struct Transaction<'a> {
    document: &'a mut Document,
    now: u64,
    /// The own operations before it.
    base: u64,
    seq: u64,
    /// One timestamp for all; given to the first operation.
    timestamp: Option<Timestamp>,
    journal: Journal,
}

impl<'a> Transaction<'a> {
    pub(crate) fn begin(document: &'a mut Document, now: u64) -> Self {
        let base = document.own_seq();
        let journal = Journal {
            observed: document.batches.is_some(),
            ..Journal::default()
        };
        Self {
            document,
            now,
            base,
            seq: base,
            timestamp: None,
            journal,
        }
    }

    /// Replaces every sibling seen here. A value concurrently set elsewhere will stay beside it.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let (key, value) = (key.into(), value.into());
        check(&key, &value)?;
        let (seq, timestamp) = self.next();
        self.journal.added(ROOT, &key);
        self.document
            .put(ROOT, key, value, seq, timestamp, &mut self.journal);
        Ok(())
    }

    /// Removes what is seen here under the key; a value concurrently set elsewhere will survive.
    /// False, and no operation, where there is nothing.
    pub fn unset<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> bool {
        let Some(head) = self.document.find(ROOT, key.into()) else {
            return false;
        };
        let (seq, _) = self.next();
        self.document.take_key(head, seq, &mut self.journal);
        true
    }

    /// The document as this transaction has left it so far.
    pub fn document(&self) -> &Document {
        self.document
    }

    #[inline]
    fn next(&mut self) -> (u64, Timestamp) {
        self.seq += 1;
        let (clock, now) = (&mut self.document.clock, self.now);
        (
            self.seq,
            *self.timestamp.get_or_insert_with(|| clock.tick(now)),
        )
    }

    pub(crate) fn commit(mut self) {
        let (base, seq) = (self.base, std::mem::replace(&mut self.seq, self.base));
        if seq == base {
            return;
        }
        let document = &mut *self.document;
        let replica = document.replica();
        let known = document.replicas.get_mut(document.own);
        known.applied.insert_range(replica, base + 1, seq);
        if !known.early.is_empty() {
            // Only somebody who lies can know of removals of what was not written so far.
            let new = DotSet::from_range(replica, base + 1, seq);
            known.early = known.early.difference(&new);
        }
        if !self.journal.removed.is_empty() {
            let live = document.live();
            let pair = |(killer, entry): &(u64, Entry)| {
                (Dot::new(replica, *killer), document.dot_of(entry))
            };
            let removed = self.journal.removed.iter().map(pair);
            let removed: SmallVec<[(Dot, Dot); 2]> = removed.collect();
            document.log.note(&removed, live);
        }
        if document.batches.is_some() {
            let new = DotSet::from_range(replica, base + 1, seq);
            document.record_batch(Origin::Local, &new, std::mem::take(&mut self.journal));
        }
    }
}

/// What was not committed is taken back: the closure failed, or panicked.
impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.seq == self.base {
            return;
        }
        let document = &mut *self.document;
        let live = &document.replicas.get(document.own).live;
        let slots: Vec<Slot> = live
            .range(self.base + 1, self.seq)
            .map(|(_, slot)| slot)
            .collect();
        document.kill(slots);
        let own = document.own;
        // Backwards: of siblings the last comes first, and each is at once in its place.
        for (_, entry) in self.journal.removed.drain(..).rev() {
            let its_own = entry.replica == own && entry.seq > self.base;
            if !its_own {
                document.restore(entry, NONE);
            }
        }
    }
}

fn check(key: &Key, value: &Value) -> Result<(), Error> {
    if key.byte_len() > MAX_KEY_BYTES {
        return Err(Error::KeyTooLong(key.byte_len()));
    }
    match size(value, 0)? {
        bytes if bytes > MAX_VALUE_BYTES => Err(Error::ValueTooLarge(bytes)),
        _ => Ok(()),
    }
}

/// A bound on the encoded bytes of a value that is itself `depth` levels deep.
fn size(value: &Value, depth: usize) -> Result<usize, Error> {
    let mut bytes = match value {
        Value::Str(s) => 4 + s.len(),
        Value::Bytes(b) => 4 + b.len(),
        Value::List(_) | Value::Map(_) if depth >= MAX_VALUE_DEPTH => {
            return Err(Error::ValueTooDeep);
        }
        Value::List(_) | Value::Map(_) => 4,
        _ => return Ok(10),
    };
    match value {
        Value::List(list) => {
            for item in list.iter() {
                bytes += 1 + size(item, depth + 1)?;
            }
        }
        Value::Map(map) => {
            for (key, item) in map.iter() {
                bytes += 5 + key.len() + size(item, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(bytes)
}
