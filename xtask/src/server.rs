//! The `portolan` binary: built, and run as a server on a store of its own that goes with it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::command::{cargo, output, run, target};

const DEFAULT_PORT: u16 = 7117;
const START: Duration = Duration::from_secs(30);
/// Longer than the server gives its own connections to close.
const STOP: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Builds the binary and tells where it is.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let profile = if release { "release" } else { "dev" };
    let package = ["build", "--package", "portolan-cli", "--profile"];
    run(cargo(package).arg(profile))?;
    binary(release)
}

/// Where the binary is once it is built.
pub(crate) fn binary(release: bool) -> Result<PathBuf> {
    let folder = if release { "release" } else { "debug" };
    let name = format!("portolan{}", std::env::consts::EXE_SUFFIX);
    Ok(target()?.join(folder).join(name))
}

/// A running server. Dropped without [`stop`](Self::stop), it is killed.
pub(crate) struct Server {
    binary: PathBuf,
    address: SocketAddr,
    child: Child,
    store: TempDir,
}

impl Server {
    /// Starts a server on a new store and waits until it answers.
    pub(crate) fn start(binary: &Path, port: u16) -> Result<Self> {
        let store = tempfile::Builder::new()
            .prefix("portolan-demo-")
            .tempdir()
            .context("a folder for the store")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", &address.to_string(), "--store"])
            .arg(store.path())
            .env("RUST_LOG", "warn");
        // The terminal's Ctrl-C is for this program, which then stops the server in good order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .spawn()
            .with_context(|| format!("{} could not be started", binary.display()))?;
        let mut server = Self {
            binary: binary.to_path_buf(),
            address,
            child,
            store,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once: {status}");
            }
            if self
                .http_get("/readyz")
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the server does not answer at {} after {START:?}",
                    self.address
                );
            }
            thread::sleep(POLL);
        }
    }

    /// The address of the server, as `PORTOLAN_SERVER` takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its folder of data.
    pub(crate) fn store(&self) -> &Path {
        self.store.path()
    }

    /// A command of the same binary that talks to this server.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let mut client = Command::new(&self.binary);
        client
            .args(arguments)
            .env("PORTOLAN_SERVER", self.url())
            .current_dir(crate::command::root());
        client
    }

    /// What a client command prints, without the end of the last line.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let printed = output(&mut self.client(arguments))?;
        Ok(printed.trim_end().to_owned())
    }

    /// `GET` of a path.
    pub(crate) fn http_get(&self, path: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, START)?;
        stream.set_read_timeout(Some(START))?;
        let address = self.address;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok(Answer {
            status: status.context("no HTTP status")?,
            body: body.to_owned(),
        })
    }

    /// Whether the server has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the server to end, waits for it, and removes its store.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        if cfg!(unix) {
            // It may be gone already.
            let pid = self.child.id().to_string();
            let _ = output(Command::new("kill").args(["-TERM", &pid]));
        } else {
            self.child.kill()?;
        }
        let deadline = Instant::now() + STOP;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the server did not end within {STOP:?} of being asked to");
            }
            thread::sleep(POLL);
        };
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // No harm where it has ended: its id stays taken until it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// The default port where it is free, so that commands need no address, else any that is.
pub(crate) fn port() -> Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT)) {
        Ok(_) => Ok(DEFAULT_PORT),
        Err(_) => free_port(),
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
