//! The task that keeps a map and its log on the bus together: joins, reads on, appends what is new
//! here, saves snapshots, and begins again whenever something does not fit.

mod following;
mod joining;

use std::iter::from_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::append::{Append, tell};
use super::inbox::Inbox;
use super::{Bus, BusError, Listener, Snapshot};
use crate::clock::random;
use crate::core::Core;
use crate::shared::Shared;

/// Entries since the snapshot after which there is to be another one …
const SNAPSHOT_ENTRIES: u64 = 1_000;
/// … or bytes, unless the snapshot has more itself.
const SNAPSHOT_BYTES: usize = 1024 * 1024;
/// Entries below a snapshot that stay: who reads a little behind need not join again.
const KEPT_ENTRIES: u64 = 100;
/// How long a message may be behind the answer about the same entry before the log is read.
const MESSAGE_DELAY: Duration = Duration::from_millis(100);
/// How long to wait before looking again whether a snapshot is to be saved here.
const CLAIM_DELAY: Duration = Duration::from_secs(1);
/// First and longest wait after a failure, without the jitter.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// A log that is joined again sooner is joined a little later.
const REST: Duration = Duration::from_secs(1);
/// Messages that are passed on before entries are looked at again.
const MESSAGES: usize = 64;
/// How often joining is tried before it counts as failed: others may change the log meanwhile.
const JOIN_ATTEMPTS: u32 = 10;

/// Names an entry: who appended it, and his number for it.
type Tag = [u8; TAG_BYTES];
const TAG_BYTES: usize = 16;

/// How far a log was read.
#[derive(Clone, Copy, Debug)]
struct Position {
    epoch: u64,
    /// The number of the last entry that was read, and its name.
    place: u64,
    tag: Tag,
    /// The place of the snapshot, as far as it is known.
    snapshot: u64,
}

/// How to go on.
enum Next {
    /// The map or the node is gone.
    End,
    /// The log is not what was read: join it.
    Join { suspect: bool },
}

struct Keeper {
    core: Arc<Core>,
    bus: Arc<dyn Bus>,
    name: Arc<str>,
    map: Weak<Shared>,
    inbox: Arc<Inbox>,
    /// There is something to append.
    wake: Arc<Notify>,
    /// The name of this run in tags.
    writer: u64,
    /// Entries appended, or tried to.
    sequence: u64,
    /// The tag of the one that was appended and not read back.
    sent: Option<Tag>,
    sent_bytes: usize,
    position: Option<Position>,
    /// The entry that was read last when it was last looked what is to be said.
    said_at: Option<(u64, u64)>,
    /// The log that was followed last.
    followed: Option<u64>,
    /// Bytes read since the last snapshot, and of that.
    log_bytes: usize,
    snapshot_bytes: usize,
    claim_at: Instant,
    /// Failures in a row.
    failures: u32,
    /// When the log was last joined.
    joined_at: Option<Instant>,
}

/// Keeps a map on the bus as long as both are there.
pub(crate) async fn keep(core: Arc<Core>, bus: Arc<dyn Bus>, map: Arc<Shared>) {
    let inbox = Arc::new(Inbox::default());
    let listener: Arc<dyn Listener> = inbox.clone();
    bus.follow(&map.name, listener.clone());
    let keeper = Keeper {
        core,
        name: map.name.clone(),
        wake: map.bus_wake.clone(),
        map: Arc::downgrade(&map),
        inbox,
        bus: bus.clone(),
        writer: random(),
        sequence: 0,
        sent: None,
        sent_bytes: 0,
        position: None,
        said_at: None,
        followed: None,
        log_bytes: 0,
        snapshot_bytes: 0,
        claim_at: Instant::now(),
        failures: 0,
        joined_at: None,
    };
    let name = map.name.clone();
    drop(map);
    keeper.run().await;
    bus.unfollow(&name, &listener);
}

