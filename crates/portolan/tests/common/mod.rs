//! What the tests of nodes share: a server on loopback, and waiting with a deadline.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use portolan::{AllowAll, Authorize, Map, Node, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A server that answers at an address until it is dropped or stopped.
pub struct Server {
    pub address: SocketAddr,
    pub node: Node,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(node: Node) -> Self {
        Self::start_with(node, Arc::new(AllowAll), "127.0.0.1:0").await
    }

    pub async fn start_at(node: Node, address: SocketAddr) -> Self {
        Self::start_with(node, Arc::new(AllowAll), &address.to_string()).await
    }

    pub async fn start_with(node: Node, authorizer: Arc<dyn Authorize>, address: &str) -> Self {
        Self::start_on(node, authorizer, address, None).await
    }

    /// As the others, behind TLS if there is an acceptor for it.
    pub async fn start_on(
        node: Node,
        authorizer: Arc<dyn Authorize>,
        address: &str,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = node.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let (node, authorizer) = (serving.clone(), authorizer.clone());
                let tls = tls.clone();
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let peer = peer.to_string();
                    match tls {
                        None => {
                            if let Ok(link) = accept(stream).await {
                                let _ = node.serve(link, peer, authorizer).await;
                            }
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await
                                && let Ok(link) = accept(stream).await
                            {
                                let _ = node.serve(link, peer, authorizer).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            node,
            accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Cuts all connections at once and stops to listen.
    pub async fn stop(self) -> Node {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.node
    }
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
) -> Result<Link<S>, tokio_tungstenite::tungstenite::Error> {
    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let subprotocol = |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/v1/sync");
        assert_eq!(request.headers()["sec-websocket-protocol"], "portolan.v1");
        let name = HeaderValue::from_static("portolan.v1");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", name);
        Ok::<_, ErrorResponse>(response)
    };
    Ok(Link(
        tokio_tungstenite::accept_hdr_async(stream, subprotocol).await?,
    ))
}

/// A WebSocket as binary frames.
pub struct Link<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Link<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(context)) {
                None | Some(Ok(Message::Close(_))) => None,
                Some(Ok(Message::Binary(bytes))) => Some(Ok(bytes)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for Link<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_ready(context)
            .map_err(io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        let message = Message::Binary(frame);
        Pin::new(&mut self.0)
            .start_send(message)
            .map_err(io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_flush(context)
            .map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_close(context)
            .map_err(io::Error::other)
    }
}

/// A node in memory that is connected to a server.
pub async fn client(server: &Server) -> Node {
    let node = Node::builder().connect(server.url());
    let node = node.max_back_off(Duration::from_millis(200));
    node.spawn().await.unwrap()
}

pub async fn memory() -> Node {
    Node::builder().spawn().await.unwrap()
}

/// Waits for a future, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Waits until a condition holds; it is looked at whenever the map changes, and every now and
/// then for what is no change of the map.
pub async fn until(what: &str, map: &Map, mut holds: impl FnMut(&Map) -> bool) {
    soon(what, async {
        let mut changes = map.watch("**").unwrap();
        while !holds(map) {
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.next()).await;
        }
    })
    .await;
}

/// Waits until two maps have the same operations, and checks that they are the same then.
pub async fn converge(a: &Map, b: &Map) {
    until("equal versions", a, |a| a.version() == b.version()).await;
    assert_eq!(a.digest(), b.digest());
    let all = |map: &Map| {
        let entries = map.entries().into_iter();
        let entries = entries.map(|entry| (entry.path, entry.value, entry.siblings));
        entries.collect::<Vec<(_, Value, Vec<Value>)>>()
    };
    assert_eq!(all(a), all(b));
}
