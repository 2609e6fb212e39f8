//! What the tests need beside the Rust toolchain, installed where it is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, command, output, run, target};

/// Bumped by hand: a new release may judge differently.
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
const ISO_CODES: &str = "/usr/share/iso-codes/json/iso_639-3.json";

/// Debian's `iso-codes`, which the end-to-end tests import.
pub(crate) fn iso_codes() -> Result<()> {
    if Path::new(ISO_CODES).exists() {
        return Ok(());
    }
    debian_package("iso-codes", ISO_CODES)
}

/// A Redis, which the tests and benchmarks of coordinated maps start; with it comes `redis-cli`.
pub(crate) fn redis() -> Result<()> {
    if succeeds("redis-server", &["--version"]) && succeeds("redis-cli", &["--version"]) {
        return Ok(());
    }
    debian_package("redis-server", "redis-server")
}

/// A C++ compiler, for libFuzzer.
pub(crate) fn cpp_compiler() -> Result<()> {
    if std::env::var_os("CXX").is_some() || succeeds("c++", &["--version"]) {
        return Ok(());
    }
    debian_package("g++", "a C++ compiler")
}

/// Node.js, which runs what pages would.
pub(crate) fn node() -> Result<()> {
    if succeeds("node", &["--version"]) {
        return Ok(());
    }
    debian_package("nodejs", "Node.js")
}

/// Installs the package that brings what is missing.
fn debian_package(name: &str, missing: &str) -> Result<()> {
    let advice = format!("install the package `{name}` (Debian, Ubuntu: `apt-get install {name}`)");
    if !succeeds("apt-get", &["--version"]) {
        bail!("{missing} is missing and there is no apt-get: {advice}");
    }
    if output(&mut command("id", ["-u"]))?.trim() != "0" {
        bail!("{missing} is missing and only root can install it: {advice}");
    }
    let apt = |arguments: &[&str]| {
        let mut apt = command("apt-get", arguments);
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        apt
    };
    run(&mut apt(&["update", "--quiet"])).with_context(|| advice.clone())?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    run(apt(&install).arg(name)).context(advice)
}

/// A target of the compiler, such as `wasm32-unknown-unknown`.
pub(crate) fn compiler_target(triple: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = output(&mut command(rustc, ["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(triple);
    if libraries.exists() {
        return Ok(());
    }
    run(&mut command("rustup", ["target", "add", triple]))
        .with_context(|| format!("install the standard library for {triple}"))
}

/// A component of the toolchain that cargo starts as `cargo SUBCOMMAND`.
pub(crate) fn component(subcommand: &str, name: &str) -> Result<()> {
    if succeeds("cargo", &[subcommand, "--version"]) {
        return Ok(());
    }
    run(&mut command("rustup", ["component", "add", name]))
        .with_context(|| format!("install the toolchain's component {name}"))
}

/// The path of cargo-deny.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    tool("cargo-deny", CARGO_DENY, "two minutes")
}

/// The path of cargo-fuzz.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    tool("cargo-fuzz", CARGO_FUZZ, "half a minute")
}

/// The path of a tool; compiled at the first use and kept beside what cargo builds.
fn tool(name: &str, version: &str, takes: &str) -> Result<PathBuf> {
    let installed = output(&mut command(name, ["--version"])).unwrap_or_default();
    if installed.trim() == format!("{name} {version}") {
        return Ok(name.into());
    }
    let home = target()?.join(format!("tools/{name}-{version}"));
    let program = home.join("bin").join(name);
    if !program.exists() {
        println!("compiling {name} {version}, which takes {takes}, once");
        // A development build: it compiles in half the time and runs for a second.
        let mut install = cargo(["install", "--quiet", "--debug", "--locked"]);
        install.arg(format!("{name}@{version}"));
        run(install.arg("--no-track").arg("--root").arg(&home))?;
    }
    Ok(program)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
