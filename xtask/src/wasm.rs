//! The engine as a module for pages: that it builds, works in Node.js, and stays small.

use std::io::Write;

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::command::{cargo, command, run, target};
use crate::prerequisites;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "portolan-bench-wasm";
const PROFILE: &str = "wasm";

/// The most bytes that a page has to load, as `gzip -9` packs them.
const LIMIT: usize = 60_000;

/// What the module is built with, where its tests can be run.
const LEAN: [&str; 3] = ["--no-default-features", "--features", "std,small"];

pub(crate) fn check() -> Result<()> {
    prerequisites::compiler_target(TARGET)?;
    prerequisites::node()?;
    let tests = ["test", "--package", "portolan-core", "--test", "features"];
    run(cargo(tests).args(LEAN))?;
    run(cargo(tests)
        .args(["--test", "cases", "--test", "laws", "--lib"])
        .args(["--features", "small"]))?;

    let build = ["build", "--package", PACKAGE, "--profile", PROFILE];
    run(cargo(build).args(["--target", TARGET]))?;
    let file = format!("{}.wasm", PACKAGE.replace('-', "_"));
    let module = target()?.join(TARGET).join(PROFILE).join(file);
    run(command("node", ["bench/wasm/try.mjs"]).arg(&module))?;

    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&std::fs::read(module)?)?;
    let bytes = packed.finish()?.len();
    println!("{bytes} bytes, of at most {LIMIT}");
    if bytes > LIMIT {
        bail!("the engine takes {bytes} bytes in a page, {LIMIT} are the limit");
    }
    Ok(())
}
