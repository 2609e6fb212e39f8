//! The task that keeps a map and its log on the bus together: joins, reads on, appends what is new
//! here, saves snapshots, and begins again whenever something does not fit.

use std::iter::from_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use portolan_core::sync::BusFault;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::append::{Append, tell};
use super::inbox::{Heard, Inbox};
use super::{Bus, BusError, Listener, Log, Renewal, Snapshot};
use crate::clock::random;
use crate::core::Core;
use crate::shared::{Shared, State};

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

    /// The bus has answered that it has the own entry; whether it was read back with that.
    fn take_own(&mut self, number: u64) -> bool {
        let Some((tag, position)) = self.sent.zip(self.position) else {
            return true;
        };
        let Some(map) = self.map.upgrade().filter(|_| number == position.place + 1) else {
            return false;
        };
        self.log_bytes += self.sent_bytes;
        self.take(&map, &[(number, Bytes::copy_from_slice(&tag))]);
        true
    }

    /// Takes in what was heard; whether nothing is missing.
    fn take_heard(&mut self, map: &Arc<Shared>, heard: Vec<Heard>) -> bool {
        let Some(position) = self.position else {
            return false;
        };
        let mut entries = Vec::with_capacity(heard.len());
        let mut place = position.place;
        for Heard {
            epoch,
            number,
            entry,
        } in heard
        {
            let entry = entry.filter(|_| epoch == position.epoch && number == place + 1);
            match entry {
                Some(entry) => {
                    place = number;
                    entries.push((number, entry));
                }
                // What was read before.
                None if epoch == position.epoch && number <= place => {}
                None => {
                    self.take(map, &entries);
                    return false;
                }
            }
        }
        self.take(map, &entries);
        true
    }

    /// Takes in the next entries, which follow on what was read.
    fn take(&mut self, map: &Arc<Shared>, entries: &[(u64, Bytes)]) {
        if entries.is_empty() {
            return;
        }
        let mut progress = false;
        map.with(|state, now| {
            for (number, entry) in entries {
                let tag = tag_of(entry);
                if let Some(position) = &mut self.position {
                    (position.place, position.tag) = (*number, tag);
                }
                self.log_bytes += entry.len();
                if self.sent == Some(tag) {
                    self.sent = None;
                    state.replica.entry_read(now);
                    progress = true;
                    continue;
                }
                let content = entry.get(TAG_BYTES..).unwrap_or_default();
                if let Err(fault) = state.replica.receive_entry(now, content) {
                    let map = &*self.name;
                    match fault {
                        BusFault::LeftBehind | BusFault::Reused(_) => {
                            tracing::info!(map, %fault, "joining the bus again");
                        }
                        fault => tracing::warn!(map, number, %fault, "an entry was left out"),
                    }
                }
            }
        });
        self.core.bus_meter.read(entries.len());
        if progress {
            map.progress.notify_waiters();
        }
    }

    /// Reads the log from where it was read, to its end; what else to do where it is another.
    async fn read_on(&mut self, map: &Arc<Shared>) -> Result<Option<Next>, BusError> {
        loop {
            let Some(position) = self.position else {
                return Ok(Some(Next::Join { suspect: false }));
            };
            let reading = self.bus.read(&self.name, position.place).await?;
            let Some(reading) = reading.filter(|reading| reading.log.epoch == position.epoch)
            else {
                return Ok(Some(Next::Join { suspect: false }));
            };
            self.note_snapshot(reading.log);
            let mut entries = reading.entries.into_iter();
            let known = entries.next();
            if known
                .as_ref()
                .map(|(number, entry)| (*number, tag_of(entry)))
                != Some((position.place, position.tag))
            {
                // Trimmed away behind a snapshot, or not the log that was read.
                let trimmed = reading.log.snapshot >= position.place
                    && known.is_none_or(|(number, _)| number > position.place);
                return Ok(Some(Next::Join { suspect: !trimmed }));
            }
            let numbers = position.place + 1..;
            let fitting = numbers
                .zip(entries)
                .take_while(|(n, (number, _))| n == number);
            let entries: Vec<_> = fitting.map(|(_, entry)| entry).collect();
            self.take(map, &entries);
            let place = position.place + entries.len() as u64;
            if place >= reading.log.last {
                return Ok(None);
            }
            if entries.is_empty() {
                return Ok(Some(Next::Join { suspect: true }));
            }
        }
    }

    /// Gets onto the log, from nothing; false where there is none, and nothing to put into one.
    async fn join(&mut self, mut suspect: bool) -> Result<bool, BusError> {
        for _ in 0..JOIN_ATTEMPTS {
            let Some(map) = self.map.upgrade() else {
                return Ok(true);
            };
            // What is heard from here on comes after what is read.
            let _ = self.inbox.take();
            let reading = match self.bus.read(&self.name, u64::MAX).await {
                Err(BusError::Damaged(what)) => Err(what),
                reading => Ok(reading?),
            };
            if let Err(what) = &reading {
                tracing::warn!(map = &*self.name, what, "the log is damaged");
            }
            let damaged = reading.is_err();
            let Ok(Some(reading)) = reading else {
                // Its snapshot may be there still.
                self.take_snapshot(&map).await?;
                // What it had is here, if nowhere else.
                let empty = |state: &State| state.replica.version().is_empty();
                let nothing = |state: &State| empty(state) && !state.replica.wants_bus();
                // Entries of one that is damaged go over into the new one.
                if !damaged && map.read(nothing) {
                    self.works();
                    return Ok(false);
                }
                if self.renew(&map, None, 0).await? {
                    self.works();
                    return Ok(true);
                }
                continue;
            };
            let log = reading.log;
            let named = map.with(|state, now| state.replica.join_entry(now));
            let (tag, named) = self.tagged(&named);
            let upto = match self.bus.append(&self.name, log.epoch, named).await {
                Ok(Some(number)) => (number, Some(tag)),
                Ok(None) => continue,
                Err(BusError::Damaged(what)) => {
                    tracing::warn!(map = &*self.name, what, "the log is damaged");
                    suspect = true;
                    (log.last, None)
                }
                Err(error) => return Err(error),
            };
            let snapshot = match log.snapshot {
                0 => None,
                _ => self.bus.snapshot(&self.name).await?,
            };
            suspect |= log.snapshot > 0 && snapshot.is_none();
            let Some(read) = self.read_all(log, snapshot.as_ref(), upto).await? else {
                continue;
            };
            suspect |= !read.whole;
            let whole = snapshot.as_ref().map(|snapshot| &*snapshot.bytes);
            let joined = map.with(|state, now| state.replica.join_bus(now, whole, &read.contents));
            let joined = match joined {
                Ok(joined) => joined,
                Err(BusFault::Unreadable(error)) => return Err(BusError::Newer(error.to_string())),
                // It goes on under another id.
                Err(_) => continue,
            };
            self.joined();
            if self.followed.is_some_and(|epoch| epoch != log.epoch) {
                map.with(|state, now| state.replica.distrust_bus(now));
            }
            if joined.unreadable > 0 {
                let (map, entries) = (&*self.name, joined.unreadable);
                tracing::warn!(map, entries, "entries of the bus cannot be read: left out");
            }
            self.snapshot_bytes = whole.map_or(0, <[u8]>::len);
            self.log_bytes = read.contents.iter().map(Bytes::len).sum();
            if suspect || joined.is_behind {
                let (map_name, epoch) = (&*self.name, log.epoch);
                tracing::warn!(
                    map = map_name,
                    "the log on the bus is not what it was: it is begun anew from what is here"
                );
                if !self.renew(&map, Some(epoch), read.place).await? {
                    continue;
                }
            } else {
                self.followed = Some(log.epoch);
                self.position = Some(Position {
                    epoch: log.epoch,
                    place: read.place,
                    tag: read.tag,
                    snapshot: log.snapshot,
                });
            }
            if map.read(|state| state.replica.is_on_bus()) {
                tracing::debug!(map = &*self.name, place = read.place, "on the bus");
                self.works();
                return Ok(true);
            }
        }
        let what = "it changes faster than it can be joined".to_owned();
        Err(BusError::Refused(what))
    }

    /// Takes in the snapshot of a log whose other data are gone, if it can be read.
    async fn take_snapshot(&self, map: &Arc<Shared>) -> Result<(), BusError> {
        let snapshot = self.bus.snapshot(&self.name).await?;
        if let Some(Snapshot { bytes, .. }) = snapshot
            && let Err(fault) =
                map.with(|state, now| state.replica.join_bus(now, Some(&bytes), &[]))
        {
            tracing::warn!(map = &*self.name, %fault, "a snapshot was left out");
        }
        Ok(())
    }

    /// All entries behind the snapshot, at least up to a number, where one of this name is to stand.
    /// Nothing where the log changed.
    async fn read_all(
        &self,
        log: Log,
        snapshot: Option<&Snapshot>,
        (upto, named): (u64, Option<Tag>),
    ) -> Result<Option<Held>, BusError> {
        let mut read = Held {
            contents: Vec::new(),
            place: snapshot.map_or(0, |snapshot| snapshot.place),
            tag: [0; TAG_BYTES],
            whole: true,
        };
        loop {
            let next = read.place.saturating_add(1);
            let reading = self.bus.read(&self.name, next).await?;
            let Some(reading) = reading.filter(|reading| reading.log.epoch == log.epoch) else {
                return Ok(None);
            };
            if reading.entries.is_empty() {
                read.whole &= read.place >= upto;
                read.place = read.place.max(reading.log.last);
                return Ok(Some(read));
            }
            for (number, entry) in reading.entries {
                if read.place.checked_add(1) != Some(number) {
                    // Another snapshot was saved meanwhile, or something is missing.
                    if snapshot.is_none_or(|known| known.place < reading.log.snapshot)
                        && reading.log.snapshot > log.snapshot
                    {
                        return Ok(None);
                    }
                    read.whole = false;
                }
                read.place = number;
                read.tag = tag_of(&entry);
                read.whole &= number != upto || named.is_none_or(|named| named == read.tag);
                let from = TAG_BYTES.min(entry.len());
                read.contents.push(entry.slice(from..));
            }
            if read.place >= upto {
                return Ok(Some(read));
            }
        }
    }

    /// Begins the log anew with all that is here; false where another was faster.
    async fn renew(
        &mut self,
        map: &Arc<Shared>,
        old: Option<u64>,
        read: u64,
    ) -> Result<bool, BusError> {
        let (content, gate) = map.with(|state, now| state.replica.whole_entry(now));
        told(map, gate).await;
        let (tag, entry) = self.tagged(&content);
        let epoch = random();
        let renewal = Renewal {
            old,
            read,
            epoch,
            entry,
        };
        if !self.bus.renew(&self.name, renewal).await? {
            return Ok(false);
        }
        let before = self.followed.replace(epoch);
        if old.or(before).is_some() {
            map.with(|state, now| state.replica.distrust_bus(now));
        }
        self.position = Some(Position {
            epoch,
            place: 1,
            tag,
            snapshot: 0,
        });
        (self.log_bytes, self.snapshot_bytes) = (content.len(), 0);
        let joined = map.with(|state, now| state.replica.join_bus(now, None, &[content]));
        if let Err(fault) = joined {
            tracing::error!(map = &*self.name, %fault, "what was written here cannot be read here");
            return Ok(false);
        }
        self.joined();
        // Entries of the old log may have gone over.
        self.inbox.disturbed();
        Ok(true)
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

    /// Others save snapshots too.
    fn note_snapshot(&mut self, log: Log) {
        if let Some(position) = &mut self.position
            && log.snapshot > position.snapshot
        {
            position.snapshot = log.snapshot.min(position.place);
            self.log_bytes = 0;
        }
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

/// A log as it was read.
struct Held {
    contents: Vec<Bytes>,
    place: u64,
    tag: Tag,
    /// Whether nothing was missing.
    whole: bool,
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
