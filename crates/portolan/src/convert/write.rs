//! From a program's type to a value.

use std::collections::BTreeMap;
use std::fmt::Display;

use portolan_core::limits::MAX_VALUE_DEPTH;
use portolan_core::{SmolStr, Value};
use serde::ser::{self, Error as _, Impossible, Serialize};

use super::Misfit;

/// Writes one value that lies `depth` levels deep.
pub(super) struct ValueWriter {
    pub(super) depth: usize,
}

impl ValueWriter {
    /// The depth of what lies inside a list or map written here.
    fn inside(&self) -> Result<usize, Misfit> {
        if self.depth >= MAX_VALUE_DEPTH {
            let message = format!("it is nested more than {MAX_VALUE_DEPTH} levels deep");
            return Err(Misfit::custom(message));
        }
        Ok(self.depth + 1)
    }

    fn list(self, variant: Option<&'static str>) -> Result<ListWriter, Misfit> {
        Ok(ListWriter {
            depth: self.inside()? + usize::from(variant.is_some()),
            items: Vec::new(),
            variant,
        })
    }

    fn map(self, variant: Option<&'static str>) -> Result<MapWriter, Misfit> {
        Ok(MapWriter {
            depth: self.inside()? + usize::from(variant.is_some()),
            entries: BTreeMap::new(),
            key: None,
            variant,
        })
    }
}

fn integer<N: TryInto<i64> + Copy + Display>(number: N) -> Result<Value, Misfit> {
    let fits = number.try_into().map(Value::Int);
    fits.map_err(|_| {
        Misfit::custom(format!(
            "the integer {number} takes more than 64 signed bits"
        ))
    })
}

/// An enum's content, under the name of its variant.
fn tagged(variant: Option<&'static str>, content: Value) -> Value {
    match variant {
        None => content,
        Some(name) => Value::from(BTreeMap::from([(SmolStr::new_static(name), content)])),
    }
}

impl ser::Serializer for ValueWriter {
    type Ok = Value;
    type Error = Misfit;
    type SerializeSeq = ListWriter;
    type SerializeTuple = ListWriter;
    type SerializeTupleStruct = ListWriter;
    type SerializeTupleVariant = ListWriter;
    type SerializeMap = MapWriter;
    type SerializeStruct = MapWriter;
    type SerializeStructVariant = MapWriter;

