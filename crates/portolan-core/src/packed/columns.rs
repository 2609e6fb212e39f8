//! Columns of bytes and of numbers, each in the shortest of a few forms.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::slice;

use super::bits::{BitReader, BitWriter};
use super::code::{Code, Coder, Counts, Decoder, SYMBOLS};
use crate::codec::{Reader, put_varint, put_zigzag};
use crate::error::Fault;

/// As they are.
const PLAIN: u8 = 0;
/// In a prefix code.
const CODED: u8 = 1;
/// Numbers: how long each run of equals is, and what it consists of.
const RUNS: u8 = 2;

/// Runs are read in no time, which is worth so many bytes.
const RUNS_MAY_COST: u64 = 8;

const OTHER_FORM: &str = "a column in another form than the shortest";

/// Appends bytes; how many is known otherwise.
pub(crate) fn put_symbols(out: &mut Vec<u8>, symbols: &[u8]) {
    if symbols.is_empty() {
        return;
    }
    let mut counts = [0; SYMBOLS];
    for symbol in symbols {
        counts[usize::from(*symbol)] += 1;
    }
    let code = Code::of(&counts);
    if code.size() + code.bits(&counts).div_ceil(8) >= symbols.len() as u64 {
        out.push(PLAIN);
        out.extend_from_slice(symbols);
        return;
    }
    out.push(CODED);
    code.put(out);
    let coder = Coder::new(&code);
    let mut bits = BitWriter::new(out);
    for symbol in symbols {
        coder.put(&mut bits, *symbol);
    }
    bits.finish();
}

/// Reads what [`put_symbols`] wrote, and nothing else. Who calls it has bounded their number.
pub(crate) fn read_symbols(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u8>, Fault> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let column = reader.rest();
    let symbols = match reader.byte()? {
        PLAIN => reader.take(count)?.to_vec(),
        CODED => {
            let decoder = Decoder::new(&Code::read(reader)?);
            let mut symbols = vec![0; count];
            let mut bits = BitReader::new(reader.rest());
            // Four words need no more bits than are ready at once.
            for four in symbols.chunks_mut(4) {
                bits.refill();
                for symbol in four {
                    *symbol = decoder.next(&mut bits);
                }
            }
            skip_bits(reader, bits)?;
            symbols
        }
        _ => return Err(reader.malformed(OTHER_FORM)),
    };
    check(reader, column, |out| put_symbols(out, &symbols))?;
    Ok(symbols)
}

/// Numbers as they were read, one by one or in runs of equals.
pub(crate) enum Numbers {
    Each(Vec<i64>),
    /// How long each run is, and what it consists of.
    Runs(Vec<(usize, i64)>),
}

impl Numbers {
    pub(crate) fn iter(&self) -> Singly<'_> {
        Singly {
            groups: self.groups(),
            left: 0,
            item: 0,
        }
    }

    /// The numbers with how often each stands there in a row, not always as often as it does.
    pub(crate) fn groups(&self) -> Grouped<'_> {
        match self {
            Self::Each(each) => one_by_one(each),
            Self::Runs(runs) => Grouped {
                each: [].iter(),
                runs: runs.iter(),
            },
        }
    }
}

/// Numbers, each with how often it stands there in a row: of one type whatever they come from, so
/// that what goes through them is compiled once.
#[derive(Clone)]
pub(crate) struct Grouped<'a> {
    each: slice::Iter<'a, i64>,
    runs: slice::Iter<'a, (usize, i64)>,
}

impl Iterator for Grouped<'_> {
    type Item = (usize, i64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.each.next() {
            Some(number) => Some((1, *number)),
            None => self.runs.next().copied(),
        }
    }
}

/// Numbers one after the other.
#[derive(Clone)]
pub(crate) struct Singly<'a> {
    groups: Grouped<'a>,
    left: usize,
    item: i64,
}

impl Iterator for Singly<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        while self.left == 0 {
            (self.left, self.item) = self.groups.next()?;
        }
        self.left -= 1;
        Some(self.item)
    }
}

