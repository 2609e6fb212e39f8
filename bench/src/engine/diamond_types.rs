//! Diamond types: a `ListCRDT`. It holds text only, so it takes part where elements are
//! characters; it has no transactions.

use anyhow::bail;
use diamond_types::list::ListCRDT;
use diamond_types::list::encoding::{ENCODE_FULL, ENCODE_PATCH};
use diamond_types::{AgentId, LocalVersion};

use super::ArrayEngine;
use crate::edits::{Edit, Element};
use crate::workload::replica_id;

pub(crate) struct Text {
    list: ListCRDT,
    agent: AgentId,
    /// The version that the other replica has.
    known: LocalVersion,
}

impl Text {
    fn of(mut list: ListCRDT, replica: u64) -> Self {
        let agent = list.get_or_create_agent_id(&format!("{:016x}", replica_id(replica)));
        let known = list.oplog.local_version();
        Self { list, agent, known }
    }

    fn insert(&mut self, index: usize, element: Element) -> anyhow::Result<()> {
        let Element::Character(character) = element else {
            bail!("this is no character");
        };
        let mut buffer = [0; 4];
        self.list
            .insert(self.agent, index, character.encode_utf8(&mut buffer));
        Ok(())
    }
}

impl ArrayEngine for Text {
    fn new(replica: u64) -> anyhow::Result<Self> {
        Ok(Self::of(ListCRDT::new(), replica))
    }

    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        self.edit_each(edits)
    }

    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        for edit in edits {
            match *edit {
                Edit::Append(element) => self.insert(self.list.len(), element)?,
                Edit::Insert(index, element) => self.insert(index, element)?,
                Edit::Delete(index) => {
                    self.list
                        .delete_without_content(self.agent, index..index + 1);
                }
            }
        }
        Ok(())
    }

    fn elements(&self) -> anyhow::Result<Vec<Element>> {
        let content = self.list.branch.content();
        Ok(content.chars().map(Element::Character).collect())
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.list.oplog.encode(ENCODE_FULL))
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        match ListCRDT::load_from(bytes) {
            Ok(list) => Ok(Self::of(list, replica)),
            Err(error) => bail!("cannot load: {error:?}"),
        }
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        let oplog = &self.list.oplog;
        let bytes = oplog.encode_from(ENCODE_PATCH, &self.known);
        self.known = oplog.local_version();
        Ok(bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self.list.merge_data_and_ff(bytes) {
            Ok(version) => {
                self.known = self.list.oplog.version_union(&self.known, &version);
                Ok(())
            }
            Err(error) => bail!("cannot merge: {error:?}"),
        }
    }
}
