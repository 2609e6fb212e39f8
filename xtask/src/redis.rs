//! A Redis for the examples.

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::command;
use crate::server::free_port;

const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps nothing on disk; ends when dropped.
pub(crate) struct Redis {
    port: u16,
    process: Child,
}

impl Redis {
    pub(crate) fn start() -> Result<Self> {
        let port = free_port()?;
        let mut server = command("redis-server", ["--bind", "127.0.0.1", "--save", ""]);
        server.args(["--port", &port.to_string()]);
        let process = server
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let redis = Self { port, process };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(Instant::now() < end, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
