//! The task that keeps a replica true: connects, reads the map, asks for marks, and begins again
//! whenever something is missing.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, PushInfo, PushKind, Value};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::key::Key;
use crate::layout::{KIND, REVISION};
use crate::limits::{BACK_OFF, READ_PATIENCE};
use crate::map::{Shared, State, Trouble};
use crate::message::{Message, number};
use crate::order::{Fault, Mark, Reading};
use crate::reply;
use crate::script;
use crate::server;

/// Both connections to the server that has the map. Messages come over their own: one that is
/// subscribed may hold few bytes at the server, and the map may be large.
struct Home {
    generation: u64,
    address: ConnectionInfo,
    commands: MultiplexedConnection,
    /// Open as long as it is held.
    _messages: MultiplexedConnection,
    _driver: JoinSet<()>,
}

/// Runs until the node leaves the map, or the first joining fails, which is told.
pub(crate) async fn keep(shared: Arc<Shared>, told: oneshot::Sender<Result<()>>) {
    let mut told = Some(told);
    let mut failures = 0;
    while !shared.has_left() {
        let Err(error) = visit(&shared, &mut told, &mut failures).await else {
            continue;
        };
        if let Some(told) = told.take() {
            // Who joins may have gone.
            let _ = told.send(Err(error));
            return;
        }
        tracing::debug!(map = shared.place.name, %error, "not live");
        *shared.last_error.lock() = Some(error);
        shared.close();
        {
            let mut order = shared.order.lock();
            order.disconnect();
            shared.grow_stale(&order);
        }
        if failures > 0 {
            pause(&shared, failures).await;
        }
        failures += 1;
    }
}

/// Connects and keeps the replica true until the connection is of no more use.
async fn visit(
    shared: &Arc<Shared>,
    told: &mut Option<oneshot::Sender<Result<()>>>,
    failures: &mut u32,
) -> Result<()> {
    let mut home = connect(shared).await?;
    let mut unsteady = 0;
    while !shared.has_left() {
        let Some(mark) = read(shared, &mut home).await? else {
            shared.take_trouble();
            if !shared.order.lock().is_heard(home.generation) {
                return Ok(());
            }
            // Something in Redis changes faster than it can be read.
            unsteady += 1;
            if unsteady > 3 {
                pause(shared, unsteady).await;
            }
            continue;
        };
        (unsteady, *failures) = (0, 0);
        *shared.last_error.lock() = None;
        if let Some(told) = told.take() {
            let _ = told.send(Ok(()));
        }
        match stay(shared, &mut home, mark).await? {
            Trouble::ReadAgain => {}
            Trouble::ConnectAgain => return Ok(()),
        }
    }
    Ok(())
}

/// Answers and asks until something is missing.
async fn stay(shared: &Shared, home: &mut Home, mark: Mark) -> Result<Trouble> {
    let mut next = next_mark(shared, mark);
    loop {
        if let Some(trouble) = shared.take_trouble() {
            return Ok(trouble);
        }
        if shared.has_left() || shared.order.lock().is_asked_again() {
            return Ok(Trouble::ReadAgain);
        }
        shared.answer(&mut home.commands).await?;
        tokio::select! {
            () = shared.attention.notified() => {}
            () = tokio::time::sleep_until(next) => {
                if shared.server.is_moving() && has_moved(shared, home).await {
                    return Ok(Trouble::ConnectAgain);
                }
                match mark_now(shared, home).await? {
                    Some(mark) => next = next_mark(shared, mark),
                    // The trouble says what to do.
                    None => next = Instant::now() + shared.options.digest_period,
                }
            }
        }
    }
}

/// A map that expires is looked at when it does.
fn next_mark(shared: &Shared, mark: Mark) -> Instant {
    let period = shared.options.digest_period;
    let left = u64::try_from(mark.left).ok();
    let left = left.map(|left| Duration::from_millis(left + 1));
    Instant::now() + left.map_or(period, |left| left.min(period))
}

/// Whether the map is at another server by now. Where nobody can be asked, it is not known.
async fn has_moved(shared: &Shared, home: &Home) -> bool {
    let asked = shared
        .server
        .home(&shared.place.content, shared.options.patience);
    asked
        .await
        .is_ok_and(|found| found.addr() != home.address.addr())
}

async fn connect(shared: &Arc<Shared>) -> Result<Home> {
    let generation = shared.order.lock().connect();
    // Troubles up to here are those of connections that have gone.
    shared.take_trouble();
    let patience = shared.options.patience;
    let server = &shared.server;
    let unreachable = |error: redis::RedisError| reply::unreachable(&error);
    let home = server.home(&shared.place.content, patience).await;
    let address = home.map_err(unreachable)?;
    let listener = Arc::downgrade(shared);
    let config = server::config(patience).set_push_sender(move |push: PushInfo| {
        if let Some(shared) = listener.upgrade() {
            shared.hear(generation, push);
        }
        Ok::<(), std::convert::Infallible>(())
    });
    let commands = server.open(&address, config.clone());
    let commands = commands.await.map_err(unreachable)?;
    let listener = Arc::downgrade(shared);
    let hear = move |channel: &[u8], payload: &[u8]| {
        if let Some(shared) = listener.upgrade() {
            shared.hear_message(generation, channel, payload);
        }
    };
    let messages = server.listen(&address, config, patience, hear);
    let (mut messages, driver) = messages.await.map_err(unreachable)?;
    let place = &shared.place;
    for channel in [&place.updates, &place.nodes, &place.node(&shared.node)] {
        let mut subscribe = redis::cmd(place.subscribe());
        let done: redis::RedisResult<Value> =
            subscribe.arg(channel).query_async(&mut messages).await;
        done.map_err(|error| reply::failure(&error, &place.content))?;
    }
    shared.open(generation, commands.clone());
    Ok(Home {
        generation,
        address,
        commands,
        _messages: messages,
        _driver: driver,
    })
}

