//! What a delta holds beside the root's values: containers, and the positions of arrays.

use smol_str::SmolStr;

use crate::arrays::{Adopted, Origin};
use crate::clock::Timestamp;
use crate::codec::{
    Reader, STR, put_key, put_value_body, put_varint, put_zigzag, read_key, value_tag,
};
use crate::containers::Form;
use crate::delta::{DeltaEntry, Runs, read_bounded_value, read_runs, replicas_of};
use crate::dots::DotSet;
use crate::error::DecodeError;
use crate::key::Key;
use crate::limits::{MAX_DEPTH, MAX_VALUE_BYTES};
use crate::replica::{Dot, ReplicaId};
use crate::sequence::Side;
use crate::sorting::sort;
use crate::value::Value;

/// Containers, and the positions that the operations of a delta made.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Nested {
    /// Sorted by parent, key and form; parents come before what is in them. Number 1 is the first.
    pub(crate) containers: Vec<DeltaContainer>,
    /// Sorted by dot, and as long as they can be.
    pub(crate) runs: Vec<Run>,
    /// Of each position of all runs the value that was born there, while it is live.
    pub(crate) births: Vec<Option<Value>>,
    /// Of each position.
    pub(crate) times: Vec<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeltaContainer {
    /// 0 for the root, else one more than its place in the list.
    pub(crate) parent: u32,
    pub(crate) key: Key,
    pub(crate) form: Form,
}

/// Positions of consecutive operations of one replica in one array.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) container: u32,
    pub(crate) replica: ReplicaId,
    pub(crate) first: u64,
    pub(crate) length: u32,
    /// What the first is a child of; `None` for the array itself.
    pub(crate) parent: Option<Dot>,
    pub(crate) side: Side,
    /// Whether each further one is the right child of the one before it; else all are children
    /// of the array.
    pub(crate) chain: bool,
    /// The element that moved here, where it was not born here.
    pub(crate) of: Option<Dot>,
    /// Of the first, as in [`Origin`].
    pub(crate) adopted: Option<Adopted>,
}

impl Run {
    pub(crate) fn last(&self) -> u64 {
        self.first + u64::from(self.length) - 1
    }

    /// The dots that it names beside its own.
    fn named(&self) -> impl Iterator<Item = Dot> + use<> {
        let adopted = self.adopted;
        let adopted = adopted.map(|((_, replica, seq), _)| Dot::new(replica, seq));
        [self.parent, self.of, adopted].into_iter().flatten()
    }

    pub(crate) fn dot(&self, at: u32) -> Dot {
        Dot::new(self.replica, self.first + u64::from(at))
    }

    /// Where the position at a place in the run belongs.
    pub(crate) fn origin(&self, at: u32) -> Origin {
        let (parent, side) = match at {
            0 => (self.parent, self.side),
            _ if self.chain => (Some(self.dot(at - 1)), Side::Right),
            _ => (None, Side::Right),
        };
        Origin {
            parent,
            side,
            of: self.of,
            adopted: self.adopted.filter(|_| at == 0),
        }
    }

    /// Takes in the next run, if that is its continuation; else gives it back.
    pub(crate) fn extend(&mut self, next: Run) -> Option<Run> {
        let single = self.length == 1;
        let follows = self.container == next.container
            && self.replica == next.replica
            && self.last() + 1 == next.first
            && self.of.is_none()
            && next.of.is_none()
            && next.adopted.is_none()
            && (single || self.chain == next.chain || next.length == 1);
        let chains = next.parent == Some(self.dot(self.length - 1)) && next.side == Side::Right;
        let appends = next.parent.is_none() && self.parent.is_none() && self.adopted.is_none();
        if follows && chains && (single || self.chain) {
            self.chain = true;
        } else if follows && appends && (single || !self.chain) {
            self.chain = false;
        } else {
            return Some(next);
        }
        self.length += next.length;
        None
    }
}

