//! Servers that the tests start, lines to them that can be disturbed, and what looks into them.

mod proxy;
mod topology;

use std::ffi::OsString;
use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portolan_redis::{CoordinatedMap, Options, Server, State};
use redis::aio::MultiplexedConnection;

pub(crate) use self::proxy::Proxy;
pub(crate) use self::topology::{Cluster, Watched};

/// No condition takes as long, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Names another server that the tests start in place of the system's `redis-server`: a newer
/// Redis, or a Valkey.
const PROGRAM: &str = "PORTOLAN_REDIS_SERVER";
const DEBIANS: &str = "redis-server";

/// A Redis of a test's own; stopped when dropped.
pub(crate) struct Redis {
    pub(crate) port: u16,
    program: OsString,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further arguments of `redis-server`.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let redis = Self::spawned(free_port(), arguments);
        redis.answers().await;
        redis
    }

    /// Without waiting until it answers.
    pub(crate) fn spawned(port: u16, arguments: &[&str]) -> Self {
        let mut redis = Self::new(port, arguments);
        redis.arguments.extend(["--save".to_owned(), String::new()]);
        redis.spawn();
        redis
    }

    /// The one of the system, which speaks TLS; others may be built without.
    pub(crate) async fn of_the_system(arguments: &[&str]) -> Self {
        let mut redis = Self::new(free_port(), arguments);
        redis.program = DEBIANS.into();
        redis.spawn();
        redis.answers().await;
        redis
    }

    /// A Sentinel with these rules.
    pub(crate) async fn sentinel(rules: &str) -> Self {
        let mut redis = Self::new(free_port(), &["--sentinel"]);
        let file = redis.folder.path().join("sentinel.conf");
        std::fs::write(&file, rules).unwrap();
        // The file is the first argument.
        redis.arguments.insert(0, file.display().to_string());
        redis.spawn();
        redis.answers().await;
        redis
    }

    fn new(port: u16, arguments: &[&str]) -> Self {
        Self {
            port,
            program: std::env::var_os(PROGRAM).unwrap_or_else(|| DEBIANS.into()),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            folder: tempfile::tempdir().unwrap(),
            process: None,
        }
    }

    fn spawn(&mut self) {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(["--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--dir", &self.folder.path().display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn();
        let process = process.expect("redis-server is missing: `cargo xtask test` installs it");
        self.process = Some(process);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn server(&self) -> Server {
        Server::single(&self.url()).unwrap()
    }

    /// Waits until it answers; a free port may have been taken, then another server answers.
    pub(crate) async fn answers(&self) {
        let answers = async || {
            let client = redis::Client::open(self.url()).unwrap();
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                return false;
            };
            let pong: redis::RedisResult<redis::Value> =
                redis::cmd("PING").query_async(&mut connection).await;
            pong.is_ok()
        };
        until("redis-server answers", answers).await;
    }

    /// A plain connection, as programs that know nothing of Portolan have.
    pub(crate) async fn plain(&self) -> MultiplexedConnection {
        plain(&self.url()).await
    }

    pub(crate) async fn join(&self, name: &str) -> CoordinatedMap {
        self.join_with(name, options()).await
    }

    pub(crate) async fn join_with(&self, name: &str, options: Options) -> CoordinatedMap {
        CoordinatedMap::join(&self.server(), name, options)
            .await
            .unwrap()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.answers().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) async fn plain(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap()
}

/// Digests come soon, so that tests need not wait for them.
pub(crate) fn options() -> Options {
    Options::default()
        .digest_period(Duration::from_millis(200))
        .patience(Duration::from_secs(10))
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits for a condition.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a node reads this under a key.
pub(crate) async fn reads(map: &CoordinatedMap, key: &str, value: &str) {
    let what = format!("{key} is {value}");
    until(&what, async || {
        map.get(key).as_deref() == Some(value.as_bytes())
    })
    .await;
}

pub(crate) async fn reaches(map: &CoordinatedMap, wanted: impl FnMut(&State) -> bool) {
    let mut states = map.states();
    let reached = tokio::time::timeout(PATIENCE, states.wait_for(wanted));
    reached.await.expect("the state is reached").unwrap();
}

/// The entries of the hash, the reserved ones left out, and the revision.
pub(crate) async fn hash(
    connection: &mut MultiplexedConnection,
    name: &str,
) -> (Vec<(String, String)>, u64) {
    let key = format!("map:{name}:content");
    let all: std::collections::BTreeMap<String, String> = redis::cmd("HGETALL")
        .arg(key)
        .query_async(connection)
        .await
        .unwrap();
    let revision = all.get("=rev").map_or(0, |text| text.parse().unwrap());
    let entries = all.into_iter().filter(|(key, _)| !key.starts_with('='));
    (entries.collect(), revision)
}

pub(crate) fn entries(map: &CoordinatedMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = map
        .iter()
        .map(|(key, value)| (text(key.as_bytes()), text(&value)));
    entries.collect()
}

/// Waits until a replica and the hash are the same.
pub(crate) async fn agrees(map: &CoordinatedMap, connection: &mut MultiplexedConnection) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (expected, revision) = hash(connection, map.name()).await;
        let snapshot = map.snapshot();
        if entries(map) == expected && snapshot.revision() == revision {
            return;
        }
        assert!(
            Instant::now() < end,
            "at {} is {:?}, at {revision} should be {expected:?}",
            snapshot.revision(),
            entries(map)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(connection).await.unwrap()
}

/// Waits until so many connections are subscribed.
pub(crate) async fn subscribed(redis: &Redis, count: usize) {
    let connection = redis.plain().await;
    until("others are subscribed", async || {
        let list = ["CLIENT", "LIST", "TYPE", "pubsub"];
        let list: String = ask(&mut connection.clone(), &list).await;
        list.lines().count() == count
    })
    .await;
}
