//! Compact updates: a transaction in few bytes, told by the difference to the operation before it.
//!
//! A delta is self-contained: id, numbers, time and key in full. Whoever has the operation before
//! needs a third of that. What an update is told against (its [`Context`]) is a function of that
//! operation alone, not of a session: so a relay passes the same bytes to everybody, and who
//! catches up has the context with the operation. The checksum is over the update and over all that
//! it presupposes, so with another context, or after damage on the way, nothing comes out.

mod body;
mod context;
mod next;
mod writers;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::few::SmallVec;
use crate::hashing::xxh3_64_with_seed;

use self::body::{COMPACT, Header};
pub(crate) use self::context::Context;
use self::writers::Writers;
use crate::clock::Timestamp;
use crate::codec::Reader;
use crate::delta::{Delta, DeltaEntry};
use crate::document::Document;
use crate::dots::{DotRange, DotSet};
use crate::error::DecodeError;
use crate::key::Key;
use crate::limits::MAX_CONTEXTS;
use crate::replica::{Dot, ReplicaId};
use crate::replicas::{Known, tag_of};
use crate::sorting::sort_by;

/// Checksum of a compact update.
const CHECKSUM_BYTES: usize = 4;
/// Updates that are known again when they come once more, from somebody else.
const RECENT: usize = 128;
/// Replicas of one tag that are tried: more than a few there are only where somebody chose ids.
const MAX_CANDIDATES: usize = 8;
/// Ranges of one replica's operations behind which an update is looked for.
const MAX_ENDS: usize = 4;

/// What a replica remembers so that updates can be told by the difference: in some 20 bytes for a
/// write of one key.
///
/// For whoever brings a transport that keeps the order of what one replica sends. Each replica
/// has one for each document, and passes on the very bytes that it was given: they serve
/// everybody.
///
/// ```
/// use portolan_core::{Contexts, Delta, Document, ReplicaId, UpdateError, Version};
///
/// let now = 1_767_225_600_000; // milliseconds since the Unix epoch
/// let mut here = (Document::new(ReplicaId::new(1)), Contexts::new("fleet"));
/// let mut there = (Document::new(ReplicaId::new(2)), Contexts::new("fleet"));
/// let mut sent = Vec::new();
/// for i in 0..3 {
///     here.0.set(now + i, format!("key-00012{i}").as_str(), i as i64)?;
///     let update = here.1.encode(&here.0, &here.0.own_since(i));
///     let delta = there.1.decode(&there.0, &update)?;
///     there.0.apply(&delta);
///     sent.push(update);
/// }
/// assert_eq!(there.0.encode(), here.0.encode());
/// assert!(sent[2].len() < 20, "the first is a whole delta, the others are not");
///
/// // Who comes later asks for what it lacks, and then follows.
/// let mut late = (Document::new(ReplicaId::new(3)), Contexts::new("fleet"));
/// let refused = late.1.decode(&late.0, &sent[2]);
/// assert_eq!(refused, Err(UpdateError::ContextMissing));
/// let missing = here.0.delta_since(&late.0.version());
/// late.0.apply(&missing);
/// here.0.set(now + 9, "key-000129", 9)?;
/// let update = here.1.encode(&here.0, &here.0.own_since(3));
/// let delta = late.1.decode(&late.0, &update)?;
/// late.0.apply(&delta);
/// assert_eq!(late.0.encode(), here.0.encode());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Contexts {
    /// Goes into every checksum.
    scope: u64,
    /// Those heard lately. Others' contexts come from the document while they are live there.
    writers: Writers,
    /// Hashes of the latest updates, and what they told of.
    recent: Vec<(u64, DotRange)>,
    /// Where the oldest of them stands, once there are as many as are kept.
    oldest: usize,
    /// What an update presupposes, while it is read.
    scratch: Vec<u8>,
}

/// Why an update gives no delta. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// It is told against an operation that is not here, or it was damaged on the way.
    #[error(
        "the update continues an operation that is not here, or was damaged: ask for a delta since the version that is here"
    )]
    ContextMissing,
    /// There is nothing new in it: the same bytes came before, and these operations are applied.
    #[error("the operations of the update are applied already: nothing is to be done")]
    Known(DotSet),
    /// No correct replica wrote it.
    #[error(transparent)]
    Refused(#[from] DecodeError),
}

/// What a compact update turns out to be.
#[derive(Debug)]
pub(crate) enum Expansion {
    New(Delta),
    /// The same bytes came before, and told of these operations.
    Repeated(DotSet),
    /// By its number, and 16 bits of its writer, it would tell of these operations, which are
    /// applied; or else it is of another writer, of whom nothing is here.
    Behind(DotSet),
    /// There is no telling what it is.
    Unclear,
}

