//! The primitives of every encoding: LEB128 integers, lengths that are bounded before memory is
//! taken, dot sets, keys and values. `docs/format.md` gives the bytes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smol_str::SmolStr;

use crate::dots::{DotRange, DotSet};
use crate::error::{DecodeError, Fault};
use crate::key::Key;
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH};
use crate::replica::{Dot, ReplicaId};
use crate::value::Value;

/// Appends an unsigned LEB128 integer.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, n: u64) {
    if n < 0x80 {
        out.push(n as u8);
    } else if n < 1 << 56 && !crate::SMALL {
        put_middling_varint(out, n);
    } else {
        put_long_varint(out, n);
    }
}

/// An integer of two to eight groups of seven bits, all at once: lengths are hard to foresee, and
/// a loop would stumble over nearly each.
#[inline]
fn put_middling_varint(out: &mut Vec<u8>, n: u64) {
    let (word, len) = varint_word(n);
    put_word(out, word, len);
}

/// An integer below 2^56 in groups of seven bits, as the first bytes of a little-endian word; and
/// how many of them.
#[inline]
fn varint_word(n: u64) -> (u64, usize) {
    debug_assert!(n < 1 << 56);
    let n = (n & 0x0fff_ffff) | ((n & 0x00ff_ffff_f000_0000) << 4);
    let n = (n & 0x0000_3fff_0000_3fff) | ((n & 0x0fff_c000_0fff_c000) << 2);
    let n = (n & 0x007f_007f_007f_007f) | ((n & 0x3f80_3f80_3f80_3f80) << 1);
    let last = (n | 1).ilog2() / 8;
    let more = 0x8080_8080_8080_8080 & !(u64::MAX << (last * 8));
    (n | more, last as usize + 1)
}

fn put_long_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends the first `len` bytes of a little-endian word: one store instead of a copy of so many.
#[inline]
pub(crate) fn put_word(out: &mut Vec<u8>, word: u64, len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(end);
}

/// Appends a signed integer, zigzag-coded so that small ones are short.
#[inline]
pub(crate) fn put_zigzag(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

#[inline]
fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// Bytes that are few in most cases, put together in one piece: to be hashed, and not kept.
pub(crate) type Line = [u8; 64];

/// Puts three words into a line, what [`put_key`] gives for a text, and what [`put_value`] gives
/// for an integer; how many bytes it is. `None` where the text or the integer takes too many.
#[inline]
pub(crate) fn line_of(line: &mut Line, head: [u64; 3], text: &str, value: i64) -> Option<usize> {
    let value = zigzag(value);
    let start = put_line_head(line, head);
    let end = put_line_text(line, start, text)?;
    if value >= 1 << 56 {
        return None;
    }
    line[end] = INT;
    let (word, len) = varint_word(value);
    line[end + 1..end + 9].copy_from_slice(&word.to_le_bytes());
    Some(end + 1 + len)
}

/// Puts three words into a line; how many bytes they are.
#[inline]
pub(crate) fn put_line_head(line: &mut Line, head: [u64; 3]) -> usize {
    let end = 8 * head.len();
    line[..end].copy_from_slice(head.map(u64::to_le_bytes).as_flattened());
    end
}

/// Puts into a line what [`put_key`] gives for a text; where that ends. `None` where the text has
/// not 8 to 16 bytes.
#[inline]
pub(crate) fn put_line_text(line: &mut Line, at: usize, text: &str) -> Option<usize> {
    let text = text.as_bytes();
    let (first, last) = (text.first_chunk::<8>()?, text.last_chunk::<8>()?);
    if text.len() > 16 {
        return None;
    }
    line[at] = STR;
    line[at + 1] = text.len() as u8;
    let (start, end) = (at + 2, at + 2 + text.len());
    line[start..start + 8].copy_from_slice(first);
    // They overlap where they are more than the bytes.
    line[end - 8..end].copy_from_slice(last);
    Some(end)
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// As [`put_bytes`], for bytes that are few in most cases: two words are quicker than a copy of any
/// length.
#[inline]
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            out.push(bytes.len() as u8);
            let end = out.len() + bytes.len();
            out.extend_from_slice(first);
            // They overlap where they are more than the bytes.
            out.truncate(end - 8);
            out.extend_from_slice(last);
        }
        _ => put_bytes(out, bytes),
    }
}

