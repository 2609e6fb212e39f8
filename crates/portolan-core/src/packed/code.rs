//! Prefix codes after Huffman (*A method for the construction of minimum-redundancy codes*, 1952):
//! what is frequent takes few bits. Codes are canonical, so their lengths say all.

use alloc::vec;
use alloc::vec::Vec;

use super::bits::{BitReader, BitWriter};
use crate::codec::Reader;
use crate::error::Fault;
use crate::sorting::sort;

/// Symbols that a code can have.
pub(super) const SYMBOLS: usize = 256;

/// The longest code word, so that one look at a small table finds any.
pub(super) const LONGEST: u32 = 12;

/// How often each symbol occurs.
pub(super) type Counts = [u64; SYMBOLS];

/// The lengths of the words of a prefix code. A symbol that is alone has a word of one bit, which
/// is not written.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Code {
    lengths: [u8; SYMBOLS],
    /// One more than the last symbol.
    end: usize,
    alone: bool,
}

impl Code {
    /// The code that takes the fewest bits for these counts, with words of [`LONGEST`] at most.
    pub(super) fn of(counts: &Counts) -> Self {
        let present = || (0..SYMBOLS).filter(|symbol| counts[*symbol] > 0);
        let mut leaves: Vec<(u64, u8)> = present().map(|s| (counts[s], s as u8)).collect();
        let mut lengths = [0; SYMBOLS];
        loop {
            sort(&mut leaves);
            let longest = assign(&leaves, &mut lengths);
            if longest <= LONGEST {
                break;
            }
            // Flatter counts have shorter words; at the end they are all alike.
            for (count, _) in &mut leaves {
                *count = count.div_ceil(2);
            }
        }
        Self::with(lengths)
    }

    fn with(lengths: [u8; SYMBOLS]) -> Self {
        let end = lengths.iter().rposition(|length| *length > 0);
        Self {
            end: end.map_or(0, |last| last + 1),
            alone: lengths.iter().filter(|length| **length > 0).count() == 1,
            lengths,
        }
    }

    /// The last symbol that has a word.
    pub(super) fn last(&self) -> u8 {
        self.end.saturating_sub(1) as u8
    }

    /// How many bytes [`put`](Self::put) takes.
    pub(super) fn size(&self) -> u64 {
        1 + self.end.div_ceil(2) as u64
    }

    /// How many bits the symbols take that have these counts.
    pub(super) fn bits(&self, counts: &Counts) -> u64 {
        if self.alone {
            return 0;
        }
        let words = counts.iter().zip(&self.lengths);
        words
            .map(|(count, length)| count * u64::from(*length))
            .sum()
    }

    /// Appends the lengths; there is at least one symbol.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push((self.end - 1) as u8);
        for pair in self.lengths[..self.end].chunks(2) {
            out.push(pair[0] | pair.get(1).map_or(0, |length| length << 4));
        }
    }

    /// Reads what [`put`](Self::put) wrote: every sequence of bits is one of words.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let end = usize::from(reader.byte()?) + 1;
        let mut lengths = [0; SYMBOLS];
        let pairs = reader.take(end.div_ceil(2))?;
        for (pair, bytes) in lengths.chunks_mut(2).zip(pairs) {
            pair[0] = bytes & 15;
            pair[1] = bytes >> 4;
        }
        let code = Self::with(lengths);
        let words = lengths.iter().filter(|length| **length > 0);
        let room: u64 = words.map(|length| 1 << (15 - length)).sum();
        let fits = if code.alone {
            room == 1 << 14
        } else {
            room == 1 << 15
        };
        if code.end != end || !fits || lengths.iter().any(|length| u32::from(*length) > LONGEST) {
            return Err(reader.malformed("no prefix code"));
        }
        Ok(code)
    }

    /// Tells of each symbol, those of the shortest words first: its word, first bit lowest, and the
    /// length of that.
    fn words(&self, mut each: impl FnMut(u8, u64, u32)) {
        let mut next = 0u32;
        for length in 1..=LONGEST {
            next <<= 1;
            for (symbol, of_symbol) in self.lengths[..self.end].iter().enumerate() {
                if u32::from(*of_symbol) == length {
                    let word = next.reverse_bits() >> (32 - length);
                    next += 1;
                    each(symbol as u8, u64::from(word), length);
                }
            }
        }
    }
}