impl Contexts {
    /// For the document of this name: updates of another one are not taken for its own.
    pub fn new(name: &str) -> Self {
        Self {
            scope: xxh3_64_with_seed(name.as_bytes(), 0),
            writers: Writers::default(),
            recent: Vec::new(),
            oldest: 0,
            scratch: Vec::new(),
        }
    }

    /// What to send for a delta of own operations that `document` has just made
    /// ([`Document::own_since`]): a compact update where that can be, else the bytes of the delta.
    ///
    /// Linear in the delta.
    pub fn encode(&mut self, document: &Document, delta: &Delta) -> Vec<u8> {
        let compact = self.compact(document, delta);
        compact.unwrap_or_else(|| delta.encode())
    }

    /// The delta that an update stands for. Apply it to `document` before the next one is decoded.
    ///
    /// An update comes after the one before it, of the same writer; where one is missing, the next
    /// is [refused](UpdateError::ContextMissing), and again those after it, until the document has
    /// caught up by a delta. One that comes a second time soon is [known](UpdateError::Known); one
    /// that comes a second time late is refused too, for by its number and 16 bits of its writer
    /// alone it could be of another writer, of whom nothing is here.
    pub fn decode(&mut self, document: &Document, update: &[u8]) -> Result<Delta, UpdateError> {
        if !Self::is_compact(update) {
            let delta = Delta::decode(update)?;
            self.note(&delta);
            return Ok(delta);
        }
        if let Some(delta) = self.expand_next(document, update) {
            return Ok(delta);
        }
        match self.expand_any(document, update)? {
            Expansion::New(delta) => Ok(delta),
            Expansion::Repeated(dots) => Err(UpdateError::Known(dots)),
            Expansion::Behind(_) | Expansion::Unclear => Err(UpdateError::ContextMissing),
        }
    }

    /// Whether an update is told by the difference, and is not a whole delta.
    pub(crate) fn is_compact(update: &[u8]) -> bool {
        update.first().is_some_and(|first| first & COMPACT != 0)
    }

    /// The compact form of a delta of own operations.
    pub(crate) fn compact(&mut self, document: &Document, delta: &Delta) -> Option<Vec<u8>> {
        let mut presupposed = core::mem::take(&mut self.scratch);
        let told = self.told_shortly(document, delta, &mut presupposed);
        let compact = told.map(|mut update| {
            let hash = self.hash(&update);
            let sum = checksum(hash, &presupposed);
            update.extend_from_slice(&sum);
            for range in delta.applied.ranges() {
                self.remember(hash, sum, *range);
            }
            update
        });
        self.scratch = presupposed;
        self.note(delta);
        compact
    }

    /// As [`compact`](Self::compact), but for the checksum; and what it presupposes.
    fn told_shortly(
        &self,
        document: &Document,
        delta: &Delta,
        presupposed: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        let [own] = *delta.applied.ranges() else {
            return None;
        };
        let before = Dot::new(
            own.replica,
            own.first.checked_sub(1).filter(|seq| *seq > 0)?,
        );
        let live;
        let context = match self.writers.context(before.replica) {
            Some(context) if context.seq == before.seq => context,
            _ => {
                live = Context::live(document, before)?;
                &live
            }
        };
        let mut out = Vec::with_capacity(32);
        body::put(&mut out, presupposed, delta, context)?;
        Some(out)
    }

    /// What a compact update turns out to be; an error where it is whole, and no correct replica
    /// wrote it.
    ///
    /// Costs a few look-ups where it is not for here, whatever it claims.
    pub(crate) fn expand(
        &mut self,
        document: &Document,
        update: &[u8],
    ) -> Result<Expansion, DecodeError> {
        match self.expand_next(document, update) {
            Some(delta) => Ok(Expansion::New(delta)),
            None => self.expand_any(document, update),
        }
    }

