//! The bus of `portolan` nodes on Redis: a stream for each map, a stored snapshot, and messages
//! that tell of new entries.
//!
//! The keys of a map have one hash tag, so that one script, and one slot of a cluster, has them:
//!
//! | key | type | what |
//! |---|---|---|
//! | `portolan:{NAME}:meta` | hash | `format`, `epoch`, `last` (number of the latest entry), `snapshot` (its place) |
//! | `portolan:{NAME}:log` | stream | entries: id `NUMBER-0`, field `e` |
//! | `portolan:{NAME}:snapshot` | hash | `id`, `place`, `pieces`, `bytes`, `sum`, and the pieces `0`, `1`, … |
//! | `portolan:{NAME}:saving:ID` | hash | a snapshot on its way; expires |
//! | `portolan:{NAME}:claim` | string | somebody saves a snapshot; expires |
//! | `portolan:{NAME}:entries` | channel | `EPOCH NUMBER ENTRY`; a long entry is left out. Or `! MESSAGE`: what one server tells the others |
//! | `portolan:maps` | set | the names |

mod lines;
mod listening;
mod place;
mod snapshot;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use portolan::{Bus, BusError, BusFuture, Listener, Log, Reading, Renewal, Snapshot};
use redis::Value;
use tokio::task::AbortHandle;

use self::lines::Lines;
use self::listening::Followers;
use self::place::Place;
use crate::message::number;
use crate::script;
use crate::server::Server;

/// The format of the keys, which other releases have to read.
const FORMAT: u64 = 1;
/// Longer entries are not sent along with the message that tells of them: it goes to each server's
/// buffer, which Redis bounds.
const INLINE_BYTES: usize = 64 * 1024;
/// What messages of a server begin with: no entry does.
const MESSAGE: &[u8] = b"! ";
/// Entries of one answer.
const ENTRIES: u64 = 100;
/// How long a claim to save a snapshot holds.
const CLAIM: Duration = Duration::from_secs(10);

/// Shares the maps of `portolan` nodes through a Redis or a Valkey.
///
/// A process has one, whatever the number of maps and clients; it takes two connections (in a
/// cluster one more for each further master).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use portolan_redis::{RedisBus, Server};
///
/// let bus = RedisBus::new(Server::single("redis://127.0.0.1:6379")?);
/// let node = portolan::Node::builder().bus(Arc::new(bus)).spawn().await?;
/// let fleet = node.open("fleet/config").await?; // as the others have it
/// fleet.set("rate", 10)?;                       // here at once, there soon
/// fleet.flush().await?;                         // Redis has it
/// # Ok(())
/// # }
/// ```
pub struct RedisBus {
    lines: Lines,
    followers: Arc<Followers>,
    period: Duration,
    listening: AbortHandle,
}

impl RedisBus {
    /// Begins to connect. Must be called within a Tokio runtime.
    pub fn new(server: Server) -> Self {
        Self::with_period(server, Duration::from_secs(5))
    }

    /// As [`new`](Self::new), with another digest period than 5 s: how often to look whether the
    /// logs are as they were read, and how long anything waits for Redis at the least.
    pub fn with_period(server: Server, period: Duration) -> Self {
        let lines = Lines::new(server, period.max(Duration::from_secs(5)));
        let followers = Arc::new(Followers::default());
        let listening = listening::listen(lines.clone(), followers.clone(), period);
        Self {
            listening: tokio::spawn(listening).abort_handle(),
            lines,
            followers,
            period,
        }
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBus")
            .field(self.lines.server())
            .finish()
    }
}

impl Bus for RedisBus {
    fn address(&self) -> String {
        self.lines.server().to_string()
    }

    fn digest_period(&self) -> Duration {
        self.period
    }

    fn follow(&self, map: &str, listener: Arc<dyn Listener>) {
        self.followers.add(map, listener);
    }

    fn unfollow(&self, map: &str, listener: &Arc<dyn Listener>) {
        self.followers.remove(map, listener);
    }

    fn read<'a>(&'a self, map: &'a str, first: u64) -> BusFuture<'a, Option<Reading>> {
        async move {
            let place = Place::new(map);
            let count = if first == u64::MAX { 0 } else { ENTRIES };
            let [first, count, format] = [first, count, FORMAT].map(|number| number.to_string());
            let keys = [&*place.meta, &*place.log];
            let arguments = [first.as_bytes(), count.as_bytes(), format.as_bytes()];
            let answer = self.lines.run(&place, &script::BUS_READ, &keys, &arguments);
            reading(answer.await?)
        }
        .boxed()
    }

    fn append<'a>(&'a self, map: &'a str, epoch: u64, entry: Bytes) -> BusFuture<'a, Option<u64>> {
        async move {
            let place = Place::new(map);
            let (epoch, inline) = (epoch.to_string(), INLINE_BYTES.to_string());
            let format = FORMAT.to_string();
            let keys = [&*place.meta, &*place.log];
            let arguments = [
                epoch.as_bytes(),
                place.channel.as_bytes(),
                &entry,
                inline.as_bytes(),
                format.as_bytes(),
            ];
            let answer = self
                .lines
                .run(&place, &script::BUS_APPEND, &keys, &arguments);
            match answer.await? {
                Value::Int(number) => Ok(u64::try_from(number).ok()),
                Value::Nil | Value::Boolean(false) => Ok(None),
                other => Err(lines::unexpected(&other)),
            }
        }
        .boxed()
    }

