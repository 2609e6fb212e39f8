//! One open map: its replica, and everyone who waits for something of it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use portolan_core::sync::{
    CloseReason, ErrorCode, Event, ProtocolError, Replica, SessionId, Standing, Write,
};
use tokio::sync::Notify;

use crate::bus::BusError;
use crate::clock::random;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::limits::MAX_DOCUMENTS_PER_CONNECTION;
use crate::outbox::{Notice, Outbox};
use crate::status::{MapOnBus, MapStatus};
use crate::store::Target;
use crate::watch::{Numbered, Queue};
use crate::within::{self, Held};

/// One open map. Everything that changes it goes through [`with`](Self::with), which hands what
/// follows from the change to those it concerns: in order, under the lock, into queues; they are
/// woken after the lock.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    /// Which of the connections to a server carries it.
    pub(crate) lane: usize,
    core: Weak<Core>,
    state: RwLock<State>,
    /// Something happened that someone may wait for: look again.
    pub(crate) progress: Notify,
    /// There may be something to append to the bus.
    pub(crate) bus_wake: Arc<Notify>,
    /// When the node's timer is set for this map; `u64::MAX` where it is not.
    armed: AtomicU64,
}

pub(crate) struct State {
    pub(crate) replica: Replica,
    /// The connection of each session.
    pub(crate) links: HashMap<SessionId, Arc<Outbox>>,
    pub(crate) watchers: Vec<Arc<Queue>>,
    /// Number of the latest batch of changes.
    pub(crate) number: u64,
    /// Number of the latest write that was given to the store.
    pub(crate) written: u64,
    /// Number of the latest write that is on disk.
    pub(crate) stored: u64,
    /// Whether a server was caught up with, once.
    pub(crate) synced: bool,
    /// Servers that this map is not shared with, by their place among the node's peers, and why.
    pub(crate) refused: HashMap<usize, Error>,
    /// Counts changes of others' presence.
    pub(crate) presence: u64,
    /// How the map stands with the bus, where there is one.
    pub(crate) bus: BusStanding,
}

impl State {
    /// Whether a server has the map open, and lacks itself what it should have.
    pub(crate) fn is_incomplete_at(&self, place: usize) -> bool {
        let mut links = self.links.iter();
        links.any(|(session, link)| {
            link.place() == Some(place)
                && self.replica.session(*session).is_some_and(|s| s.incomplete)
        })
    }
}

/// How a map stands with the bus.
#[derive(Default)]
pub(crate) struct BusStanding {
    /// Whether what the bus had is here, or was once.
    pub(crate) joined: bool,
    /// Why it does not follow its log.
    pub(crate) failure: Option<BusError>,
}

/// Who is to be woken once the lock is released.
#[derive(Default)]
struct Aftermath {
    links: Vec<Arc<Outbox>>,
    wakers: Vec<Waker>,
    progress: bool,
    bus: bool,
}

impl Shared {
    pub(crate) fn new(name: Arc<str>, core: &Arc<Core>, replica: Replica) -> Arc<Self> {
        Arc::new(Self {
            name,
            // Handles count up from 1.
            lane: (replica.handle() as usize - 1) / MAX_DOCUMENTS_PER_CONNECTION,
            core: Arc::downgrade(core),
            state: RwLock::new(State {
                replica,
                links: HashMap::new(),
                watchers: Vec::new(),
                number: 0,
                written: 0,
                stored: 0,
                synced: false,
                refused: HashMap::new(),
                presence: 0,
                bus: BusStanding::default(),
            }),
            progress: Notify::new(),
            bus_wake: Arc::default(),
            armed: AtomicU64::new(u64::MAX),
        })
    }

