//! The way to a server: WebSocket, with TLS where the address asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

use crate::error::{Error, Result};
use crate::limits::{CONNECT_TIMEOUT, MAX_FRAME_BYTES};
use crate::peer::Peer;

/// The subprotocol's name.
const SUBPROTOCOL: &str = "portolan.v1";
/// Where servers have it.
const PATH: &str = "/v1/sync";
/// Read at once. A connection holds a buffer of this size all its life.
const READ_BYTES: usize = 8 * 1024;
/// Gathered before it is sent. The buffer grows to the longest frame besides, and stays so.
const WRITE_BYTES: usize = 8 * 1024;
/// A little more than a frame, so that it is the engine that names the rule.
const MESSAGE_BYTES: usize = MAX_FRAME_BYTES + 1024;
/// What may wait to be sent: more than the frames that do, so that it bounds the answers to pings of
/// who does not read them.
const UNSENT_BYTES: usize = WRITE_BYTES + 2 * MESSAGE_BYTES;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    uri: Uri,
    host: String,
    port: u16,
    #[cfg(feature = "tls")]
    tls: bool,
}

impl Address {
    pub(crate) fn new(peer: &Peer) -> Result<Self> {
        let invalid = |reason: &str| Error::Address {
            url: peer.url.clone(),
            reason: reason.into(),
        };
        let uri: Uri = peer.url.parse().map_err(|_| invalid("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(invalid("it does not start with ws:// or wss://")),
        };
        if tls && cfg!(not(feature = "tls")) {
            return Err(invalid("this build has no TLS (feature `tls`)"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("it names no host"))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid(
                "it names a user, and who may do what is told by a token",
            ));
        }
        // Not `uri.port()`, which sees none where it is no number.
        let port = match authority.strip_prefix(host) {
            None | Some("") => Some(if tls { 443 } else { 80 }),
            Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        };
        let port = port.filter(|port| *port > 0);
        let port = port.ok_or_else(|| invalid("its port is no number from 1 to 65535"))?;
        let path = match uri.path_and_query().map(ToString::to_string) {
            None => PATH.to_owned(),
            Some(path) if path == "/" => PATH.to_owned(),
            Some(path) => path,
        };
        let scheme = if tls { "wss" } else { "ws" };
        let built = format!("{scheme}://{authority}{path}").parse();
        Ok(Self {
            // An address in brackets is one of IPv6, which is looked up without them.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            uri: built.map_err(|_| invalid("it is no URL"))?,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// A connection to a server.
pub(crate) async fn connect(
    address: &Address,
    peer: &Peer,
    credentials: Option<&[u8]>,
) -> Result<Binary> {
    let unreachable = |reason: String| Error::Unreachable {
        url: peer.url.clone(),
        reason,
    };
    let connecting = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        // Frames are gathered before they are sent; to gather them once more only costs time.
        let _ = stream.set_nodelay(true);
        let mut request =
            ClientRequestBuilder::new(address.uri.clone()).with_sub_protocol(SUBPROTOCOL);
        let token = credentials.map(std::str::from_utf8);
        if let Some(Ok(token)) = token {
            // For proxies in between; the server reads the token of each map.
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES)
            .max_write_buffer_size(UNSENT_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let socket = handshake(address, peer, request, stream, config).await?;
        let (socket, _) = socket.map_err(|error| unreachable(words(&error)))?;
        Ok(Binary(socket))
    };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|_| {
        let seconds = CONNECT_TIMEOUT.as_secs();
        Err(unreachable(format!("no answer within {seconds} s")))
    })
}

#[cfg(feature = "tls")]
type Socket = WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;
#[cfg(not(feature = "tls"))]
type Socket = WebSocketStream<TcpStream>;

type Handshake = Result<(Socket, Response), WsError>;

#[cfg(feature = "tls")]
async fn handshake(
    address: &Address,
    peer: &Peer,
    request: ClientRequestBuilder,
    stream: TcpStream,
    config: WebSocketConfig,
) -> Result<Handshake> {
    use tokio_tungstenite::{Connector, client_async_tls_with_config};
    let connector = match &peer.tls {
        _ if !address.tls => Connector::Plain,
        Some(config) => Connector::Rustls(config.clone()),
        None => Connector::Rustls(system_roots(peer)?),
    };
    Ok(client_async_tls_with_config(request, stream, Some(config), Some(connector)).await)
}

#[cfg(not(feature = "tls"))]
async fn handshake(
    _address: &Address,
    _peer: &Peer,
    request: ClientRequestBuilder,
    stream: TcpStream,
    config: WebSocketConfig,
) -> Result<Handshake> {
    Ok(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await)
}

/// TLS with the certificates that the system trusts.
#[cfg(feature = "tls")]
fn system_roots(peer: &Peer) -> Result<std::sync::Arc<rustls::ClientConfig>> {
    use std::sync::Arc;
    let failed = |reason: String| Error::Unreachable {
        url: peer.url.clone(),
        reason,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(failed("the system trusts no certificates".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed(error.to_string()))?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

fn words(error: &WsError) -> String {
    match error {
        WsError::Http(response) => format!("the server answered {}", response.status()),
        other => other.to_string(),
    }
}

/// The binary messages of a WebSocket.
pub(crate) struct Binary(Socket);

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            let message = format!("a frame of {size} bytes; the limit is {max_size}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        }
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            io::ErrorKind::ConnectionAborted.into()
        }
        other => io::Error::other(other),
    }
}

impl Stream for Binary {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let message = ready!(Pin::new(&mut self.0).poll_next(context));
            return Poll::Ready(match message {
                None | Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed)) => None,
                Some(Ok(Message::Binary(bytes))) => Some(Ok(bytes)),
                // WebSocket's own signs of life.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Text(_))) => {
                    let message = "text, where frames are binary";
                    Some(Err(io::Error::new(io::ErrorKind::InvalidData, message)))
                }
                Some(Err(error)) => Some(Err(io_error(error))),
            });
        }
    }
}

impl Sink<Bytes> for Binary {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_ready(context).map_err(io_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        let message = Message::Binary(frame);
        Pin::new(&mut self.0).start_send(message).map_err(io_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context).map_err(io_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context).map_err(io_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address> {
        Address::new(&Peer::new(url))
    }

    #[test]
    fn addresses_are_completed() {
        let plain = address("ws://127.0.0.1:7117").unwrap();
        assert_eq!(plain.uri.to_string(), "ws://127.0.0.1:7117/v1/sync");
        let path = address("http://example.org/maps/sync?x=1").unwrap();
        assert_eq!(path.uri.to_string(), "ws://example.org/maps/sync?x=1");
        assert_eq!(path.port, 80);
        let six = address("ws://[::1]:1/").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 1));
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for broken in [
            "",
            "127.0.0.1:7117",
            "ftp://a",
            "ws://",
            "nonsense",
            "ws:// a",
            "ws://127.0.0.1:99999",
            "ws://127.0.0.1:0",
            "ws://[::1]:65536",
            "ws://example.org:",
            "ws://ada:secret@example.org",
        ] {
            let error = address(broken).unwrap_err().to_string();
            assert!(error.contains("ws://127.0.0.1:7117"), "{error}");
        }
    }
}
