//! Keys, values and versions as bytes that JavaScript writes and reads with a `DataView`: a tag,
//! and what it announces, with lengths of four bytes, all little-endian.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use portolan_core::limits::MAX_VALUE_DEPTH;
use portolan_core::{Key, ReplicaId, SmolStr, Value, Version};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;
const BYTES: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// Appends a value.
pub(crate) fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        Value::Int(i) => put_word(out, INT, *i as u64),
        Value::Float(x) => put_word(out, FLOAT, x.to_bits()),
        Value::Str(s) => put_bytes(out, STR, s.as_bytes()),
        Value::Bytes(b) => put_bytes(out, BYTES, b),
        Value::List(list) => {
            put_count(out, LIST, list.len());
            list.iter().for_each(|item| put(out, item));
        }
        Value::Map(map) => {
            put_count(out, MAP, map.len());
            for (name, item) in map.iter() {
                put_bytes(out, STR, name.as_bytes());
                put(out, item);
            }
        }
    }
}

/// Appends a key of a map, as the value that is like it.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        Key::Int(i) => put_word(out, INT, *i as u64),
        Key::Str(s) => put_bytes(out, STR, s.as_bytes()),
        Key::Bytes(b) => put_bytes(out, BYTES, b),
        // No key of a map.
        Key::Element(_) => out.push(NULL),
    }
}

/// Appends a version: of each range the replica, and the numbers it begins and ends with.
pub(crate) fn put_version(out: &mut Vec<u8>, version: &Version) {
    for range in version.ranges() {
        for word in [range.replica.get(), range.first, range.last] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// The version that [`put_version`] wrote.
pub(crate) fn version(bytes: &[u8]) -> Version {
    let mut version = Version::new();
    for words in bytes.as_chunks::<8>().0.as_chunks::<3>().0 {
        let [replica, first, last] = words.map(u64::from_le_bytes);
        version.insert_range(ReplicaId::new(replica), first, last);
    }
    version
}

fn put_word(out: &mut Vec<u8>, tag: u8, word: u64) {
    out.push(tag);
    out.extend_from_slice(&word.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, tag: u8, count: usize) {
    out.push(tag);
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    put_count(out, tag, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads keys and values one behind the other; `None` where the bytes mean nothing.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn value(&mut self) -> Option<Value> {
        self.nested(0)
    }

    pub(crate) fn key(&mut self) -> Option<Key> {
        Some(match self.value()? {
            Value::Bool(b) => Key::Bool(b),
            Value::Int(i) => Key::Int(i),
            Value::Str(s) => Key::Str(s),
            Value::Bytes(b) => Key::Bytes(b),
            _ => return None,
        })
    }

    fn nested(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_VALUE_DEPTH {
            return None;
        }
        Some(match self.chunk::<1>()?[0] {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INT => Value::Int(i64::from_le_bytes(self.chunk()?)),
            FLOAT => Value::Float(f64::from_le_bytes(self.chunk()?)),
            STR => Value::Str(self.text()?),
            BYTES => Value::Bytes(self.bytes()?.into()),
            LIST => {
                let count = self.count()?;
                let items = (0..count).map(|_| self.nested(depth + 1));
                Value::List(items.collect::<Option<Vec<_>>>()?.into())
            }
            MAP => {
                let mut map = BTreeMap::new();
                for _ in 0..self.count()? {
                    let Value::Str(name) = self.nested(depth + 1)? else {
                        return None;
                    };
                    map.insert(name, self.nested(depth + 1)?);
                }
                Value::Map(map.into())
            }
            _ => return None,
        })
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.chunk()?) as usize)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<SmolStr> {
        Some(SmolStr::new(core::str::from_utf8(self.bytes()?).ok()?))
    }
}
