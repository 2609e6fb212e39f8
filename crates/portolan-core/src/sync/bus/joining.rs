//! Getting onto a log, leaving it, and beginning it anew.

use alloc::vec::Vec;

use bytes::Bytes;

use super::entry::{AHEAD, CATCH_UP, Content, MEMBERS, put_section};
use super::{BusFault, Joined};
use crate::codec::{put_checksum, put_dots};
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::replica::ReplicaId;
use crate::sync::replica::{Replica, is_left_behind};

impl Replica {
    /// What to append before the log is read: it names this replica.
    pub fn join_entry(&mut self, now: u64) -> Bytes {
        self.refresh_own(now);
        let generation = self.generation();
        if let Some(bus) = &mut self.bus {
            bus.named = generation;
        }
        let mut entry = Vec::new();
        put_section(&mut entry, MEMBERS, &self.members_record());
        self.note_told_own();
        Bytes::from(entry)
    }

    /// Takes in what the log holds, the snapshot and the entries after it, at least up to the one
    /// that [`join_entry`](Self::join_entry) gave; from then on
    /// [`poll_entry`](Self::poll_entry) gives what it lacks.
    ///
    /// Where the others have let go of what this replica still refers to, it begins anew from what
    /// they have. Where they had forgotten it, it is not [on the bus](Self::is_on_bus) yet: it names
    /// itself anew, and joins again. Costs the size of the log.
    pub fn join_bus(
        &mut self,
        now: u64,
        snapshot: Option<&[u8]>,
        entries: &[Bytes],
    ) -> Result<Joined, BusFault> {
        let mut joined = Joined::default();
        if let Some(bus) = &mut self.bus {
            bus.refused = DotSet::new();
        }
        let mut log = Content::default();
        let contents = snapshot.map(Content::read).transpose()?;
        let contents = contents
            .into_iter()
            .chain(entries.iter().filter_map(|entry| {
                let content = Content::read(entry);
                joined.unreadable += usize::from(content.is_err());
                content.ok()
            }));
        // What everybody has who has read the entries.
        let mut held = DotSet::new();
        for content in contents {
            let mut brought = DotSet::new();
            for (delta, ..) in &content.deltas {
                brought.union_with(&delta.applied);
            }
            held.union_with(&brought.difference(&content.ahead));
            log.deltas.extend(content.deltas);
            log.tables.extend(content.tables);
        }
        let mut required = Version::new();
        for table in &log.tables {
            required.union_with(&table.required);
        }
        for (delta, ..) in &log.deltas {
            self.check_bus(delta)?;
        }
        let here = !self.has_let_go_of(&required) && is_left_behind(&self.version, &required);
        let own = &self.members.table.required;
        joined.is_behind = !here && !required.covers(own) && is_left_behind(&held, own);
        if here || !self.take_log(now, &log, joined.is_behind) {
            let mut document = Document::new(ReplicaId::new(0));
            for (delta, ..) in &log.deltas {
                document.apply(delta);
            }
            self.begin_anew_from(now, &document.snapshot(), required);
        }
        self.take_tables(now, log.tables);
        let generation = self.generation();
        if let Some(bus) = &mut self.bus {
            bus.unpublished = self.version.difference(&held);
            bus.last += 1;
            bus.lack();
            bus.members_due = true;
            (bus.joined, bus.shared) = (bus.named == generation, true);
            bus.outdated = !bus.joined;
        }
        self.bus_is_read();
        self.tend(now);
        self.begin_to_compare(now);
        Ok(joined)
    }

    /// The log was read on from where this replica had read it, in order: it goes on, unless it has
    /// to join anew.
    pub fn resume_bus(&mut self) {
        if let Some(bus) = &mut self.bus {
            bus.joined = !bus.outdated;
        }
    }

    /// The log cannot be reached, or is another one: nothing is appended until it was
    /// [joined](Self::join_bus) or [read on](Self::resume_bus).
    pub fn leave_bus(&mut self) {
        self.entry_lost();
        if let Some(bus) = &mut self.bus {
            bus.joined = false;
            bus.lack();
        }
    }

    /// The log is not the one that this replica was on, or has lost entries: somebody may hold the
    /// document who had named himself in these alone. Nothing is let go of for as long as a silent
    /// replica is waited for, so that he is met before.
    pub fn distrust_bus(&mut self, now: u64) {
        self.members.holds_until = now.saturating_add(self.config.forget_after);
    }

    /// What this replica has is not what it had when it joined: it joins anew.
    pub(in crate::sync) fn forsake_bus(&mut self) {
        self.leave_bus();
        if let Some(bus) = &mut self.bus {
            bus.outdated = true;
        }
    }

    /// All that is here, as the first entry of a new log, which names this replica too; and the
    /// own operation that must be [told](Self::is_told) before it may leave.
    pub fn whole_entry(&mut self, now: u64) -> (Bytes, u64) {
        let named = self.join_entry(now);
        let mut entry = Vec::new();
        put_section(&mut entry, CATCH_UP, &self.document.encode());
        entry.extend_from_slice(&named[1..]);
        self.told = self.told.max(self.document.own_seq());
        (Bytes::from(entry), self.gate())
    }

    /// What stands for the snapshot and all entries up to the one that was read last; and the own
    /// operation that must be [told](Self::is_told) before it may leave.
    pub fn bus_snapshot(&mut self, now: u64) -> (Bytes, u64) {
        let (entry, gate) = self.whole_entry(now);
        let mut ahead = DotSet::new();
        if let Some(bus) = &self.bus {
            ahead.union_with(&bus.unpublished);
        }
        if gate > 0 {
            ahead.insert_range(self.document.replica(), self.own_stored + 1, gate);
        }
        if ahead.is_empty() {
            return (entry, gate);
        }
        let mut section = Vec::new();
        put_dots(&mut section, &ahead);
        put_checksum(&mut section);
        let mut entry = Vec::from(entry);
        put_section(&mut entry, AHEAD, &section);
        (Bytes::from(entry), gate)
    }

    /// Applies all of a log in one step; false where this replica has to begin anew. Of one that is
    /// behind, what has no place here is left out.
    fn take_log(&mut self, now: u64, log: &Content, is_behind: bool) -> bool {
        let mut all = DotSet::new();
        for (delta, bytes, live) in &log.deltas {
            match self.take_delta(now, delta, bytes) {
                None => {}
                Some(Err(_)) if is_behind => {}
                Some(Err(_)) => return false,
                Some(Ok(new)) => all.union_with(&new),
            }
            if *live {
                self.contexts.note(delta);
            } else {
                self.contexts.catch_up(&self.document, &delta.applied);
            }
        }
        if !all.is_empty() {
            // To the peers as one, too: none of them sees what was deleted later.
            self.publish(&all, &Bytes::new(), None, None, true);
        }
        true
    }

    /// Grows when this replica learns that it was forgotten.
    fn generation(&self) -> u64 {
        let own = self.members.table.members.get(&self.document.replica());
        own.map_or(0, |own| own.generation)
    }
}