/// Reads from bytes that nobody vouches for.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The bits of eight bytes of an integer that tell whether another byte follows.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// The lower seven bits of each of eight bytes, side by side.
fn septets(bytes: u64) -> u64 {
    let pairs = (bytes & 0x007f_007f_007f_007f) | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not read so far: no count of things can exceed it.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes not read so far.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Names the rule that is broken; in wasm, where all these names would be a fiftieth of a module
    /// that pages have to load, only the place.
    #[cold]
    #[inline(never)]
    pub(crate) fn malformed(&self, what: &'static str) -> Fault {
        let what = if crate::SMALL {
            "no replica writes this"
        } else {
            what
        };
        DecodeError::Malformed { at: self.at, what }.into()
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(DecodeError::Truncated(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DecodeError::Truncated(self.bytes.len()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An integer in its shortest form only, so that equal content has equal bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        match *self.rest() {
            [a, ..] if a < 0x80 => {
                self.at += 1;
                Ok(u64::from(a))
            }
            [a, b, ..] if matches!(b, 1..0x80) && !crate::SMALL => {
                self.at += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            [a, b, c, ..] if matches!((b, c), (0x80.., 1..0x80)) && !crate::SMALL => {
                self.at += 3;
                let [a, b] = [a, b].map(|byte| u64::from(byte & 0x7f));
                Ok(a | b << 7 | u64::from(c) << 14)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        // Of a timestamp: nine bytes, eight of them at once.
        if !crate::SMALL
            && let Some((low, [last, ..])) = self.rest().split_first_chunk()
            && let low = u64::from_le_bytes(*low)
            && low & CONTINUED == CONTINUED
            && matches!(last, 1..0x80)
        {
            self.at += 9;
            return Ok(septets(low) | u64::from(*last) << 56);
        }
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(self.malformed("an integer of more than 64 bits"));
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(self.malformed("an integer that is not in its shortest form"));
                }
                return Ok(n);
            }
            shift += 7;
        }
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, Fault> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Eight bytes, little-endian.
    pub(crate) fn u64_le(&mut self) -> Result<u64, Fault> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(word))
    }

    /// A count of things that take at least one byte each of what remains.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize, Fault> {
        let limit = self.remaining() as u64;
        self.bounded(what, limit)
    }

    /// An integer of at most `limit`.
    pub(crate) fn bounded(&mut self, what: &'static str, limit: u64) -> Result<usize, Fault> {
        let found = self.varint()?;
        if found > limit {
            return Err(Fault::limit(what, found, limit));
        }
        Ok(found as usize)
    }

    /// A length of at most `limit`, and so many bytes.
    pub(crate) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], Fault> {
        let len = self.bounded(what, limit as u64)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, Fault> {
        let bytes = self.bytes(what, limit)?;
        core::str::from_utf8(bytes).map_err(|_| self.malformed("text that is not UTF-8"))
    }

    /// Fails where anything is left.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.remaining() > 0 {
            return Err(self.malformed("bytes after the end"));
        }
        Ok(())
    }
}

/// Appends a dot set: the number of replicas, and for each its id, the number of its ranges, and
/// the ranges as gaps and lengths.
pub(crate) fn put_dots(out: &mut Vec<u8>, dots: &DotSet) {
    let groups = dots.by_replica();
    put_varint(out, groups.clone().count() as u64);
    for group in groups {
        out.extend_from_slice(&group[0].replica.get().to_le_bytes());
        put_varint(out, group.len() as u64);
        let mut next = 1;
        for range in group {
            put_varint(out, range.first - next);
            put_varint(out, range.last - range.first);
            next = range.last.saturating_add(1);
        }
    }
}

/// Reads what [`put_dots`] wrote, and nothing else: replicas ascend, ranges ascend and do not touch.
pub(crate) fn read_dots(reader: &mut Reader<'_>) -> Result<DotSet, Fault> {
    let mut dots = DotSet::new();
    let mut previous = None;
    for _ in 0..reader.count("the number of replicas")? {
        let replica = ReplicaId::new(reader.u64_le()?);
        if previous.is_some_and(|previous| previous >= replica) {
            return Err(reader.malformed("replicas out of order"));
        }
        previous = Some(replica);
        let ranges = reader.count("the number of ranges")?;
        if ranges == 0 {
            return Err(reader.malformed("a replica without ranges"));
        }
        let mut next = 1u64;
        for i in 0..ranges {
            let gap = reader.varint()?;
            if i > 0 && gap == 0 {
                return Err(reader.malformed("ranges that touch"));
            }
            let overflow = "a sequence number of more than 64 bits";
            let first = next
                .checked_add(gap)
                .ok_or_else(|| reader.malformed(overflow))?;
            let span = reader.varint()?;
            // The largest number stays free: there is always a next one.
            let last = first.checked_add(span).filter(|last| *last < u64::MAX);
            let last = last.ok_or_else(|| reader.malformed(overflow))?;
            dots.push(DotRange {
                replica,
                first,
                last,
            });
            next = last + 1;
        }
    }
    Ok(dots)
}