/// Positions for which a byte of ballast is written, so that a few bytes never stand for
/// megabytes of positions, however alike these are.
const POSITIONS_PER_BYTE: usize = 16;

const LEFT: u8 = 1;
const CHAIN: u8 = 2;
const HAS_PARENT: u8 = 4;
const MOVED: u8 = 8;
const ADOPTED: u8 = 16;

/// Appends the containers.
pub(crate) fn put_containers(out: &mut Vec<u8>, containers: &[DeltaContainer]) {
    put_varint(out, containers.len() as u64);
    for container in containers {
        put_varint(out, container.parent.into());
        put_key(out, &container.key);
        out.push(container.form as u8);
    }
}

/// Numbers for replicas: those of the delta, then others that are named.
struct Names<'a> {
    known: &'a [(ReplicaId, u64)],
    others: Vec<ReplicaId>,
}

impl Names<'_> {
    fn number(&self, id: ReplicaId) -> u64 {
        let known = self.known.binary_search_by_key(&id, |(known, _)| *known);
        let number = known.unwrap_or_else(|_| {
            let other = self.others.binary_search(&id).unwrap_or_else(|at| at);
            self.known.len() + other
        });
        number as u64
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<ReplicaId, DecodeError> {
        let last = (self.known.len() + self.others.len()).saturating_sub(1);
        let number = reader.bounded("the number of a replica", last as u64)?;
        let id = match number.checked_sub(self.known.len()) {
            None => self.known.get(number).map(|(id, _)| *id),
            Some(other) => self.others.get(other).copied(),
        };
        id.ok_or_else(|| reader.malformed("a replica without a number"))
    }
}

/// Appends the positions; `known` are the replicas of the delta's applied operations.
pub(crate) fn put_positions(out: &mut Vec<u8>, nested: &Nested, known: &[(ReplicaId, u64)]) {
    let runs = &nested.runs;
    put_varint(out, runs.len() as u64);
    if runs.is_empty() {
        return;
    }
    let named = runs.iter().flat_map(Run::named);
    let mut others: Vec<ReplicaId> = named
        .map(|dot| dot.replica)
        .filter(|id| known.binary_search_by_key(id, |(known, _)| *known).is_err())
        .collect();
    sort(&mut others);
    others.dedup();
    put_varint(out, others.len() as u64);
    for other in &others {
        out.extend_from_slice(&other.get().to_le_bytes());
    }
    let names = Names { known, others };

    let mut containers = Runs::new(|out, number: u32| put_varint(out, number.into()));
    let mut writers = Runs::new(|out, number: u64| put_varint(out, number));
    let mut flags = Runs::new(|out, flags: u8| out.push(flags));
    let (mut firsts, mut lengths) = (Vec::new(), Vec::new());
    let mut parents = (Runs::new(|out, n: u64| put_varint(out, n)), Vec::new());
    let (mut moved, mut adopted) = (Vec::new(), Vec::new());
    let mut next = (None, 0);
    for run in runs {
        containers.push(run.container);
        let writer = names.number(run.replica);
        writers.push(writer);
        let expected = if next.0 == Some(writer) { next.1 } else { 0 };
        put_varint(&mut firsts, run.first - expected);
        next = (Some(writer), run.last() + 1);
        put_varint(&mut lengths, u64::from(run.length - 1));
        let mut bits = 0;
        if run.side == Side::Left {
            bits |= LEFT;
        }
        if run.chain {
            bits |= CHAIN;
        }
        if let Some(parent) = run.parent {
            bits |= HAS_PARENT;
            parents.0.push(names.number(parent.replica));
            put_zigzag(&mut parents.1, run.first.wrapping_sub(parent.seq) as i64);
        }
        if let Some(element) = run.of {
            bits |= MOVED;
            put_varint(&mut moved, names.number(element.replica));
            put_zigzag(&mut moved, run.first.wrapping_sub(element.seq) as i64);
        }
        if let Some(((timestamp, replica, seq), ordinal)) = run.adopted {
            bits |= ADOPTED;
            put_varint(&mut adopted, timestamp.bits());
            put_varint(&mut adopted, names.number(replica));
            put_zigzag(&mut adopted, run.first.wrapping_sub(seq) as i64);
            put_varint(&mut adopted, ordinal.into());
        }
        flags.push(bits);
    }
    for mut column in [
        containers.finish(),
        writers.finish(),
        lengths,
        firsts,
        flags.finish(),
        parents.0.finish(),
        parents.1,
        moved,
        adopted,
    ] {
        out.append(&mut column);
    }
    put_births(out, nested);
    out.resize(out.len() + nested.births.len() / POSITIONS_PER_BYTE, 0);
}

