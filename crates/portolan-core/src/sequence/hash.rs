//! A hash of slot numbers: they are given out by us, so nobody can choose them to collide.

use core::hash::{BuildHasher, Hasher};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpotHash;

#[derive(Debug)]
pub(crate) struct SpotHasher(u64);

impl BuildHasher for SpotHash {
    type Hasher = SpotHasher;

    fn build_hasher(&self) -> SpotHasher {
        SpotHasher(0)
    }
}

impl Hasher for SpotHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Multiplied by 2^64 / φ; the table takes its bits from both ends.
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