/// Numbers that are often alike, gathered in runs of equals.
#[derive(Default)]
pub(crate) struct Groups {
    /// How long each run is, and what it consists of.
    runs: Vec<(usize, i64)>,
}

impl Groups {
    #[inline]
    pub(crate) fn push(&mut self, number: i64) {
        match self.runs.last_mut() {
            Some((length, last)) if *last == number => *length += 1,
            _ => self.runs.push((1, number)),
        }
    }

    pub(crate) fn iter(&self) -> Grouped<'_> {
        Grouped {
            each: [].iter(),
            runs: self.runs.iter(),
        }
    }

    /// As [`put_numbers`].
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        Plan::of(self.iter()).put(out, self.iter());
    }
}

impl FromIterator<i64> for Groups {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut groups = Self::default();
        numbers.into_iter().for_each(|number| groups.push(number));
        groups
    }
}

/// Appends numbers; how many is known otherwise.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    Plan::of(one_by_one(numbers)).put(out, one_by_one(numbers));
}

/// Reads what [`put_numbers`] wrote, and nothing else. Who calls it has bounded their number.
pub(crate) fn read_numbers(reader: &mut Reader<'_>, count: usize) -> Result<Numbers, Fault> {
    let column = reader.rest();
    let numbers = read_unchecked(reader, count)?;
    check(reader, column, |out| {
        Plan::of(numbers.groups()).put(out, numbers.groups());
    })?;
    Ok(numbers)
}

fn read_unchecked(reader: &mut Reader<'_>, count: usize) -> Result<Numbers, Fault> {
    if count == 0 {
        return Ok(Numbers::Each(Vec::new()));
    }
    let form = reader.byte()?;
    if form != RUNS {
        return Ok(Numbers::Each(read_flat(reader, form, count)?));
    }
    let most = (count / 2) as u64;
    let runs = reader.bounded("the number of runs", most)?;
    let form = reader.byte()?;
    let lengths = read_flat(reader, form, runs)?;
    let form = reader.byte()?;
    let items = read_flat(reader, form, runs)?;
    let mut left = count;
    let mut pairs = Vec::with_capacity(runs);
    for (length, item) in lengths.into_iter().zip(items) {
        let length = usize::try_from(length).ok().filter(|more| *more < left);
        let length = length.ok_or_else(|| reader.malformed("runs that cover too much"))? + 1;
        pairs.push((length, item));
        left -= length;
    }
    if left > 0 {
        return Err(reader.malformed("runs that cover too little"));
    }
    Ok(Numbers::Runs(pairs))
}

/// Refuses a column that was read and would not be written so.
fn check(reader: &Reader<'_>, column: &[u8], put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
    if !crate::PACKING {
        return Ok(()); // who cannot write it so takes it in any form
    }
    let length = column.len() - reader.remaining();
    let mut again = Vec::with_capacity(length + 8);
    put(&mut again);
    if again != column[..length] {
        return Err(reader.malformed(OTHER_FORM));
    }
    Ok(())
}

fn skip_bits(reader: &mut Reader<'_>, bits: BitReader<'_>) -> Result<(), Fault> {
    let used = bits
        .finish()
        .ok_or_else(|| reader.malformed("bits that end too early, or do not end"))?;
    reader.take(used).map(drop)
}

/// The shortest form of a column of numbers.
struct Plan {
    /// In bytes, as far as classes tell it.
    size: u64,
    form: Form,
}

enum Form {
    Flat(Flat),
    Runs(Box<InRuns>),
}

struct InRuns {
    lengths: Vec<i64>,
    items: Vec<i64>,
    flat: [Flat; 2],
}