/// Appends which positions have a live value, the times, and these values.
fn put_births(out: &mut Vec<u8>, nested: &Nested) {
    let mut live = true;
    let mut rest = nested.births.as_slice();
    while !rest.is_empty() {
        let run = rest.iter().take_while(|birth| birth.is_some() == live);
        let length = run.count();
        put_varint(out, length as u64);
        rest = &rest[length..];
        live = !live;
    }
    let mut steps = Runs::new(|out, step: u64| put_zigzag(out, step as i64));
    let mut before = 0u64;
    for time in &nested.times {
        steps.push(time.bits().wrapping_sub(before));
        before = time.bits();
    }
    out.append(&mut steps.finish());
    let mut tags = Runs::new(|out, tag: u8| out.push(tag));
    let values = || nested.births.iter().flatten();
    values().for_each(|value| tags.push(value_tag(value)));
    out.append(&mut tags.finish());
    let mut lengths = Runs::new(|out, length: usize| put_varint(out, length as u64));
    let mut texts = Vec::new();
    let mut bodies = Vec::new();
    for value in values() {
        if let Value::Str(text) = value {
            lengths.push(text.len());
            texts.extend_from_slice(text.as_bytes());
        } else {
            put_value_body(&mut bodies, value);
        }
    }
    out.append(&mut lengths.finish());
    out.append(&mut texts);
    out.append(&mut bodies);
}

impl Nested {
    /// How many positions have a live value.
    pub(crate) fn live(&self) -> usize {
        self.births.iter().flatten().count()
    }

    /// The latest timestamp of a position.
    pub(crate) fn latest(&self) -> Timestamp {
        self.times.iter().copied().max().unwrap_or_default()
    }

