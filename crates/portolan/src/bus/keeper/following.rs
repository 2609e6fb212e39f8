//! Reading a log on from where it was read: what is heard of it, and what is asked for.

use std::sync::Arc;

use bytes::Bytes;
use portolan_core::sync::BusFault;

use super::{Keeper, Next, TAG_BYTES, tag_of};
use crate::bus::inbox::Heard;
use crate::bus::{BusError, Log};
use crate::shared::Shared;

impl Keeper {
    /// The bus has answered that it has the own entry; whether it was read back with that.
    pub(super) fn take_own(&mut self, number: u64) -> bool {
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
    pub(super) fn take_heard(&mut self, map: &Arc<Shared>, heard: Vec<Heard>) -> bool {
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
    pub(super) async fn read_on(&mut self, map: &Arc<Shared>) -> Result<Option<Next>, BusError> {
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

    /// Others save snapshots too.
    pub(super) fn note_snapshot(&mut self, log: Log) {
        if let Some(position) = &mut self.position
            && log.snapshot > position.snapshot
        {
            position.snapshot = log.snapshot.min(position.place);
            self.log_bytes = 0;
        }
    }
}
