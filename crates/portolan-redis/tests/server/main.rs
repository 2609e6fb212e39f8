//! Coordinated maps on real servers, which the tests start.

mod faults;
mod format;
mod leases;
mod operations;
mod support;
mod topologies;
mod watching;