    fn renew<'a>(&'a self, map: &'a str, renewal: Renewal) -> BusFuture<'a, bool> {
        async move {
            let place = Place::new(map);
            let old = renewal.old.map_or_else(String::new, |old| old.to_string());
            let [read, epoch, format] =
                [renewal.read, renewal.epoch, FORMAT].map(|number| number.to_string());
            let keys = [&*place.meta, &*place.log, &*place.snapshot];
            let arguments = [
                old.as_bytes(),
                read.as_bytes(),
                epoch.as_bytes(),
                place.channel.as_bytes(),
                &renewal.entry,
                format.as_bytes(),
            ];
            let answer = self
                .lines
                .run(&place, &script::BUS_RENEW, &keys, &arguments);
            let done = lines::yes(&answer.await?)?;
            if done {
                self.lines.add_maps(&[map]).await?;
            }
            Ok(done)
        }
        .boxed()
    }

    fn snapshot<'a>(&'a self, map: &'a str) -> BusFuture<'a, Option<Snapshot>> {
        async move { snapshot::load(&self.lines, &Place::new(map)).await }.boxed()
    }

    fn claim<'a>(&'a self, map: &'a str, latest: u64) -> BusFuture<'a, bool> {
        async move {
            let place = Place::new(map);
            let [latest, claim] =
                [latest, CLAIM.as_millis() as u64].map(|number| number.to_string());
            let keys = [&*place.meta, &*place.claim];
            let arguments = [latest.as_bytes(), claim.as_bytes()];
            let claimed = self
                .lines
                .run(&place, &script::BUS_CLAIM, &keys, &arguments);
            lines::yes(&claimed.await?)
        }
        .boxed()
    }

    fn save<'a>(
        &'a self,
        map: &'a str,
        epoch: u64,
        snapshot: Snapshot,
        keep: u64,
    ) -> BusFuture<'a, bool> {
        async move { snapshot::save(&self.lines, &Place::new(map), epoch, snapshot, keep).await }
            .boxed()
    }

    fn tell<'a>(&'a self, map: &'a str, message: Bytes) -> BusFuture<'a, ()> {
        async move {
            let place = Place::new(map);
            let mut told = Vec::with_capacity(MESSAGE.len() + message.len());
            told.extend_from_slice(MESSAGE);
            told.extend_from_slice(&message);
            let publish = redis::cmd("PUBLISH")
                .arg(&place.channel)
                .arg(told)
                .to_owned();
            self.lines.query(&place, &publish).await.map(drop)
        }
        .boxed()
    }

    fn maps(&self, known: Vec<Arc<str>>) -> BusFuture<'_, Vec<String>> {
        async move {
            let known: Vec<&str> = known.iter().map(|name| &**name).collect();
            self.lines.add_maps(&known).await?;
            self.lines.maps().await
        }
        .boxed()
    }
}

fn reading(answer: Value) -> Result<Option<Reading>, BusError> {
    let parts = match answer {
        Value::Nil | Value::Boolean(false) => return Ok(None),
        Value::Int(0) => {
            let what = "its meta data are gone, or make no sense";
            return Err(BusError::Damaged(what.to_owned()));
        }
        Value::Array(parts) => parts,
        other => return Err(lines::unexpected(&other)),
    };
    let damaged = |what: &str| BusError::Damaged(format!("it has {what}"));
    let text = |part: &Value| match part {
        Value::BulkString(text) => number(text),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let [format, epoch, last, snapshot, Value::Array(entries)] = &*parts else {
        return Err(damaged("no meta data of the bus"));
    };
    let format = text(format).ok_or_else(|| damaged("no format"))?;
    if format != FORMAT {
        return Err(BusError::Newer(format!(
            "format {format}, this release knows {FORMAT}"
        )));
    }
    let log = text(epoch).zip(text(last)).zip(text(snapshot));
    let ((epoch, last), snapshot) = log.ok_or_else(|| damaged("a number that is none"))?;
    let log = Log {
        epoch,
        last,
        snapshot,
    };
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(parts) = entry else {
            return Err(lines::unexpected(entry));
        };
        let [Value::BulkString(id), Value::Array(fields)] = &**parts else {
            return Err(lines::unexpected(entry));
        };
        let id = id.strip_suffix(b"-0").and_then(number);
        // What is not of the bus is told to be unreadable by whoever takes it in.
        let content = match &**fields {
            [_, Value::BulkString(content), ..] => Bytes::copy_from_slice(content),
            _ => Bytes::new(),
        };
        if let Some(id) = id {
            read.push((id, content));
        }
    }
    Ok(Some(Reading { log, entries: read }))
}
