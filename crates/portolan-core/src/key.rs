//! Keys of a map.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use smol_str::SmolStr;

use crate::replica::Dot;

/// A key: a boolean, an integer, a string, bytes, or the id of an array's element, ordered in
/// that sequence of kinds.
///
/// `1`, `"1"` and `true` are three keys. Strings of up to 23 bytes are held in place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string.
    Str(SmolStr),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// An element of an array, by its id: only in arrays, and in paths that lead through them.
    Element(Dot),
}

/// A key that is borrowed, for looking one up without building it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An element of an array.
    Element(Dot),
}

impl Key {
    /// The key, borrowed.
    #[inline]
    pub fn borrowed(&self) -> KeyRef<'_> {
        match self {
            Key::Bool(b) => KeyRef::Bool(*b),
            Key::Int(i) => KeyRef::Int(*i),
            Key::Str(s) => KeyRef::Str(s),
            Key::Bytes(b) => KeyRef::Bytes(b),
            Key::Element(id) => KeyRef::Element(*id),
        }
    }

    /// Whether it is the same key, without a call for the short texts that most keys are.
    #[inline]
    pub(crate) fn is(&self, other: KeyRef<'_>) -> bool {
        match (self, other) {
            (Key::Str(a), KeyRef::Str(b)) => same_bytes(a.as_bytes(), b.as_bytes()),
            (Key::Int(a), KeyRef::Int(b)) => *a == b,
            (Key::Bool(a), KeyRef::Bool(b)) => *a == b,
            (Key::Bytes(a), KeyRef::Bytes(b)) => same_bytes(a, b),
            (Key::Element(a), KeyRef::Element(b)) => *a == b,
            _ => false,
        }
    }

    /// The text of a string key.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Key::Str(s) => Some(s),
            _ => None,
        }
    }

    /// Bytes that the limit on keys counts.
    pub fn byte_len(&self) -> usize {
        match self {
            Key::Bool(_) => 1,
            Key::Int(_) => 8,
            Key::Str(s) => s.len(),
            Key::Bytes(b) => b.len(),
            Key::Element(_) => 16,
        }
    }
}

impl KeyRef<'_> {
    /// The key, owned.
    pub fn to_key(self) -> Key {
        match self {
            KeyRef::Bool(b) => Key::Bool(b),
            KeyRef::Int(i) => Key::Int(i),
            KeyRef::Str(s) => Key::Str(SmolStr::new(s)),
            KeyRef::Bytes(b) => Key::Bytes(b.into()),
            KeyRef::Element(id) => Key::Element(id),
        }
    }
}

/// Equality, as a comparison of words where there are few bytes.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The first and the last word overlap where there is less than both.
    match (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        (Some(a_first), Some(b_first)) if a.len() <= 16 => {
            a_first == b_first && a.last_chunk::<8>() == b.last_chunk::<8>()
        }
        _ => a == b,
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.borrowed().cmp(&other.borrowed())
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shown as in a path: a string without quotes, bytes as `0x…`, an element as `@` and its id.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(b) => write!(f, "{b}"),
            Key::Int(i) => write!(f, "{i}"),
            Key::Str(s) => f.write_str(s),
            Key::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Key::Element(id) => write!(f, "@{id}"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Str(s) => write!(f, "{s:?}"),
            other => write!(f, "{other}"),
        }
    }
}

macro_rules! keys_from {
    ($($source:ty => |$value:ident| $key:expr;)*) => {$(
        impl From<$source> for Key {
            fn from($value: $source) -> Self { $key }
        }
    )*};
}

keys_from! {
    &str => |s| Key::Str(SmolStr::new(s));
    String => |s| Key::Str(SmolStr::from(s));
    &String => |s| Key::Str(SmolStr::new(s));
    SmolStr => |s| Key::Str(s);
    i64 => |i| Key::Int(i);
    i32 => |i| Key::Int(i.into());
    u32 => |i| Key::Int(i.into());
    bool => |b| Key::Bool(b);
    &[u8] => |b| Key::Bytes(b.into());
    Vec<u8> => |b| Key::Bytes(b.into());
    &Key => |k| k.clone();
    KeyRef<'_> => |k| k.to_key();
}

macro_rules! key_refs_from {
    ($($source:ty => |$value:ident| $key:expr;)*) => {$(
        impl<'a> From<$source> for KeyRef<'a> {
            fn from($value: $source) -> Self { $key }
        }
    )*};
}

key_refs_from! {
    &'a str => |s| KeyRef::Str(s);
    &'a String => |s| KeyRef::Str(s);
    &'a SmolStr => |s| KeyRef::Str(s);
    i64 => |i| KeyRef::Int(i);
    i32 => |i| KeyRef::Int(i.into());
    u32 => |i| KeyRef::Int(i.into());
    bool => |b| KeyRef::Bool(b);
    &'a [u8] => |b| KeyRef::Bytes(b);
    &'a Key => |k| k.borrowed();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_three_words() {
        assert_eq!(size_of::<Key>(), 24);
    }

    #[test]
    fn keys_of_different_kinds_differ() {
        let keys = ["", "0", "__proto__", "toString"].map(Key::from);
        let more = [Key::from(0i64), Key::from(false)];
        let all: std::collections::BTreeSet<_> = keys.into_iter().chain(more).collect();
        assert_eq!(all.len(), 6);
    }
}
