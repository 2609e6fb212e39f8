//! What `portolan serve` may be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7117", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Folder that keeps the maps
    #[arg(
        long,
        value_name = "DIR",
        default_value = "portolan-data",
        conflicts_with = "memory"
    )]
    pub(crate) store: PathBuf,
    /// Keep nothing on disk
    #[arg(long)]
    pub(crate) memory: bool,
    /// Share maps with the server at this URL (ws://, wss://, http:// or https://); may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) connect: Vec<String>,
    /// Share only the maps that match with the servers of --connect; may be repeated
    #[arg(long = "map", value_name = "PATTERN", requires = "connect")]
    pub(crate) maps: Vec<String>,
    /// Share all maps with the servers that use the Redis or Valkey at this URL (redis:// or
    /// rediss://); may be repeated with --redis-sentinel or --redis-cluster
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Vec<String>,
    /// The URLs of --redis are Sentinels, which know the master under this name
    #[arg(
        long,
        value_name = "NAME",
        requires = "redis",
        conflicts_with = "redis_cluster"
    )]
    pub(crate) redis_sentinel: Option<String>,
    /// With which user, password and database to go to that master
    #[arg(long, value_name = "URL", default_value = "redis://master")]
    pub(crate) redis_master: String,
    /// The URLs of --redis are nodes of a cluster
    #[arg(long, requires = "redis")]
    pub(crate) redis_cluster: bool,
    /// The token for the servers of --connect
    #[arg(
        long,
        env = "PORTOLAN_TOKEN",
        value_name = "JWT",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Read that token from this file, and again whenever it changes; goes before --token
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file, instead of the public ones, for --connect and
    /// --redis
    #[arg(long, env = "PORTOLAN_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Ask everyone for a token; this file (TOML) says whose tokens are good
    #[arg(long, value_name = "FILE")]
    pub(crate) auth: Option<PathBuf>,
    /// Let web pages of this origin in ("https://app.example.com"); may be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Certificate chain for TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key for TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen beyond this machine although nobody is asked for a token
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Largest body of a transaction or an import, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub(crate) max_body: u64,
    /// Requests that one address may make in a second
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub(crate) rate_limit: u32,
    /// Frames that one connection may send on /v1/sync in a second, one of more than 4 KiB counting
    /// as several; what exceeds it waits at the sender; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) sync_rate: u32,
    /// Replaced or removed values that each open map keeps, for history; each takes some 200 bytes
    /// beside itself
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) history: usize,
    /// How to write the log; RUST_LOG sets what is in it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// An address with a port; the one name that means the same everywhere will do too.
fn address(text: &str) -> Result<SocketAddr, String> {
    let numbers = match text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text.to_owned(),
    };
    numbers
        .parse()
        .map_err(|_| "write an address and a port, such as 127.0.0.1:7117 or [::]:7117".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}