impl Keeper {
    async fn run(mut self) {
        let mut suspect = false;
        loop {
            let error = match self.visit(suspect).await {
                Ok(Next::End) => return,
                Ok(Next::Join { suspect: found }) => {
                    (self.position, self.sent, suspect) = (None, None, found);
                    if let Some(map) = self.map.upgrade() {
                        map.with(|state, _| state.replica.leave_bus());
                    }
                    // Servers that undo each other's work must not do so without a rest.
                    if self.joined_at.is_some_and(|at| at.elapsed() < REST) {
                        sleep(pause(self.failures)).await;
                        self.failures += 1;
                    }
                    continue;
                }
                Err(error) => error,
            };
            let Some(map) = self.map.upgrade() else {
                return;
            };
            self.sent = None;
            if let BusError::Damaged(_) = error {
                self.position = None;
            }
            map.with(|state, _| state.replica.leave_bus());
            map.off_bus(error);
            drop(map);
            sleep(pause(self.failures)).await;
            self.failures += 1;
        }
    }

    /// Gets onto the log and stays there until something does not fit.
    async fn visit(&mut self, suspect: bool) -> Result<Next, BusError> {
        match self.position {
            Some(_) => {
                let Some(map) = self.map.upgrade() else {
                    return Ok(Next::End);
                };
                if let Some(next) = self.read_on(&map).await? {
                    return Ok(next);
                }
                map.with(|state, _| state.replica.resume_bus());
            }
            None => {
                while !self.join(suspect).await? {
                    let period = sleep(self.bus.digest_period());
                    tokio::select! {
                        () = self.inbox.wait() => {}
                        () = self.wake.notified() => {}
                        () = period => {}
                    }
                    if self.map.upgrade().is_none() {
                        return Ok(Next::End);
                    }
                }
            }
        }
        self.stay().await
    }

    /// Reads what others append, and appends what is new here.
    async fn stay(&mut self) -> Result<Next, BusError> {
        let (bus, name) = (self.bus.clone(), self.name.clone());
        let period = bus.digest_period();
        let mut append = Append::default();
        let mut look_at = Instant::now() + period;
        loop {
            if let Some(number) = append.answer.take() {
                let Some(number) = number? else {
                    return Ok(Next::Join { suspect: false });
                };
                self.core.bus_meter.appended();
                self.works();
                if !self.take_own(number) {
                    look_at = look_at.min(Instant::now() + MESSAGE_DELAY);
                }
            }
            let Some(map) = self.map.upgrade() else {
                return Ok(Next::End);
            };
            let waiting = self.inbox.take();
            let fits = self.take_heard(&map, waiting.heard);
            if waiting.disturbed || !fits || Instant::now() >= look_at {
                let answered = append.waiting.is_none();
                if let Some(next) = append.beside(self.read_on(&map)).await? {
                    return Ok(next);
                }
                self.works();
                look_at = Instant::now() + period;
                if answered && self.sent.take().is_some() {
                    // It was there when the bus answered, and is not any more.
                    map.with(|state, _| state.replica.entry_lost());
                }
            }
            self.hear(&map, &waiting.messages);
            if !map.read(|state| state.replica.is_on_bus()) {
                return Ok(Next::Join { suspect: false });
            }
            if append.is_free()
                && let Some(position) = self.position
                && let Some(entry) = map.with(|state, now| state.replica.poll_entry(now))
            {
                let (tag, entry) = self.tagged(&entry);
                (self.sent, self.sent_bytes) = (Some(tag), entry.len());
                append.waiting = Some(bus.append(&name, position.epoch, entry));
            }
            if append.telling.is_none() {
                append.telling = self
                    .messages(&map)
                    .map(|all| tell(&*bus, &name, all).boxed());
            }
            append.beside(self.save(&map)).await?;
            drop(map);
            if append.answer.is_some() {
                continue;
            }
            tokio::select! {
                () = append.progress() => {}
                () = self.inbox.wait() => {}
                () = self.wake.notified() => {}
                () = sleep_until(look_at) => {}
            }
        }
    }

