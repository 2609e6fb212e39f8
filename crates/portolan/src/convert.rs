//! Values to and from a program's own types, through serde.
//!
//! A struct is a map, a `Vec` a list, `None` is null, an enum is its variant's name or a map of
//! one entry from the name to the content. `serde_bytes` and the like give bytes; a plain
//! `Vec<u8>` writes a list of integers, and reads either.

mod read;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use portolan_core::Value;

use crate::error::{Error, Result};

/// The value that stands for `content`.
///
/// Fails for integers beyond 64 signed bits, keys of maps that are no text, number or boolean, and
/// nesting beyond the limit.
///
/// ```
/// let value = portolan::to_value(&vec![Some(1), None])?;
/// assert_eq!(portolan::from_value::<Vec<Option<i64>>>(&value)?, [Some(1), None]);
/// # Ok::<(), portolan::Error>(())
/// ```
pub fn to_value<T: Serialize + ?Sized>(content: &T) -> Result<Value> {
    let writer = write::ValueWriter { depth: 0 };
    content.serialize(writer).map_err(Error::from)
}

/// What `value` is in the program's own type.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(read::ValueReader(value)).map_err(Error::from)
}

/// Why a conversion failed, as serde tells it.
#[derive(Debug)]
struct Misfit(String);

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl serde::ser::Error for Misfit {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl serde::de::Error for Misfit {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Self {
        Error::Conversion(misfit.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;

    use super::*;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(content: &T) -> Value {
        let value = to_value(content).unwrap();
        assert_eq!(from_value::<T>(&value).unwrap(), *content);
        value
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Shape {
        Point,
        Circle(f64),
        Line(i64, i64),
        Named { name: String, tags: Vec<char> },
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Everything {
        flag: bool,
        small: u8,
        large: i64,
        real: f32,
        text: String,
        maybe: Option<u32>,
        nothing: Option<String>,
        unit: (),
        pair: (i8, String),
        list: Vec<Shape>,
        by_number: BTreeMap<u16, bool>,
        by_truth: BTreeMap<bool, i64>,
        raw: Vec<u8>,
    }

    #[test]
    fn every_shape_of_type_returns_as_it_went() {
        let value = round_trip(&Everything {
            flag: true,
            small: 255,
            large: i64::MIN,
            real: 0.5,
            text: "é".into(),
            maybe: Some(7),
            nothing: None,
            unit: (),
            pair: (-1, "x".into()),
            list: vec![
                Shape::Point,
                Shape::Circle(1.0),
                Shape::Line(1, 2),
                Shape::Named {
                    name: "n".into(),
                    tags: vec!['a', 'ß'],
                },
            ],
            by_number: BTreeMap::from([(1, true), (65_535, false)]),
            by_truth: BTreeMap::from([(true, 1)]),
            raw: vec![0, 255],
        });
        let Value::Map(fields) = value else {
            panic!("a struct is a map")
        };
        assert_eq!(fields["small"], Value::Int(255));
        assert_eq!(fields["nothing"], Value::Null);
    }

    #[test]
    fn plain_types_are_plain_values() {
        assert_eq!(round_trip(&5i64), Value::Int(5));
        assert_eq!(round_trip(&String::from("a")), Value::from("a"));
        assert_eq!(round_trip(&Option::<i64>::None), Value::Null);
        assert_eq!(round_trip(&1.0f64), Value::Float(1.0));
        assert_eq!(round_trip(&u64::from(u32::MAX)), Value::Int(4_294_967_295));
        assert_eq!(round_trip(&'c'), Value::from("c"));
    }

    #[test]
    fn bytes_read_as_bytes_or_as_a_list_of_integers() {
        let value = Value::from(&b"\x00\xff"[..]);
        assert_eq!(from_value::<Vec<u8>>(&value).unwrap(), [0, 255]);
    }

    #[test]
    fn an_integer_reads_as_a_float_but_not_the_reverse() {
        assert!(from_value::<f64>(&Value::Int(2)).is_ok_and(|x| x > 1.5));
        assert!(from_value::<i64>(&Value::Float(2.0)).is_err());
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() {
        let error = from_value::<u8>(&Value::Int(256)).unwrap_err().to_string();
        assert!(error.contains("256"), "{error}");
        assert!(from_value::<bool>(&Value::from("true")).is_err());
        assert!(to_value(&u64::MAX).is_err());
        assert!(to_value(&i128::MIN).is_err());
        assert_eq!(to_value(&7u128).unwrap(), Value::Int(7));
        assert!(to_value(&BTreeMap::from([(vec![1], 1)])).is_err());
    }

    #[test]
    fn nesting_without_end_is_an_error_and_no_overflow() {
        #[derive(Serialize)]
        struct Deep(Option<Box<(Deep,)>>);
        let mut deep = Deep(None);
        for _ in 0..10_000 {
            deep = Deep(Some(Box::new((deep,))));
        }
        assert!(to_value(&deep).is_err());
        // Dropping it recursively would overflow where writing it did not.
        std::mem::forget(deep);
    }

    #[test]
    fn any_json_value_can_be_written_and_read() {
        let json = serde_json::json!({"a": [1, 2.5, null, true, "x"], "b": {"c": {}}});
        let value = to_value(&json).unwrap();
        assert_eq!(from_value::<serde_json::Value>(&value).unwrap(), json);
    }
}
