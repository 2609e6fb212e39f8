//! That every test which `docs/guarantees.md` names is there.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::root;

const PAGE: &str = "docs/guarantees.md";
const SOURCES: [&str; 2] = ["crates", "sim"];

pub(crate) fn check() -> Result<()> {
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let mut sources = Vec::new();
    for folder in SOURCES {
        collect(&root().join(folder), &mut sources)?;
    }
    let missing: Vec<&str> = tests(&page)
        .filter(|name| !exists(name, &sources))
        .collect();
    ensure!(
        missing.is_empty(),
        "{PAGE} names tests that are not there: {}",
        missing.join(", ")
    );
    println!("{PAGE}: all {} tests are there", tests(&page).count());
    Ok(())
}

/// What stands in backticks and has a `::` between words.
fn tests(page: &str) -> impl Iterator<Item = &str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    quoted.filter(move |name| name.contains("::") && name.chars().all(word))
}

/// Whether `folder::file::function` is a function in a file of that name.
fn exists(test: &str, sources: &[(PathBuf, String)]) -> bool {
    let Some((file, function)) = test.rsplit_once("::") else {
        return false;
    };
    let file = PathBuf::from(file.replace("::", "/")).with_extension("rs");
    let definition = format!("fn {function}(");
    let mut named = sources.iter().filter(|(path, _)| path.ends_with(&file));
    named.any(|(_, text)| text.contains(&definition))
}

fn collect(folder: &Path, sources: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text = fs::read_to_string(&path)?;
            sources.push((path, text));
        }
    }
    Ok(())
}