/// Gives each leaf, ascending by count, the length of its word; tells the longest.
fn assign(leaves: &[(u64, u8)], lengths: &mut [u8; SYMBOLS]) -> u32 {
    if let [(_, symbol)] = leaves {
        lengths[usize::from(*symbol)] = 1;
        return 1;
    }
    // Nodes are made in ascending order, so the two lightest stand first in one of two queues.
    // `parents` has the leaves, then the nodes.
    let count = leaves.len();
    let mut parents = vec![0; (2 * count).saturating_sub(1)];
    let mut weights: Vec<u64> = leaves.iter().map(|(count, _)| *count).collect();
    let (mut leaf, mut node) = (0, count);
    for new in count..parents.len() {
        let mut weight = 0;
        for _ in 0..2 {
            let lightest = if leaf < count && (node >= new || weights[leaf] <= weights[node]) {
                leaf += 1;
                leaf - 1
            } else {
                node += 1;
                node - 1
            };
            parents[lightest] = new;
            weight += weights[lightest];
        }
        weights.push(weight);
    }
    let mut depths = vec![0u32; parents.len()];
    for at in (0..parents.len().saturating_sub(1)).rev() {
        depths[at] = depths[parents[at]] + 1;
    }
    for ((_, symbol), depth) in leaves.iter().zip(&depths) {
        lengths[usize::from(*symbol)] = (*depth).min(255) as u8;
    }
    depths.first().copied().unwrap_or(0)
}

/// Writes symbols in a code.
pub(super) struct Coder {
    words: [(u16, u8); SYMBOLS],
}

impl Coder {
    pub(super) fn new(code: &Code) -> Self {
        let mut words = [(0, 0); SYMBOLS];
        if !code.alone {
            code.words(|symbol, word, length| {
                words[usize::from(symbol)] = (word as u16, length as u8);
            });
        }
        Self { words }
    }

    #[inline]
    pub(super) fn put(&self, bits: &mut BitWriter<'_>, symbol: u8) {
        let (word, length) = self.words[usize::from(symbol)];
        bits.put(word.into(), length.into());
    }

    /// As [`put`](Self::put), and then the lowest `count` bits of `more`, the others of which are
    /// zero.
    #[inline]
    pub(super) fn put_with(&self, bits: &mut BitWriter<'_>, symbol: u8, more: u64, count: u32) {
        let (word, length) = self.words[usize::from(symbol)];
        let (word, length) = (u64::from(word), u32::from(length));
        if count + length <= 32 {
            bits.put(word | more << length, count + length);
        } else {
            bits.put(word, length);
            bits.put_long(more, count);
        }
    }
}

/// Reads symbols in a code.
pub(super) struct Decoder {
    /// By the next bits: symbol, and length of its word.
    table: Vec<(u8, u8)>,
    /// Of the longest word.
    longest: u32,
}

impl Decoder {
    pub(super) fn new(code: &Code) -> Self {
        let longest: u32 = code.lengths.iter().copied().max().unwrap_or(0).into();
        let mut table = vec![(0, 0); 1usize << longest];
        code.words(|symbol, word, length| {
            if code.alone {
                table.fill((symbol, 0));
                return;
            }
            for place in table[word as usize..].iter_mut().step_by(1 << length) {
                *place = (symbol, length as u8);
            }
        });
        Self { table, longest }
    }

    /// The next symbol, of bits that were made ready.
    #[inline]
    pub(super) fn next(&self, bits: &mut BitReader<'_>) -> u8 {
        let (symbol, length) = self.table[bits.peek(self.longest) as usize];
        bits.skip(length.into());
        symbol
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts_of(symbols: &[(u8, u32)]) -> Counts {
        let mut counts = [0; SYMBOLS];
        for (symbol, count) in symbols {
            counts[usize::from(*symbol)] = u64::from(*count);
        }
        counts
    }

    proptest! {
        #[test]
        fn codes_are_whole_short_and_read_again(
            symbols in prop::collection::vec((any::<u8>(), 1..1_000_000u32), 1..256),
        ) {
            let counts = counts_of(&symbols);
            let code = Code::of(&counts);
            let mut bytes = Vec::new();
            code.put(&mut bytes);
            prop_assert_eq!(bytes.len() as u64, code.size());
            let mut reader = Reader::new(&bytes);
            prop_assert!(Code::read(&mut reader) == Ok(code.clone()));
            prop_assert_eq!(reader.remaining(), 0);
            let total: u64 = counts.iter().sum();
            prop_assert!(code.bits(&counts) <= total * 8);
        }
    }

    #[test]
    fn very_uneven_counts_have_words_that_are_not_too_long() {
        let symbols: Vec<(u8, u32)> = (0..32).map(|symbol| (symbol, 1 << symbol)).collect();
        let code = Code::of(&counts_of(&symbols));
        let mut bytes = Vec::new();
        code.put(&mut bytes);
        assert!(Code::read(&mut Reader::new(&bytes)) == Ok(code));
    }

    #[test]
    fn what_leaves_sequences_of_bits_without_a_meaning_is_no_code() {
        // Two words of two bits, three of one bit, one word that is no single bit, a gap behind.
        for bytes in [&[1, 0x22][..], &[2, 0x11, 1], &[0, 2], &[2, 0x11, 0]] {
            assert!(Code::read(&mut Reader::new(bytes)).is_err());
        }
    }
}
