//! `cargo xtask demo`: a server with sample maps, and what to try with it.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lexopt::prelude::*;

use crate::command::run as run_command;
use crate::server::{self, Server};

/// What the flags of `cargo xtask demo` say.
pub(crate) struct Options {
    check: bool,
    release: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &mut lexopt::Parser) -> Result<Self> {
        let (mut check, mut release) = (false, false);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("check") => check = true,
                Long("release") => release = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Self { check, release })
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        check(&server::build(options.release)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = interrupt.send(());
    })?;
    let binary = server::build(options.release)?;
    let mut server = Server::start(&binary, server::port()?)?;
    fill(&server)?;
    print!("{}", invitation(&server, &binary));
    let ended = loop {
        match interrupted.recv_timeout(Duration::from_millis(500)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => break None,
        }
        if let Some(status) = server.ended()? {
            break Some(status);
        }
    };
    if let Some(status) = ended {
        eprintln!("The server ended by itself: {status}");
        return Ok(ExitCode::FAILURE);
    }
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    println!("\nThe server has stopped, and its store is gone.");
    Ok(ExitCode::SUCCESS)
}

/// Imports the sample maps.
fn fill(server: &Server) -> Result<()> {
    let imports: [&[&str]; 2] = [
        &[
            "import",
            "harbours",
            "xtask/sample/harbours.json",
            "--rows",
            "/harbours",
            "--key",
            "id",
        ],
        &["import", "fleet/config", "xtask/sample/fleet-config.json"],
    ];
    for import in imports {
        run_command(server.client(import).stdin(Stdio::null())).context("the sample maps")?;
    }
    Ok(())
}

fn invitation(server: &Server, binary: &Path) -> String {
    let url = server.url();
    let folder = binary.parent().unwrap_or(binary).display();
    format!(
        r#"
A server with two sample maps, `harbours` and `fleet/config`, is at {url}

In another terminal:

  export PATH="{folder}:$PATH" PORTOLAN_SERVER={url}

  portolan keys harbours                      # what is there
  portolan get harbours genoa
  portolan watch fleet/config                 # leave it running, and in a third terminal:
  portolan set fleet/config rate 250          # the watcher is told
  portolan unset fleet/config dark-mode
  curl {url}/v1/maps/fleet%2Fconfig/keys/rate
  curl -N {url}/v1/maps/fleet%2Fconfig/events
  portolan status

A second server that shares every map with this one, and goes on alone when cut off:

  portolan serve --memory --listen 127.0.0.1:7118 --connect {websocket}
  portolan get fleet/config rate --server http://127.0.0.1:7118

The inspector: {url}/
Ctrl-C stops the server and removes its store.
"#,
        websocket = url.replacen("http", "ws", 1),
    )
}

/// Does what the demo invites to do, without a person, and checks what comes of it.
pub(crate) fn check(binary: &Path) -> Result<()> {
    let server = Server::start(binary, server::free_port()?)?;
    fill(&server)?;
    let expect = |arguments: &[&str], expected: &str| {
        let printed = server.ask(arguments)?;
        let command = arguments.join(" ");
        ensure!(
            printed == expected,
            "`portolan {command}` printed {printed:?}, not {expected:?}"
        );
        anyhow::Ok(())
    };
    let keys = server.ask(&["keys", "harbours"])?;
    ensure!(
        keys.lines().any(|key| key == "genoa"),
        "no genoa among the keys: {keys}"
    );
    expect(&["get", "fleet/config", "rate", "--json"], "100")?;
    server.ask(&["set", "fleet/config", "rate", "250"])?;
    expect(&["get", "fleet/config", "rate", "--all", "--json"], "[250]")?;
    server.ask(&["unset", "fleet/config", "dark-mode"])?;
    let gone = server.http_get("/v1/maps/fleet%2Fconfig/keys/dark-mode")?;
    ensure!(gone.status == 404, "an unset key answers {}", gone.status);
    let rate = server.http_get("/v1/maps/fleet%2Fconfig/keys/rate")?;
    ensure!(
        rate.status == 200 && rate.body.contains("250"),
        "HTTP reads {}: {}",
        rate.status,
        rate.body
    );
    server.ask(&["status"])?;
    let store = server.store().to_path_buf();
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    ensure!(!store.exists(), "the store was left behind");
    println!("The demo works.");
    Ok(())
}
