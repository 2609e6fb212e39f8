//! The fuzzer's bytes, read as decisions.

use std::collections::BTreeMap;

use portolan_core::{Key, SmolStr, Value};
use portolan_sim::Dice;

/// Bytes that say what to do, read from the front. What is behind the end reads as zero, so every
/// script is a whole one, and a shorter one does less.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The script that these bytes are.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A choice.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `limit`, which is above 0 and at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// So many of the next bytes, or what is left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A key of any kind; few of them, so that they meet.
    pub fn key(&mut self) -> Key {
        let byte = self.byte();
        let number = byte >> 3;
        match byte & 7 {
            0 => Key::from(number & 1 == 1),
            1 => Key::from(i64::from(number)),
            2 => Key::from(-i64::from(number)),
            3 => Key::from(vec![number; usize::from(number)]),
            4 => Key::from(format!("a long beginning that keys share/{number}")),
            5 => Key::from(number.to_string()),
            _ => Key::from(["", "a", "aa", "\u{d7ff}", "\u{10ffff}"][usize::from(number) % 5]),
        }
    }

    /// A value of any kind.
    pub fn value(&mut self) -> Value {
        self.nested_value(3)
    }

    fn nested_value(&mut self, depth: u8) -> Value {
        let byte = self.byte();
        let number = byte >> 4;
        let fewer = depth.saturating_sub(1);
        match byte & 15 {
            0 => Value::Null,
            1 => Value::from(number & 1 == 1),
            2 => Value::from(f64::from(number) / 2.0),
            3 => Value::from([f64::NAN, f64::INFINITY, -0.0, f64::MIN][usize::from(number) % 4]),
            4 => Value::from("x".repeat(usize::from(number) * 3)),
            5 => Value::from(self.take(usize::from(number)).to_vec()),
            6 => Value::from([i64::MIN, i64::MAX, -1][usize::from(number) % 3]),
            7 if depth > 0 => {
                let items = (0..number % 4).map(|_| self.nested_value(fewer));
                Value::from(items.collect::<Vec<_>>())
            }
            8 if depth > 0 => {
                let field = |i| (SmolStr::new(format!("f{i}")), self.nested_value(fewer));
                Value::from((0..number % 4).map(field).collect::<BTreeMap<_, _>>())
            }
            _ => Value::from(i64::from(byte)),
        }
    }
}

impl Dice for Script<'_> {
    fn below(&mut self, limit: usize) -> usize {
        Script::below(self, limit)
    }
}