impl Plan {
    fn of(groups: impl Iterator<Item = (usize, i64)> + Clone) -> Self {
        let mut counts: Counts = [0; SYMBOLS];
        let (mut total, mut runs, mut before) = (0, 0, None);
        for (length, item) in groups.clone() {
            counts[usize::from(class(item))] += length as u64;
            total += length;
            runs += usize::from(before != Some(item));
            before = Some(item);
        }
        let (size, flat) = Flat::of(&counts);
        if total == 0 || runs * 2 > total {
            let form = Form::Flat(flat);
            return Self { size, form };
        }
        let mut lengths: Vec<i64> = Vec::with_capacity(runs);
        let mut items: Vec<i64> = Vec::with_capacity(runs);
        for (length, item) in groups {
            match lengths.last_mut() {
                Some(last) if items.last() == Some(&item) => *last += length as i64,
                _ => {
                    lengths.push(length as i64 - 1);
                    items.push(item);
                }
            }
        }
        let [(a, flat_lengths), (b, flat_items)] = [&lengths, &items].map(|numbers| {
            let mut counts: Counts = [0; SYMBOLS];
            for number in numbers {
                counts[usize::from(class(*number))] += 1;
            }
            Flat::of(&counts)
        });
        let in_runs = 1 + size_of_varint(runs as u64) + a + b;
        if in_runs > size + RUNS_MAY_COST {
            let form = Form::Flat(flat);
            return Self { size, form };
        }
        let flat = [flat_lengths, flat_items];
        let in_runs_form = InRuns {
            lengths,
            items,
            flat,
        };
        Self {
            size: in_runs,
            form: Form::Runs(Box::new(in_runs_form)),
        }
    }

    fn put(&self, out: &mut Vec<u8>, groups: impl Iterator<Item = (usize, i64)>) {
        match &self.form {
            Form::Flat(flat) => flat.put(out, groups),
            Form::Runs(runs) => {
                out.push(RUNS);
                put_varint(out, runs.lengths.len() as u64);
                runs.flat[0].put(out, one_by_one(&runs.lengths));
                runs.flat[1].put(out, one_by_one(&runs.items));
            }
        }
    }
}

/// A column of numbers without runs, plain or in a prefix code of their classes, each followed by
/// what the class leaves open.
enum Flat {
    Empty,
    Plain,
    Coded(Box<Code>),
}

impl Flat {
    /// The shorter one for so many numbers of each class, and how many bytes it takes, as far as
    /// these tell: zigzag-coded, a number mostly has one bit more than its magnitude, and at times
    /// as many.
    fn of(counts: &Counts) -> (u64, Self) {
        if counts.iter().all(|count| *count == 0) {
            return (0, Self::Empty);
        }
        let of_classes = |size: fn(u8) -> u64| -> u64 {
            let all = counts.iter().zip(0..=u8::MAX);
            all.map(|(count, class)| count * size(class)).sum()
        };
        let code = Code::of(counts);
        let open = of_classes(|class| u64::from(open_bits(class)));
        let coded = 1 + code.size() + (code.bits(counts) + open).div_ceil(8);
        let plain = 1 + of_classes(|class| u64::from(class / 2 + 1).div_ceil(7));
        if coded < plain {
            (coded, Self::Coded(Box::new(code)))
        } else {
            (plain, Self::Plain)
        }
    }

    fn put(&self, out: &mut Vec<u8>, groups: impl Iterator<Item = (usize, i64)>) {
        let numbers = groups.flat_map(|(length, item)| core::iter::repeat_n(item, length));
        match self {
            Self::Empty => {}
            Self::Plain => {
                out.push(PLAIN);
                numbers.for_each(|number| put_zigzag(out, number));
            }
            Self::Coded(code) => {
                out.push(CODED);
                code.put(out);
                let coder = Coder::new(code);
                let mut bits = BitWriter::new(out);
                for number in numbers {
                    let class = class(number);
                    let open = open_bits(class);
                    let left = number.unsigned_abs() & ((1 << open) - 1);
                    coder.put_with(&mut bits, class, left, open);
                }
                bits.finish();
            }
        }
    }
}

