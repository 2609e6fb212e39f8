//! The crate `crdts`: a `Map` of `MVReg`, or a `List`. It has no encoding of its own, only serde;
//! `postcard` is a compact and fast format for that.

use anyhow::Context;
use crdts::ctx::AddCtx;
use crdts::{CmRDT, CvRDT, List, MVReg, list, map};

use super::{ArrayEngine, Engine};
use crate::edits::{Edit, Element};
use crate::task::array::ArrayTask;
use crate::workload::{Contents, Entry, replica_id};

type Actor = u64;
type Registers = map::Map<String, MVReg<i64, Actor>, Actor>;
type Op = map::Op<String, MVReg<i64, Actor>, Actor>;

pub(crate) struct Map {
    map: Registers,
    actor: Actor,
}

impl Map {
    fn write(&self, entry: &Entry, context: AddCtx<Actor>) -> Op {
        let key = entry.key.as_str();
        self.map.update(key, context, |register, context| {
            register.write(entry.value, context)
        })
    }
}

/// It has no winner; the greatest is the same one on every replica.
fn integer(register: &MVReg<i64, Actor>) -> Option<i64> {
    register.read().val.into_iter().max()
}

impl Engine for Map {
    fn new(replica: u64) -> anyhow::Result<Self> {
        Ok(Self {
            map: Registers::new(),
            actor: replica_id(replica),
        })
    }

    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        // The context is read once and carried on.
        let mut clock = self.map.read_ctx().add_clock;
        for entry in entries {
            let dot = clock.inc(self.actor);
            clock.apply(dot);
            let context = AddCtx {
                clock: clock.clone(),
                dot,
            };
            let op = self.write(entry, context);
            self.map.apply(op);
        }
        Ok(())
    }

    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            let context = self.map.read_ctx().derive_add_ctx(self.actor);
            let op = self.write(entry, context);
            self.map.apply(op);
        }
        Ok(())
    }

    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()> {
        for key in keys {
            let context = self.map.get(key).derive_rm_ctx();
            let op = self.map.rm(key.as_str(), context);
            self.map.apply(op);
        }
        Ok(())
    }

    fn sum(&self, keys: &[String]) -> anyhow::Result<i64> {
        let mut sum = 0;
        for key in keys {
            let register = self.map.get(key).val.context("a key is missing")?;
            sum += integer(&register).context("an empty register")?;
        }
        Ok(sum)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        for register in self.map.values() {
            contents.add(integer(register.val).context("an empty register")?);
        }
        Ok(contents)
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        self.export()
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self {
            map: postcard::from_bytes(bytes)?,
            actor: replica_id(replica),
        })
    }

    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut updates = Vec::with_capacity(entries.len());
        for entry in entries {
            let context = self.map.read_ctx().derive_add_ctx(self.actor);
            let op = self.write(entry, context);
            updates.push(postcard::to_allocvec(&op)?);
            self.map.apply(op);
        }
        Ok(updates)
    }

    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()> {
        self.map.apply(postcard::from_bytes(update)?);
        Ok(())
    }

    fn export(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(postcard::to_allocvec(&self.map)?)
    }

    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.map.merge(postcard::from_bytes(bytes)?);
        Ok(())
    }
}

/// A `List`: it has operations but no join, and no transactions.
pub(crate) struct Array {
    list: List<Element, Actor>,
    actor: Actor,
    /// Its operations that are to be sent.
    unsent: Vec<list::Op<Element, Actor>>,
}

impl Array {
    fn edit(&self, edit: Edit) -> anyhow::Result<list::Op<Element, Actor>> {
        Ok(match edit {
            Edit::Append(element) => self.list.append(element, self.actor),
            Edit::Insert(index, element) => self.list.insert_index(index, element, self.actor),
            Edit::Delete(index) => {
                let op = self.list.delete_index(index, self.actor);
                op.context("nothing is there to delete")?
            }
        })
    }
}

impl ArrayEngine for Array {
    fn new(replica: u64) -> anyhow::Result<Self> {
        Ok(Self {
            list: List::new(),
            actor: replica_id(replica),
            unsent: Vec::new(),
        })
    }

    /// It walks the list for each edit, and ids between two neighbours grow with every one.
    fn reach(task: ArrayTask) -> usize {
        match task {
            ArrayTask::PushBatch | ArrayTask::PushEach | ArrayTask::Random => 10_000,
            ArrayTask::PaperBatch | ArrayTask::PaperEach => 2_500,
            ArrayTask::Friends => usize::MAX,
        }
    }

    fn edit_batch(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        self.edit_each(edits)
    }

    fn edit_each(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        for edit in edits {
            let op = self.edit(*edit)?;
            self.list.apply(op);
        }
        Ok(())
    }

    fn elements(&self) -> anyhow::Result<Vec<Element>> {
        Ok(self.list.iter().copied().collect())
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(postcard::to_allocvec(&self.list)?)
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self {
            list: postcard::from_bytes(bytes)?,
            ..Self::new(replica)?
        })
    }

    fn share(&mut self, edits: &[Edit]) -> anyhow::Result<()> {
        for edit in edits {
            let op = self.edit(*edit)?;
            self.unsent.push(op.clone());
            self.list.apply(op);
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<Vec<u8>> {
        let bytes = postcard::to_allocvec(&self.unsent)?;
        self.unsent.clear();
        Ok(bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let ops: Vec<list::Op<Element, Actor>> = postcard::from_bytes(bytes)?;
        for op in ops {
            self.list.apply(op);
        }
        Ok(())
    }
}
