//! Values in columns: their kinds, the texts in one piece, the rest.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use smol_str::SmolStr;

use super::columns::{Groups, Numbers};
use super::{Coding, Expansion, UNSIGNED, put_numbers, read_numbers};
use crate::codec::{INT, Reader, STR, put_value_body, put_word_body, value_tag, word_of};
use crate::delta::read_bounded_value;
use crate::error::Fault;
use crate::limits::MAX_VALUE_BYTES;
use crate::value::Value;

/// Values on their way into bytes.
pub(crate) struct ValueColumns {
    coding: Coding,
    tags: Groups,
    lengths: Groups,
    texts: Vec<u8>,
    /// That have a column of their own.
    integers: Vec<i64>,
    bodies: Vec<u8>,
}

impl ValueColumns {
    pub(crate) fn new(coding: Coding) -> Self {
        Self {
            coding,
            tags: Groups::default(),
            lengths: Groups::default(),
            texts: Vec::new(),
            integers: Vec::new(),
            bodies: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &Value) {
        let tag = value_tag(value);
        if let Some(word) = word_of(value) {
            self.push_word(tag, word);
            return;
        }
        self.tags.push(tag.into());
        if let Value::Str(text) = value {
            self.lengths.push(text.len() as i64);
            self.texts.extend_from_slice(text.as_bytes());
        } else {
            put_value_body(&mut self.bodies, value);
        }
    }

    /// A value of this tag that one word holds.
    #[inline]
    pub(crate) fn push_word(&mut self, tag: u8, word: u64) {
        self.tags.push(tag.into());
        if tag == INT && self.coding.packs() {
            self.integers.push(word as i64);
        } else {
            put_word_body(&mut self.bodies, tag, word);
        }
    }

    /// Appends them all; how many there are is known otherwise.
    pub(crate) fn put(mut self, out: &mut Vec<u8>, expansion: &mut Expansion) {
        self.coding.put_runs(out, &self.tags, UNSIGNED);
        expansion.add(self.texts.len() as u64);
        self.coding.put_runs(out, &self.lengths, UNSIGNED);
        self.coding.put_text(out, &self.texts);
        if self.coding.packs() {
            put_numbers(out, &self.integers);
        }
        out.append(&mut self.bodies);
    }
}

/// What [`ValueColumns`] wrote, read.
pub(crate) struct Values<'a> {
    tags: Numbers,
    lengths: Numbers,
    texts: Cow<'a, [u8]>,
    /// That have a column of their own.
    integers: Numbers,
    others: Vec<Value>,
    packed: bool,
}

impl<'a> Values<'a> {
    /// Of so many values, a number that is bounded.
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        coding: Coding,
        count: usize,
        expansion: &mut Expansion,
    ) -> Result<Self, Fault> {
        let packed = coding == Coding::Packed;
        let tags = coding.read_runs(reader, count, UNSIGNED)?;
        let (mut texts, mut integers) = (0, 0);
        for (length, tag) in tags.groups() {
            match u8::try_from(tag) {
                Ok(STR) => texts += length,
                Ok(INT) if packed => integers += length,
                Ok(_) => {}
                Err(_) => return Err(reader.malformed("an unknown kind of value")),
            }
        }
        let lengths = coding.read_runs(reader, texts, UNSIGNED)?;
        let mut total = 0u64;
        for (times, length) in lengths.groups() {
            let (found, limit) = (length as u64, MAX_VALUE_BYTES as u64);
            if found > limit {
                let what = "the size of a value";
                return Err(Fault::limit(what, found, limit));
            }
            total = total.saturating_add(found.saturating_mul(times as u64));
        }
        let texts = coding.read_text(reader, total, expansion)?;
        let integers = read_numbers(reader, integers)?;
        let mut others = Vec::new();
        for (length, tag) in tags.groups() {
            let tag = tag as u8;
            if tag != STR && !(packed && tag == INT) {
                for _ in 0..length {
                    others.push(read_bounded_value(reader, tag)?);
                }
            }
        }
        let values = Self {
            tags,
            lengths,
            texts,
            integers,
            others,
            packed,
        };
        if !values.splits_texts() {
            return Err(reader.malformed("text that is not UTF-8"));
        }
        Ok(values)
    }

    /// Whether each text is UTF-8.
    fn splits_texts(&self) -> bool {
        let Ok(texts) = core::str::from_utf8(&self.texts) else {
            return false;
        };
        let mut end = 0;
        texts.is_ascii()
            || self.lengths.iter().all(|length| {
                end += length as usize;
                texts.is_char_boundary(end)
            })
    }

    /// Gives all, one after the other.
    pub(crate) fn for_each(self, mut each: impl FnMut(Value)) {
        // proof: that it is UTF-8, in all its pieces, was checked when it was read.
        let mut texts = core::str::from_utf8(&self.texts).unwrap_or_default();
        let (mut lengths, mut integers) = (self.lengths.iter(), self.integers.iter());
        let mut others = self.others.into_iter();
        for (length, tag) in self.tags.groups() {
            match tag as u8 {
                STR => lengths.by_ref().take(length).for_each(|length| {
                    let (text, rest) = texts.split_at_checked(length as usize).unwrap_or_default();
                    texts = rest;
                    each(Value::Str(SmolStr::new(text)));
                }),
                INT if self.packed => integers
                    .by_ref()
                    .take(length)
                    .for_each(|integer| each(Value::Int(integer))),
                _ => others.by_ref().take(length).for_each(&mut each),
            }
        }
    }
}