const BOOL_FALSE: u8 = 1;
const BOOL_TRUE: u8 = 2;
pub(crate) const INT: u8 = 3;
const FLOAT: u8 = 4;
pub(crate) const STR: u8 = 5;
const BYTES: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;
pub(crate) const ELEMENT: u8 = 9;

/// Appends a key: its kind, and its content.
#[inline]
pub(crate) fn put_key(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Bool(false) => out.push(BOOL_FALSE),
        Key::Bool(true) => out.push(BOOL_TRUE),
        Key::Int(i) => {
            out.push(INT);
            put_zigzag(out, *i);
        }
        Key::Str(s) => {
            out.push(STR);
            put_short(out, s.as_bytes());
        }
        Key::Bytes(b) => {
            out.push(BYTES);
            put_bytes(out, b);
        }
        Key::Element(id) => {
            out.push(ELEMENT);
            out.extend_from_slice(&id.replica.get().to_le_bytes());
            put_varint(out, id.seq);
        }
    }
}

/// Reads what [`put_key`] wrote.
pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<Key, Fault> {
    const LENGTH: &str = "the length of a key";
    Ok(match reader.byte()? {
        BOOL_FALSE => Key::Bool(false),
        BOOL_TRUE => Key::Bool(true),
        INT => Key::Int(reader.zigzag()?),
        STR => Key::Str(SmolStr::new(reader.text(LENGTH, MAX_KEY_BYTES)?)),
        BYTES => Key::Bytes(reader.bytes(LENGTH, MAX_KEY_BYTES)?.into()),
        ELEMENT => {
            let replica = ReplicaId::new(reader.u64_le()?);
            Key::Element(Dot::new(replica, reader.varint()?))
        }
        _ => return Err(reader.malformed("an unknown kind of key")),
    })
}

/// The byte that tells a value's kind; of null and the booleans it is all there is.
pub(crate) fn value_tag(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => BOOL_FALSE,
        Value::Bool(true) => BOOL_TRUE,
        Value::Int(_) => INT,
        Value::Float(_) => FLOAT,
        Value::Str(_) => STR,
        Value::Bytes(_) => BYTES,
        Value::List(_) => LIST,
        Value::Map(_) => MAP,
    }
}

/// The content of a value that one word holds: null, a boolean or a number.
#[inline]
pub(crate) fn word_of(value: &Value) -> Option<u64> {
    match value {
        Value::Null | Value::Bool(_) => Some(0),
        Value::Int(i) => Some(*i as u64),
        Value::Float(x) => Some(x.to_bits()),
        Value::Str(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// As [`put_value_body`], for a value of this tag of which [`word_of`] gave the word.
#[inline]
pub(crate) fn put_word_body(out: &mut Vec<u8>, tag: u8, word: u64) {
    match tag {
        INT => put_zigzag(out, word as i64),
        FLOAT => out.extend_from_slice(&word.to_le_bytes()),
        _ => {}
    }
}

/// Appends a value's content, without its tag.
#[inline(never)]
pub(crate) fn put_value_body(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Int(i) => put_zigzag(out, *i),
        Value::Float(x) => out.extend_from_slice(&x.to_bits().to_le_bytes()),
        Value::Str(s) => put_bytes(out, s.as_bytes()),
        Value::Bytes(b) => put_bytes(out, b),
        Value::List(list) => {
            put_varint(out, list.len() as u64);
            list.iter().for_each(|item| put_value(out, item));
        }
        Value::Map(map) => {
            put_varint(out, map.len() as u64);
            for (key, item) in map.iter() {
                put_bytes(out, key.as_bytes());
                put_value(out, item);
            }
        }
    }
}

/// Appends a value: its tag and its content.
#[inline]
pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value) {
    if let Value::Int(i) = value {
        out.push(INT);
        put_zigzag(out, *i);
    } else {
        out.push(value_tag(value));
        put_value_body(out, value);
    }
}

/// Reads what [`put_value`] wrote.
pub(crate) fn read_value(reader: &mut Reader<'_>) -> Result<Value, Fault> {
    let tag = reader.byte()?;
    read_value_body(reader, tag, 0)
}

/// Reads the content of a value of a known tag, itself `depth` levels deep.
pub(crate) fn read_value_body(
    reader: &mut Reader<'_>,
    tag: u8,
    depth: usize,
) -> Result<Value, Fault> {
    const LENGTH: &str = "the length of a value";
    Ok(match tag {
        0 => Value::Null,
        BOOL_FALSE => Value::Bool(false),
        BOOL_TRUE => Value::Bool(true),
        INT => Value::Int(reader.zigzag()?),
        FLOAT => Value::Float(f64::from_bits(reader.u64_le()?)),
        STR => Value::Str(SmolStr::new(reader.text(LENGTH, MAX_VALUE_BYTES)?)),
        BYTES => Value::Bytes(reader.bytes(LENGTH, MAX_VALUE_BYTES)?.into()),
        LIST | MAP if depth >= MAX_VALUE_DEPTH => {
            let (found, limit) = (depth as u64 + 1, MAX_VALUE_DEPTH as u64);
            return Err(Fault::limit("the depth of a value", found, limit));
        }
        LIST => {
            let len = reader.count(LENGTH)?;
            let mut list = Vec::new();
            for _ in 0..len {
                let tag = reader.byte()?;
                list.push(read_value_body(reader, tag, depth + 1)?);
            }
            Value::List(list.into())
        }
        MAP => {
            let len = reader.count(LENGTH)?;
            let mut map = BTreeMap::new();
            for _ in 0..len {
                let key = SmolStr::new(reader.text("the length of a key", MAX_VALUE_BYTES)?);
                if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                    return Err(reader.malformed("keys of a map out of order"));
                }
                let tag = reader.byte()?;
                map.insert(key, read_value_body(reader, tag, depth + 1)?);
            }
            Value::Map(Arc::new(map))
        }
        _ => return Err(reader.malformed("an unknown kind of value")),
    })
}

