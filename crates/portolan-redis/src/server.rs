//! Where Redis is, and which of its servers has a map.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::tap::Tap;

/// A cluster that sends a client on more often than this is changing its mind.
const MAX_REDIRECTIONS: usize = 5;

/// Where Redis, or Valkey, is: one server, the master that Sentinels know, or a cluster.
///
/// ```
/// # fn main() -> portolan_redis::Result<()> {
/// use portolan_redis::Server;
/// let one = Server::single("redis://127.0.0.1:6379")?;
/// let watched = Server::sentinel(
///     &["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"],
///     "mymaster",
///     "redis://user:secret@mymaster/0",
/// )?;
/// let many = Server::cluster(&["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Server {
    kind: Kind,
    entrances: Vec<ConnectionInfo>,
    #[cfg(feature = "tls")]
    root_certificate: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Kind {
    Single,
    Sentinel {
        master: String,
        node: Box<ConnectionInfo>,
    },
    Cluster,
}

impl Server {
    /// One server: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS.
    pub fn single(url: &str) -> Result<Self> {
        Self::new(Kind::Single, &[url])
    }

    /// The master that Sentinels know under a name. The address of the node says with which user,
    /// password, database and encryption to go to it; its host is not looked at.
    pub fn sentinel(sentinels: &[&str], master: &str, node: &str) -> Result<Self> {
        let kind = Kind::Sentinel {
            master: master.to_owned(),
            node: Box::new(parse(node)?),
        };
        Self::new(kind, sentinels)
    }

    /// A cluster, entered by one of these nodes. Maps want the layout for clusters.
    pub fn cluster(nodes: &[&str]) -> Result<Self> {
        Self::new(Kind::Cluster, nodes)
    }

