//! Bits in a row, the lowest of each byte first.

use alloc::vec::Vec;

/// Appends bits to bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    /// Bits held, less than 32 between calls.
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            held: 0,
            count: 0,
        }
    }

    /// Appends the lowest `count` bits of `bits`, at most 32; those above are zero.
    #[inline]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out
                .extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// As [`put`](Self::put), of up to 64 bits.
    #[inline]
    pub(super) fn put_long(&mut self, bits: u64, count: u32) {
        if count > 32 {
            self.put(bits & 0xffff_ffff, 32);
            self.put(bits >> 32, count - 32);
        } else {
            self.put(bits, count);
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        let left = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..left]);
    }
}

/// Reads what a [`BitWriter`] wrote. Behind the end it reads zeros, and [`finish`](Self::finish)
/// tells.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    /// Bits held; of what the end does not give, fewer than were skipped.
    count: i64,
}

/// Bits that can be read after a [`refill`](BitReader::refill).
pub(super) const REFILLED: u32 = 56;

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            held: 0,
            count: 0,
        }
    }

    /// Makes [`REFILLED`] bits ready.
    #[inline]
    pub(super) fn refill(&mut self) {
        match self.bytes[self.at..].first_chunk::<8>() {
            // What is read beyond the bits that are counted is read again, alike.
            Some(word) => {
                self.held |= u64::from_le_bytes(*word) << self.count;
                let taken = (63 - self.count) / 8;
                self.at += taken as usize;
                self.count += taken * 8;
            }
            None => self.refill_at_the_end(),
        }
    }

    #[cold]
    fn refill_at_the_end(&mut self) {
        while (0..=i64::from(REFILLED)).contains(&self.count)
            && let Some(byte) = self.bytes.get(self.at)
        {
            self.held |= u64::from(*byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    /// The next `count` bits, which stay.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> u64 {
        self.held & ((1 << count) - 1)
    }

    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        self.held >>= count;
        self.count -= i64::from(count);
    }

    /// The next `count` bits, at most 56, which were made ready.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u64 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// How many bytes were read, if there were so many, and nothing but zeros fills the last one.
    pub(super) fn finish(self) -> Option<usize> {
        let unread = usize::try_from(self.count).ok()?;
        let padding = self.held & ((1 << (unread % 8)) - 1);
        (padding == 0).then_some(self.at - unread / 8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_read_as_they_were_written(
            items in prop::collection::vec((any::<u64>(), 0..=64u32), 0..200),
        ) {
            let low = |bits: u64, count: u32| bits & 1u64.checked_shl(count).unwrap_or(0).wrapping_sub(1);
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            for (bits, count) in &items {
                writer.put_long(low(*bits, *count), *count);
            }
            writer.finish();
            let total: u32 = items.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(bytes.len(), total.div_ceil(8) as usize);
            let length = bytes.len();
            bytes.extend([0xff; 9]);
            // With and without something behind.
            for end in [length, bytes.len()] {
                let mut reader = BitReader::new(&bytes[..end]);
                for (bits, count) in &items {
                    reader.refill();
                    let lower = reader.take((*count).min(32));
                    reader.refill();
                    let upper = reader.take(count.saturating_sub(32));
                    prop_assert_eq!(lower | upper << 32, low(*bits, *count));
                }
                if total.is_multiple_of(8) || end == length {
                    prop_assert_eq!(reader.finish(), Some(length));
                }
            }
            if length > 0 {
                let mut reader = BitReader::new(&bytes[..length - 1]);
                for (_, count) in &items {
                    reader.refill();
                    reader.skip((*count).min(32));
                    reader.refill();
                    reader.skip(count.saturating_sub(32));
                }
                prop_assert_eq!(reader.finish(), None);
            }
        }
    }
}