/// First four bytes of the XXH3 hash: guards what is stored or sent against damage, not malice.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 4] {
    (crate::hashing::xxh3_64(bytes) as u32).to_le_bytes()
}

/// Appends the checksum of all that `out` holds.
pub(crate) fn put_checksum(out: &mut Vec<u8>) {
    let sum = checksum(out);
    out.extend_from_slice(&sum);
}

/// Splits off and verifies the checksum at the end.
pub(crate) fn check_checksum(bytes: &[u8]) -> Result<&[u8], Fault> {
    let (body, sum) = bytes
        .split_last_chunk::<4>()
        .ok_or(DecodeError::Truncated(bytes.len()))?;
    if checksum(body) != *sum {
        return Err(DecodeError::Checksum.into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_round_trip_in_one_form_only() {
        for n in [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            (1 << 49) - 1,
            1 << 49,
            (1 << 56) - 1,
            1 << 56,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!(Reader::new(&out).varint(), Ok(n));
            out.clear();
            put_zigzag(&mut out, n as i64);
            assert_eq!(Reader::new(&out).zigzag(), Ok(n as i64));
        }
        assert!(Reader::new(&[0x80, 0]).varint().is_err());
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(Reader::new(&[0x80]).varint().is_err());
        let padded = [&[0xff; 8][..], &[0, 1]].concat();
        assert!(Reader::new(&padded).varint().is_err());
    }

    proptest! {
        #[test]
        fn integers_of_any_length_round_trip_whatever_follows(
            n: u64,
            shift in 0..64u32,
            after in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let n = n >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, n);
            out.extend_from_slice(&after);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(n));
            prop_assert_eq!(reader.rest(), &after[..]);
        }

        #[test]
        fn a_line_has_the_bytes_of_its_parts(
            head: [u64; 3],
            text in ".{0,20}",
            value: i64,
            shift in 0..64u32,
        ) {
            let value = value >> shift;
            let mut line: Line = [0xee; 64];
            let mut parts = head.map(u64::to_le_bytes).as_flattened().to_vec();
            put_key(&mut parts, &Key::from(text.as_str()));
            put_value(&mut parts, &Value::from(value));
            let len = line_of(&mut line, head, &text, value);
            prop_assert_eq!(len.is_some(), (8..=16).contains(&text.len()) && zigzag(value) < 1 << 56);
            if let Some(len) = len {
                prop_assert_eq!(&line[..len], &parts[..]);
            }
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut bytes = vec![LIST];
        put_varint(&mut bytes, u64::MAX);
        assert!(matches!(
            read_value(&mut Reader::new(&bytes)).map_err(DecodeError::from),
            Err(DecodeError::Limit { .. })
        ));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            let mut bytes = [LIST, 1].repeat(levels);
            bytes.push(0);
            bytes
        };
        assert!(read_value(&mut Reader::new(&nested(MAX_VALUE_DEPTH))).is_ok());
        assert!(read_value(&mut Reader::new(&nested(MAX_VALUE_DEPTH + 1))).is_err());
        assert!(read_value(&mut Reader::new(&nested(100_000))).is_err());
    }
}