    fn serialize_bool(self, v: bool) -> Result<Value, Misfit> {
        Ok(Value::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Result<Value, Misfit> {
        Ok(Value::Int(v))
    }
    fn serialize_i128(self, v: i128) -> Result<Value, Misfit> {
        integer(v)
    }
    fn serialize_u8(self, v: u8) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Value, Misfit> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Value, Misfit> {
        integer(v)
    }
    fn serialize_u128(self, v: u128) -> Result<Value, Misfit> {
        integer(v)
    }
    fn serialize_f32(self, v: f32) -> Result<Value, Misfit> {
        Ok(Value::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Result<Value, Misfit> {
        Ok(Value::Float(v))
    }
    fn serialize_char(self, v: char) -> Result<Value, Misfit> {
        Ok(Value::from(v.encode_utf8(&mut [0; 4]) as &str))
    }
    fn serialize_str(self, v: &str) -> Result<Value, Misfit> {
        Ok(Value::from(v))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Value, Misfit> {
        Ok(Value::from(v))
    }
    fn serialize_none(self) -> Result<Value, Misfit> {
        Ok(Value::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Misfit> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, Misfit> {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Misfit> {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Misfit> {
        Ok(Value::from(variant))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, Misfit> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Misfit> {
        let depth = self.inside()?;
        let content = value.serialize(ValueWriter { depth })?;
        Ok(tagged(Some(variant), content))
    }
    fn serialize_seq(self, _len: Option<usize>) -> Result<ListWriter, Misfit> {
        self.list(None)
    }
    fn serialize_tuple(self, _len: usize) -> Result<ListWriter, Misfit> {
        self.list(None)
    }
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<ListWriter, Misfit> {
        self.list(None)
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<ListWriter, Misfit> {
        self.list(Some(variant))
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<MapWriter, Misfit> {
        self.map(None)
    }
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<MapWriter, Misfit> {
        self.map(None)
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<MapWriter, Misfit> {
        self.map(Some(variant))
    }
}

/// Collects the items of a list.
pub(super) struct ListWriter {
    depth: usize,
    items: Vec<Value>,
    variant: Option<&'static str>,
}

impl ListWriter {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Misfit> {
        let writer = ValueWriter { depth: self.depth };
        self.items.push(item.serialize(writer)?);
        Ok(())
    }

    fn finish(self) -> Value {
        tagged(self.variant, Value::from(self.items))
    }
}

macro_rules! list_writers {
    ($($kind:ident $item:ident;)*) => {$(
        impl ser::$kind for ListWriter {
            type Ok = Value;
            type Error = Misfit;
            fn $item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Misfit> {
                self.push(item)
            }
            fn end(self) -> Result<Value, Misfit> {
                Ok(self.finish())
            }
        }
    )*};
}

list_writers! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// Collects the entries of a map.
pub(super) struct MapWriter {
    depth: usize,
    entries: BTreeMap<SmolStr, Value>,
    key: Option<SmolStr>,
    variant: Option<&'static str>,
}

impl MapWriter {
    fn put<T: Serialize + ?Sized>(&mut self, key: SmolStr, value: &T) -> Result<(), Misfit> {
        let writer = ValueWriter { depth: self.depth };
        let value = value.serialize(writer)?;
        if self.entries.contains_key(&key) {
            let message = format!("two keys of a map are both `{key}` as text");
            return Err(Misfit::custom(message));
        }
        self.entries.insert(key, value);
        Ok(())
    }

    fn finish(self) -> Value {
        tagged(self.variant, Value::from(self.entries))
    }
}

impl ser::SerializeMap for MapWriter {
    type Ok = Value;
    type Error = Misfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Misfit> {
        self.key = Some(key.serialize(KeyWriter)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        let key = self.key.take();
        let key = key.ok_or_else(|| Misfit::custom("a map gave a value without its key"))?;
        self.put(key, value)
    }

    fn end(self) -> Result<Value, Misfit> {
        Ok(self.finish())
    }
}

macro_rules! struct_writers {
    ($($kind:ident;)*) => {$(
        impl ser::$kind for MapWriter {
            type Ok = Value;
            type Error = Misfit;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Misfit> {
                self.put(SmolStr::new_static(name), value)
            }
            fn end(self) -> Result<Value, Misfit> {
                Ok(self.finish())
            }
        }
    )*};
}

struct_writers! {
    SerializeStruct;
    SerializeStructVariant;
}

/// Writes the key of a map within a value: text, or what has one obvious text.
struct KeyWriter;

fn no_key() -> Misfit {
    Misfit::custom("a key of a map within a value is text, a number or a boolean")
}

macro_rules! keys_as_text {
    ($($method:ident $kind:ty;)*) => {$(
        fn $method(self, v: $kind) -> Result<SmolStr, Misfit> {
            Ok(SmolStr::from(v.to_string()))
        }
    )*};
}

impl ser::Serializer for KeyWriter {
    type Ok = SmolStr;
    type Error = Misfit;
    type SerializeSeq = Impossible<SmolStr, Misfit>;
    type SerializeTuple = Impossible<SmolStr, Misfit>;
    type SerializeTupleStruct = Impossible<SmolStr, Misfit>;
    type SerializeTupleVariant = Impossible<SmolStr, Misfit>;
    type SerializeMap = Impossible<SmolStr, Misfit>;
    type SerializeStruct = Impossible<SmolStr, Misfit>;
    type SerializeStructVariant = Impossible<SmolStr, Misfit>;

    keys_as_text! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_char char;
        serialize_str &str;
    }

    fn serialize_f32(self, _v: f32) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_f64(self, _v: f64) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_bytes(self, _v: &[u8]) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_none(self) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<SmolStr, Misfit> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<SmolStr, Misfit> {
        Ok(SmolStr::new_static(variant))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<SmolStr, Misfit> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<SmolStr, Misfit> {
        Err(no_key())
    }
    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, Misfit> {
        Err(no_key())
    }
    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Misfit> {
        Err(no_key())
    }
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, Misfit> {
        Err(no_key())
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, Misfit> {
        Err(no_key())
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, Misfit> {
        Err(no_key())
    }
    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStruct, Misfit> {
        Err(no_key())
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Misfit> {
        Err(no_key())
    }
}
