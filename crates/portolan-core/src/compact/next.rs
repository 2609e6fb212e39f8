//! What most updates are: one value in the root, of who wrote last, and there too.
//!
//! Such an update is checked before anything is made of it, and read without what others take.

use alloc::vec::Vec;

use super::Contexts;
use super::body::{self, COMPACT, INTEGER, MAX_SEQ, REMOVED, REMOVED_OWN, SAME, VALUE};
use super::context::Context;
use crate::clock::Timestamp;
use crate::codec::{Line, Reader, put_line_head, put_line_text};
use crate::delta::{Delta, DeltaEntry, read_front_coded};
use crate::document::Document;
use crate::dots::{DotRange, DotSet};
use crate::few;
use crate::hashing::xxh3_64_with_seed;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::tag_of;
use crate::value::Value;

/// Bytes before what is told of the operation: flags, tag, and the low bits of its number.
const HEAD: usize = 5;

/// What such an update tells, beside whose it is and its number.
struct Told {
    timestamp: Timestamp,
    key: Key,
    value: Value,
    /// The number of the own operation that it removed.
    removed: Option<u64>,
}

impl Contexts {
    /// The delta of such an update. `None`, and nothing, where it is any other, or is not to be
    /// taken.
    pub(super) fn expand_next(&mut self, document: &Document, update: &[u8]) -> Option<Delta> {
        if crate::SMALL {
            return None;
        }
        let (told, sum) = update.split_last_chunk()?;
        let (writer, context) = self.writers.latest()?;
        let seq = context.seq + 1;
        let known = document.replicas.by_id(writer)?;
        if known.applied.last_seq(writer) != context.seq
            || !context.path.is_empty()
            || !is_next(told, writer, seq)
        {
            return None;
        }
        let hash = xxh3_64_with_seed(told, self.scope);
        if checksum(hash, writer, context, &mut self.scratch) != *sum {
            return None;
        }
        let Told {
            timestamp,
            key,
            value,
            removed,
        } = read(told, context)?;
        self.writers.follow_latest(seq, timestamp, &key);
        let own = DotRange {
            replica: writer,
            first: seq,
            last: seq,
        };
        self.remember(hash, *sum, own);
        Some(Delta {
            applied: DotSet::of_range(own),
            dead: removed.map_or_else(DotSet::new, |seq| DotSet::from_range(writer, seq, seq)),
            entries: few::one(DeltaEntry {
                container: 0,
                key,
                value,
                dot: Dot::new(writer, seq),
                timestamp,
            }),
            nested: None,
        })
    }
}

/// Whether it is one value, in the container of the operation before it, that the writer did as its
/// operation of that number, and that removed at most one of its own.
#[inline]
fn is_next(told: &[u8], writer: ReplicaId, seq: u64) -> bool {
    let Some([flags, head @ ..]) = told.first_chunk::<HEAD>() else {
        return false;
    };
    let [tag, low] = [tag_of(writer), seq as u16].map(u16::to_le_bytes);
    flags & !(INTEGER | REMOVED) == COMPACT | VALUE | SAME
        && flags & REMOVED <= REMOVED_OWN
        && *head == [tag[0], tag[1], low[0], low[1]]
        && seq < MAX_SEQ
}

/// The checksum of such an update, by the hash of what it tells.
#[inline]
fn checksum(hash: u64, writer: ReplicaId, context: &Context, scratch: &mut Vec<u8>) -> [u8; 4] {
    let mut line: Line = [0; 64];
    if let Some(Key::Str(text)) = &context.key {
        let head = [writer.get(), context.seq, context.timestamp.bits()];
        let at = put_line_head(&mut line, head);
        // No container, and a key.
        line[at + 1] = 1;
        if let Some(end) = put_line_text(&mut line, at + 2, text) {
            return super::checksum(hash, &line[..end]);
        }
    }
    body::presuppose(scratch, writer, context, true);
    super::checksum(hash, scratch)
}

/// What it takes is in the only form that there is.
#[inline]
fn read(told: &[u8], context: &Context) -> Option<Told> {
    let flags = *told.first()?;
    let mut reader = Reader::new(told);
    reader.take(HEAD).ok()?;
    let timestamp = body::read_time(&mut reader, context.timestamp).ok()?;
    let key = read_front_coded(&mut reader, context.key.as_ref()).ok()?;
    if matches!(key, Key::Element(_)) {
        return None;
    }
    let value = if flags & INTEGER != 0 {
        Value::Int(reader.zigzag().ok()?)
    } else {
        body::read_item_value(&mut reader, flags).ok()?
    };
    let mut removed = None;
    if flags & REMOVED == REMOVED_OWN {
        // Not itself, and none before the first.
        let behind = reader.varint().ok().filter(|behind| *behind > 0)?;
        let seq = (context.seq + 1).checked_sub(behind);
        removed = Some(seq.filter(|seq| *seq > 0)?);
    }
    reader.finish().ok()?;
    Some(Told {
        timestamp,
        key,
        value,
        removed,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Expansion;
    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            "key-00[0-9]{0,4}".prop_map(Key::from),
            "[aéê世]{0,9}".prop_map(Key::from),
            "feature/[a-c]{10,40}".prop_map(Key::from),
            any::<i64>().prop_map(Key::from),
            any::<bool>().prop_map(Key::from),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(Key::from),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            (0..100_000i64).prop_map(Value::from),
            "[a-zé]{0,30}".prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
        ]
    }

    proptest! {
        /// Whatever stands in an update, its checksum being right. One with a wrong checksum is not read.
        #[test]
        fn what_is_read_shortly_is_what_is_read_of_any_update(
            writes in prop::collection::vec((keys(), values(), 0..3u64, any::<(u8, u8)>()), 2..12),
        ) {
            let mut here = (Document::new(ReplicaId::new(7 << 48 | 1)), Contexts::new("tests"));
            let mut there = (Document::new(ReplicaId::new(2)), Contexts::new("tests"));
            for (at, (key, value, later, (place, flip))) in writes.into_iter().enumerate() {
                let before = here.0.own_seq();
                let now = here.0.latest().millis() + later;
                here.0.set(now, key, value).unwrap();
                let delta = here.0.own_since(before);
                let update = here.1.encode(&here.0, &delta);
                if at > 0 {
                    let mut body = update[..update.len() - 4].to_vec();
                    let place = usize::from(place) % body.len();
                    body[place] ^= flip;
                    for body in [&body[..], &body[..place]] {
                        let Some(sealed) = there.1.sealed(&there.0, body) else {
                            continue;
                        };
                        let any = there.1.clone().expand_any(&there.0, &sealed);
                        let short = there.1.clone().expand_next(&there.0, &sealed);
                        if let Some(short) = short {
                            prop_assert!(matches!(any, Ok(Expansion::New(any)) if any == short));
                        }
                    }
                    let mut damaged = update.clone();
                    damaged[place] ^= flip;
                    let short = there.1.clone().expand_next(&there.0, &damaged);
                    prop_assert!(flip == 0 || short.is_none(), "its checksum is wrong");
                    let short = there.1.expand_next(&there.0, &update);
                    let shortly = !crate::SMALL && delta.dead.ranges().len() < 2;
                    prop_assert_eq!(short, shortly.then(|| delta.clone()));
                }
                there.1.note(&delta);
                there.0.apply(&delta);
            }
        }
    }
}
