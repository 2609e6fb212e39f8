//! Exclusive leases on keys: one holder at a time, by Redis's clock, each with a fencing token.
//!
//! A lease is a key of its own in Redis, `map:NAME:lease:KEY`, with owner and token; the map's last
//! token is in `map:NAME:fence`. Tokens are microseconds of Redis's clock, or one more than the
//! last, so they grow even where both are lost.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::layout::check_key;
use crate::map::{CoordinatedMap, Shared};
use crate::reply;
use crate::script::{self, Script};
use crate::write::Outcome;

/// The shortest lease: shorter ones would be lost to a slow network all the time.
const SHORTEST: Duration = Duration::from_millis(100);

/// The right to be the only one that does something, for example that writes a key.
///
/// It is renewed by itself while it is held, and is lost where Redis could not be reached in time.
/// The holder is told: [`lost`](Self::lost). Dropped, it lapses after its time;
/// [`release`](Self::release) ends it at once.
///
/// Redis can lose a lease that it gave moments before a failover, as it can any write. What must
/// never be done twice is to be guarded by the token as well: whoever is asked to do it refuses a
/// token lower than one it has seen. [`set`](Self::set) and [`delete`](Self::delete) do so for keys
/// of the map.
#[derive(Debug)]
pub struct Lease {
    map: CoordinatedMap,
    key: Vec<u8>,
    /// The lease's key in Redis.
    place: String,
    token: u64,
    /// Until when it is held; nothing once it is lost.
    held: Arc<watch::Sender<Option<Instant>>>,
    renewal: JoinHandle<()>,
}

