//! Lists that mostly hold very few items: in place, which saves allocations. In wasm, where every
//! kind of them would be compiled anew, and each look at one would ask where it is, plain vectors.

#[cfg(not(feature = "small"))]
pub(crate) use smallvec::{SmallVec, smallvec};

#[cfg(feature = "small")]
pub(crate) use alloc::vec as smallvec;
#[cfg(feature = "small")]
pub(crate) type SmallVec<A> = alloc::vec::Vec<<A as ::smallvec::Array>::Item>;
