//! Arrays of `portolan-core`: a document with one of them at its root.

use anyhow::Context;
use portolan_core::{Delta, Document, Error, ReplicaId, Value};

use super::Clock;
use crate::edits::{Edit, Element};
use crate::engine::ArrayEngine;
use crate::workload::replica_id;

const LIST: &str = "l";

pub(crate) struct Array {
    document: Document,
    clock: Clock,
    /// The last of its own operations that it has sent.
    sent: u64,
}

fn value(element: Element) -> Value {
    match element {
        Element::Integer(integer) => Value::from(integer),
        Element::Character(character) => Value::from(&*character.encode_utf8(&mut [0; 4])),
    }
}

fn element(value: &Value) -> Option<Element> {
    match value {
        Value::Int(integer) => Some(Element::Integer(*integer)),
        Value::Str(text) => text.chars().next().map(Element::Character),
        _ => None,
    }
}

impl ArrayEngine for Array {
    fn new(replica: u64) -> anyhow::Result<Self> {
        Ok(Self {
            document: Document::new(ReplicaId::new(replica_id(replica))),
            clock: Clock::default(),
            sent: 0,
        })
    }

    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        self.document.transact(self.clock.now(), |tx| {
            let mut list = tx.array(LIST);
            for edit in edits {
                match *edit {
                    Edit::Append(element) => drop(list.append(value(element))?),
                    Edit::Insert(index, element) => drop(list.insert(index, value(element))?),
                    Edit::Delete(index) => list.delete(index)?,
                }
            }
            Ok::<(), Error>(())
        })?;
        Ok(())
    }

    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        edits.chunks(1).try_for_each(|edit| self.edit_batch(edit))
    }

    fn elements(&self) -> anyhow::Result<Vec<Element>> {
        let list = self.document.array(LIST);
        list.iter()
            .map(|(_, mut siblings)| {
                let winner = siblings.next().and_then(|winner| element(winner.value));
                winner.context("no element")
            })
            .collect()
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.document.encode())
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut array = Self::new(replica)?;
        array.receive(bytes)?;
        Ok(array)
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        let bytes = self.document.own_since(self.sent).encode();
        self.sent = self.document.own_seq();
        Ok(bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.document.apply(&Delta::decode(bytes)?);
        Ok(())
    }
}