    /// Trusts these certificates (PEM) in place of those that the system trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    fn new(kind: Kind, urls: &[&str]) -> Result<Self> {
        let entrances: Vec<_> = urls.iter().map(|url| parse(url)).collect::<Result<_>>()?;
        if entrances.is_empty() {
            return Err(Error::Address {
                url: String::new(),
                reason: "none was given".to_owned(),
            });
        }
        Ok(Self {
            kind,
            entrances,
            #[cfg(feature = "tls")]
            root_certificate: None,
        })
    }

    /// The address of the server that has this key now.
    pub(crate) async fn home(&self, key: &str, patience: Duration) -> RedisResult<ConnectionInfo> {
        let mut last = None;
        for entrance in &self.entrances {
            let found = match &self.kind {
                Kind::Single => return Ok(entrance.clone()),
                Kind::Sentinel { master, node } => {
                    self.master(entrance, master, node, patience).await
                }
                Kind::Cluster => self.owner(entrance, key, patience).await,
            };
            match found {
                Ok(home) => return Ok(home),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RedisError::from((ErrorKind::Client, "no address"))))
    }

    /// Whether the home of a key can change without its connections breaking.
    pub(crate) fn is_moving(&self) -> bool {
        matches!(self.kind, Kind::Sentinel { .. })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster)
    }

    /// Connects. A server that a Sentinel calls master, and that knows better, is refused.
    pub(crate) async fn open(
        &self,
        home: &ConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let home = home.clone().set_redis_settings(settings(home));
        let client = self.client(home)?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Connects for what channels bring: it is heard as it comes, some of it as pushes by the
    /// `config`. The tasks given beside the connection are what it lives by.
    pub(crate) async fn listen(
        &self,
        home: &ConnectionInfo,
        config: AsyncConnectionConfig,
        patience: Duration,
        hear: impl FnMut(&[u8], &[u8]) + Send + Unpin + 'static,
    ) -> RedisResult<(MultiplexedConnection, JoinSet<()>)> {
        let mut tasks = JoinSet::new();
        let ConnectionAddr::Tcp(host, port) = home.addr() else {
            // Under encryption there is more to do than to parse.
            return Ok((self.open(home, config).await?, tasks));
        };
        let settings = settings(home);
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let tap = Tap::new(stream, hear);
            MultiplexedConnection::new_with_config(&settings, tap, config).await
        };
        let connected = tokio::time::timeout(patience, connect).await;
        let (connection, driver) = connected.unwrap_or_else(|_| {
            let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(silent.into())
        })?;
        tasks.spawn(driver);
        Ok((connection, tasks))
    }

    #[cfg(feature = "tls")]
    fn client(&self, home: ConnectionInfo) -> RedisResult<redis::Client> {
        match &self.root_certificate {
            None => redis::Client::open(home),
            Some(pem) => {
                let certificates = redis::TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                redis::Client::build_with_tls(home, certificates)
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    fn client(&self, home: ConnectionInfo) -> RedisResult<redis::Client> {
        redis::Client::open(home)
    }

    async fn master(
        &self,
        sentinel: &ConnectionInfo,
        name: &str,
        node: &ConnectionInfo,
        patience: Duration,
    ) -> RedisResult<ConnectionInfo> {
        let mut connection = self.open(sentinel, config(patience)).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let answer: Option<(String, u16)> = ask.query_async(&mut connection).await?;
        let (host, port) = answer.ok_or_else(|| {
            RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the Sentinel knows no master of this name",
                name.to_owned(),
            ))
        })?;
        let home = node.clone().set_addr(moved(node.addr(), &host, port));
        let mut connection = self.open(&home, config(patience)).await?;
        let role: RedisResult<Vec<redis::Value>> =
            redis::cmd("ROLE").query_async(&mut connection).await;
        match role {
            Ok(role) if role.first() != Some(&redis::Value::BulkString(b"master".to_vec())) => {
                let what = "the Sentinel names a master that is a replica";
                Err(RedisError::from((ErrorKind::Client, what)))
            }
            // A user who may not ask has to believe.
            _ => Ok(home),
        }
    }

    async fn owner(
        &self,
        entrance: &ConnectionInfo,
        key: &str,
        patience: Duration,
    ) -> RedisResult<ConnectionInfo> {
        let mut home = entrance.clone();
        for _ in 0..MAX_REDIRECTIONS {
            let mut connection = self.open(&home, config(patience)).await?;
            let ask = redis::cmd("HEXISTS").arg(key).arg("=rev").to_owned();
            let answer: RedisResult<redis::Value> = ask.query_async(&mut connection).await;
            let Err(error) = answer else {
                return Ok(home);
            };
            let moving = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
            let Some((host, port)) = error.redirect_node().filter(|_| moving) else {
                // What else is wrong, the reading of the map tells.
                return match error.kind() {
                    ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm)
                    | ErrorKind::Extension => Ok(home),
                    _ => Err(error),
                };
            };
            let host = rest(host).unwrap_or_else(|| self::host(home.addr()).to_owned());
            let address = moved(home.addr(), &host, port);
            home = home.set_addr(address);
        }
        let what = "the cluster sends its clients round in circles";
        Err(RedisError::from((ErrorKind::Client, what)))
    }
}

/// Not empty.
fn rest(host: &str) -> Option<String> {
    (!host.is_empty()).then(|| host.to_owned())
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses only: the rest has passwords.
        let addresses = self
            .entrances
            .iter()
            .map(|entrance| entrance.addr().to_string());
        f.debug_list().entries(addresses).finish()
    }
}

/// How this library presents itself.
fn settings(home: &ConnectionInfo) -> RedisConnectionInfo {
    let redis = home.redis_settings().clone();
    let redis = redis.set_protocol(ProtocolVersion::RESP3);
    redis.set_lib_name("portolan", env!("CARGO_PKG_VERSION"))
}

/// Addresses only: the rest has passwords.
impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, entrance) in self.entrances.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}redis://{}", entrance.addr())?;
        }
        Ok(())
    }
}

/// A connection that waits so long, for the server and for each answer.
pub(crate) fn config(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience))
}

fn parse(url: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|error| Error::Address {
        url: without_password(url),
        reason: error.to_string(),
    })
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// The same kind of address elsewhere.
fn moved(address: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    match address {
        ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: *insecure,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    }
}

fn host(address: &ConnectionAddr) -> &str {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => "localhost",
    }
}
