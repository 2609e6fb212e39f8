//! What Redis answers, and what its errors mean.

use bytes::Bytes;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use crate::error::{Error, Result};
use crate::message::number;

/// What a script that writes answers: what came of it, the revision where something was written,
/// and the rest.
pub(crate) struct Reply {
    pub(crate) outcome: String,
    pub(crate) revision: Option<u64>,
    rest: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn read(value: Value) -> Result<Self> {
        let Value::Array(items) = value else {
            return Err(unexpected(&value));
        };
        let mut rest = items.into_iter();
        let outcome = text(rest.next().unwrap_or_default())?;
        let revision = match rest.next().unwrap_or_default() {
            Value::BulkString(text) => Some(number(&text).ok_or_else(|| Error::Format {
                what: format!("the revision {}", crate::error::excerpt(&text)),
            })?),
            _ => None,
        };
        Ok(Self {
            outcome,
            revision,
            rest,
        })
    }

    /// The next part.
    pub(crate) fn value(&mut self) -> Result<Option<Bytes>> {
        optional(self.rest.next().unwrap_or_default())
    }

    /// The next part, a list.
    pub(crate) fn values(&mut self) -> Result<Vec<Option<Bytes>>> {
        match self.rest.next() {
            Some(Value::Array(items)) => items.into_iter().map(optional).collect(),
            other => Err(unexpected(&other.unwrap_or_default())),
        }
    }
}

fn optional(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil | Value::Boolean(false) => Ok(None),
        other => Err(unexpected(&other)),
    }
}

fn text(value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(value: &Value) -> Error {
    let shown: String = format!("{value:?}").chars().take(100).collect();
    Error::Format {
        what: format!("Redis answered {shown}"),
    }
}

/// Whether the command was not done, and may be at the server that has the map now, or soon.
pub(crate) fn is_elsewhere(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
        )
    )
}

/// Why a command that was sent was not answered as it should.
pub(crate) fn failure(error: &RedisError, content: &str) -> Error {
    if error.code() == Some("WRONGTYPE") {
        let key = content.to_owned();
        return Error::WrongType { key };
    }
    let reason = error.to_string();
    // A script's own word.
    if error.code() == Some("FORMAT") {
        let what = error.detail().map_or(reason, ToOwned::to_owned);
        return Error::Format { what };
    }
    match error.kind() {
        _ if is_elsewhere(error) => Error::Unreachable { reason },
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
            Error::Refused { reason }
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Error::Format { what: reason },
        _ => Error::Unknown { reason },
    }
}

/// Why there is no connection.
pub(crate) fn unreachable(error: &RedisError) -> Error {
    match failure(error, "") {
        Error::Unknown { reason } => Error::Unreachable { reason },
        other => other,
    }
}