    /// Takes in what others have said.
    fn hear(&self, map: &Arc<Shared>, messages: &[Bytes]) {
        let Some(position) = self.position.filter(|_| !messages.is_empty()) else {
            return;
        };
        let at = (position.epoch, position.place);
        map.with(|state, now| {
            for message in messages {
                if let Err(fault) = state.replica.receive_message(now, at, message) {
                    tracing::warn!(map = &*self.name, %fault, "a message was left out");
                }
            }
        });
    }

    /// What is to be said to others, if there is anything.
    fn messages(&mut self, map: &Arc<Shared>) -> Option<Vec<Bytes>> {
        let position = self.position?;
        let at = (position.epoch, position.place);
        let moved = self.said_at.replace(at) != Some(at);
        let some = map.read(|state| {
            let waited = moved && state.replica.awaits_entries();
            waited || state.replica.has_messages()
        });
        if !some {
            return None;
        }
        let messages: Vec<Bytes> = map.with(|state, now| {
            let messages = from_fn(|| state.replica.poll_message(now, at));
            messages.take(MESSAGES).collect()
        });
        (!messages.is_empty()).then_some(messages)
    }

    /// Saves a snapshot where the log has grown long and nobody else does.
    async fn save(&mut self, map: &Arc<Shared>) -> Result<(), BusError> {
        let Some(position) = self.position else {
            return Ok(());
        };
        let entries = position.place.saturating_sub(position.snapshot);
        let long =
            entries > SNAPSHOT_ENTRIES || self.log_bytes > SNAPSHOT_BYTES.max(self.snapshot_bytes);
        if !long || entries < 2 || Instant::now() < self.claim_at {
            return Ok(());
        }
        if !self.bus.claim(&self.name, position.snapshot).await? {
            self.claim_at = Instant::now() + CLAIM_DELAY;
            if let Some(reading) = self.bus.read(&self.name, u64::MAX).await? {
                self.note_snapshot(reading.log);
            }
            return Ok(());
        }
        let (content, gate) = map.with(|state, now| state.replica.bus_snapshot(now));
        told(map, gate).await;
        let bytes = content.len();
        let snapshot = Snapshot {
            place: position.place,
            bytes: content,
        };
        let keep = position.place.saturating_sub(KEPT_ENTRIES);
        let saving = self.bus.save(&self.name, position.epoch, snapshot, keep);
        if saving.await? {
            self.core.bus_meter.saved();
            if let Some(position) = &mut self.position {
                position.snapshot = position.place;
            }
            (self.log_bytes, self.snapshot_bytes) = (0, bytes);
        }
        Ok(())
    }

    fn joined(&mut self) {
        self.core.bus_meter.joined();
        self.joined_at = Some(Instant::now());
    }

    /// An entry as it stands in the log, and its name.
    fn tagged(&mut self, content: &[u8]) -> (Tag, Bytes) {
        self.sequence += 1;
        let mut tag = [0; TAG_BYTES];
        tag[..8].copy_from_slice(&self.writer.to_le_bytes());
        tag[8..].copy_from_slice(&self.sequence.to_le_bytes());
        let mut entry = BytesMut::with_capacity(TAG_BYTES + content.len());
        entry.extend_from_slice(&tag);
        entry.extend_from_slice(content);
        (tag, entry.freeze())
    }

    fn works(&mut self) {
        if self.joined_at.is_none_or(|at| at.elapsed() >= REST) {
            self.failures = 0;
        }
        if let Some(map) = self.map.upgrade() {
            map.on_bus();
        }
    }
}

/// The name of an entry; of one that is too short for any, none.
fn tag_of(entry: &[u8]) -> Tag {
    entry.first_chunk().copied().unwrap_or_default()
}

/// Waits until what was computed may leave.
async fn told(map: &Arc<Shared>, gate: u64) {
    map.wait(|| map.read(|state| state.replica.is_told(gate)).then_some(()))
        .await;
}

/// How long to wait after so many failures: longer each time, and not all nodes at once.
fn pause(failures: u32) -> Duration {
    let longest = (BACK_OFF.0 * 2u32.saturating_pow(failures.min(10))).min(BACK_OFF.1);
    longest.mul_f64(0.5 + random() as f64 / u64::MAX as f64 / 2.0)
}
