//! Members of sets as keys: equal members are equal keys, and `1`, `1.0` and `true` are three.

use alloc::vec::Vec;

use crate::codec::{Reader, put_value, read_value};
use crate::key::Key;
use crate::value::Value;

/// The key that stands for a member: itself, where a key can hold it, else its encoding.
pub(crate) fn member_key(member: &Value) -> Key {
    match member {
        Value::Bool(b) => Key::Bool(*b),
        Value::Int(i) => Key::Int(*i),
        Value::Str(s) => Key::Str(s.clone()),
        other => {
            let mut bytes = Vec::new();
            put_value(&mut bytes, other);
            Key::Bytes(bytes.into())
        }
    }
}

/// The member that a key stands for.
pub(crate) fn member_of(key: &Key) -> Option<Value> {
    Some(match key {
        Key::Bool(b) => Value::Bool(*b),
        Key::Int(i) => Value::Int(*i),
        Key::Str(s) => Value::Str(s.clone()),
        Key::Bytes(bytes) => {
            let mut reader = Reader::new(bytes);
            let member = read_value(&mut reader).ok()?;
            reader.finish().ok()?;
            member
        }
        Key::Element(_) => return None,
    })
}

/// Whether a key stands for a member.
pub(crate) fn is_member(key: &Key) -> bool {
    match key {
        Key::Bytes(_) => member_of(key).is_some_and(|member| member_key(&member) == *key),
        Key::Element(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_one_key() {
        let members = [
            Value::Null,
            Value::from(true),
            Value::from(1i64),
            Value::from(1.0),
            Value::from("1"),
            Value::from(vec![1u8, 2]),
            Value::from(vec![Value::Null]),
        ];
        let keys: std::collections::BTreeSet<Key> = members.iter().map(member_key).collect();
        assert_eq!(keys.len(), members.len());
        for member in &members {
            let key = member_key(member);
            assert!(is_member(&key));
            assert_eq!(member_of(&key).as_ref(), Some(member));
        }
        assert!(!is_member(&Key::from(vec![200u8])));
        // The encoding of what is a key by itself.
        assert!(!is_member(&Key::from(vec![2u8])));
    }
}
