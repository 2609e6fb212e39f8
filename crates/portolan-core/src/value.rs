//! Plain values: what a register holds.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

use crate::codec::{Reader, put_value, read_value};
use crate::error::DecodeError;

/// A plain value, taken as one: a list or map in it is replaced whole, not merged.
///
/// Cloning is cheap: short strings are held in place, everything larger is shared.
/// Floats are compared by their bits, so every value equals itself, and `1` is not `1.0`.
#[derive(Clone)]
pub enum Value {
    /// Nothing, as a value; a key that holds it exists.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(SmolStr),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list of values.
    List(Arc<[Value]>),
    /// A map of values, in the order of its keys.
    Map(Arc<BTreeMap<SmolStr, Value>>),
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// Appends it as bytes: a tag and the content, as `docs/format.md` says of values.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }

    /// Reads what [`encode_to`](Self::encode_to) wrote from the start of `bytes`, which are what
    /// follows then.
    pub fn decode_from(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = read_value(&mut reader)?;
        *bytes = reader.rest();
        Ok(value)
    }

    /// About how many bytes it takes on the heap.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Value::Str(s) if s.is_heap_allocated() => s.len(),
            Value::Bytes(b) => b.len(),
            Value::List(list) => list.iter().map(|item| 24 + item.weight()).sum(),
            Value::Map(map) => map
                .iter()
                .map(|(key, item)| 48 + key.len() + item.weight())
                .sum(),
            _ => 0,
        }
    }

    /// What kind of value it is, in one word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "float",
            Value::Str(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Shown much as JSON.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => write!(f, "{x:?}"),
            Value::Str(s) => write!(f, "{s:?}"),
            Value::Bytes(b) => write!(f, "{b:02x?}"),
            Value::List(l) => f.debug_list().entries(l.iter()).finish(),
            Value::Map(m) => f.debug_map().entries(m.iter()).finish(),
        }
    }
}

macro_rules! values_from {
    ($($source:ty => |$value:ident| $result:expr;)*) => {$(
        impl From<$source> for Value {
            fn from($value: $source) -> Self { $result }
        }
    )*};
}

values_from! {
    () => |_unit| Value::Null;
    bool => |b| Value::Bool(b);
    i64 => |i| Value::Int(i);
    i32 => |i| Value::Int(i.into());
    u32 => |i| Value::Int(i.into());
    f64 => |x| Value::Float(x);
    &str => |s| Value::Str(SmolStr::new(s));
    String => |s| Value::Str(SmolStr::from(s));
    SmolStr => |s| Value::Str(s);
    &[u8] => |b| Value::Bytes(b.into());
    Vec<u8> => |b| Value::Bytes(b.into());
    Vec<Value> => |l| Value::List(l.into());
    BTreeMap<SmolStr, Value> => |m| Value::Map(m.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_three_words() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(size_of::<Option<Value>>(), 24);
    }

    #[test]
    fn one_as_integer_float_and_truth_differ() {
        assert_ne!(Value::from(1i64), Value::from(1.0));
        assert_ne!(Value::from(1i64), Value::from(true));
        assert_eq!(Value::from(f64::NAN), Value::from(f64::NAN));
    }
}
