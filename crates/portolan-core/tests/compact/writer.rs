//! A replica that writes by script and tells of it in compact updates.

use portolan_core::{Contexts, Delta, Document, Error, ReplicaId, UpdateError};
use proptest::prelude::*;

pub(crate) const START: u64 = 1_767_225_600_000;
pub(crate) const NAME: &str = "fleet";

pub(crate) struct Writer {
    pub(crate) document: Document,
    pub(crate) contexts: Contexts,
    now: u64,
}

/// One operation or none; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Set(u8, i64),
    Unset(u8),
    SetIn(u8, u8, i64),
    SetDeep(i64),
    Add(u8, i64),
    Reset(u8),
    Insert(u8, i64),
    Remove(u8, i64),
    Append(u8, i64),
    InsertAt(u8, u8, i64),
    SetAt(u8, u8, i64),
    Delete(u8, u8),
    Move(u8, u8, u8),
    /// Lets time pass.
    Wait(u16),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let (key, at) = (0..5u8, 0..6u8);
    prop_oneof![
        4 => (key.clone(), any::<i64>()).prop_map(|(k, v)| Set(k, v)),
        2 => key.clone().prop_map(Unset),
        2 => (key.clone(), 0..3u8, -9..9i64).prop_map(|(k, i, v)| SetIn(k, i, v)),
        1 => any::<i64>().prop_map(SetDeep),
        2 => (key.clone(), -99..99i64).prop_map(|(k, v)| Add(k, v)),
        1 => key.clone().prop_map(Reset),
        2 => (key.clone(), 0..5i64).prop_map(|(k, v)| Insert(k, v)),
        1 => (key.clone(), 0..5i64).prop_map(|(k, v)| Remove(k, v)),
        3 => (key.clone(), any::<i64>()).prop_map(|(k, v)| Append(k, v)),
        2 => (key.clone(), at.clone(), 0..9i64).prop_map(|(k, i, v)| InsertAt(k, i, v)),
        1 => (key.clone(), at.clone(), 0..9i64).prop_map(|(k, i, v)| SetAt(k, i, v)),
        1 => (key.clone(), at.clone()).prop_map(|(k, i)| Delete(k, i)),
        1 => (key, at.clone(), at).prop_map(|(k, i, j)| Move(k, i, j)),
        2 => any::<u16>().prop_map(Wait),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        3 => prop::collection::vec(step(), 1..2),
        1 => prop::collection::vec(step(), 2..6),
    ]
}

/// Keys of several kinds, some with a common beginning, one too long for a context.
fn key(number: u8) -> portolan_core::Key {
    match number {
        0 => "a".into(),
        1 => "a key".into(),
        2 => 7.into(),
        3 => "a key of more bytes than are held in place".into(),
        _ => "long ".repeat(80).into(),
    }
}

impl Writer {
    pub(crate) fn new(number: u64) -> Self {
        Self::named(number, NAME)
    }

    pub(crate) fn named(number: u64, name: &str) -> Self {
        // Small ones, ids of one tag, and others as they are in use.
        let id = match number {
            2 => number,
            0..100 => 0xfeed_0000_0000_0000 + (number << 32),
            _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        Self {
            document: Document::new(ReplicaId::new(id)),
            contexts: Contexts::new(name),
            now: START,
        }
    }

    pub(crate) fn decode(&mut self, update: &[u8]) -> Result<Delta, UpdateError> {
        self.contexts.decode(&self.document, update)
    }

    /// Does the steps in one transaction; gives its delta and what to send, if it did anything.
    pub(crate) fn write(&mut self, steps: &[Step]) -> Option<(Delta, Vec<u8>)> {
        for step in steps {
            if let Step::Wait(millis) = step {
                self.now += u64::from(*millis);
            }
        }
        let before = self.document.own_seq();
        let done = self.document.transact(self.now, |tx| {
            for step in steps {
                apply(step, tx)?;
            }
            Ok::<(), Error>(())
        });
        done.expect("within limits");
        let delta = self.document.own_since(before);
        if delta.is_empty() {
            return None;
        }
        let update = self.contexts.encode(&self.document, &delta);
        Some((delta, update))
    }
}

fn apply(step: &Step, tx: &mut portolan_core::Transaction<'_>) -> Result<(), Error> {
    let at = |number: u8, len: usize| usize::from(number) % len;
    match *step {
        Step::Set(k, v) => tx.set(key(k), v)?,
        Step::Unset(k) => {
            tx.unset(&key(k));
        }
        Step::SetIn(k, inner, v) => tx.map(key(k)).map(i64::from(inner)).set("in", v)?,
        Step::SetDeep(v) => {
            let mut map = tx.root().into_map("deep");
            for level in 0..20 {
                map = map.into_map(level);
            }
            map.set("bottom", v)?;
        }
        Step::Add(k, v) => tx.counter(key(k)).add(v)?,
        Step::Reset(k) => {
            tx.counter(key(k)).reset()?;
        }
        Step::Insert(k, v) => tx.or_set(key(k)).insert(v)?,
        Step::Remove(k, v) => {
            tx.or_set(key(k)).remove(v)?;
        }
        Step::Append(k, v) => {
            tx.array(key(k)).append(v)?;
        }
        Step::InsertAt(k, i, v) => {
            let mut array = tx.array(key(k));
            let len = array.len()?;
            array.insert(at(i, len + 1), v)?;
        }
        Step::SetAt(k, i, v) => {
            let mut array = tx.array(key(k));
            if let len @ 1.. = array.len()? {
                array.set(at(i, len), v)?;
            }
        }
        Step::Delete(k, i) => {
            let mut array = tx.array(key(k));
            if let len @ 1.. = array.len()? {
                array.delete(at(i, len))?;
            }
        }
        Step::Move(k, i, j) => {
            let mut array = tx.array(key(k));
            if let len @ 1.. = array.len()? {
                array.move_to(at(i, len), at(j, len))?;
            }
        }
        Step::Wait(_) => {}
    }
    Ok(())
}
