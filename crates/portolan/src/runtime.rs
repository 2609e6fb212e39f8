//! Whether the runtime that a node is spawned in can run its tasks.

use std::panic::catch_unwind;

use crate::error::{Error, Result};

/// Passes where there is a Tokio runtime with time and, if need be, I/O. Tokio tells what a runtime
/// lacks by a panic alone, which in a task of the node would end that task and nothing else.
pub(crate) fn check(needs_io: bool) -> Result<()> {
    let lacks = |lacks| Err(Error::Runtime { lacks });
    if tokio::runtime::Handle::try_current().is_err() {
        return lacks("time and I/O enabled, and there is none");
    }
    if catch_unwind(|| drop(tokio::time::sleep(std::time::Duration::ZERO))).is_err() {
        return lacks("time enabled");
    }
    if needs_io && !has_io() {
        return lacks("I/O enabled");
    }
    Ok(())
}

fn has_io() -> bool {
    let bound = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let Ok(socket) = bound.and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) else {
        // A machine that gives no socket says why when a connection is made.
        return true;
    };
    catch_unwind(|| drop(tokio::net::UdpSocket::from_std(socket))).is_ok()
}