/// The bits of its magnitude, doubled, and one more of a negative number.
#[inline]
fn class(number: i64) -> u8 {
    let length = 64 - number.unsigned_abs().leading_zeros();
    (2 * length) as u8 | u8::from(number < 0)
}

/// All bits of the magnitude but the first.
#[inline]
fn open_bits(class: u8) -> u32 {
    u32::from(class / 2).saturating_sub(1)
}

/// The class of the least number.
const LEAST: u8 = 129;

fn read_flat(reader: &mut Reader<'_>, form: u8, count: usize) -> Result<Vec<i64>, Fault> {
    match form {
        PLAIN if count > reader.remaining() => Err(reader.malformed("numbers that end too early")),
        PLAIN => (0..count).map(|_| reader.zigzag()).collect(),
        CODED => {
            let code = Code::read(reader)?;
            if code.last() > LEAST {
                return Err(reader.malformed("a number of more than 64 bits"));
            }
            let decoder = Decoder::new(&code);
            let mut bits = BitReader::new(reader.rest());
            let mut numbers = Vec::with_capacity(count);
            for _ in 0..count {
                bits.refill();
                let class = decoder.next(&mut bits);
                let open = open_bits(class);
                let mut magnitude = bits.take(open.min(32));
                if open > 32 {
                    bits.refill();
                    magnitude |= bits.take(open - 32) << 32;
                }
                if class > 1 {
                    magnitude |= 1 << open;
                }
                let number = magnitude as i64;
                numbers.push(if class & 1 == 1 {
                    number.wrapping_neg()
                } else {
                    number
                });
            }
            skip_bits(reader, bits)?;
            Ok(numbers)
        }
        _ => Err(reader.malformed(OTHER_FORM)),
    }
}

/// Each is the difference to the one before, modulo 2^64.
const DIFFERENCES: u8 = 0;
/// Each is what it exceeds the least by.
const EXCESSES: u8 = 1;

/// Appends numbers that are near their neighbours, or all of one region.
pub(crate) fn put_series(out: &mut Vec<u8>, series: &[u64]) {
    let Some(least) = series.iter().min().copied() else {
        return;
    };
    let differences = series.iter().scan(0u64, |before, number| {
        let difference = number.wrapping_sub(*before);
        *before = *number;
        Some((1, difference as i64))
    });
    let excesses = series.iter().map(|number| (1, (number - least) as i64));
    if crate::SMALL {
        let differences: Vec<i64> = differences.map(|(_, number)| number).collect();
        let excesses: Vec<i64> = excesses.map(|(_, number)| number).collect();
        return put_either(out, least, one_by_one(&differences), one_by_one(&excesses));
    }
    put_either(out, least, differences, excesses);
}

/// Appends numbers either way, by which is the shorter.
fn put_either(
    out: &mut Vec<u8>,
    least: u64,
    differences: impl Iterator<Item = (usize, i64)> + Clone,
    excesses: impl Iterator<Item = (usize, i64)> + Clone,
) {
    let (a, b) = (Plan::of(differences.clone()), Plan::of(excesses.clone()));
    if a.size <= b.size + size_of_varint(least) {
        out.push(DIFFERENCES);
        a.put(out, differences);
    } else {
        out.push(EXCESSES);
        put_varint(out, least);
        b.put(out, excesses);
    }
}

fn one_by_one(numbers: &[i64]) -> Grouped<'_> {
    Grouped {
        each: numbers.iter(),
        runs: [].iter(),
    }
}

/// Reads what [`put_series`] wrote, and nothing else. Who calls it has bounded their number.
pub(crate) fn read_series(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, Fault> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let column = reader.rest();
    let series: Vec<u64> = match reader.byte()? {
        DIFFERENCES => {
            let mut last = 0u64;
            let numbers = read_unchecked(reader, count)?;
            let all = numbers.iter().map(|difference| {
                last = last.wrapping_add(difference as u64);
                last
            });
            all.collect()
        }
        EXCESSES => {
            let least = reader.varint()?;
            let numbers = read_unchecked(reader, count)?;
            let all = numbers.iter();
            all.map(|n| least.wrapping_add(n as u64)).collect()
        }
        _ => return Err(reader.malformed(OTHER_FORM)),
    };
    check(reader, column, |out| put_series(out, &series))?;
    Ok(series)
}

