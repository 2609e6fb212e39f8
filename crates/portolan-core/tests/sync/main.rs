//! The synchronisation machine: two or more replicas, links between them that the tests break as
//! they like, and a clock that is moved by hand.

#![cfg(all(feature = "digest", feature = "packing"))]

mod access;
mod back_pressure;
mod bus;
mod catch_up;
mod chaos;
mod faults;
mod hostile;
mod live;
mod loans;
mod members;
mod network;
mod presence;
#[path = "../raw/mod.rs"]
mod raw;
mod reconcile;
mod repair;
mod store;
mod tokens;
mod updates;
mod weather;
