//! The commands that talk to a server, or look at a store.

mod check;
mod entries;
mod history;
mod import;
mod members;
mod redis;
mod status;
mod watch;

use std::io::Write;

use crate::failure::Failure;

pub(crate) use check::{completions, verify};
pub(crate) use entries::{add, append, export, get, insert, keys, remove, set, undelete, unset};
pub(crate) use history::history;
pub(crate) use import::import;
pub(crate) use members::{forget, members};
pub(crate) use redis::redis;
pub(crate) use status::status;
pub(crate) use watch::watch;

/// Standard output, plain where it is no terminal.
fn output() -> impl Write {
    anstream::stdout().lock()
}

/// What became of writing.
fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::output(&error))
}
