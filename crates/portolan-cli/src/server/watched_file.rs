//! A file that may change while the server runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

/// A file, and how it looked last.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Option<Fingerprint>>,
}

impl WatchedFile {
    /// To be called before the file is read: a change in between is found later.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: Mutex::new(fingerprint(path)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file does not look as it did when this was last asked.
    pub(super) fn has_changed(&self) -> bool {
        let found = fingerprint(&self.path);
        std::mem::replace(&mut *self.seen.lock(), found) != found
    }
}

/// Changes when the file does.
type Fingerprint = (SystemTime, u64, u64);

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}