fn size_of_varint(n: u64) -> u64 {
    u64::from((64 - (n | 1).leading_zeros()).div_ceil(7))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of all sizes; some columns of few different ones, some with runs.
    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let item = prop_oneof![
            any::<i64>(),
            -3..3i64,
            0..100_000i64,
            Just(i64::MIN),
            Just(i64::MAX),
        ];
        let run = (item, prop_oneof![4 => Just(1usize), 1 => 1..40usize]);
        prop::collection::vec(run, 0..60).prop_map(|runs| {
            let runs = runs.into_iter();
            runs.flat_map(|(item, length)| std::iter::repeat_n(item, length))
                .collect()
        })
    }

    /// The bytes, with something behind them, and a reader of these.
    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    proptest! {
        #[test]
        fn columns_are_read_as_they_were_written(numbers in numbers(), text in ".{0,200}") {
            let count = numbers.len();
            let series: Vec<u64> = numbers.iter().map(|n| *n as u64).collect();
            let mut bytes = written(|out| {
                put_symbols(out, text.as_bytes());
                put_numbers(out, &numbers);
                put_series(out, &series);
            });
            bytes.push(0xff);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(read_symbols(&mut reader, text.len()), Ok(text.into_bytes()));
            let again = read_numbers(&mut reader, count).map(|n| n.iter().collect::<Vec<_>>());
            prop_assert_eq!(again, Ok(numbers));
            prop_assert_eq!(read_series(&mut reader, count), Ok(series));
            prop_assert_eq!(reader.remaining(), 1);
        }

        #[test]
        fn what_is_read_of_any_bytes_would_be_written_so(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            form in 0..4u8,
            count in 0..50usize,
        ) {
            let bytes = [&[form], bytes.as_slice()].concat();
            let mut reader = Reader::new(&bytes);
            if let Ok(symbols) = read_symbols(&mut reader, count) {
                let again = written(|out| put_symbols(out, &symbols));
                prop_assert_eq!(&again, &bytes[..bytes.len() - reader.remaining()]);
            }
            let mut reader = Reader::new(&bytes);
            if let Ok(numbers) = read_numbers(&mut reader, count) {
                let numbers: Vec<i64> = numbers.iter().collect();
                let again = written(|out| put_numbers(out, &numbers));
                prop_assert_eq!(&again, &bytes[..bytes.len() - reader.remaining()]);
            }
            let mut reader = Reader::new(&bytes);
            if let Ok(series) = read_series(&mut reader, count) {
                let again = written(|out| put_series(out, &series));
                prop_assert_eq!(&again, &bytes[..bytes.len() - reader.remaining()]);
            }
        }

        #[test]
        fn a_damaged_column_is_refused_or_another_one(
            numbers in numbers(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let mut bytes = written(|out| put_numbers(out, &numbers));
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = Reader::new(&bytes);
            if let Ok(other) = read_numbers(&mut reader, numbers.len()) {
                prop_assert_ne!(other.iter().collect::<Vec<_>>(), numbers);
            }
        }
    }

    #[test]
    fn a_column_takes_what_its_numbers_tell() {
        let alike = written(|out| put_numbers(out, &vec![7; 100_000]));
        assert!(alike.len() < 12);
        let small: Vec<i64> = (0..1000).map(|n| n % 2).collect();
        assert!(written(|out| put_numbers(out, &small)).len() < 140);
        // A permutation has 16 bits a number at the least.
        let scattered: Vec<u64> = (0..1u64 << 16)
            .map(|n| 1 + (n * 40_503) % (1 << 16))
            .collect();
        let bytes = written(|out| put_series(out, &scattered)).len();
        assert!(bytes < (1 << 16) * 17 / 8, "{bytes}");
    }
}