    /// Reads; others may read meanwhile.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.to_read())
    }

    /// Whose closure it is, where one is under way on this thread, matters only where the map is
    /// not free at once.
    fn to_read(&self) -> RwLockReadGuard<'_, State> {
        if let Some(state) = self.state.try_read() {
            return state;
        }
        match within::held(self) {
            None => self.state.read(),
            // Not behind a writer that waits for this very thread.
            Some(Held::Reading) => self.state.read_recursive(),
            Some(Held::Writing) => self.held(),
        }
    }

    fn to_write(&self) -> RwLockWriteGuard<'_, State> {
        if let Some(state) = self.state.try_write() {
            return state;
        }
        match within::held(self) {
            None => self.state.write(),
            Some(_) => self.held(),
        }
    }

    /// A mistake of the program, which would otherwise wait for itself for ever.
    fn held(&self) -> ! {
        let map = self.name.to_string();
        panic!("{}", Error::Held { map })
    }

    /// Changes something, with the time; then passes on what follows from it.
    pub(crate) fn with<T>(self: &Arc<Self>, f: impl FnOnce(&mut State, u64) -> T) -> T {
        let core = self.core.upgrade();
        let mut aftermath = Aftermath::default();
        let mut state = self.to_write();
        // Read under the lock, so that the engine never sees it go back. Without a node nothing is
        // sent, stored or timed any more.
        let now = core.as_ref().map_or(0, |core| core.clock.now());
        let result = f(&mut state, now);
        if let Some(core) = &core {
            self.pass_on(core, &mut state, &mut aftermath);
        }
        let due = state.replica.timeout();
        drop(state);
        for link in aftermath.links {
            link.wake();
        }
        aftermath.wakers.into_iter().for_each(Waker::wake);
        if aftermath.progress {
            self.progress.notify_waiters();
        }
        if aftermath.bus {
            self.bus_wake.notify_one();
        }
        if let (Some(core), Some(due)) = (&core, due)
            && due < self.armed.load(Ordering::Acquire)
        {
            self.armed.store(due, Ordering::Release);
            core.timers.set(due, self);
        }
        result
    }

    /// The node's timer, set for this map, has rung.
    pub(crate) fn timer_rang(self: &Arc<Self>) {
        self.armed.store(u64::MAX, Ordering::Release);
        self.with(|state, now| state.replica.handle_timeout(now));
    }

    fn pass_on(self: &Arc<Self>, core: &Arc<Core>, state: &mut State, aftermath: &mut Aftermath) {
        while let Some(event) = state.replica.poll_event() {
            self.handle(state, event, aftermath);
        }
        // In this order: what an event set off may have to be stored, and sent.
        while let Some(write) = state.replica.poll_write() {
            state.written = write.number;
            if let Some(store) = &core.store {
                let replica = state.replica.document().replica();
                store.write(self.clone(), &self.name, replica, write);
            }
        }
        aftermath.bus = state.replica.wants_bus() || state.replica.has_messages();
        while let Some(id) = state.replica.poll_ready() {
            if let Some(link) = state.links.get(&id)
                && link.ready(self, id)
            {
                aftermath.links.push(link.clone());
            }
        }
    }

    fn handle(self: &Arc<Self>, state: &mut State, event: Event, aftermath: &mut Aftermath) {
        match event {
            Event::Changed(batch) => {
                state.number += 1;
                let number = state.number;
                let batch = Arc::new(Numbered { number, batch });
                let wakers = state.watchers.iter().filter_map(|queue| queue.push(&batch));
                aftermath.wakers.extend(wakers);
            }
            Event::Connected { session, .. } => {
                if let Some(place) = state.links.get(&session).and_then(|link| link.place()) {
                    state.refused.remove(&place);
                }
                aftermath.progress = true;
            }
            Event::Ready(session) => {
                let link = state.links.get(&session);
                state.synced |= link.is_some_and(|link| link.place().is_some());
                aftermath.progress = true;
            }
            Event::Acknowledged(_) => aftermath.progress = true,
            Event::Presence { .. } => {
                state.presence += 1;
                aftermath.progress = true;
            }
            Event::Credentials {
                session,
                credentials,
            } => {
                let notice = Notice::Credentials(self.clone(), session, credentials);
                notify(state, session, notice, aftermath);
            }
            Event::Diverged { session } => {
                let map = &*self.name;
                tracing::error!(map, %session, "states differ where they should not: repairing");
            }
            Event::Repaired { session, values } => {
                let map = &*self.name;
                tracing::warn!(map, %session, values, "repaired: values were damaged or missing");
            }
            Event::ReplicaReused => {
                let id = portolan_core::ReplicaId::new(random());
                tracing::warn!(
                    map = &*self.name,
                    %id,
                    "a peer knows later operations of this replica than its store: the store is an \
                     old copy; continuing under a new id"
                );
                state.replica.change_replica(id);
            }
            Event::Forgotten(replica) => {
                let map = &*self.name;
                tracing::info!(map, %replica, "not heard of for long: not waited for any more");
            }
            Event::Resynced { again } => {
                let map = &*self.name;
                tracing::warn!(
                    map,
                    again = again.len(),
                    "was forgotten by the others: went on from their state, and did again what \
                     they had no place for"
                );
                state.number += 1;
                let wakers = state.watchers.iter().filter_map(|queue| queue.overtake());
                aftermath.wakers.extend(wakers);
                aftermath.progress = true;
            }
            Event::Renamed { old, new, .. } => {
                tracing::debug!(map = &*self.name, %old, %new, "writes under another id");
                aftermath.progress = true;
            }
            Event::Closed { session, reason } => {
                let place = state.links.get(&session).and_then(|link| link.place());
                if let (Some(place), Some(error)) = (place, self.lasting(&reason)) {
                    let words = error.to_string();
                    let before = state.refused.insert(place, error);
                    if before.is_none_or(|before| before.to_string() != words)
                        && let Some(core) = self.core.upgrade()
                    {
                        let url = &core.servers[place].peer.url;
                        tracing::warn!(map = &*self.name, url, words, "not shared");
                    }
                }
                aftermath.progress = true;
                let notice = Notice::Closed(self.clone(), session, reason);
                notify(state, session, notice, aftermath);
            }
            other => tracing::debug!(map = &*self.name, event = ?other, "an event of no concern"),
        }
    }

    /// Why a map is not shared with a server, where to try again will hardly help.
    fn lasting(&self, reason: &CloseReason) -> Option<Error> {
        match reason {
            CloseReason::Peer { code, message } => match code {
                ErrorCode::Refused => Some(Error::Refused {
                    map: self.name.to_string(),
                    reason: message.clone(),
                }),
                ErrorCode::Protocol | ErrorCode::Version => Some(Error::Protocol(message.clone())),
                _ => None,
            },
            CloseReason::ReplicaChanged
            | CloseReason::Forgotten
            | CloseReason::Resynced
            | CloseReason::Protocol(
                ProtocolError::HelloTimeout(_) | ProtocolError::ReplicaReused { .. },
            ) => None,
            CloseReason::Protocol(error) => Some(Error::Protocol(error.to_string())),
        }
    }

    /// Frames of a session for its connection, up to some bytes, and whether that were all.
    pub(crate) fn frames(
        self: &Arc<Self>,
        session: SessionId,
        bytes: usize,
        frames: &mut VecDeque<Bytes>,
    ) -> bool {
        self.with(|state, now| {
            let mut taken = 0;
            while taken < bytes {
                let Some(frame) = state.replica.poll_frame(session, now) else {
                    return true;
                };
                taken += frame.len();
                frames.push_back(frame);
            }
            false
        })
    }

    pub(crate) fn status(&self) -> MapStatus {
        self.read(|state| {
            let document = state.replica.document();
            MapStatus {
                name: self.name.to_string(),
                keys: document.len(),
                replica: document.replica(),
                version: state.replica.version().clone(),
                replicas: state.replica.version().replicas(),
                spare_ids: state.replica.spare_ids(),
                members: state.replica.count_members(Standing::Member),
                forgotten: state.replica.count_members(Standing::Forgotten),
                digest: document.digest(),
                own_seq: document.own_seq(),
                unstored: state.replica.unstored(),
                repaired: state.replica.repaired(),
                bus: state.replica.has_bus().then(|| MapOnBus {
                    live: state.bus.joined && state.bus.failure.is_none(),
                    joined: state.bus.joined,
                    unpublished: state.replica.unpublished(),
                    differences: state.replica.bus_differences(),
                    failure: state.bus.failure.clone(),
                }),
                watchers: state.watchers.len(),
                refused: state.refused.values().map(ToString::to_string).collect(),
                sessions: state.replica.sessions().collect(),
            }
        })
    }

    /// The connection of a session is gone, or has no use for it any more.
    pub(crate) fn leave(self: &Arc<Self>, session: SessionId) {
        self.with(|state, _| {
            state.replica.close(session);
            state.links.remove(&session);
        });
        self.progress.notify_waiters();
    }

    /// The map follows its log on the bus, or there is none.
    pub(crate) fn on_bus(self: &Arc<Self>) {
        let settled = |bus: &BusStanding| bus.joined && bus.failure.is_none();
        if self.read(|state| settled(&state.bus)) {
            return;
        }
        let failed = self.with(|state, _| {
            state.bus.joined = true;
            state.replica.bus_is_read();
            state.bus.failure.take().is_some()
        });
        if failed {
            tracing::info!(map = &*self.name, "on the bus again");
        }
        self.progress.notify_waiters();
    }

    /// The map does not follow its log on the bus.
    pub(crate) fn off_bus(&self, error: BusError) {
        let words = error.to_string();
        let before = self.state.write().bus.failure.replace(error);
        if before.is_none_or(|before| before.to_string() != words) {
            tracing::warn!(
                map = &*self.name,
                words,
                "not on the bus; it is tried again"
            );
        }
        self.progress.notify_waiters();
    }

    /// Waits until the map has been on the bus, or cannot be.
    pub(crate) async fn tried_bus(&self) {
        self.wait(|| {
            let tried = |bus: &BusStanding| bus.joined || bus.failure.is_some();
            self.read(|state| !state.replica.has_bus() || tried(&state.bus))
                .then_some(())
        })
        .await;
    }

    /// Whether the map has never held anything, and nobody is connected to it or watches it.
    pub(crate) fn is_unused(&self) -> bool {
        self.read(|state| {
            state.replica.version().is_empty()
                && state.links.is_empty()
                && state.watchers.is_empty()
        })
    }

    /// The node closes: watchers end.
    pub(crate) fn end_watches(&self) {
        let watchers = std::mem::take(&mut self.state.write().watchers);
        watchers
            .iter()
            .filter_map(|queue| queue.end())
            .for_each(Waker::wake);
        self.progress.notify_waiters();
    }

    /// Registers a watcher.
    pub(crate) fn watch(self: &Arc<Self>, queue: Arc<Queue>) {
        self.with(|state, _| {
            if state.watchers.is_empty() {
                // Batches that nobody saw have no number; one stands for them all, so that no
                // number means two states.
                state.number += 1;
                state.replica.observe(true);
            }
            state.watchers.push(queue);
        });
    }

    pub(crate) fn unwatch(self: &Arc<Self>, queue: &Arc<Queue>) {
        self.with(|state, _| {
            state.watchers.retain(|other| !Arc::ptr_eq(other, queue));
            if state.watchers.is_empty() {
                state.replica.observe(false);
            }
        });
    }

    /// Waits until `f` gives a result; it is asked again whenever something happened.
    pub(crate) async fn wait<T>(&self, mut f: impl FnMut() -> Option<T>) -> T {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before looking, so that nothing is missed in between.
            progress.as_mut().enable();
            if let Some(result) = f() {
                return result;
            }
            progress.await;
        }
    }

    /// The node, as long as it works.
    pub(crate) fn core(&self) -> Result<Arc<Core>> {
        let core = self.core.upgrade().filter(|core| !core.is_closed());
        core.ok_or(Error::Closed)
    }
}

fn notify(state: &State, session: SessionId, notice: Notice, aftermath: &mut Aftermath) {
    if let Some(link) = state.links.get(&session) {
        link.notice(notice);
        aftermath.links.push(link.clone());
    }
}

impl Target for Shared {
    fn stored(self: Arc<Self>, number: u64) {
        self.with(|state, now| {
            state.stored = state.stored.max(number);
            state.replica.stored(number, now);
        });
        self.progress.notify_waiters();
    }

    fn disturbed(&self) {
        self.progress.notify_waiters();
    }

    fn snapshot(&self) -> Write {
        self.read(|state| state.replica.snapshot())
    }
}
