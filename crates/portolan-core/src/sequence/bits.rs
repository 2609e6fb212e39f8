//! Words of bits, one a position of a leaf.

/// The `count` lowest bits.
#[inline]
pub(super) fn low(count: usize) -> u64 {
    if count >= 64 { !0 } else { (1 << count) - 1 }
}

/// Makes room for `count` bits at `offset`.
#[inline]
pub(super) fn spread(bits: u64, offset: usize, count: usize) -> u64 {
    let (below, above) = (bits & low(offset), bits & !low(offset));
    below | above.checked_shl(count as u32).unwrap_or(0)
}

/// Takes the bit at `offset` out.
#[inline]
pub(super) fn close(bits: u64, offset: usize) -> u64 {
    let above = (bits >> offset) >> 1;
    bits & low(offset) | above << offset
}

/// Where the `n`-th bit (from 0) is that is set; there are more than `n`.
#[inline]
pub(super) fn select(bits: u64, n: usize) -> usize {
    let run = bits.trailing_ones() as usize;
    if n < run {
        return n;
    }
    let (mut rest, mut n, mut offset) = (bits, n, 0);
    for width in [32, 16, 8] {
        let count = (rest & low(width)).count_ones() as usize;
        if n >= count {
            n -= count;
            rest >>= width;
            offset += width;
        }
    }
    for _ in 0..n {
        rest &= rest.wrapping_sub(1);
    }
    offset + rest.trailing_zeros() as usize
}