impl CoordinatedMap {
    /// Takes the lease of a key, which need not be in the map, for at least 100 ms; it is renewed
    /// every third of the time.
    ///
    /// [`Error::LeaseHeld`] where another lease of the key has not ended, of whichever node.
    pub async fn lease(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Lease> {
        let key = key.as_ref();
        check_key(key)?;
        if ttl < SHORTEST {
            return Err(Error::Limit {
                what: format!("a lease of {ttl:?}"),
                reason: format!("a lease takes at least {SHORTEST:?}"),
            });
        }
        let shared = &self.shared;
        // A key in Redis may hold any bytes; this crate names them by text.
        let Ok(name) = std::str::from_utf8(key) else {
            return Err(Error::Limit {
                what: format!("the key {}", crate::error::excerpt(key)),
                reason: "the key of a lease is text".to_owned(),
            });
        };
        let place = shared.place.path(&format!("lease:{name}"));
        let fence = shared.place.path("fence");
        let owner = shared.options.owner.as_deref().unwrap_or(&shared.node);
        let milliseconds = ttl.as_millis().to_string();
        // The time begins when Redis is asked, so that this node never holds longer than Redis.
        let until = Instant::now() + ttl;
        let arguments = [owner.as_bytes(), milliseconds.as_bytes()];
        let answer = run(shared, &script::LEASE_TAKE, &[&place, &fence], &arguments).await?;
        let Value::Array(parts) = &answer else {
            return Err(reply::unexpected(&answer));
        };
        let token = match parts.as_slice() {
            [Value::BulkString(done), Value::BulkString(token)] if done == b"done" => token,
            [_, Value::BulkString(owner), Value::Int(left)] => {
                return Err(Error::LeaseHeld {
                    key: name.to_owned(),
                    owner: String::from_utf8_lossy(owner).into_owned(),
                    left: Duration::from_millis(u64::try_from(*left).unwrap_or_default()),
                });
            }
            _ => return Err(reply::unexpected(&answer)),
        };
        let token = crate::message::number(token).ok_or_else(|| reply::unexpected(&answer))?;
        let held = Arc::new(watch::Sender::new(Some(until)));
        let renewal = Renewal {
            shared: Arc::clone(shared),
            place: place.clone(),
            token,
            ttl,
            until,
        };
        Ok(Lease {
            map: self.clone(),
            key: key.to_vec(),
            place,
            token,
            renewal: tokio::spawn(renewal.run(Arc::clone(&held))),
            held,
        })
    }
}

impl Lease {
    /// The fencing token: greater than that of every lease of this map before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether it is held, as far as this node knows: not beyond its time since the last renewal.
    pub fn is_held(&self) -> bool {
        // Whoever was held up himself does not hold it for that.
        self.held
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the lease is lost. Nothing is lost where the future is dropped.
    pub async fn lost(&self) {
        // The sender lives as long as the lease.
        let _ = self.held.subscribe().wait_for(Option::is_none).await;
    }

    /// Sets the key if the lease is held by then, in one step of Redis; else [`Error::LeaseLost`].
    pub async fn set(&self, value: impl AsRef<[u8]>) -> Result<Outcome> {
        self.map
            .put(&self.key, value.as_ref(), None, Some(self))
            .await
    }

    /// Deletes the key, in the same way.
    pub async fn delete(&self) -> Result<Outcome> {
        self.map.delete_leased(&self.key, self).await
    }

    /// Ends the lease, so that another may be taken at once.
    pub async fn release(self) -> Result<()> {
        self.renewal.abort();
        let token = self.token.to_string();
        let arguments = [token.as_bytes()];
        let shared = &self.map.shared;
        run(shared, &script::LEASE_RENEW, &[&self.place], &arguments).await?;
        Ok(())
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Redis has said so.
    pub(crate) fn lost_now(&self) -> Error {
        self.held.send_replace(None);
        Error::LeaseLost {
            key: String::from_utf8_lossy(&self.key).into_owned(),
            token: self.token,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

struct Renewal {
    shared: Arc<Shared>,
    place: String,
    token: u64,
    ttl: Duration,
    until: Instant,
}

impl Renewal {
    /// Renews until the lease is lost.
    async fn run(mut self, held: Arc<watch::Sender<Option<Instant>>>) {
        let pause = self.ttl / 3;
        loop {
            tokio::time::sleep(pause.min(self.until.saturating_duration_since(Instant::now())))
                .await;
            match tokio::time::timeout_at(self.until, self.renew()).await {
                Ok(Ok(true)) => {
                    // Where a write has shown that it is lost, it stays lost.
                    held.send_if_modified(|held| {
                        *held = held.map(|_| self.until);
                        false
                    });
                }
                // Asked again, with what time is left.
                Ok(Err(Error::Unknown { .. } | Error::Unreachable { .. }))
                    if Instant::now() < self.until => {}
                _ => break,
            }
        }
        held.send_replace(None);
    }

    async fn renew(&mut self) -> Result<bool> {
        let until = Instant::now() + self.ttl;
        let token = self.token.to_string();
        let ttl = self.ttl.as_millis().to_string();
        let arguments = [token.as_bytes(), ttl.as_bytes()];
        let answer = run(
            &self.shared,
            &script::LEASE_RENEW,
            &[&self.place],
            &arguments,
        )
        .await?;
        let renewed = answer == Value::Int(1);
        if renewed {
            self.until = until;
        }
        Ok(renewed)
    }
}

/// Runs a script of leases, once.
async fn run(
    shared: &Shared,
    script: &Script,
    keys: &[&str],
    arguments: &[&[u8]],
) -> Result<Value> {
    let until = Instant::now() + shared.options.patience;
    loop {
        let (generation, mut connection) = shared.commands(until).await?;
        match script.run(&mut connection, keys, arguments).await {
            Ok(answer) => return Ok(answer),
            Err(error) if reply::is_elsewhere(&error) && Instant::now() < until => {
                shared.broken(generation);
            }
            Err(error) => {
                let failure = reply::failure(&error, &shared.place.content);
                if matches!(failure, Error::Unknown { .. }) {
                    shared.broken(generation);
                }
                return Err(failure);
            }
        }
    }
}
