//! The packed form of a delta: columns in prefix codes, for snapshots and long texts.
//!
//! `docs/format.md` gives the bytes. A few of them can stand for much, so what they expand to is
//! counted as they are read, and bounded by their number; who writes less than it takes to say so
//! adds ballast.

mod bits;
mod code;
mod coding;
mod columns;
mod entries;
mod values;

use alloc::vec::Vec;

pub(crate) use coding::{Coding, SIGNED, UNSIGNED};
pub(crate) use columns::{Groups, Numbers, Singly, put_numbers, read_numbers};
pub(crate) use entries::{EntryColumns, put_entries, read_entries};
pub(crate) use values::{ValueColumns, Values};

use crate::codec::Reader;
use crate::error::Fault;

/// What one byte of a packed delta may stand for, in the units of [`Expansion`].
const MOST_PER_BYTE: u64 = 32;

/// What a packed delta expands to: a byte of text or of a key counts one.
pub(crate) struct Expansion {
    sum: u64,
    most: u64,
}

impl Expansion {
    /// A value with its dot and its timestamp.
    pub(crate) const ENTRY: u64 = 16;
    /// A run of positions.
    pub(crate) const RUN: u64 = 16;
    /// A position.
    pub(crate) const POSITION: u64 = 2;

    /// Of something that is written.
    pub(crate) fn new() -> Self {
        Self {
            sum: 0,
            most: u64::MAX,
        }
    }

    /// Of something of so many bytes that is to be read.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self {
            sum: 0,
            most: (bytes as u64).saturating_mul(MOST_PER_BYTE),
        }
    }

    /// Counts what is written.
    pub(crate) fn add(&mut self, units: u64) {
        self.sum = self.sum.saturating_add(units);
    }

    /// Counts what is about to be read, unless that would be too much; so nothing is allocated on
    /// the word of a count.
    pub(crate) fn claim(&mut self, count: u64, units: u64) -> Result<(), Fault> {
        self.add(count.saturating_mul(units));
        if self.sum > self.most {
            return Err(Fault::limit(
                "what a packed delta expands to",
                self.sum,
                self.most,
            ));
        }
        Ok(())
    }

    /// Appends what `out` lacks in length to stand for as much.
    pub(crate) fn put_ballast(&self, out: &mut Vec<u8>) {
        let least = self.sum.div_ceil(MOST_PER_BYTE) as usize;
        if out.len() < least {
            out.resize(least, 0);
        }
    }

    /// Reads what [`put_ballast`](Self::put_ballast) wrote, in a delta of `total` bytes.
    pub(crate) fn read_ballast(&self, reader: &mut Reader<'_>, total: usize) -> Result<(), Fault> {
        let least = self.sum.div_ceil(MOST_PER_BYTE) as usize;
        let before = total - reader.remaining();
        let ballast = reader.take(least.saturating_sub(before))?;
        if ballast.iter().any(|byte| *byte != 0) {
            return Err(reader.malformed("ballast that is not zero"));
        }
        Ok(())
    }
}
