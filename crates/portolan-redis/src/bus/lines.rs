//! The connections that commands take: one, or in a cluster one to each master.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portolan::BusError;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use super::place::{MAPS, Place};
use crate::error::Error;
use crate::limits::READ_PATIENCE;
use crate::reply;
use crate::script::Script;
use crate::server::{self, Server};

/// More than this takes longer than a word.
const LARGE_BYTES: usize = 1024 * 1024;

/// The connections that commands take. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    server: Server,
    patience: Duration,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Where keys are, by their address; where all are at one, by nothing.
    homes: HashMap<String, String>,
    connections: HashMap<String, MultiplexedConnection>,
}

impl Lines {
    pub(super) fn new(server: Server, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            server,
            patience,
            open: Mutex::default(),
        }))
    }

    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    pub(super) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Runs a script on the keys of a map.
    pub(super) async fn run(
        &self,
        place: &Place,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, BusError> {
        let mut connection = self.connection(&place.meta).await?;
        // What is large may take its time; otherwise a silent server is soon given up.
        let bytes: usize = arguments.iter().map(|argument| argument.len()).sum();
        if bytes > LARGE_BYTES {
            connection.set_response_timeout(READ_PATIENCE.max(self.0.patience));
        }
        let done = script.run(&mut connection, keys, arguments).await;
        self.settle(&place.meta, done).await
    }

    /// Asks the server that has a map, with a long question or for a long answer.
    pub(super) async fn query(&self, place: &Place, command: &Cmd) -> Result<Value, BusError> {
        let mut connection = self.connection(&place.meta).await?;
        connection.set_response_timeout(READ_PATIENCE.max(self.0.patience));
        let done = command.query_async(&mut connection).await;
        self.settle(&place.meta, done).await
    }

    /// Puts names among those of all maps.
    pub(super) async fn add_maps(&self, names: &[&str]) -> Result<(), BusError> {
        if names.is_empty() {
            return Ok(());
        }
        let add = redis::cmd("SADD").arg(MAPS).arg(names).to_owned();
        self.ask(MAPS, &add).await?;
        Ok(())
    }

    /// The names of all maps.
    pub(super) async fn maps(&self) -> Result<Vec<String>, BusError> {
        let all = redis::cmd("SMEMBERS").arg(MAPS).to_owned();
        let names = match self.ask(MAPS, &all).await? {
            Value::Set(names) | Value::Array(names) => names,
            other => return Err(unexpected(&other)),
        };
        let names = names.into_iter().filter_map(|name| match name {
            Value::BulkString(name) => String::from_utf8(name).ok(),
            _ => None,
        });
        Ok(names.collect())
    }

    async fn ask(&self, key: &str, command: &Cmd) -> Result<Value, BusError> {
        let mut connection = self.connection(key).await?;
        let done = command.query_async(&mut connection).await;
        self.settle(key, done).await
    }

    /// The connection to the server that has a key. Who comes second waits for the first to
    /// connect.
    async fn connection(&self, key: &str) -> Result<MultiplexedConnection, BusError> {
        let Shared {
            server,
            patience,
            open,
        } = &*self.0;
        let mut open = open.lock().await;
        let name = self.home_name(key);
        let known = open
            .homes
            .get(name)
            .and_then(|home| open.connections.get(home));
        if let Some(connection) = known {
            return Ok(connection.clone());
        }
        let home = server.home(key, *patience).await;
        let home = home.map_err(|error| unreachable(&error))?;
        let address = home.addr().to_string();
        if !open.connections.contains_key(&address) {
            let connection = server.open(&home, server::config(*patience)).await;
            let connection = connection.map_err(|error| unreachable(&error))?;
            open.connections.insert(address.clone(), connection);
        }
        open.homes.insert(name.to_owned(), address.clone());
        let connection = open.connections.get(&address).cloned();
        connection.ok_or(BusError::Unreachable(address))
    }

    fn home_name<'k>(&self, key: &'k str) -> &'k str {
        if self.0.server.is_cluster() { key } else { "" }
    }

    /// After a failure the connection is made anew, to where the key is then.
    async fn settle(&self, key: &str, done: RedisResult<Value>) -> Result<Value, BusError> {
        let error = match done {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let failure = reply::failure(&error, key);
        if matches!(failure, Error::Unreachable { .. } | Error::Unknown { .. }) {
            self.drop_home(key).await;
            return Err(BusError::Unreachable(error.to_string()));
        }
        // An id in the stream that is not below the next number.
        if error
            .to_string()
            .contains("equal or smaller than the target stream")
        {
            return Err(BusError::Damaged(error.to_string()));
        }
        Err(BusError::Refused(match failure {
            Error::Refused { reason } | Error::Format { what: reason } => reason,
            Error::WrongType { key } => format!("`{key}` holds something else"),
            other => other.to_string(),
        }))
    }

    async fn drop_home(&self, key: &str) {
        let mut open = self.0.open.lock().await;
        if let Some(home) = open.homes.remove(self.home_name(key)) {
            open.connections.remove(&home);
        }
    }

    /// Connections that may be dead, or lead to a server that is not the master any more, are not
    /// used again.
    pub(super) async fn drop_all(&self) {
        *self.0.open.lock().await = Open::default();
    }
}

pub(super) fn unreachable(error: &RedisError) -> BusError {
    match reply::unreachable(error) {
        Error::Refused { reason } => BusError::Refused(reason),
        _ => BusError::Unreachable(error.to_string()),
    }
}

pub(super) fn unexpected(value: &Value) -> BusError {
    BusError::Refused(reply::unexpected(value).to_string())
}

/// An answer of 1 or 0.
pub(super) fn yes(value: &Value) -> Result<bool, BusError> {
    match value {
        Value::Int(answer) => Ok(*answer == 1),
        other => Err(unexpected(other)),
    }
}
