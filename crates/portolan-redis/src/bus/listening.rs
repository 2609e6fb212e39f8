//! The one subscription of a process: tells the followers of each map what its channel says.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use portolan::{BusError, Listener};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::MESSAGE;
use super::lines::{self, Lines};
use super::place::{Place, channel};
use crate::limits::BACK_OFF;
use crate::message::number;
use crate::server;

/// Who wants to hear of which map.
#[derive(Default)]
pub(super) struct Followers {
    /// By channel.
    all: Mutex<HashMap<String, Follower>>,
    /// Somebody came or went, or the connection broke.
    changed: Notify,
}

struct Follower {
    listener: Arc<dyn Listener>,
    /// The connection that is subscribed for it; 0 for none.
    subscribed: u64,
}

impl Followers {
    pub(super) fn add(&self, map: &str, listener: Arc<dyn Listener>) {
        let follower = Follower {
            listener,
            subscribed: 0,
        };
        self.all.lock().insert(channel(map), follower);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, map: &str, listener: &Arc<dyn Listener>) {
        let channel = channel(map);
        let mut all = self.all.lock();
        if all
            .get(&channel)
            .is_some_and(|known| Arc::ptr_eq(&known.listener, listener))
        {
            all.remove(&channel);
        }
        drop(all);
        self.changed.notify_one();
    }

    fn listener(&self, channel: &[u8]) -> Option<Arc<dyn Listener>> {
        let channel = std::str::from_utf8(channel).ok()?;
        let all = self.all.lock();
        all.get(channel).map(|follower| follower.listener.clone())
    }

    fn disturb(&self) {
        let all = self.all.lock();
        all.values()
            .for_each(|follower| follower.listener.disturbed());
    }

    /// Channels that this connection is not subscribed to.
    fn missing(&self, connection: u64) -> Vec<String> {
        let all = self.all.lock();
        let missing = all
            .iter()
            .filter(|(_, known)| known.subscribed != connection);
        missing.map(|(channel, _)| channel.clone()).collect()
    }

    /// The connection is subscribed: what was appended before was not told.
    fn subscribed(&self, channels: &[String], connection: u64) {
        let mut all = self.all.lock();
        for channel in channels {
            if let Some(follower) = all.get_mut(channel) {
                follower.subscribed = connection;
                follower.listener.disturbed();
            }
        }
    }

    /// What a connection pushes.
    fn hear(&self, push: PushInfo) {
        match push.kind {
            PushKind::Disconnection => self.changed.notify_one(),
            PushKind::Message => {
                let mut data = push.data.into_iter();
                if let Some((Value::BulkString(channel), Value::BulkString(message))) =
                    data.next().zip(data.next())
                    && let Some(listener) = self.listener(&channel)
                {
                    tell(&*listener, &Bytes::from(message));
                }
            }
            _ => {}
        }
    }
}

/// `EPOCH NUMBER ENTRY`, or `! MESSAGE`.
fn tell(listener: &dyn Listener, message: &Bytes) {
    if let Some(told) = message.strip_prefix(MESSAGE) {
        return listener.told(message.slice_ref(told));
    }
    let mut parts = message.splitn(3, |byte| *byte == b' ');
    let numbers = parts
        .next()
        .and_then(number)
        .zip(parts.next().and_then(number));
    match (numbers, parts.next()) {
        (Some((epoch, number)), Some(entry)) => {
            let entry = (!entry.is_empty()).then(|| message.slice_ref(entry));
            listener.heard(epoch, number, entry);
        }
        // Whoever said so: the log tells what there is.
        _ => listener.disturbed(),
    }
}

/// Keeps a connection subscribed to the channels of all followers, for ever.
pub(super) async fn listen(lines: Lines, followers: Arc<Followers>, period: Duration) {
    let (mut generation, mut failures) = (0, 0);
    loop {
        generation += 1;
        let begun = Instant::now();
        if let Err(error) = visit(&lines, &followers, period, generation).await {
            tracing::debug!(%error, "not subscribed");
        }
        // The line may be dead, or the master another one now; commands will be sent elsewhere.
        lines.drop_all().await;
        followers.disturb();
        failures = if begun.elapsed() > BACK_OFF.1 {
            0
        } else {
            failures + 1
        };
        sleep(pause(failures)).await;
    }
}

async fn visit(
    lines: &Lines,
    followers: &Arc<Followers>,
    period: Duration,
    generation: u64,
) -> Result<(), BusError> {
    let (server, patience) = (lines.server(), lines.patience());
    // In a cluster all nodes pass all messages on.
    let key = Place::new("").meta;
    let home = server.home(&key, patience).await;
    let home = home.map_err(|error| lines::unreachable(&error))?;
    let heard = Arc::downgrade(followers);
    let config = server::config(patience).set_push_sender(move |push: PushInfo| {
        if let Some(followers) = heard.upgrade() {
            followers.hear(push);
        }
        Ok::<(), std::convert::Infallible>(())
    });
    let messages = server.open(&home, config).await;
    let mut messages = messages.map_err(|error| lines::unreachable(&error))?;
    let mut next = Instant::now() + period;
    let mut subscribed: Vec<String> = Vec::new();
    loop {
        let missing = followers.missing(generation);
        for channels in missing.chunks(100) {
            query(&mut messages, redis::cmd("SUBSCRIBE").arg(channels)).await?;
            followers.subscribed(channels, generation);
            subscribed.extend_from_slice(channels);
        }
        let gone = {
            let all = followers.all.lock();
            let gone = |channel: &mut String| !all.contains_key(channel);
            subscribed.extract_if(.., gone).collect::<Vec<_>>()
        };
        for channels in gone.chunks(100) {
            query(&mut messages, redis::cmd("UNSUBSCRIBE").arg(channels)).await?;
        }
        let changed = tokio::time::timeout_at(next, followers.changed.notified()).await;
        if changed.is_err() {
            next = Instant::now() + period;
            if server.is_moving() {
                let now = server.home(&key, patience).await;
                if now.is_ok_and(|now| now.addr() != home.addr()) {
                    return Ok(());
                }
            }
        }
        // Also whether the connection still lives.
        query(&mut messages, &redis::cmd("PING")).await?;
    }
}

async fn query(messages: &mut MultiplexedConnection, command: &redis::Cmd) -> Result<(), BusError> {
    let done: redis::RedisResult<Value> = command.query_async(messages).await;
    done.map(drop).map_err(|error| lines::unreachable(&error))
}

/// Waits before the next attempt: longer each time, and not all servers at once.
fn pause(failures: u32) -> Duration {
    let longest = (BACK_OFF.0 * 2u32.saturating_pow(failures.min(10))).min(BACK_OFF.1);
    let random = RandomState::new().build_hasher().finish();
    let share = (random >> 11) as f64 / (1u64 << 53) as f64;
    longest.mul_f64(0.5 + share / 2.0)
}
