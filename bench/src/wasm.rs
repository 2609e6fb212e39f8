//! What a page has to load to have an engine: a module of its own, built for size and packed.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::engine::PORTOLAN;
use crate::report::Measure;

const TARGET: &str = "wasm32-unknown-unknown";
/// The profile in the workspace's `Cargo.toml`, and cargo's name for its folder.
const PROFILE: &str = "wasm";

/// Builds the engine's module, quickly where it is up to date; its bytes as `gzip -9` packs them.
pub(crate) fn size(engine: &str) -> anyhow::Result<Vec<Measure>> {
    let package = match engine {
        PORTOLAN => "portolan-bench-wasm".to_owned(),
        rival => format!("portolan-bench-wasm-{rival}"),
    };
    let module = build(&package)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&module)?;
    let bytes = packed.finish()?.len();
    Ok(vec![
        Measure::new("bytes", bytes as f64, "bytes"),
        Measure::new("unpacked_bytes", module.len() as f64, "bytes"),
    ])
}

fn build(package: &str) -> anyhow::Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", package])
        .args(["--profile", PROFILE, "--target", TARGET])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo could not build {package}");
    // This program is at `<target>/<profile>/portolan-bench`.
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("the target directory")?;
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = target.join(TARGET).join(PROFILE).join(file);
    std::fs::read(&path).with_context(|| path.display().to_string())
}
