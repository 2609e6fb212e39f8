//! XXH3. In wasm, where each entry to it would be compiled anew, all through those with a seed: with
//! the seed 0 they give the same.

#[cfg(not(feature = "small"))]
pub(crate) use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128, xxh3_128_with_seed};

#[cfg(feature = "small")]
#[inline(never)]
pub(crate) fn xxh3_64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

#[cfg(feature = "small")]
#[inline(never)]
pub(crate) fn xxh3_128_with_seed(bytes: &[u8], seed: u64) -> u128 {
    xxhash_rust::xxh3::xxh3_128_with_seed(bytes, seed)
}

#[cfg(feature = "small")]
pub(crate) fn xxh3_64(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}

#[cfg(feature = "small")]
pub(crate) fn xxh3_128(bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_seed_is_with_the_seed_zero() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            assert_eq!(xxh3_64(bytes), xxh3_64_with_seed(bytes, 0));
            assert_eq!(xxh3_128(bytes), xxh3_128_with_seed(bytes, 0));
        }
    }
}
