//! The store.

use std::path::Path;

use crate::error::Result;

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Format version of the store.
    pub format: u32,
    /// The id under which its node writes.
    pub replica: portolan_core::ReplicaId,
    /// Each map: its name, its number of keys, and the number of its operations.
    pub maps: Vec<(String, usize, u64)>,
    /// Bytes of snapshots and logs.
    pub bytes: u64,
}

/// Reads a whole store, checks everything in it, and changes nothing. No node may have it open.
pub fn verify(_directory: impl AsRef<Path>) -> Result<Report> {
    todo!()
}
