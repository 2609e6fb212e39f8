//! Yrs: a root `MapRef` or `ArrayRef` of a `Doc`.

use anyhow::Context;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array as _, ArrayRef, Doc, Map as _, MapRef, Out, ReadTxn, StateVector, Transact,
    TransactionMut, Update, merge_updates_v1,
};

use super::{ArrayEngine, Engine};
use crate::edits::{Edit, Element};
use crate::task::array::ArrayTask;
use crate::workload::{Contents, Entry, replica_id};

pub(crate) struct Map {
    doc: Doc,
    map: MapRef,
}

/// Clients have 53 random bits.
fn document(replica: u64) -> Doc {
    Doc::with_client_id(replica_id(replica) >> 11)
}

fn integer(value: Out) -> Option<i64> {
    match value {
        Out::Any(value) => value.cast::<i64>().ok(),
        _ => None,
    }
}

impl Engine for Map {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let doc = document(replica);
        // The root's name is written with every key; a short one costs least.
        let map = doc.get_or_insert_map("m");
        Ok(Self { doc, map })
    }

    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let mut transaction = self.doc.transact_mut();
        for entry in entries {
            let value = Any::from(entry.value);
            self.map.insert(&mut transaction, entry.key.as_str(), value);
        }
        Ok(())
    }

    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            let value = Any::from(entry.value);
            self.map
                .insert(&mut self.doc.transact_mut(), entry.key.as_str(), value);
        }
        Ok(())
    }

    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()> {
        let mut transaction = self.doc.transact_mut();
        for key in keys {
            self.map.remove(&mut transaction, key);
        }
        Ok(())
    }

    fn sum(&self, keys: &[String]) -> anyhow::Result<i64> {
        let transaction = self.doc.transact();
        let mut sum = 0;
        for key in keys {
            let value = self.map.get(&transaction, key).and_then(integer);
            sum += value.context("a key is missing")?;
        }
        Ok(sum)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let transaction = self.doc.transact();
        let mut contents = Contents::default();
        for (_, value) in self.map.iter(&transaction) {
            contents.add(integer(value).context("no integer")?);
        }
        Ok(contents)
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        self.export()
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut map = Self::new(replica)?;
        map.apply(bytes)?;
        Ok(map)
    }

    /// The second version of the encoding goes by column.
    fn small_snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        let transaction = self.doc.transact();
        Ok(transaction.encode_state_as_update_v2(&StateVector::default()))
    }

    fn open_small(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let map = Self::new(replica)?;
        let update = Update::decode_v2(bytes)?;
        map.doc.transact_mut().apply_update(update)?;
        Ok(map)
    }

    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut updates = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut transaction = self.doc.transact_mut();
            let value = Any::from(entry.value);
            self.map.insert(&mut transaction, entry.key.as_str(), value);
            updates.push(transaction.encode_update_v1());
        }
        Ok(updates)
    }

    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()> {
        let update = Update::decode_v1(update)?;
        self.doc.transact_mut().apply_update(update)?;
        Ok(())
    }

    fn export(&mut self) -> anyhow::Result<Vec<u8>> {
        let transaction = self.doc.transact();
        Ok(transaction.encode_state_as_update_v1(&StateVector::default()))
    }

    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.apply(bytes)
    }
}

/// A root `ArrayRef`.
pub(crate) struct Array {
    doc: Doc,
    list: ArrayRef,
    /// An update for each transaction to be sent.
    unsent: Vec<Vec<u8>>,
}

fn value(element: Element) -> Any {
    match element {
        Element::Integer(integer) => Any::from(integer),
        Element::Character(character) => Any::from(&*character.encode_utf8(&mut [0; 4])),
    }
}

fn element(value: &Out) -> Option<Element> {
    match value {
        Out::Any(Any::String(text)) => text.chars().next().map(Element::Character),
        Out::Any(value) => value.clone().cast::<i64>().ok().map(Element::Integer),
        _ => None,
    }
}

impl Array {
    fn edit(&self, transaction: &mut TransactionMut<'_>, edit: Edit) {
        match edit {
            Edit::Append(element) => {
                self.list.push_back(transaction, value(element));
            }
            Edit::Insert(index, element) => {
                self.list.insert(transaction, index as u32, value(element));
            }
            Edit::Delete(index) => self.list.remove(transaction, index as u32),
        }
    }
}

impl ArrayEngine for Array {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let doc = document(replica);
        let list = doc.get_or_insert_array("l");
        Ok(Self {
            doc,
            list,
            unsent: Vec::new(),
        })
    }

    /// It walks the list for each edit; within a transaction its blocks do not melt together.
    fn reach(task: ArrayTask) -> usize {
        match task {
            ArrayTask::PushBatch | ArrayTask::Random => 10_000,
            ArrayTask::PaperBatch | ArrayTask::PaperEach => 25_000,
            ArrayTask::PushEach | ArrayTask::Friends => usize::MAX,
        }
    }

    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        let mut transaction = self.doc.transact_mut();
        for edit in edits {
            self.edit(&mut transaction, *edit);
        }
        Ok(())
    }

    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        for edit in edits {
            self.edit(&mut self.doc.transact_mut(), *edit);
        }
        Ok(())
    }

    fn elements(&self) -> anyhow::Result<Vec<Element>> {
        let transaction = self.doc.transact();
        self.list
            .iter(&transaction)
            .map(|value| element(&value).context("no element"))
            .collect()
    }

    /// The second version of the encoding goes by column.
    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        let transaction = self.doc.transact();
        Ok(transaction.encode_state_as_update_v2(&StateVector::default()))
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let array = Self::new(replica)?;
        let update = Update::decode_v2(bytes)?;
        array.doc.transact_mut().apply_update(update)?;
        Ok(array)
    }

    fn share(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        let mut transaction = self.doc.transact_mut();
        for edit in edits {
            self.edit(&mut transaction, *edit);
        }
        self.unsent.push(transaction.encode_update_v1());
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(merge_updates_v1(self.unsent.drain(..))?)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let update = Update::decode_v1(bytes)?;
        self.doc.transact_mut().apply_update(update)?;
        Ok(())
    }
}
