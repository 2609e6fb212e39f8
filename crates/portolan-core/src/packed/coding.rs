//! Columns in either form: plain as in format versions 1 and 2, or packed as in version 3.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::Expansion;
use super::columns::{Groups, Numbers, put_numbers, put_symbols, read_numbers, read_symbols};
use crate::codec::{Reader, put_varint, put_zigzag};
use crate::delta::read_runs;
use crate::error::Fault;

/// How the columns of a delta are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Each number in bytes of its own, or in runs of equals.
    Plain,
    /// In prefix codes.
    Packed,
}

/// How a number is written in the plain form.
#[derive(Clone, Copy)]
pub(crate) struct Sign {
    put: fn(&mut Vec<u8>, i64),
    read: fn(&mut Reader<'_>) -> Result<i64, Fault>,
}

/// As `varint`: 64 bits without a sign.
pub(crate) const UNSIGNED: Sign = Sign {
    put: |out, n| put_varint(out, n as u64),
    read: |reader| Ok(reader.varint()? as i64),
};

/// As `zigzag`.
pub(crate) const SIGNED: Sign = Sign {
    put: put_zigzag,
    read: |reader| reader.zigzag(),
};

impl Coding {
    /// Whether columns are packed that are written.
    pub(super) fn packs(self) -> bool {
        crate::PACKING && self == Self::Packed
    }

    /// Appends numbers that seldom repeat.
    pub(crate) fn put_each(self, out: &mut Vec<u8>, numbers: &[i64], sign: Sign) {
        if self.packs() {
            return put_numbers(out, numbers);
        }
        for number in numbers {
            (sign.put)(out, *number);
        }
    }

    /// Appends numbers that are often alike.
    pub(crate) fn put_runs(self, out: &mut Vec<u8>, numbers: &Groups, sign: Sign) {
        if self.packs() {
            return numbers.put(out);
        }
        for (length, number) in numbers.iter() {
            put_varint(out, length as u64);
            (sign.put)(out, number);
        }
    }

    /// Appends bytes.
    pub(crate) fn put_text(self, out: &mut Vec<u8>, text: &[u8]) {
        if self.packs() {
            return put_symbols(out, text);
        }
        out.extend_from_slice(text);
    }

    /// Reads columns of so many numbers each, of which is told whether they are often alike, and
    /// how they are written; `count` is bounded.
    pub(crate) fn read_columns(
        self,
        reader: &mut Reader<'_>,
        count: usize,
        columns: &[(bool, Sign)],
        read: &mut Vec<Numbers>,
    ) -> Result<(), Fault> {
        for (alike, sign) in columns {
            read.push(if *alike {
                self.read_runs(reader, count, *sign)?
            } else {
                self.read_each(reader, count, *sign)?
            });
        }
        Ok(())
    }

    /// Reads what [`put_each`](Self::put_each) wrote; `count` is bounded.
    fn read_each(
        self,
        reader: &mut Reader<'_>,
        count: usize,
        sign: Sign,
    ) -> Result<Numbers, Fault> {
        match self {
            Self::Plain => {
                let numbers = (0..count).map(|_| (sign.read)(reader));
                Ok(Numbers::Each(numbers.collect::<Result<_, _>>()?))
            }
            Self::Packed => read_numbers(reader, count),
        }
    }

    /// Reads what [`put_runs`](Self::put_runs) wrote; `count` is bounded.
    pub(crate) fn read_runs(
        self,
        reader: &mut Reader<'_>,
        count: usize,
        sign: Sign,
    ) -> Result<Numbers, Fault> {
        match self {
            Self::Plain => {
                let runs = read_runs(reader, count, sign.read)?;
                Ok(Numbers::Runs(runs.into_iter().collect()))
            }
            Self::Packed => read_numbers(reader, count),
        }
    }

    /// Reads what [`put_text`](Self::put_text) wrote.
    pub(crate) fn read_text<'a>(
        self,
        reader: &mut Reader<'a>,
        length: u64,
        expansion: &mut Expansion,
    ) -> Result<Cow<'a, [u8]>, Fault> {
        match self {
            Self::Plain => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(Cow::Borrowed(reader.take(length)?))
            }
            Self::Packed => {
                expansion.claim(length, 1)?;
                Ok(Cow::Owned(read_symbols(reader, length as usize)?))
            }
        }
    }
}
