//! A node that others connect to over WebSocket: how a program of one's own can be a server.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use portolan::{AllowAll, Node};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

/// A running hub.
pub(crate) struct Hub {
    address: SocketAddr,
    node: Node,
    accepting: JoinHandle<()>,
}

impl Hub {
    /// Starts a hub without a store.
    pub(crate) async fn start(address: SocketAddr) -> Result<Self> {
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
    pub(crate) async fn stop(self) -> Result<()> {
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

async fn serve(stream: TcpStream, peer: SocketAddr, node: &Node) -> Result<()> {
    stream.set_nodelay(true)?;
    let socket = tokio_tungstenite::accept_async(stream).await?;
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
