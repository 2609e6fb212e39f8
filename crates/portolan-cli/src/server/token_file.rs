//! The token for the servers of `--connect`, in a file that whoever issues it writes again.

use std::path::Path;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use portolan::Node;

use super::watched_file::WatchedFile;

/// A file with a token, which is presented anew when it changes.
#[derive(Debug)]
pub(super) struct TokenFile {
    file: WatchedFile,
    /// What was presented last.
    token: Mutex<String>,
    /// The servers, by the addresses that the node knows them by.
    servers: Vec<String>,
}

impl TokenFile {
    pub(super) fn open(path: &Path, servers: Vec<String>) -> anyhow::Result<Self> {
        let file = WatchedFile::new(path);
        let token = Mutex::new(read(path)?);
        Ok(Self {
            file,
            token,
            servers,
        })
    }

    pub(super) fn token(&self) -> String {
        self.token.lock().clone()
    }

    /// Presents the token to the servers if the file has changed, or may have.
    pub(super) fn follow(&self, node: &Node, asked: bool) {
        if !self.file.has_changed() && !asked {
            return;
        }
        match self.present(node) {
            Ok(true) => tracing::info!("the token file was read again"),
            Ok(false) => {}
            Err(error) => tracing::error!(error = format!("{error:#}"), "the old token stays"),
        }
    }

    fn present(&self, node: &Node) -> anyhow::Result<bool> {
        let fresh = read(self.file.path())?;
        if *self.token.lock() == fresh {
            return Ok(false);
        }
        for url in &self.servers {
            node.set_token(url, fresh.clone())?;
        }
        *self.token.lock() = fresh;
        Ok(true)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the token file {name}"))?;
    let token = text.trim();
    ensure!(!token.is_empty(), "the token file {name} is empty");
    ensure!(
        !token.contains(char::is_whitespace),
        "the token file {name} has more than a token in it"
    );
    Ok(token.to_owned())
}
