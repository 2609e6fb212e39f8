//! What a set of operations amounts to: by it replicas find out what they do not share.

use core::ops::{AddAssign, SubAssign};

/// What a set of operations amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many there are.
    pub(crate) count: u64,
    /// The sum of their fingerprints, in two halves: a `u128` would be padded.
    pub(crate) sum: [u64; 2],
}

impl Tally {
    #[inline]
    pub(crate) fn of(print: u128) -> Self {
        Self {
            count: 1,
            sum: [print as u64, (print >> 64) as u64],
        }
    }

    /// The sum of the fingerprints.
    #[inline]
    pub(crate) fn sum(&self) -> u128 {
        u128::from(self.sum[0]) | u128::from(self.sum[1]) << 64
    }

    /// Adds the fingerprint of an operation that is counted already.
    #[inline]
    #[cfg(not(feature = "small"))]
    pub(crate) fn add_print(&mut self, print: u128) {
        self.set_sum(self.sum().wrapping_add(print));
    }

    #[inline]
    fn set_sum(&mut self, sum: u128) {
        self.sum = [sum as u64, (sum >> 64) as u64];
    }
}

impl AddAssign for Tally {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.set_sum(self.sum().wrapping_add(other.sum()));
    }
}

impl SubAssign for Tally {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.count -= other.count;
        self.set_sum(self.sum().wrapping_sub(other.sum()));
    }
}
