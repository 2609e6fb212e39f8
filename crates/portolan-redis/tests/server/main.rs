//! Coordinated maps on real servers, which the tests start.

mod faults;
mod format;
mod leases;
mod operations;
#[path = "../support/mod.rs"]
mod support;
mod topologies;
mod watching;
