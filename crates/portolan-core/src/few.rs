//! Lists that mostly hold very few items: in place, which saves allocations. In wasm, where every
//! kind of them would be compiled anew, and each look at one would ask where it is, plain vectors.

#[cfg(not(target_family = "wasm"))]
pub(crate) use smallvec::{SmallVec, smallvec};

#[cfg(target_family = "wasm")]
pub(crate) use alloc::vec as smallvec;
#[cfg(target_family = "wasm")]
pub(crate) type SmallVec<A> = alloc::vec::Vec<<A as ::smallvec::Array>::Item>;
