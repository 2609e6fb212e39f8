//! Accepting connections, and letting them go.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::app::PeerAddress;
use super::meter::OpenConnection;
use super::patient::Patient;

/// How long a client may take for the TLS handshake, and for the head of each request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may leave unread what is sent to it.
const UNREAD: Duration = Duration::from_mins(1);
/// Files that are kept for other things than connections: the store, the log, outgoing links.
const RESERVED_FILES: u64 = 64;
/// How long answers under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// The listening socket with what it takes to serve on it.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    /// As many connections as the process may have files open.
    slots: Arc<Semaphore>,
}

impl Listener {
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<rustls::ServerConfig>,
        descriptors: u64,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let slots = descriptors
            .saturating_sub(RESERVED_FILES)
            .clamp(1, Semaphore::MAX_PERMITS as u64);
        let slots = Arc::new(Semaphore::new(slots as usize));
        Ok(Self {
            socket,
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            slots,
        })
    }

    /// Where it listens; tells the port that was chosen for port 0.
    pub(crate) fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.socket.local_addr()?))
    }

    /// Serves until `stopping` turns true and the answers under way are given.
    pub(crate) async fn serve(self, router: Router, mut stopping: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let slot = tokio::select! {
                slot = self.slots.clone().acquire_owned() => slot,
                () = stops(&mut stopping) => break,
            };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stops(&mut stopping) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        peer,
                        router: router.clone(),
                        tls: self.tls.clone(),
                        stopping: stopping.clone(),
                    };
                    connections.spawn(async move {
                        connection.run(stream).await;
                        drop(slot);
                    });
                }
                // The client has gone already, or no file is left: neither is solved by hurry.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        // Nobody is to wait for an answer that will not come.
        drop(self.socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!(
                open = connections.len(),
                "cutting connections that do not end"
            );
            connections.shutdown().await;
        }
    }
}

struct Connection {
    peer: SocketAddr,
    router: Router,
    tls: Option<TlsAcceptor>,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _open = OpenConnection::count();
        // Small frames are to leave at once; failing to say so costs time only.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.clone() else {
            return self.serve(stream).await;
        };
        match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "TLS handshake took too long"),
        }
    }

    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let peer = self.peer;
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(PeerAddress(peer));
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(Patient::new(stream, UNREAD)), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // What `wait_for` returns holds a lock, which must be gone before the next await.
            () = stops(&mut self.stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection broke off");
        }
    }
}

async fn stops(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender has gone, which is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// What TLS needs, from PEM files.
pub(crate) fn tls_config(certificates: &Path, key: &Path) -> anyhow::Result<rustls::ServerConfig> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificates in {}", certificates.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key in {}", key.display()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .context("the certificate and the private key do not work together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Allows this process as many open files as it may allow itself; returns how many that are.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current = before;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}
