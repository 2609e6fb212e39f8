//! Synchronisation over WebSockets: frames go to the node, and come from it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{Sink, Stream};
use portolan::{Access, Authorize, engine_limits};

use super::app::{App, PeerAddress, bearer};
use super::meter::{self, OpenConnection};
use super::problem::Problem;

/// The name of the protocol in the WebSocket handshake.
const SUBPROTOCOL: &str = "portolan.v1";
/// Read at once. A connection holds a buffer of this size all its life; there are thousands.
const READ_BYTES: usize = 8 * 1024;
/// Gathered before it is sent. The buffer grows to the longest frame besides, and stays so.
const WRITE_BYTES: usize = 8 * 1024;
/// A little more than a frame, so that it is the engine that names the rule.
const MESSAGE_BYTES: usize = engine_limits::MAX_FRAME_BYTES + 1024;
/// What may wait to be sent: more than the frames that do, so that it bounds the answers to pings of
/// who does not read them.
const UNSENT_BYTES: usize = WRITE_BYTES + 2 * MESSAGE_BYTES;

/// `GET /v1/sync`
pub(crate) async fn sync(
    State(app): State<Arc<App>>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|error| {
        Problem::bad_request(format!("this is for WebSockets: {}", error.body_text()))
    })?;
    // Browsers cannot set headers here: their tokens come with the hello of each map. Who sends
    // one at once is told at once if it is no good.
    let token = bearer(&headers).map(str::to_owned);
    if let Some(token) = &token {
        let caller = app.auth.caller(Some(token));
        caller.map_err(|error| Problem::no_token(error.to_string()))?;
    }
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("ask for the subprotocol {SUBPROTOCOL} (Sec-WebSocket-Protocol)");
        return Err(Problem::bad_request(detail));
    }
    let upgrade = upgrade
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(UNSENT_BYTES)
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _open = OpenConnection::count();
        let authorizer = Arc::new(Authorizer {
            app: app.clone(),
            token,
        });
        let served = app
            .node
            .serve(Link(socket), address.to_string(), authorizer)
            .await;
        match served {
            Ok(()) => tracing::debug!(peer = %address, "connection ended"),
            Err(error) => tracing::info!(peer = %address, %error, "connection dropped"),
        }
    }))
}

/// Asks the auth file about each map that the peer opens.
struct Authorizer {
    app: Arc<App>,
    /// What came with the handshake, for maps opened without a token.
    token: Option<String>,
}

impl Authorize for Authorizer {
    fn authorize(
        &self,
        map: &str,
        asked: Access,
        credentials: Option<&[u8]>,
    ) -> Result<Access, String> {
        let given = credentials.map(std::str::from_utf8).transpose();
        let given = given.map_err(|_| "the token is not text".to_owned())?;
        let token = given.or(self.token.as_deref());
        let caller = self
            .app
            .auth
            .caller(token)
            .map_err(|error| error.to_string())?;
        let expires = self
            .app
            .auth
            .check(&caller)
            .map_err(|error| error.to_string())?;
        let rights = caller.rights(map);
        let granted = asked.and(Access {
            read: rights.read,
            write: rights.write,
        });
        if !granted.read && !granted.write {
            return Err(format!(
                "the token of {caller} does not allow the map {map:?}"
            ));
        }
        if let Some(seconds) = expires {
            self.app.expiry.note(seconds);
        }
        Ok(granted)
    }
}

/// When the first of the tokens expires that open connections rely on.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// In seconds of [`super::auth::now`].
    next: AtomicU64,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(u64::MAX),
        }
    }
}

impl Expiry {
    fn note(&self, seconds: u64) {
        self.next.fetch_min(
            super::auth::now().saturating_add(seconds),
            Ordering::Relaxed,
        );
    }

    /// Whether one has expired since this was last asked; then all are to be asked for again.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.next.load(Ordering::Relaxed) <= super::auth::now();
        if due {
            self.next.store(u64::MAX, Ordering::Relaxed);
        }
        due
    }
}

/// A WebSocket as a stream and sink of binary frames.
struct Link(WebSocket);

impl Stream for Link {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let message = ready!(Pin::new(&mut self.0).poll_next(context));
            return Poll::Ready(match message {
                Some(Ok(Message::Binary(frame))) => {
                    meter::frame("in", frame.len());
                    Some(Ok(frame))
                }
                // Answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(_))) => {
                    let error = "a text message: frames are binary";
                    Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
                }
                Some(Ok(Message::Close(_))) | None => None,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
            });
        }
    }
}

impl Sink<Bytes> for Link {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0)
            .poll_ready(context)
            .map_err(io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        meter::frame("out", frame.len());
        Pin::new(&mut self.0)
            .start_send(Message::Binary(frame))
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
