//! What all the types have in common: one replica of something shared.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::content;
use super::history::{History, Moment, Steps};
use super::instance::{DataType, InstanceId};
use super::time::TimeSource;
use super::update::{Refused, Update};
use crate::change::Batch;
use crate::compact::{Contexts, UpdateError};
use crate::delta::Delta;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::error::DecodeError;
use crate::replica::ReplicaId;
use crate::transaction::Transaction;

/// One replica of a replicated data type.
///
/// Used by the names of the types: [`MvMap`](super::MvMap), [`RgArray`](super::RgArray),
/// [`OrSet`](super::OrSet), [`MvRegister`](super::MvRegister), [`Counter`](super::Counter).
/// Writes are local and give the [`Update`] to send, exactly of what they did; updates are
/// [applied](Self::apply) in any order, however often. Whoever has missed some is helped by
/// [`since`](Self::since).
///
/// No two replicas of one instance may have the same id. One that starts again continues under
/// its id only from a state that holds everything it ever sent, else under a new one.
///
/// ```
/// use portolan_core::ReplicaId;
/// use portolan_core::types::{InstanceId, MvRegister};
///
/// let id = InstanceId::new(1);
/// let mut here = MvRegister::new(id, ReplicaId::new(1));
/// let mut there = MvRegister::new(id, ReplicaId::new(2));
/// here.set("north")?;
/// there.set("south")?;
///
/// // Each sends what the other lacks.
/// let (to_there, to_here) = (here.since(&there.version()), there.since(&here.version()));
/// there.apply(&to_there)?;
/// here.apply(&to_here)?;
/// assert_eq!(here.version(), there.version());
/// assert_eq!(here.digest(), there.digest());
/// assert_eq!(here.encode(), there.encode());
/// assert_eq!(here.read().count(), 2); // neither had seen the other's write
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shared<C> {
    instance: InstanceId,
    pub(super) document: Document,
    time: TimeSource,
    steps: Steps,
    content: PhantomData<fn() -> C>,
}

