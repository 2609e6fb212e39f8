//! A Redis of the benchmark's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_redis::{CoordinatedMap, Options};
use redis::aio::MultiplexedConnection;

/// No answer takes as long, however slow the machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Ends when dropped.
pub(super) struct Server {
    port: u16,
    process: Child,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--daemonize", "no"])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server: install the package redis-server")?;
        let server = Self { port, process };
        let end = Instant::now() + PATIENCE;
        while server.connect().await.is_err() {
            ensure!(Instant::now() < end, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(server)
    }

    pub(super) fn client(&self) -> anyhow::Result<redis::Client> {
        Ok(redis::Client::open(self.url())?)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let client = self.client()?;
        Ok(client
            .get_multiplexed_async_connection_with_config(&config)
            .await?)
    }

    pub(super) async fn join(&self, name: &str) -> anyhow::Result<CoordinatedMap> {
        let server = portolan_redis::Server::single(&self.url())?;
        let options = Options::default().patience(PATIENCE);
        Ok(CoordinatedMap::join(&server, name, options).await?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
