//! The bytes of a flat map with text keys, by way of rows: what the encoding needs of each entry.
//!
//! Entries are large, and in the order of the keys they lie scattered. So they are read once, as
//! they lie; what is then sorted and gone through out of order is a third of the size.

use alloc::vec::Vec;

use crate::few::SmallVec;

use crate::clock::Timestamp;
use crate::codec::{put_value_body, put_word_body, value_tag, word_of};
use crate::delta::{
    Columns, MAX_SHARED_BYTES, encode_flat, encode_packed_flat, put_front_coded, put_text_end,
};
use crate::document::Document;
use crate::dots::DotSet;
use crate::key::Key;
use crate::order::as_they_stand;
use crate::packed::EntryColumns;
use crate::registers::rank_of;
use crate::replica::Dot;
use crate::slab::{NONE, Slot};
use crate::value::Value;
use crate::words::Words;

/// An entry, but for its key.
#[derive(Clone, Copy)]
struct Row {
    /// The value, if a word holds it.
    value: u64,
    seq: u64,
    timestamp: Timestamp,
    replica: u32,
    slot: Slot,
}

/// What is sorted: where a row stands, and what makes its word a key and a value.
#[derive(Clone, Copy)]
struct Place {
    row: u32,
    /// The length of the key.
    len: u16,
    /// The tag of the value, [`LARGE`] where no word holds it.
    tag: u8,
}

const LARGE: u8 = u8::MAX;

/// Rows that are read from memory together.
const BLOCK: usize = 32;

pub(crate) struct Rows<'a> {
    document: &'a Document,
    /// As they lie in memory.
    unsorted: Vec<Row>,
    places: Vec<(u64, Place)>,
    /// How many bytes all keys begin with.
    shared: usize,
}

impl<'a> Rows<'a> {
    /// The rows of a document that is flat; `None` where a key is not a text.
    pub(crate) fn of(document: &'a Document) -> Option<Self> {
        let slab = &document.slab;
        let mut heads: Vec<Slot> = document.index.heads().collect();
        as_they_stand(&mut heads);
        let first = slab[*heads.first()?].key.as_str()?;
        let mut words = Words::with_first(first.as_bytes(), document.live());
        let mut rows = Vec::with_capacity(document.live());
        for head in heads {
            let mut slot = head;
            while slot != NONE {
                let entry = &slab[slot];
                let text = entry.key.as_str()?;
                let value = word_of(&entry.value);
                let place = Place {
                    row: rows.len() as u32,
                    len: text.len() as u16,
                    tag: value.map_or(LARGE, |_| value_tag(&entry.value)),
                };
                words.push(text.as_bytes(), place);
                let stamp = slab.stamp(slot);
                rows.push(Row {
                    value: value.unwrap_or_default(),
                    seq: stamp.seq,
                    timestamp: stamp.timestamp,
                    replica: entry.replica,
                    slot,
                });
                slot = entry.next;
            }
        }
        let shared = words.shared();
        let places = words.sorted(|a, b| {
            let [a, b] = [a, b].map(|place| slab.operation(rows[place.row as usize].slot));
            let siblings = || {
                let [a, b] = [a, b].map(|of| rank_of(&document.replicas, of));
                b.cmp(&a)
            };
            a.key.cmp(b.key).then_with(siblings)
        });
        Some(Self {
            document,
            unsorted: rows,
            places,
            shared,
        })
    }

    /// The bytes of the delta of these values, of the operations `applied` and the `dead`.
    pub(crate) fn encode(&self, applied: &DotSet, dead: &DotSet) -> Vec<u8> {
        encode_flat(applied, dead, self.unsorted.len(), |out, columns| {
            self.put(&mut Plain { out, columns });
        })
    }

    /// As [`encode`](Self::encode), packed.
    pub(crate) fn encode_packed(&self, applied: &DotSet, dead: &DotSet) -> Vec<u8> {
        encode_packed_flat(applied, dead, self.unsorted.len(), |columns| {
            self.put(columns);
        })
    }

    fn put(&self, target: &mut impl Target) {
        let mut before: Option<(u64, Place)> = None;
        let mut block = SmallVec::<[(Row, u8, Option<&Value>); BLOCK]>::new();
        for places in self.places.chunks(BLOCK) {
            block.clear();
            // A loop that does nothing but read scattered memory waits for all of it at once.
            block.extend(places.iter().map(|(_, place)| {
                let row = self.unsorted[place.row as usize];
                if place.tag == LARGE {
                    let value = &self.document.slab[row.slot].value;
                    (row, value_tag(value), Some(value))
                } else {
                    (row, place.tag, None)
                }
            }));
            for ((word, place), (row, tag, large)) in places.iter().zip(&block) {
                self.put_key(target, before, (*word, *place));
                before = Some((*word, *place));
                match large {
                    Some(value) => target.value(value),
                    None => target.word(*tag, row.value),
                }
                let dot = self.document.replicas.dot(row.replica, row.seq);
                target.operation(*tag, dot, row.timestamp);
            }
        }
    }

