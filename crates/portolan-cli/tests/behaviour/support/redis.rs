//! A Redis of a test's own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
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

    /// With further arguments of `redis-server`, a file of its configuration first if there is one.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let port = free_port();
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if !arguments.iter().any(|argument| argument == "--sentinel") {
            // Nothing is kept on disk.
            arguments.extend(["--save".to_owned(), String::new()]);
        }
        Self {
            port,
            process: spawn(port, &arguments),
            arguments,
        }
    }

    /// A Sentinel that calls another one `fleet`. It keeps its rules in this folder.
    pub(crate) fn sentinel(master: &Self, folder: &Path) -> Self {
        let file = folder.join("sentinel.conf");
        let rules = format!("sentinel monitor fleet 127.0.0.1 {} 1\n", master.port);
        std::fs::write(&file, rules).expect("it can be written");
        Self::with(&[&file.display().to_string(), "--sentinel"])
    }

    /// A cluster of one node.
    pub(crate) fn cluster(folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let redis = Self::with(&["--cluster-enabled", "yes", "--dir", &folder]);
        redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        wait_until("the cluster is whole", || {
            redis.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
        redis
    }

    /// One that speaks TLS on a port beside its own, with this certificate; the port.
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> (Self, u16) {
        let port = free_port();
        let (certificate, key) = (certificate.display(), key.display());
        let redis = Self::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &certificate.to_string(),
            "--tls-key-file",
            &key.to_string(),
            "--tls-ca-cert-file",
            &certificate.to_string(),
            "--tls-auth-clients",
            "no",
        ]);
        (redis, port)
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
        let answer = ask.args(["-e", "-p", &port]).args(words).output();
        let answer = answer.expect("redis-cli comes with redis-server");
        assert!(answer.status.success(), "{words:?}: {answer:?}");
        String::from_utf8_lossy(&answer.stdout)
            .trim_end()
            .to_owned()
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
        .args(arguments)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--daemonize", "no"])
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
