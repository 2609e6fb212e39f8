//! Loro: a `LoroMap` or a `LoroList` at the root of a `LoroDoc`.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use loro::{ExportMode, LoroDoc, LoroList, LoroMap, LoroValue, ValueOrContainer};

use super::{ArrayEngine, Engine};
use crate::edits::{Edit, Element};
use crate::workload::{Contents, Entry, replica_id};

pub(crate) struct Map {
    doc: LoroDoc,
    map: LoroMap,
}

fn integer(value: &ValueOrContainer) -> Option<i64> {
    match value {
        ValueOrContainer::Value(LoroValue::I64(value)) => Some(*value),
        _ => None,
    }
}

impl Engine for Map {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let doc = LoroDoc::new();
        doc.set_peer_id(replica_id(replica))?;
        let map = doc.get_map("m");
        Ok(Self { doc, map })
    }

    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            self.map.insert(&entry.key, entry.value)?;
        }
        self.doc.commit();
        Ok(())
    }

    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            self.map.insert(&entry.key, entry.value)?;
            self.doc.commit();
        }
        Ok(())
    }

    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()> {
        for key in keys {
            self.map.delete(key)?;
        }
        self.doc.commit();
        Ok(())
    }

    fn sum(&self, keys: &[String]) -> anyhow::Result<i64> {
        let mut sum = 0;
        for key in keys {
            let value = self.map.get(key).as_ref().and_then(integer);
            sum += value.context("a key is missing")?;
        }
        Ok(sum)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        let mut strange = 0;
        self.map.for_each(|_, value| match integer(&value) {
            Some(value) => contents.add(value),
            None => strange += 1,
        });
        ensure!(strange == 0, "{strange} values are no integers");
        Ok(contents)
    }

    /// Without history, as Portolan's snapshot is; the full one is larger.
    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        let frontiers = self.doc.state_frontiers();
        Ok(self.doc.export(ExportMode::shallow_snapshot(&frontiers))?)
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut map = Self::new(replica)?;
        map.apply(bytes)?;
        Ok(map)
    }

    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>> {
        let sent = Arc::new(Mutex::new(Vec::with_capacity(entries.len())));
        let sending = Arc::clone(&sent);
        let subscription = self.doc.subscribe_local_update(Box::new(move |update| {
            let mut sent = sending.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push(update.clone());
            true
        }));
        self.set_each(entries)?;
        drop(subscription);
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(take(&mut *sent))
    }

    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()> {
        let status = self.doc.import(update)?;
        ensure!(status.pending.is_none(), "an update was not applied");
        Ok(())
    }

    fn export(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.doc.export(ExportMode::all_updates())?)
    }

    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.apply(bytes)
    }
}

/// A `LoroList`. The other type with elements, `LoroMovableList`, does more and is slower; a
/// `LoroText` has no elements.
pub(crate) struct Array {
    doc: LoroDoc,
    list: LoroList,
    /// How many of its own operations it has sent.
    sent: i32,
}

fn value(element: Element) -> LoroValue {
    match element {
        Element::Integer(integer) => LoroValue::I64(integer),
        Element::Character(character) => LoroValue::from(&*character.encode_utf8(&mut [0; 4])),
    }
}

fn element(value: &ValueOrContainer) -> Option<Element> {
    match value {
        ValueOrContainer::Value(LoroValue::I64(integer)) => Some(Element::Integer(*integer)),
        ValueOrContainer::Value(LoroValue::String(text)) => {
            text.chars().next().map(Element::Character)
        }
        _ => None,
    }
}

impl Array {
    fn edit(&self, edit: Edit) -> anyhow::Result<()> {
        match edit {
            Edit::Append(element) => self.list.push(value(element))?,
            Edit::Insert(index, element) => self.list.insert(index, value(element))?,
            Edit::Delete(index) => self.list.delete(index, 1)?,
        }
        Ok(())
    }
}

impl ArrayEngine for Array {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let doc = LoroDoc::new();
        doc.set_peer_id(replica_id(replica))?;
        let list = doc.get_list("l");
        Ok(Self { doc, list, sent: 0 })
    }

    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        edits.iter().try_for_each(|edit| self.edit(*edit))?;
        self.doc.commit();
        Ok(())
    }

    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        for edit in edits {
            self.edit(*edit)?;
            self.doc.commit();
        }
        Ok(())
    }

    fn elements(&self) -> anyhow::Result<Vec<Element>> {
        let mut elements = Vec::with_capacity(self.list.len());
        self.list.for_each(|value| elements.extend(element(&value)));
        ensure!(elements.len() == self.list.len(), "a value is no element");
        Ok(elements)
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        let frontiers = self.doc.state_frontiers();
        Ok(self.doc.export(ExportMode::shallow_snapshot(&frontiers))?)
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut array = Self::new(replica)?;
        array.receive(bytes)?;
        Ok(array)
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        // The other replica has all that this one has of others.
        let mut known = self.doc.oplog_vv();
        let peer = self.doc.peer_id();
        let made = known.insert(peer, self.sent).unwrap_or_default();
        self.sent = made;
        Ok(self.doc.export(ExportMode::updates_owned(known))?)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let status = self.doc.import(bytes)?;
        ensure!(status.pending.is_none(), "an update was not applied");
        Ok(())
    }
}
