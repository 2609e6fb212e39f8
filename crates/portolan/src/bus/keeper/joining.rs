//! Getting onto a log from nothing, and beginning one anew.

use std::sync::Arc;

use bytes::Bytes;
use portolan_core::sync::BusFault;

use super::{JOIN_ATTEMPTS, Keeper, Position, TAG_BYTES, Tag, tag_of, told};
use crate::bus::{BusError, Listener as _, Log, Renewal, Snapshot};
use crate::clock::random;
use crate::shared::{Shared, State};

impl Keeper {
    /// Gets onto the log, from nothing; false where there is none, and nothing to put into one.
    pub(super) async fn join(&mut self, mut suspect: bool) -> Result<bool, BusError> {
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
}

/// A log as it was read.
struct Held {
    contents: Vec<Bytes>,
    place: u64,
    tag: Tag,
    /// Whether nothing was missing.
    whole: bool,
}