/// What a [`Shared`] can hold: the five of [`content`].
pub trait Replicated: sealed::Sealed {
    /// The type that it makes.
    const DATA_TYPE: DataType;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! replicated {
    ($($content:ident => $data_type:ident;)*) => {$(
        impl sealed::Sealed for content::$content {}
        impl Replicated for content::$content {
            const DATA_TYPE: DataType = DataType::$data_type;
        }
    )*};
}

replicated! {
    Map => MvMap;
    Array => RgArray;
    Set => OrSet;
    Register => MvRegister;
    Counter => Counter;
}

impl<C: Replicated> Shared<C> {
    /// An empty replica of an instance, written to under the id `replica`, on the time of this
    /// machine.
    ///
    /// Not on wasm32-unknown-unknown or without the feature `std`, where nobody can be asked for
    /// the time:
    /// [`with_clock`](Self::with_clock) is.
    #[cfg(all(
        feature = "std",
        not(all(target_family = "wasm", target_os = "unknown"))
    ))]
    pub fn new(instance: InstanceId, replica: ReplicaId) -> Self {
        Self::with_clock(instance, replica, super::time::system_time)
    }

    /// An empty replica that asks `clock` for the time of each write, in milliseconds since the
    /// Unix epoch. It may stand still or go back: timestamps grow all the same.
    pub fn with_clock(
        instance: InstanceId,
        replica: ReplicaId,
        clock: impl FnMut() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            instance,
            document: Document::new(replica),
            time: Box::new(clock),
            steps: Steps::default(),
            content: PhantomData,
        }
    }

    /// A replica that holds what [`encode`](Self::encode) wrote, on the time of this machine.
    #[cfg(all(
        feature = "std",
        not(all(target_family = "wasm", target_os = "unknown"))
    ))]
    pub fn decode(replica: ReplicaId, bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with_clock(replica, bytes, super::time::system_time)
    }

    /// As [`decode`](Self::decode), on another clock.
    pub fn decode_with_clock(
        replica: ReplicaId,
        bytes: &[u8],
        clock: impl FnMut() -> u64 + Send + Sync + 'static,
    ) -> Result<Self, DecodeError> {
        let state = Update::decode(bytes)?;
        if state.data_type != C::DATA_TYPE {
            let what = "the state of another data type";
            return Err(DecodeError::Malformed { at: 17, what });
        }
        let mut replica = Self::with_clock(state.instance, replica, clock);
        let applied = replica.document.apply(&state.delta);
        let dead = &state.delta.dead;
        replica.steps.note(applied, dead, &replica.document);
        Ok(replica)
    }

    /// Asks another clock from now on.
    pub fn set_clock(&mut self, clock: impl FnMut() -> u64 + Send + Sync + 'static) {
        self.time = Box::new(clock);
    }

    /// The id of what is shared.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The id under which this replica writes.
    pub fn replica(&self) -> ReplicaId {
        self.document.replica()
    }

    /// The operations applied. Linear in the number of replicas.
    pub fn version(&self) -> Version {
        self.document.version()
    }

    /// Fingerprint of what it holds: equal versions have equal digests. Constant time.
    pub fn digest(&self) -> u128 {
        self.document.digest()
    }

    /// The whole state as bytes, equal for equal states: those of [`snapshot`](Self::snapshot).
    pub fn encode(&self) -> Vec<u8> {
        self.snapshot().encode()
    }

    /// The whole state, to apply elsewhere.
    pub fn snapshot(&self) -> Update {
        self.update(self.document.snapshot())
    }

    /// What a replica at `version` lacks: for one that has applied these operations. Costs the
    /// difference.
    pub fn since(&self, version: &Version) -> Update {
        self.update(self.document.delta_since(version))
    }

    /// Joins an update in; gives the operations that were new here. What is of another instance
    /// or type is refused.
    pub fn apply(&mut self, update: &Update) -> Result<DotSet, Refused> {
        let (ours, theirs) = (self.instance, update.instance);
        if ours != theirs {
            return Err(Refused::OtherInstance { ours, theirs });
        }
        let (ours, theirs) = (C::DATA_TYPE, update.data_type);
        if ours != theirs {
            return Err(Refused::OtherType { ours, theirs });
        }
        let new = self.document.apply(&update.delta);
        self.steps
            .note(new.clone(), &update.delta.dead, &self.document);
        Ok(new)
    }

    /// What [`encode_update`](Self::encode_update) and [`decode_update`](Self::decode_update)
    /// remember, for this instance; nothing so far.
    pub fn contexts(&self) -> Contexts {
        Contexts::new(&format!("{}/{}", self.instance, C::DATA_TYPE))
    }

    /// The bytes to send for what the last write here gave: told by the difference to the write
    /// before it, in a third of the bytes of [`Update::encode`] and less, for a transport that keeps the
    /// order. In whole where that cannot be.
    ///
    /// ```
    /// use portolan_core::ReplicaId;
    /// use portolan_core::types::{Counter, InstanceId};
    ///
    /// let id = InstanceId::new(1);
    /// let mut here = Counter::new(id, ReplicaId::new(1));
    /// let mut there = Counter::new(id, ReplicaId::new(2));
    /// let (mut sending, mut receiving) = (here.contexts(), there.contexts());
    /// for n in 1..=3 {
    ///     let update = here.add(n)?;
    ///     let bytes = here.encode_update(&mut sending, &update);
    ///     let update = there.decode_update(&mut receiving, &bytes)?;
    ///     there.apply(&update)?;
    ///     assert!(n == 1 || bytes.len() < 16);
    /// }
    /// assert_eq!(there.read(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode_update(&self, contexts: &mut Contexts, update: &Update) -> Vec<u8> {
        let compact = contexts.compact(&self.document, &update.delta);
        compact.unwrap_or_else(|| update.encode())
    }

    /// The update that such bytes stand for. Apply it before the next one is decoded; where one
    /// is missing, ask for what there is [since](Self::since) the version here.
    pub fn decode_update(
        &self,
        contexts: &mut Contexts,
        bytes: &[u8],
    ) -> Result<Update, UpdateError> {
        if Contexts::is_compact(bytes) {
            return Ok(self.update(contexts.decode(&self.document, bytes)?));
        }
        let update = Update::decode(bytes)?;
        contexts.note(&update.delta);
        Ok(update)
    }

    /// What leads from one moment to another, `since` left out, `until` included: each a
    /// [`Version`], a [`Timestamp`](crate::Timestamp), milliseconds since the Unix epoch, or
    /// [`Moment::Open`]. `None` where the state then is not known any more; see
    /// [`keep_past`](Self::keep_past).
    ///
    /// By time it is as good as what is known: of an operation whose value was replaced before
    /// it came here nobody knows when it was done, and it counts as old. Costs the whole state.
    ///
    /// ```
    /// use portolan_core::ReplicaId;
    /// use portolan_core::types::{InstanceId, Moment, OrSet};
    ///
    /// let mut here = OrSet::new(InstanceId::new(1), ReplicaId::new(1));
    /// here.insert("ada")?;
    /// let then = here.version();
    /// here.insert("ben")?;
    /// here.remove("ada")?;
    ///
    /// let first = here.history(Moment::Open, &then).expect("it is kept");
    /// let later = here.history(&then, Moment::Open).expect("it is kept");
    /// assert_eq!((first.changes.len(), later.changes.len()), (1, 2));
    ///
    /// let mut there = OrSet::new(InstanceId::new(1), ReplicaId::new(2));
    /// there.apply(&later.update)?;
    /// there.apply(&first.update)?;
    /// assert!(there.contains("ben") && !there.contains("ada"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history<'a>(
        &self,
        since: impl Into<Moment<'a>>,
        until: impl Into<Moment<'a>>,
    ) -> Option<History> {
        let document = &self.document;
        let since = since.into().version(document)?;
        let until = until.into().version(document)?;
        let changes = document.history(since.as_ref(), until.as_ref())?;
        let delta = match &until {
            None => document.delta_since(&since.unwrap_or_default()),
            Some(until) => self.steps.first_covering(until, document)?,
        };
        let update = self.update(delta);
        Some(History { changes, update })
    }

    /// How many replaced or removed values to keep for [`history`](Self::history); 256 at
    /// first, and never more than take 1 KiB each on average. Zero forgets those there are.
    pub fn keep_past(&mut self, values: usize) {
        self.document.keep_past(values);
    }

    /// Whether to record changes for [`take_changes`](Self::take_changes); off at first.
    pub fn observe(&mut self, on: bool) {
        self.document.observe(on);
    }

    /// What each write and update changed since the last call, oldest first. The path of a
    /// change in a map is its key; elsewhere it is the same for all.
    pub fn take_changes(&mut self) -> Vec<Batch> {
        self.document.take_changes()
    }

    /// The document that holds it: a map's keys are those of the root, anything else stands
    /// under the key `""`.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Runs a transaction, and gives what it did as an update.
    pub(super) fn write<T, E>(
        &mut self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Update), E> {
        let before = self.document.own_seq();
        let now = (self.time)();
        let done = self.document.transact(now, f)?;
        let delta = self.document.own_since(before);
        let own = delta.applied().clone();
        self.steps.note(own, &DotSet::new(), &self.document);
        Ok((done, self.update(delta)))
    }

    fn update(&self, delta: Delta) -> Update {
        Update {
            instance: self.instance,
            data_type: C::DATA_TYPE,
            delta,
        }
    }
}

impl<C: Replicated> fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("data_type", &C::DATA_TYPE)
            .field("instance", &self.instance)
            .field("document", &self.document)
            .finish_non_exhaustive()
    }
}