    /// As [`expand`](Self::expand), of any update.
    fn expand_any(&mut self, document: &Document, update: &[u8]) -> Result<Expansion, DecodeError> {
        let Some((told, sum)) = update.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Ok(Expansion::Unclear);
        };
        let mut reader = Reader::new(told);
        let Ok(header) = Header::read(&mut reader) else {
            return Ok(Expansion::Unclear);
        };
        let hash = self.hash(told);
        let mut presupposed = core::mem::take(&mut self.scratch);
        // Whoever wrote last writes on in most cases.
        let latest = self.writers.latest();
        let latest = latest.filter(|(writer, _)| tag_of(*writer) == header.tag);
        let latest = latest.and_then(|(writer, _)| document.replicas.by_id(writer));
        let likely = latest.and_then(|known| ends(known, &header).next());
        let others = core::iter::once_with(|| candidates(document, &header)).flatten();
        for before in likely.into_iter().chain(others) {
            let context = self.context(document, before);
            let read = body::read(
                &mut reader.clone(),
                &mut presupposed,
                &header,
                before.replica,
                &context,
                document,
            );
            let Ok(delta) = read else { continue };
            let plain = header.is_plain(&context);
            if checksum(hash, &presupposed) != *sum
                || !(plain || is_canonical(&delta, told, &context))
            {
                continue;
            }
            self.scratch = presupposed;
            check(&delta, plain)?;
            self.note(&delta);
            for range in delta.applied.ranges() {
                self.remember(hash, *sum, *range);
            }
            return Ok(Expansion::New(delta));
        }
        self.scratch = presupposed;
        let update = fingerprint(hash, *sum);
        if let Some((_, range)) = self.recent.iter().find(|(recent, _)| *recent == update) {
            let dots = DotSet::from_range(range.replica, range.first, range.last);
            if document.covers(&dots) {
                return Ok(Expansion::Repeated(dots));
            }
        }
        let known = document.replicas.tagged(header.tag);
        let mut known = known.filter(|known| !known.applied.is_empty());
        let behind = match (known.next(), known.next()) {
            (Some(known), None) => behind(known, &header),
            // Which of several it is nobody can tell.
            _ => None,
        };
        Ok(behind.map_or(Expansion::Unclear, Expansion::Behind))
    }

    /// An update of this body with a right checksum, if there can be one: no fuzzer guesses it.
    #[doc(hidden)]
    pub fn sealed(&self, document: &Document, body: &[u8]) -> Option<Vec<u8>> {
        let mut reader = Reader::new(body);
        let header = Header::read(&mut reader).ok()?;
        let mut presupposed = Vec::new();
        candidates(document, &header)
            .into_iter()
            .find_map(|before| {
                let context = self.context(document, before);
                let (reader, writer) = (&mut reader.clone(), before.replica);
                body::read(
                    reader,
                    &mut presupposed,
                    &header,
                    writer,
                    &context,
                    document,
                )
                .ok()?;
                Some([body, &checksum(self.hash(body), &presupposed)].concat())
            })
    }

    fn context(&self, document: &Document, dot: Dot) -> Cow<'_, Context> {
        match self.writers.context(dot.replica) {
            Some(context) if context.seq == dot.seq => Cow::Borrowed(context),
            _ => {
                let live = Context::live(document, dot);
                Cow::Owned(live.unwrap_or_else(|| Context::bare(dot.seq)))
            }
        }
    }

    /// Remembers the last operation of a delta, where it is of one writer.
    pub(crate) fn note(&mut self, delta: &Delta) {
        // One value in the root is what most deltas are.
        if let ([entry], None, [range]) = (
            delta.entries.as_slice(),
            &delta.nested,
            delta.applied.ranges(),
        ) && entry.dot == Dot::new(range.replica, range.last)
        {
            self.writers.follow(entry.dot, entry.timestamp, &entry.key);
            return;
        }
        if let Some((writer, context)) = Context::after(delta) {
            self.writers.hear(writer, context);
        }
    }

    /// Remembers the last operations of writers from the document while they are live there:
    /// these operations have just come otherwise than one by one.
    ///
    /// Linear in the replicas among them.
    pub(crate) fn catch_up(&mut self, document: &Document, operations: &DotSet) {
        let groups = operations.ranges().chunk_by(|a, b| a.replica == b.replica);
        let mut last: Vec<(Timestamp, Dot)> = groups
            .filter_map(|group| {
                let dot = Dot::new(group[0].replica, group.last()?.last);
                Some((Context::time(document, dot)?, dot))
            })
            .collect();
        if last.len() > MAX_CONTEXTS {
            last.sort_unstable();
            last.drain(..last.len() - MAX_CONTEXTS);
        }
        for (_, dot) in last {
            let heard = self.writers.context(dot.replica);
            if heard.is_none_or(|context| context.seq < dot.seq)
                && let Some(context) = Context::live(document, dot)
            {
                self.writers.hear(dot.replica, context);
            }
        }
    }

    /// The contexts that who is given these operations cannot read off the document, since their
    /// values are not live any more.
    pub(crate) fn not_live(
        &self,
        document: &Document,
        given: &DotSet,
    ) -> Vec<(ReplicaId, Context)> {
        let gone = |(writer, context): &(ReplicaId, &Context)| {
            let dot = Dot::new(*writer, context.seq);
            let live = document.replicas.by_id(*writer);
            let live = live.is_some_and(|known| known.live.get(dot.seq).is_some());
            !live && given.contains(dot) && **context != Context::bare(dot.seq)
        };
        let gone = self.writers.iter().filter(gone);
        let mut gone: Vec<_> = gone
            .map(|(writer, context)| (writer, context.clone()))
            .collect();
        sort_by(&mut gone, |a, b| a.0.cmp(&b.0));
        gone
    }

    /// Takes over contexts that somebody else has, of operations that are here. Where one is known
    /// here it stays: nobody can spoil it.
    pub(crate) fn take(&mut self, document: &Document, contexts: Vec<(ReplicaId, Context)>) {
        for (writer, context) in contexts {
            let known = document.replicas.by_id(writer);
            let here = known.is_some_and(|known| known.applied.last_seq(writer) == context.seq);
            let heard = self.writers.context(writer);
            if here && heard.is_none_or(|heard| heard.seq != context.seq) {
                self.writers.hear(writer, context);
            }
        }
    }

    #[inline]
    fn remember(&mut self, hash: u64, sum: [u8; CHECKSUM_BYTES], told: DotRange) {
        let update = (fingerprint(hash, sum), told);
        if self.recent.len() < RECENT {
            self.recent.push(update);
        } else {
            self.recent[self.oldest] = update;
            self.oldest = (self.oldest + 1) % RECENT;
        }
    }

    /// Of an update but for its checksum.
    fn hash(&self, told: &[u8]) -> u64 {
        xxh3_64_with_seed(told, self.scope)
    }
}

