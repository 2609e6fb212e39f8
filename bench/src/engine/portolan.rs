//! `portolan-core`.

mod array;

pub(crate) use array::Array;

use std::convert::Infallible;

use anyhow::Context;
use portolan_core::{Contexts, Delta, Document, Error, ReplicaId, Value};

use super::Engine;
use crate::workload::{Contents, Entry, replica_id};

/// Transactions that fall into one millisecond of the made-up clock.
const TRANSACTIONS_PER_MS: u64 = 100;

/// Milliseconds since 1970 at which the made-up clock starts.
const START: u64 = 1_800_000_000_000;

/// The engine has no clock of its own. No rival reads one here, so neither does this.
#[derive(Default)]
struct Clock {
    transactions: u64,
}

impl Clock {
    fn now(&mut self) -> u64 {
        self.transactions += 1;
        START + self.transactions / TRANSACTIONS_PER_MS
    }
}

pub(crate) struct Map {
    document: Document,
    contexts: Contexts,
    clock: Clock,
}

impl Engine for Map {
    fn new(replica: u64) -> anyhow::Result<Self> {
        let id = ReplicaId::new(replica_id(replica));
        Ok(Self {
            document: Document::new(id),
            contexts: Contexts::new("bench"),
            clock: Clock::default(),
        })
    }

    fn set_batch(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let now = self.clock.now();
        let entries = entries.iter();
        let entries = entries.map(|entry| (entry.key.as_str(), entry.value));
        self.document.transact(now, |tx| tx.set_all(entries))?;
        Ok(())
    }

    fn set_batch_calls(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let now = self.clock.now();
        self.document.transact(now, |tx| {
            for entry in entries {
                tx.set(entry.key.as_str(), entry.value)?;
            }
            Ok::<(), Error>(())
        })?;
        Ok(())
    }

    fn set_each(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            let now = self.clock.now();
            self.document.set(now, entry.key.as_str(), entry.value)?;
        }
        Ok(())
    }

    fn unset_batch(&mut self, keys: &[String]) -> anyhow::Result<()> {
        let now = self.clock.now();
        self.document.transact(now, |tx| {
            for key in keys {
                tx.unset(key.as_str());
            }
            Ok::<(), Infallible>(())
        })?;
        Ok(())
    }

    fn sum(&self, keys: &[String]) -> anyhow::Result<i64> {
        let mut sum = 0;
        for key in keys {
            let value = self.document.get(key.as_str()).and_then(Value::as_int);
            sum += value.context("a key is missing")?;
        }
        Ok(sum)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        for (_, mut siblings) in &self.document {
            let winner = siblings.next().and_then(|sibling| sibling.value.as_int());
            contents.add(winner.context("no integer")?);
        }
        Ok(contents)
    }

    fn snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.document.encode())
    }

    fn open(replica: u64, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut map = Self::new(replica)?;
        map.import(bytes)?;
        Ok(map)
    }

    fn small_snapshot(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.document.encode_packed())
    }

    fn updates(&mut self, entries: &[Entry]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut updates = Vec::with_capacity(entries.len());
        for entry in entries {
            let before = self.document.own_seq();
            let now = self.clock.now();
            self.document.set(now, entry.key.as_str(), entry.value)?;
            let delta = self.document.own_since(before);
            updates.push(self.contexts.encode(&self.document, &delta));
        }
        Ok(updates)
    }

    fn apply(&mut self, update: &[u8]) -> anyhow::Result<()> {
        let delta = self.contexts.decode(&self.document, update)?;
        self.document.apply(&delta);
        Ok(())
    }

    fn export(&mut self) -> anyhow::Result<Vec<u8>> {
        Ok(self.document.encode_packed())
    }

    fn import(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.document.apply(&Delta::decode(bytes)?);
        Ok(())
    }
}