    /// Appends a key, by its word where that tells what the key has beyond the one before.
    #[inline]
    fn put_key(&self, target: &mut impl Target, before: Option<(u64, Place)>, key: (u64, Place)) {
        let told = |len: u16| usize::from(len) <= self.shared + 8;
        let (word, Place { len, .. }) = key;
        if let Some((
            word_before,
            Place {
                len: len_before, ..
            },
        )) = before
            && told(len)
            && told(len_before)
        {
            let alike = (word ^ word_before).leading_zeros() as usize / 8;
            // Behind their ends texts are not alike, though words are.
            let shared = (self.shared + alike).min(len.min(len_before).into());
            if shared < MAX_SHARED_BYTES {
                let behind = (shared - self.shared) as u32 * 8;
                let [end, replaced] =
                    [word, word_before].map(|word| word.checked_shl(behind).unwrap_or(0));
                target.text_end(shared, end, usize::from(len) - shared, replaced);
                return;
            }
        }
        let key_before = before.map(|(_, place)| self.key(place));
        target.key(key_before, self.key(key.1));
    }

    fn key(&self, place: Place) -> &'a Key {
        &self.document.slab[self.unsorted[place.row as usize].slot].key
    }
}

/// What takes in rows, in order.
trait Target {
    /// A key, and the one before.
    fn key(&mut self, before: Option<&Key>, key: &Key);

    /// A key that is a text as the one before, of which it shares the first `shared` bytes, and has
    /// `own` others, eight at the most, the first of `end`, a big-endian number; where these stand,
    /// the text before has those of `replaced`, and zeros behind its end.
    fn text_end(&mut self, shared: usize, end: u64, own: usize, replaced: u64);

    fn value(&mut self, value: &Value);

    /// A value of this tag that one word holds.
    fn word(&mut self, tag: u8, word: u64);

    /// The operation that wrote the value of this tag.
    fn operation(&mut self, tag: u8, dot: Dot, timestamp: Timestamp);
}

/// The plain form.
struct Plain<'a> {
    /// For the keys.
    out: &'a mut Vec<u8>,
    columns: &'a mut Columns,
}

impl Target for Plain<'_> {
    #[inline]
    fn key(&mut self, before: Option<&Key>, key: &Key) {
        put_front_coded(self.out, before, key);
    }

    #[inline]
    fn text_end(&mut self, shared: usize, end: u64, own: usize, _replaced: u64) {
        put_text_end(self.out, shared, end, own);
    }

    #[inline]
    fn value(&mut self, value: &Value) {
        put_value_body(&mut self.columns.values, value);
    }

    #[inline]
    fn word(&mut self, tag: u8, word: u64) {
        put_word_body(&mut self.columns.values, tag, word);
    }

    #[inline]
    fn operation(&mut self, tag: u8, dot: Dot, timestamp: Timestamp) {
        self.columns.push(tag, dot, timestamp);
    }
}

impl Target for EntryColumns<'_> {
    #[inline]
    fn key(&mut self, before: Option<&Key>, key: &Key) {
        self.push_key(before, key);
    }

    #[inline]
    fn text_end(&mut self, shared: usize, end: u64, own: usize, replaced: u64) {
        self.push_text_end(shared, end, own, replaced);
    }

    #[inline]
    fn value(&mut self, value: &Value) {
        self.values.push(value);
    }

    #[inline]
    fn word(&mut self, tag: u8, word: u64) {
        self.values.push_word(tag, word);
    }

    #[inline]
    fn operation(&mut self, _tag: u8, dot: Dot, timestamp: Timestamp) {
        self.push_operation(dot, timestamp);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::ReplicaId;

    fn key() -> impl Strategy<Value = String> {
        let end = prop::collection::vec(prop::sample::select(vec!['\0', 'a', 'b', 'ü']), 0..5);
        let middle = prop::sample::select(vec![0usize, 1, 7, 8, 9, 130]);
        (middle, end).prop_map(|(middle, end)| {
            let end: String = end.into_iter().collect();
            "m".repeat(middle) + &end
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,40}".prop_map(Value::from),
            any::<i64>().prop_map(|i| Value::from(vec![i.into(), Value::Null])),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn a_flat_map_has_the_bytes_of_its_snapshot(
            start in "[a-z]{0,20}|[a-z]{120,130}",
            writes in prop::collection::vec((0..3u64, 0..5u64, key(), value()), 0..60),
        ) {
            let mut documents = [1, 2, 3].map(|id| Document::new(ReplicaId::new(id)));
            for (at, now, key, value) in writes {
                let key = format!("{start}{key}");
                prop_assert!(documents[at as usize].set(now, key, value).is_ok());
            }
            let mut all = Document::new(ReplicaId::new(4));
            for document in &documents {
                all.apply(&document.snapshot());
            }
            for document in documents.iter().chain([&all]) {
                prop_assert_eq!(document.encode(), document.snapshot().encode());
                let packed = document.snapshot().encode_packed();
                prop_assert_eq!(document.encode_packed(), packed);
            }
        }
    }
}