/// Of what an update tells, by the hash of that, and of what it presupposes: what comes out is a
/// function of these two, so nothing else comes out with the same checksum.
#[inline]
fn checksum(hash: u64, presupposed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (xxh3_64_with_seed(presupposed, hash) as u32).to_le_bytes()
}

/// Of an update, by the hash of what it tells.
fn fingerprint(hash: u64, sum: [u8; CHECKSUM_BYTES]) -> u64 {
    hash ^ u64::from(u32::from_le_bytes(sum)) << 32
}

/// The operations that an update may come after.
fn candidates(document: &Document, header: &Header) -> SmallVec<[Dot; 2]> {
    let tagged = document.replicas.tagged(header.tag).take(MAX_CANDIDATES);
    tagged.flat_map(|known| ends(known, header)).collect()
}

/// Those of one replica among them.
fn ends(known: &Known, header: &Header) -> impl Iterator<Item = Dot> {
    let before = header.low.wrapping_sub(1);
    let ends = known.applied.ranges().iter().rev().take(MAX_ENDS);
    let ends = ends.filter(move |end| end.last as u16 == before);
    ends.map(|end| Dot::new(known.id, end.last))
}

/// Whether this is how the delta is told. Where it is not, damage has left it its meaning.
fn is_canonical(delta: &Delta, told: &[u8], context: &Context) -> bool {
    // Integers are written as whole words and cut.
    let mut again = Vec::with_capacity(told.len() + 8);
    body::put(&mut again, &mut Vec::new(), delta, context).is_some() && again == told
}

/// Where the checksum is right and the content is not, the writer itself broke the rules.
fn check(delta: &Delta, plain: bool) -> Result<(), DecodeError> {
    if !is_checked(delta, plain) {
        Delta::decode(&delta.encode())?;
    }
    Ok(())
}

/// Whether all was checked as it was read: of one value in the root it was.
fn is_checked(delta: &Delta, plain: bool) -> bool {
    let element = |entry: &DeltaEntry| matches!(entry.key, Key::Element(_));
    plain && !delta.entries.iter().any(element)
}

/// The operations of which an update would tell that is behind what is applied of a replica.
fn behind(known: &Known, header: &Header) -> Option<DotSet> {
    let last = known.applied.last_seq(known.id);
    let next = last + 1;
    let back = (next as u16).wrapping_sub(header.low);
    let first = next
        .checked_sub(u64::from(back))
        .filter(|first| *first > 0)?;
    if back == 0 || back >= 1 << 15 {
        return None;
    }
    let dots = DotSet::from_range(known.id, first, first + header.count - 1);
    known.applied.covers(&dots).then_some(dots)
}
