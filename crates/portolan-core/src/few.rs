//! Lists that mostly hold very few items: in place, which saves allocations. In wasm, where every
//! kind of them would be compiled anew, and each look at one would ask where it is, plain vectors.

#[cfg(not(feature = "small"))]
pub(crate) use smallvec::{SmallVec, smallvec};

/// A list of one item.
#[cfg(not(feature = "small"))]
#[inline]
pub(crate) fn one<T>(item: T) -> SmallVec<[T; 1]> {
    SmallVec::from_buf([item])
}

/// As above.
#[cfg(feature = "small")]
pub(crate) fn one<T>(item: T) -> alloc::vec::Vec<T> {
    alloc::vec![item]
}

#[cfg(feature = "small")]
pub(crate) use alloc::vec as smallvec;
#[cfg(feature = "small")]
pub(crate) type SmallVec<A> = alloc::vec::Vec<<A as ::smallvec::Array>::Item>;
