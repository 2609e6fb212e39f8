//! What a compact update presupposes: the operation before it, of the same writer.

use alloc::vec::Vec;

use crate::few::SmallVec;

use crate::clock::Timestamp;
use crate::codec::{Reader, put_key, put_varint, read_key};
use crate::containers::{Form, ROOT};
use crate::delta::Delta;
use crate::document::Document;
use crate::dots::DotRange;
use crate::error::DecodeError;
use crate::key::Key;
use crate::limits::{MAX_CONTEXT_BYTES, MAX_DEPTH};
use crate::nested::Run;
use crate::replica::{Dot, ReplicaId};
use crate::slab::BIRTH;

/// One container on the way from the root.
pub(crate) type Step = (Key, Form);
/// The containers from the root to what is meant; none for the root.
pub(crate) type Path = SmallVec<[Step; 1]>;

/// An operation, as far as the next one of its writer is told by the difference.
///
/// A function of the operation alone, so everybody who has it has the same: an operation whose
/// value is live can be asked for it at any time, one without a value has the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    /// The number of the operation.
    pub(crate) seq: u64,
    pub(crate) timestamp: Timestamp,
    /// The container in which it wrote.
    pub(crate) path: Path,
    /// The key, where it wrote under one and not at a position.
    pub(crate) key: Option<Key>,
}

impl Context {
    /// Of an operation that left no value.
    pub(crate) fn bare(seq: u64) -> Self {
        Self {
            seq,
            ..Self::default()
        }
    }

    /// Of an operation that wrote in that place. A place that takes many bytes is left out, so
    /// that contexts are small.
    pub(crate) fn new(seq: u64, timestamp: Timestamp, path: Path, key: Option<Key>) -> Self {
        let (path, key) = if fits(&path, key.as_ref()) {
            (path, key)
        } else {
            (Path::new(), None)
        };
        Self {
            seq,
            timestamp,
            path,
            key,
        }
    }

    /// Of the last operation of a delta of consecutive operations of one replica; `None` for any
    /// other delta. Linear in the delta.
    pub(crate) fn after(delta: &Delta) -> Option<(ReplicaId, Self)> {
        let [DotRange { replica, last, .. }] = *delta.applied.ranges() else {
            return None;
        };
        let dot = Dot::new(replica, last);
        if let Some(entry) = delta.entries.iter().find(|entry| entry.dot == dot) {
            let (timestamp, key) = (entry.timestamp, Some(entry.key.clone()));
            let path = path_in(delta, entry.container);
            return Some((replica, Self::new(last, timestamp, path, key)));
        }
        let context = born_last(delta, dot).map(|(run, timestamp)| {
            let path = path_in(delta, run.container);
            Self::new(last, timestamp, path, None)
        });
        Some((replica, context.unwrap_or_else(|| Self::bare(last))))
    }

    /// Becomes that of an operation that wrote in the root.
    #[inline]
    pub(super) fn follow(&mut self, seq: u64, timestamp: Timestamp, key: &Key) {
        (self.seq, self.timestamp) = (seq, timestamp);
        if !self.path.is_empty() {
            self.path.clear();
        }
        let fits = key.byte_len() < MAX_CONTEXT_BYTES;
        self.key = fits.then(|| key.clone());
    }

    /// When an operation was done whose value is live.
    pub(crate) fn time(document: &Document, dot: Dot) -> Option<Timestamp> {
        let slot = document.replicas.by_id(dot.replica)?.live.get(dot.seq)?;
        Some(if slot & BIRTH != 0 {
            document.elements[slot & !BIRTH].timestamp()
        } else {
            document.slab.stamp(slot).timestamp
        })
    }

    /// Of an operation whose value is live.
    pub(crate) fn live(document: &Document, dot: Dot) -> Option<Self> {
        let slot = document.replicas.by_id(dot.replica)?.live.get(dot.seq)?;
        if slot & BIRTH != 0 {
            let element = &document.elements[slot & !BIRTH];
            let path = path_of(document, element.array());
            return Some(Self::new(dot.seq, element.timestamp(), path, None));
        }
        let of = document.slab.operation(slot);
        let path = path_of(document, of.container);
        let (timestamp, key) = (of.timestamp, of.key.clone());
        Some(Self::new(dot.seq, timestamp, path, Some(key)))
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.seq);
        put_varint(out, self.timestamp.bits());
        self.put_place(out);
    }

    /// Appends the container and the key.
    pub(super) fn put_place(&self, out: &mut Vec<u8>) {
        put_varint(out, self.path.len() as u64);
        for (key, form) in &self.path {
            put_key(out, key);
            out.push(*form as u8);
        }
        out.push(u8::from(self.key.is_some()));
        if let Some(key) = &self.key {
            put_key(out, key);
        }
    }

    /// Reads what [`put`](Self::put) wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let seq = reader.varint()?;
        let timestamp = Timestamp::from_bits(reader.varint()?);
        let mut path = Path::new();
        for _ in 0..reader.bounded("the depth of a container", MAX_DEPTH as u64)? {
            path.push(read_step(reader)?);
        }
        let key = match reader.byte()? {
            0 => None,
            1 => Some(read_key(reader)?),
            _ => return Err(reader.malformed("a flag that is neither 0 nor 1").into()),
        };
        let place = (path.len(), key.is_some());
        let context = Self::new(seq, timestamp, path, key);
        if (context.path.len(), context.key.is_some()) != place {
            return Err(reader
                .malformed("a context of more bytes than one takes")
                .into());
        }
        Ok(context)
    }
}

/// Whether a place takes no more bytes than one may.
fn fits(path: &[Step], key: Option<&Key>) -> bool {
    let keys = path.iter().map(|(key, _)| key).chain(key);
    keys.map(|key| 1 + key.byte_len()).sum::<usize>() <= MAX_CONTEXT_BYTES
}

pub(crate) fn read_step(reader: &mut Reader<'_>) -> Result<Step, DecodeError> {
    let key = read_key(reader)?;
    let form = Form::from_code(reader.byte()?);
    let form = form.ok_or_else(|| reader.malformed("a container of an unknown kind"))?;
    Ok((key, form))
}

/// The containers above and including one of a delta.
pub(crate) fn path_in(delta: &Delta, container: u32) -> Path {
    let mut path = Path::new();
    let mut at = container;
    while let Some(place) = at.checked_sub(1) {
        let container = &delta.containers()[place as usize];
        path.push((container.key.clone(), container.form));
        at = container.parent;
    }
    path.reverse();
    path
}

fn path_of(document: &Document, container: u32) -> Path {
    let mut path = Path::new();
    let mut at = container;
    while at != ROOT {
        let container = document.containers.get(at);
        path.push((container.key.clone(), container.form));
        at = container.parent;
    }
    path.reverse();
    path
}

/// The run in which an element was born by `dot`, and when, if its value is live.
fn born_last(delta: &Delta, dot: Dot) -> Option<(&Run, Timestamp)> {
    let nested = delta.nested.as_ref()?;
    let mut before = 0;
    for run in &nested.runs {
        if run.last() == dot.seq {
            let at = before + run.length as usize - 1;
            nested.births[at].as_ref()?;
            return Some((run, nested.times[at]));
        }
        before += run.length as usize;
    }
    None
}
