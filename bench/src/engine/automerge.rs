//! Automerge: the root map of an `AutoCommit`, or a list in it.

use anyhow::{Context, ensure};
use automerge::transaction::Transactable;
use automerge::{
    ActorId, AutoCommit, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, ScalarValueRef,
    ValueRef,
};

use super::{ArrayEngine, Engine};
use crate::edits::{Edit, Element};
use crate::workload::{Contents, Entry, replica_id};

pub(crate) struct Map {
    doc: AutoCommit,
}

/// Actors have 16 random bytes.
fn actor(replica: u64) -> ActorId {
    let halves = [replica_id(replica), replica_id(!replica)];
    ActorId::from(halves.map(u64::to_be_bytes).concat())
}

impl Engine for Map {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let doc = AutoCommit::new().with_actor(actor(replica));
        Ok(Self { doc })
    }

    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            self.doc.put(ROOT, entry.key.as_str(), entry.value)?;
        }
        self.doc.commit();
        Ok(())
    }

    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            self.doc.put(ROOT, entry.key.as_str(), entry.value)?;
            self.doc.commit();
        }
        Ok(())
    }

    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()> {
        for key in keys {
            self.doc.delete(ROOT, key.as_str())?;
        }
        self.doc.commit();
        Ok(())
    }

    fn sum(&self, keys: &[String]) -> anyhow::Result<i64> {
        let mut sum = 0;
        for key in keys {
            let (value, _) = self
                .doc
                .get(ROOT, key.as_str())?
                .context("a key is missing")?;
            sum += value.as_i64().context("no integer")?;
        }
        Ok(sum)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        for item in self.doc.map_range(ROOT, ..) {
            let value = item.value.into_value();
            contents.add(value.as_i64().context("no integer")?);
        }
        Ok(contents)
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.doc.save())
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let doc = AutoCommit::load(bytes)?.with_actor(actor(replica));
        Ok(Self { doc })
    }

    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut updates = Vec::with_capacity(entries.len());
        for entry in entries {
            self.doc.put(ROOT, entry.key.as_str(), entry.value)?;
            self.doc.commit();
            updates.push(self.doc.save_incremental());
        }
        Ok(updates)
    }

    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()> {
        let applied = self.doc.load_incremental(update)?;
        ensure!(applied > 0, "an update was not applied");
        Ok(())
    }

    fn export(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.doc.save())
    }

    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.apply(bytes)
    }
}

/// A list object. Where replicas are to share one, its maker's change must reach them all
/// first, so each begins with it.
pub(crate) struct Array {
    doc: AutoCommit,
    list: ObjId,
    /// To ask the document for it takes time in the size of the list.
    length: usize,
    /// Heads of what the other replica has.
    known: Vec<ChangeHash>,
}

const LIST: &str = "l";

/// The replica that makes the list.
const MAKER: u64 = u64::MAX;

fn value(element: Element) -> ScalarValue {
    match element {
        Element::Integer(integer) => ScalarValue::Int(integer),
        Element::Character(character) => {
            ScalarValue::Str((&*character.encode_utf8(&mut [0; 4])).into())
        }
    }
}

fn element(value: &ValueRef<'_>) -> Option<Element> {
    match value {
        ValueRef::Scalar(ScalarValueRef::Int(integer)) => Some(Element::Integer(*integer)),
        ValueRef::Scalar(ScalarValueRef::Str(text)) => text.chars().next().map(Element::Character),
        _ => None,
    }
}

impl Array {
    fn edit(&mut self, edit: Edit) -> anyhow::Result<()> {
        let (index, element) = match edit {
            Edit::Append(element) => (self.length, element),
            Edit::Insert(index, element) => (index, element),
            Edit::Delete(index) => {
                self.length -= 1;
                return Ok(self.doc.delete(&self.list, index)?);
            }
        };
        self.length += 1;
        Ok(self.doc.insert(&self.list, index, value(element))?)
    }
}

impl ArrayEngine for Array {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let mut doc = AutoCommit::new().with_actor(actor(MAKER));
        doc.put_object(ROOT, LIST, ObjType::List)?;
        Self::open(replica, &doc.save())
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
        self.doc
            .list_range(&self.list, ..)
            .map(|item| element(&item.value).context("no element"))
            .collect()
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.doc.save())
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut doc = AutoCommit::load(bytes)?.with_actor(actor(replica));
        let (_, list) = doc.get(ROOT, LIST)?.context("there is no list")?;
        Ok(Self {
            length: doc.length(&list),
            known: doc.get_heads(),
            doc,
            list,
        })
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        let bytes = self.doc.save_after(&self.known);
        self.known = self.doc.get_heads();
        Ok(bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let before = self.doc.get_heads();
        self.doc.load_incremental(bytes)?;
        let heads = self.doc.get_heads();
        // What is new among the heads came from the other replica.
        self.known
            .extend(heads.into_iter().filter(|head| !before.contains(head)));
        self.length = self.doc.length(&self.list);
        Ok(())
    }
}
