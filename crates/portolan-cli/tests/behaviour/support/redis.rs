//! A Redis of a test's own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::wait_until;

/// Stopped when dropped.
pub(crate) struct Redis {
    port: u16,
    arguments: Vec<String>,
    process: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments of `redis-server`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Self {
            port,
            process: spawn(port, &arguments),
            arguments,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.port, &self.arguments);
    }

    /// What it answers, over a connection of its own that ends with the answer.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut ask = Command::new("redis-cli");
        let answer = ask.args(["-p", &port]).args(words).output();
        let answer = answer.expect("redis-cli comes with redis-server");
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        assert!(answer.status.success(), "{words:?}: {text}");
        text
    }

    /// An answer that is a number.
    pub(crate) fn count(&self, words: &[&str]) -> u64 {
        let text = self.ask(words);
        text.parse().unwrap_or_else(|_| panic!("{words:?}: {text}"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(port: u16, arguments: &[String]) -> Child {
    let process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--daemonize", "no"])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: `cargo xtask test` installs it");
    wait_until("redis-server answers", || answers(port).is_ok());
    process
}

fn answers(port: u16) -> std::io::Result<()> {
    let mut line = TcpStream::connect(("127.0.0.1", port))?;
    line.write_all(b"PING\r\n")?;
    line.read_exact(&mut [0; "+PONG".len()])
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
