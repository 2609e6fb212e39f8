//! Automerge: the root map of an `AutoCommit`.

use anyhow::{Context, ensure};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT, ReadDoc};

use super::Engine;
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