/// Reads the map between two marks. Nothing where the reading does not count, or the connection
/// was lost.
async fn read(shared: &Shared, home: &mut Home) -> Result<Option<Mark>> {
    {
        let mut order = shared.order.lock();
        if !order.is_heard(home.generation) || shared.has_left() {
            return Ok(None);
        }
        order.begin();
        shared.change_state(State::Resyncing);
    }
    let Some(first) = mark_now(shared, home).await? else {
        return Ok(None);
    };
    let mut patient = home.commands.clone();
    patient.set_response_timeout(READ_PATIENCE.max(shared.options.patience));
    let content = &shared.place.content;
    let answer = redis::cmd("HGETALL")
        .arg(content)
        .query_async(&mut patient)
        .await;
    let reading = reading(answer.map_err(|error| reply::failure(&error, content))?)?;
    let Some(last) = mark_now(shared, home).await? else {
        return Ok(None);
    };
    let mut order = shared.order.lock();
    let found = order.finish(reading, first.number, last.number);
    if let Err(fault) = found {
        tracing::debug!(
            map = shared.place.name,
            ?fault,
            "the reading does not count"
        );
        return Ok(None);
    }
    shared.change_state(State::Live);
    Ok(Some(last))
}

/// Has Redis tell, among the messages, how the map stands. Nothing where the order was lost.
async fn mark_now(shared: &Shared, home: &mut Home) -> Result<Option<Mark>> {
    let (number, told) = shared.order.lock().expect_mark();
    let place = &shared.place;
    let channel = place.node(&shared.node);
    let keys = [place.content.as_str()];
    let number = number.to_string();
    let arguments = [
        channel.as_bytes(),
        place.publish().as_bytes(),
        number.as_bytes(),
    ];
    let until = Instant::now() + shared.options.patience;
    let done = script::MARK
        .run(&mut home.commands, &keys, &arguments)
        .await;
    done.map_err(|error| reply::failure(&error, &place.content))?;
    match tokio::time::timeout_at(until, told).await {
        Ok(told) => Ok(told.ok()),
        // Redis has said it, and it does not come: who listens is not connected any more.
        Err(_) => Err(Error::Unreachable {
            reason: "no messages come".to_owned(),
        }),
    }
}

fn reading(answer: Value) -> Result<Reading> {
    let Value::Map(fields) = answer else {
        return Err(reply::unexpected(&answer));
    };
    let mut reading = Reading::default();
    reading.entries.reserve_exact(fields.len());
    for field in fields {
        let (Value::BulkString(key), Value::BulkString(value)) = field else {
            return Err(reply::unexpected(&field.0));
        };
        match &*key {
            REVISION => {
                reading.revision = number(&value).ok_or_else(|| Error::Format {
                    what: format!("the revision {}", crate::error::excerpt(&value)),
                })?;
            }
            KIND => reading.kind = Some(Bytes::from(value)),
            _ => {
                let entry = (Key::new(Bytes::from(key)), Bytes::from(value));
                reading.entries.push(entry);
            }
        }
    }
    Ok(reading)
}

impl Shared {
    /// What a connection pushes; called in the order in which it came, and before the answers that
    /// came after it.
    fn hear(&self, generation: u64, push: PushInfo) {
        match push.kind {
            // Of a shard channel the server itself ends the subscription, when its slot moves.
            PushKind::Disconnection | PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                self.broken(generation);
            }
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                let Some((Value::BulkString(channel), Value::BulkString(payload))) =
                    data.next().zip(data.next())
                else {
                    return;
                };
                self.hear_message(generation, &channel, &payload);
            }
            _ => {}
        }
    }

    fn hear_message(&self, generation: u64, channel: &[u8], payload: &[u8]) {
        if channel == self.place.updates.as_bytes() {
            let message = Message::read(payload);
            let mut order = self.order.lock();
            if order.is_heard(generation) {
                let found = match message {
                    Ok(message) => order.hear(&message),
                    Err(error) => {
                        tracing::warn!(map = self.place.name, %error, "a message");
                        order.fault(Fault::Unreadable)
                    }
                };
                self.settle(&order, found);
            }
        } else if channel == self.place.nodes.as_bytes() {
            self.hear_question(payload);
        } else if let Some(mark) = mark(payload) {
            let mut order = self.order.lock();
            if order.is_heard(generation) {
                let found = order.hear_mark(mark);
                self.settle(&order, found);
            }
        } else {
            self.hear_answer(payload);
        }
    }
}

/// `mark:NUMBER:REVISION:ENTRIES:LEFT`
fn mark(payload: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut parts = text.strip_prefix("mark:")?.split(':');
    let mark = Mark {
        number: parts.next()?.parse().ok()?,
        revision: parts.next()?.parse().ok()?,
        entries: parts.next()?.parse().ok()?,
        left: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(mark)
}

/// Waits before the next attempt: longer each time, and not all nodes at once.
async fn pause(shared: &Shared, failures: u32) {
    let longest = (BACK_OFF.0 * 2u32.saturating_pow(failures.min(10))).min(BACK_OFF.1);
    let random = RandomState::new().build_hasher().finish();
    let share = (random >> 11) as f64 / (1u64 << 53) as f64;
    let end = Instant::now() + longest.mul_f64(0.5 + share / 2.0);
    while !shared.has_left() {
        tokio::select! {
            () = shared.attention.notified() => {}
            () = tokio::time::sleep_until(end) => return,
        }
    }
}