    /// The dots of live values that were born in positions, in order.
    pub(crate) fn live_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        let dots = self.runs.iter();
        let dots = dots.flat_map(|run| (0..run.length).map(|at| run.dot(at)));
        let live = dots.zip(&self.births);
        live.filter_map(|(dot, birth)| birth.is_some().then_some(dot))
    }

    pub(crate) fn read_containers(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Three bytes at the least for each.
        let most = reader.remaining() / 3;
        let count = reader.bounded("the number of containers", most as u64)?;
        if count == 0 {
            return Err(reader.malformed("no containers where there should be some"));
        }
        let mut containers: Vec<DeltaContainer> = Vec::new();
        let mut depths: Vec<usize> = Vec::new();
        for number in 0..count {
            let parent = reader.bounded("the number of a container", number as u64)? as u32;
            let key = read_key(reader)?;
            let code = reader.byte()?;
            let form = Form::from_code(code)
                .ok_or_else(|| reader.malformed("a container of an unknown kind"))?;
            let (above, depth) = match (parent as usize).checked_sub(1) {
                None => (Form::Map, 1),
                Some(at) => (containers[at].form, depths[at] + 1),
            };
            let fits = match above {
                Form::Map => !matches!(key, Key::Element(_)),
                Form::Array => matches!(key, Key::Element(_)),
                _ => false,
            };
            if !fits {
                return Err(reader.malformed("a container where none can be"));
            }
            if depth > MAX_DEPTH {
                let (found, limit) = (depth as u64, MAX_DEPTH as u64);
                let what = "the depth of a container";
                return Err(DecodeError::Limit { what, found, limit });
            }
            let container = DeltaContainer { parent, key, form };
            if containers.last().is_some_and(|last| *last >= container) {
                return Err(reader.malformed("containers out of order"));
            }
            containers.push(container);
            depths.push(depth);
        }
        Ok(Self {
            containers,
            ..Self::default()
        })
    }

    /// Reads what [`put_positions`] wrote.
    pub(crate) fn read_positions(
        &mut self,
        reader: &mut Reader<'_>,
        applied: &DotSet,
    ) -> Result<(), DecodeError> {
        let count = reader.count("the number of runs")?;
        if count == 0 {
            return Ok(());
        }
        let known = replicas_of(applied);
        let mut others = Vec::new();
        for _ in 0..reader.count("the number of replicas")? {
            let id = ReplicaId::new(reader.u64_le()?);
            let ascends = others.last().is_none_or(|last| *last < id);
            if !ascends || known.binary_search_by_key(&id, |(known, _)| *known).is_ok() {
                return Err(reader.malformed("replicas out of order"));
            }
            others.push(id);
        }
        let names = Names {
            known: &known,
            others,
        };
        self.read_runs(reader, count, &names)?;
        let named = self.runs.iter().flat_map(Run::named);
        let mut named: Vec<ReplicaId> = named.map(|dot| dot.replica).collect();
        sort(&mut named);
        if !names
            .others
            .iter()
            .all(|other| named.binary_search(other).is_ok())
        {
            return Err(reader.malformed("a replica that nothing names"));
        }
        let most = reader.remaining().saturating_mul(POSITIONS_PER_BYTE);
        let total: u64 = self.runs.iter().map(|run| u64::from(run.length)).sum();
        if total > most as u64 {
            let (found, limit) = (total, most as u64);
            let what = "the number of positions";
            return Err(DecodeError::Limit { what, found, limit });
        }
        let covered = self.runs.iter().all(|run| {
            let dots = DotSet::from_range(run.replica, run.first, run.last());
            applied.covers(&dots)
        });
        if !covered {
            return Err(
                reader.malformed("a position whose operation is not among the applied ones")
            );
        }
        self.read_births(reader, total as usize)?;
        let ballast = reader.take(total as usize / POSITIONS_PER_BYTE)?;
        if ballast.iter().any(|byte| *byte != 0) {
            return Err(reader.malformed("ballast that is not zero"));
        }
        Ok(())
    }

    fn read_runs(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        names: &Names<'_>,
    ) -> Result<(), DecodeError> {
        let last = self.containers.len() as u64;
        let containers = read_runs(reader, count, |reader| {
            let number = reader.bounded("the number of a container", last)?;
            let container = number.checked_sub(1).map(|at| &self.containers[at]);
            if container.is_none_or(|container| container.form != Form::Array) {
                return Err(reader.malformed("positions in what is no array"));
            }
            Ok(number as u32)
        })?;
        let writers = read_runs(reader, count, |reader| names.read(reader))?;
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            let most = u64::from(u32::MAX - 1);
            lengths.push(reader.bounded("the length of a run", most)? as u32 + 1);
        }
        let mut next = (None, 0u64);
        let mut own = expand(&writers).zip(expand(&containers));
        for length in lengths {
            const OVERFLOW: &str = "a sequence number of more than 64 bits";
            // proof: the runs cover `count` items.
            let Some((replica, container)) = own.next() else {
                break;
            };
            let expected = if next.0 == Some(replica) { next.1 } else { 0 };
            let step = reader.varint()?;
            let first = expected.checked_add(step).filter(|first| *first > 0);
            let after = first.and_then(|first| first.checked_add(length.into()));
            let (Some(first), Some(after)) = (first, after) else {
                return Err(reader.malformed(OVERFLOW));
            };
            next = (Some(replica), after);
            self.runs.push(Run {
                container,
                replica,
                first,
                length,
                parent: None,
                side: Side::Right,
                chain: false,
                of: None,
                adopted: None,
            });
        }
        let flags = read_runs(reader, count, |reader| {
            let bits = reader.byte()?;
            let orphan = bits & HAS_PARENT == 0 && bits & LEFT != 0;
            if bits > LEFT | CHAIN | HAS_PARENT | MOVED | ADOPTED || orphan {
                return Err(reader.malformed("an unknown kind of run"));
            }
            Ok(bits)
        })?;
        let with_parent = expand(&flags).filter(|bits| bits & HAS_PARENT != 0).count();
        let parents = read_runs(reader, with_parent, |reader| names.read(reader))?;
        let mut parents = expand(&parents);
        for (run, bits) in self.runs.iter_mut().zip(expand(&flags)) {
            run.chain = bits & CHAIN != 0;
            if bits & LEFT != 0 {
                run.side = Side::Left;
            }
            if bits & HAS_PARENT != 0
                && let Some(replica) = parents.next()
            {
                let parent = read_dot(reader, replica, run.first)?;
                if parent.replica == run.replica && parent.seq >= run.first {
                    return Err(reader.malformed("a position beside a later one"));
                }
                run.parent = Some(parent);
            }
        }
        for (run, bits) in self.runs.iter_mut().zip(expand(&flags)) {
            if bits & MOVED != 0 {
                let replica = names.read(reader)?;
                run.of = Some(read_dot(reader, replica, run.first)?);
            }
            let longer = run.length > 1;
            let odd = (run.chain && !longer)
                || (longer && !run.chain && run.parent.is_some())
                || (longer && run.of.is_some())
                || (longer && !run.chain && bits & ADOPTED != 0);
            if odd {
                return Err(reader.malformed("an unknown kind of run"));
            }
        }
        for (run, bits) in self.runs.iter_mut().zip(expand(&flags)) {
            if bits & ADOPTED != 0 {
                let timestamp = Timestamp::from_bits(reader.varint()?);
                let replica = names.read(reader)?;
                let dot = read_dot(reader, replica, run.first)?;
                let ordinal = reader.bounded("an ordinal", u32::MAX.into())? as u32;
                run.adopted = Some(((timestamp, dot.replica, dot.seq), ordinal));
            }
        }
        Ok(())
    }

    fn read_births(&mut self, reader: &mut Reader<'_>, total: usize) -> Result<(), DecodeError> {
        let (mut live, mut count) = (true, 0);
        while self.births.len() < total {
            let left = (total - self.births.len()) as u64;
            let length = reader.bounded("the length of a run", left)?;
            // The first are those that are live, of which there may be none.
            if length == 0 && !(live && self.births.is_empty()) {
                return Err(reader.malformed("an empty run"));
            }
            let birth = live.then_some(Value::Null);
            self.births.extend(std::iter::repeat_n(birth, length));
            count += if live { length } else { 0 };
            live = !live;
        }
        let mut bits = 0u64;
        let steps = read_runs(reader, total, |reader| Ok(reader.zigzag()? as u64))?;
        self.times.reserve_exact(total);
        for step in expand(&steps) {
            bits = bits.wrapping_add(step);
            self.times.push(Timestamp::from_bits(bits));
        }
        let tags = read_runs(reader, count, Reader::byte)?;
        let texts = expand(&tags).filter(|tag| *tag == STR).count();
        let lengths = read_runs(reader, texts, |reader| {
            reader.bounded("the size of a value", MAX_VALUE_BYTES as u64)
        })?;
        let mut values = self.births.iter_mut().flatten();
        let mut lengths = expand(&lengths);
        let mut others = Vec::new();
        for (value, tag) in values.by_ref().zip(expand(&tags)) {
            if tag != STR {
                others.push((value, tag));
            } else if let Some(length) = lengths.next() {
                let text = std::str::from_utf8(reader.take(length)?)
                    .map_err(|_| reader.malformed("text that is not UTF-8"))?;
                *value = Value::Str(SmolStr::new(text));
            }
        }
        for (value, tag) in others {
            *value = read_bounded_value(reader, tag)?;
        }
        Ok(())
    }

    /// What can only be told of all parts together.
    pub(crate) fn check(
        &self,
        reader: &Reader<'_>,
        entries: &[DeltaEntry],
    ) -> Result<(), DecodeError> {
        let mut used = vec![false; self.containers.len() + 1];
        let parents = self.containers.iter().map(|container| container.parent);
        let holders = entries.iter().map(|entry| entry.container);
        let arrays = self.runs.iter().map(|run| run.container);
        for number in parents.chain(holders).chain(arrays).chain([0]) {
            used[number as usize] = true;
        }
        if used.contains(&false) {
            return Err(reader.malformed("a container with nothing in it"));
        }
        for entry in entries {
            let Some(at) = entry.container.checked_sub(1) else {
                continue;
            };
            if !self.containers[at as usize]
                .form
                .may_hold(&entry.key, &entry.value)
            {
                return Err(reader.malformed("a value that its container cannot hold"));
            }
        }
        for pair in self.runs.windows(2) {
            let [a, b] = pair else { continue };
            if (a.replica, a.last()) >= (b.replica, b.first) {
                return Err(reader.malformed("positions out of order"));
            }
            if a.clone().extend(b.clone()).is_none() {
                return Err(reader.malformed("a run that continues the one before it"));
            }
        }
        self.check_dots(entries)
            .map_err(|what| reader.malformed(what))
    }

    /// Whether each operation has one value or one position, or both where a value is born; and
    /// each move its position.
    fn check_dots(&self, entries: &[DeltaEntry]) -> Result<(), &'static str> {
        for entry in entries {
            let dot = entry.dot;
            let after = self
                .runs
                .partition_point(|run| (run.replica, run.first) <= (dot.replica, dot.seq));
            let at = after.checked_sub(1).filter(|at| {
                let run = &self.runs[*at];
                run.replica == dot.replica && dot.seq <= run.last()
            });
            let place = entry.container.checked_sub(1);
            let moved =
                place.is_some_and(|place| self.containers[place as usize].form == Form::Moves);
            let run = at.map(|at| &self.runs[at]);
            match (run, moved) {
                (None, false) => {}
                (Some(run), true) if run.of.map(Key::Element).as_ref() == Some(&entry.key) => {
                    let (array, moves_of) = (run.container as usize - 1, place.unwrap_or(0));
                    let (array, moves_of) =
                        (&self.containers[array], &self.containers[moves_of as usize]);
                    if (array.parent, &array.key) != (moves_of.parent, &moves_of.key) {
                        return Err("a move in another array");
                    }
                }
                _ => return Err("two values of one operation"),
            }
        }
        let mut births = self.births.iter();
        for run in &self.runs {
            let mut born = births.by_ref().take(run.length as usize);
            if run.of.is_some() && born.by_ref().any(Option::is_some) {
                return Err("an element born where another moved");
            }
            born.for_each(drop);
        }
        Ok(())
    }
}

fn read_dot(reader: &mut Reader<'_>, replica: ReplicaId, near: u64) -> Result<Dot, DecodeError> {
    let seq = near.wrapping_sub(reader.zigzag()? as u64);
    if seq == 0 || seq == u64::MAX {
        return Err(reader.malformed("a sequence number that no operation has"));
    }
    Ok(Dot::new(replica, seq))
}

fn expand<T: Copy>(runs: &[(usize, T)]) -> impl Iterator<Item = T> + '_ {
    let runs = runs.iter();
    runs.flat_map(|(length, item)| std::iter::repeat_n(*item, *length))
}
