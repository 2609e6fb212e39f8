//! From a value to a program's type.

use std::collections::BTreeMap;

use portolan_core::{SmolStr, Value};
use serde::de::value::{BorrowedStrDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Misfit;

/// Reads a value; the depth of its nesting was bounded when it was made.
#[derive(Clone, Copy)]
pub(super) struct ValueReader<'de>(pub(super) &'de Value);

impl<'de> IntoDeserializer<'de, Misfit> for ValueReader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn list<'de, V: Visitor<'de>>(items: &'de [Value], visitor: V) -> Result<V::Value, Misfit> {
    let mut reader = SeqDeserializer::new(items.iter().map(ValueReader));
    let result = visitor.visit_seq(&mut reader)?;
    reader.end()?;
    Ok(result)
}

fn map<'de, V: Visitor<'de>>(
    entries: &'de BTreeMap<SmolStr, Value>,
    visitor: V,
) -> Result<V::Value, Misfit> {
    let entries = entries.iter();
    let entries = entries.map(|(key, value)| (KeyReader(key), ValueReader(value)));
    let mut reader = MapDeserializer::new(entries);
    let result = visitor.visit_map(&mut reader)?;
    reader.end()?;
    Ok(result)
}

impl<'de> de::Deserializer<'de> for ValueReader<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(i) => visitor.visit_i64(*i),
            Value::Float(x) => visitor.visit_f64(*x),
            Value::Str(s) => visitor.visit_borrowed_str(s),
            Value::Bytes(b) => visitor.visit_borrowed_bytes(b),
            Value::List(items) => list(items, visitor),
            Value::Map(entries) => map(entries, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Value::List(items) = self.0 else {
            return self.deserialize_any(visitor);
        };
        let byte = |item: &Value| item.as_int().and_then(|i| u8::try_from(i).ok());
        let bytes: Option<Vec<u8>> = items.iter().map(byte).collect();
        let bytes = bytes.ok_or_else(|| Misfit::custom("a list that is no list of bytes"))?;
        visitor.visit_byte_buf(bytes)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let (name, content) = match self.0 {
            Value::Str(name) => (name, None),
            Value::Map(entries) if entries.len() == 1 => {
                // The guard has counted one entry.
                let (name, content) = entries.iter().next().unwrap_or_else(|| unreachable!());
                (name, Some(content))
            }
            other => {
                let kind = other.kind();
                let message =
                    format!("a {kind}, where a variant's name or a map of one entry is expected");
                return Err(Misfit::custom(message));
            }
        };
        visitor.visit_enum(VariantReader { name, content })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        unit unit_struct tuple_struct map struct identifier ignored_any
    }
}

/// Reads a key of a map within a value: text, or a number or boolean written as text.
#[derive(Clone, Copy)]
struct KeyReader<'de>(&'de SmolStr);

impl<'de> IntoDeserializer<'de, Misfit> for KeyReader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! keys_from_text {
    ($($method:ident $visit:ident $kind:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.0.parse::<$kind>() {
                Ok(key) => visitor.$visit(key),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for KeyReader<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    keys_from_text! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        BorrowedStrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// Reads an enum: the variant's name, and its content if it has one.
struct VariantReader<'de> {
    name: &'de SmolStr,
    content: Option<&'de Value>,
}

impl<'de> de::EnumAccess<'de> for VariantReader<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), Misfit> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Misfit>::new(self.name))?;
        Ok((variant, self))
    }
}

impl<'de> VariantReader<'de> {
    fn content(&self) -> Result<ValueReader<'de>, Misfit> {
        let content = self.content.map(ValueReader);
        content
            .ok_or_else(|| Misfit::custom(format!("the variant `{}` lacks its content", self.name)))
    }
}

impl<'de> de::VariantAccess<'de> for VariantReader<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.content {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(Misfit::custom(format!(
                "the variant `{}` has no content, but some is given",
                self.name
            ))),
        }
    }

    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, Misfit> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Misfit> {
        de::Deserializer::deserialize_seq(self.content()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        de::Deserializer::deserialize_map(self.content()?, visitor)
    }
}
