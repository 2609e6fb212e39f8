//! The systems of the suite: how to start their servers and clients.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::PATIENCE;
use super::process::Process;
use crate::child::build;
use crate::engine::PORTOLAN;

/// Where Hocuspocus and its clients are.
const HOCUSPOCUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hocuspocus");

/// A server with its clients.
pub(crate) enum System {
    /// Keeps maps in memory only, as Hocuspocus does here.
    Portolan { server: PathBuf },
    /// Keeps maps on disk.
    PortolanStore { server: PathBuf },
    /// A Y.Map.
    Hocuspocus,
}

/// A server that runs until this is dropped.
pub(crate) struct Running {
    url: String,
    clients: Clients,
    _process: Process,
    _store: Option<TempDir>,
}

#[derive(Clone, Copy)]
enum Clients {
    Portolan,
    Hocuspocus,
}

impl System {
    /// All systems of this build; what is missing for them is built or installed.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let server = build("portolan-cli", "portolan", &[])?;
        let mut systems = vec![Self::Portolan {
            server: server.clone(),
        }];
        if cfg!(feature = "rivals") {
            install_hocuspocus()?;
            systems.push(Self::Hocuspocus);
        }
        systems.push(Self::PortolanStore { server });
        Ok(systems)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Portolan { .. } => PORTOLAN,
            Self::PortolanStore { .. } => "portolan-store",
            Self::Hocuspocus => "hocuspocus",
        }
    }

    /// Starts a server without any map.
    pub(crate) fn serve(&self) -> anyhow::Result<Running> {
        match self {
            Self::Portolan { server } => {
                let mut command = Command::new(server);
                command.args(["serve", "--memory"]);
                serve_portolan(command, None)
            }
            Self::PortolanStore { server } => {
                let store = tempfile::tempdir()?;
                let mut command = Command::new(server);
                command.arg("serve").arg("--store").arg(store.path());
                serve_portolan(command, Some(store))
            }
            Self::Hocuspocus => {
                let mut command = node("server.js");
                let mut process = Process::start(&mut command, PATIENCE)?;
                let port = process.expect("listening")?;
                Ok(Running {
                    url: format!("ws://127.0.0.1:{port}"),
                    clients: Clients::Hocuspocus,
                    _process: process,
                    _store: None,
                })
            }
        }
    }
}

impl Running {
    /// Where clients connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The command of a client in this role.
    pub(crate) fn client(&self, role: &str) -> anyhow::Result<Command> {
        let mut command = match self.clients {
            Clients::Portolan => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("client");
                command
            }
            Clients::Hocuspocus => node("client.js"),
        };
        command.args([role, &self.url]);
        Ok(command)
    }
}

/// Starts a server of Portolan, which is told where to listen.
pub(crate) fn serve_portolan(
    mut command: Command,
    store: Option<TempDir>,
) -> anyhow::Result<Running> {
    // Another program may take the port in between; then the server says so and ends.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    command
        .args(["--listen", &address.to_string()])
        .env("RUST_LOG", "warn");
    let process = Process::start(&mut command, PATIENCE)?;
    wait_for(address)?;
    Ok(Running {
        url: format!("ws://{address}"),
        clients: Clients::Portolan,
        _process: process,
        _store: store,
    })
}

/// Waits until somebody listens there.
fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < deadline, "nobody listens at {address}");
        thread::sleep(PATIENCE / 10_000);
    }
    Ok(())
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script).current_dir(HOCUSPOCUS);
    command
}

/// Installs what `package-lock.json` names, unless it is there.
fn install_hocuspocus() -> anyhow::Result<()> {
    let folder = PathBuf::from(HOCUSPOCUS);
    let changed = |file: &str| folder.join(file).metadata()?.modified();
    // npm writes this copy of the lock file last.
    let installed = changed("node_modules/.package-lock.json").ok();
    if installed.is_some_and(|installed| changed("package-lock.json").is_ok_and(|t| t <= installed))
    {
        return Ok(());
    }
    eprintln!("installing hocuspocus");
    let status = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status()
        .context("cannot start npm: Hocuspocus needs Node 20 or later with npm")?;
    ensure!(status.success(), "npm could not install Hocuspocus");
    Ok(())
}
