//! A node that others connect to over WebSocket: how a program of one's own can be a server.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use portolan::{AllowAll, Node};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// A running hub.
pub(crate) struct Hub {
    address: SocketAddr,
    node: Node,
    accepting: JoinHandle<()>,
}

impl Hub {
    /// Starts a hub without a store.
    pub(crate) async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let node = Node::builder().spawn().await?;
        let accepting = tokio::spawn(accept(listener, node.clone()));
        Ok(Self {
            address,
            node,
            accepting,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leaves in good order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.node.close().await?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, node: Node) {
    let mut links = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let node = node.clone();
        links.spawn(async move {
            if let Err(error) = serve(stream, peer, &node).await {
                eprintln!("hub: {peer}: {error:#}");
            }
        });
    }
}

/// Tells the client that this is what it asked for, and no other kind of WebSocket.
#[expect(clippy::result_large_err, clippy::unnecessary_wraps)] // the signature is tungstenite's
fn name_protocol(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let name = HeaderValue::from_static("portolan.v1");
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    Ok(response)
}

async fn serve(stream: TcpStream, peer: SocketAddr, node: &Node) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let socket = tokio_tungstenite::accept_hdr_async(stream, name_protocol).await?;
    // Portolan moves binary frames; pings and pongs are WebSocket's own affair.
    let link = socket
        .filter_map(|message| {
            ready(match message {
                Ok(Message::Binary(frame)) => Some(Ok(frame)),
                Ok(_) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        })
        .sink_map_err(io::Error::other)
        .with(|frame: Bytes| ready(Ok::<_, io::Error>(Message::Binary(frame))));
    node.serve(link, peer.to_string(), Arc::new(AllowAll))
        .await?;
    Ok(())
}
