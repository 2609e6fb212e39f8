//! Keys, values and versions as bytes: values as the engine writes them, keys as the values that are
//! like them, versions as numbers of eight bytes, little-endian.

use alloc::vec::Vec;

use portolan_core::{Key, ReplicaId, Value, Version};

/// Appends a key of a map.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &Key) {
    let like_it = match key {
        Key::Bool(b) => Value::Bool(*b),
        Key::Int(i) => Value::Int(*i),
        Key::Str(s) => Value::Str(s.clone()),
        Key::Bytes(b) => Value::Bytes(b.clone()),
        // No key of a map.
        Key::Element(_) => Value::Null,
    };
    like_it.encode_to(out);
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

/// Reads keys and values one behind the other; `None` where the bytes mean nothing.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn value(&mut self) -> Option<Value> {
        Value::decode_from(&mut self.0).ok()
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
}
