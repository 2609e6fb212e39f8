//! What a delta holds beside the root's values: containers, and the positions of arrays.

use alloc::vec;
use alloc::vec::Vec;

use crate::arrays::{Adopted, Origin};
use crate::clock::Timestamp;
use crate::codec::{Reader, put_key, put_varint, put_zigzag, read_key};
use crate::containers::Form;
use crate::delta::{DeltaEntry, replicas_of};
use crate::dots::DotSet;
use crate::error::Fault;
use crate::key::Key;
use crate::limits::MAX_DEPTH;
use crate::packed::{
    Coding, Expansion, Groups, Numbers, SIGNED, Singly, UNSIGNED, ValueColumns, Values,
    read_numbers,
};
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

    /// The replicas of the dots that it names beside its own.
    fn named(&self) -> [Option<ReplicaId>; 3] {
        let of = |dot: Dot| dot.replica;
        let adopted = self.adopted.map(|((_, replica, _), _)| replica);
        [self.parent.map(of), self.of.map(of), adopted]
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

const LEFT: i64 = 1;
const CHAIN: i64 = 2;
const HAS_PARENT: i64 = 4;
const MOVED: i64 = 8;
const ADOPTED: i64 = 16;

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

    fn read(&self, reader: &mut Reader<'_>) -> Result<ReplicaId, Fault> {
        let number = reader.varint()? as i64;
        self.of(reader, number)
    }

    /// The replica of a number.
    fn of(&self, reader: &Reader<'_>, number: i64) -> Result<ReplicaId, Fault> {
        let (found, limit) = (number as u64, self.known.len() + self.others.len());
        let limit = limit.saturating_sub(1) as u64;
        if found > limit {
            let what = "the number of a replica";
            return Err(Fault::limit(what, found, limit));
        }
        let number = number as usize;
        let id = match number.checked_sub(self.known.len()) {
            None => self.known.get(number).map(|(id, _)| *id),
            Some(other) => self.others.get(other).copied(),
        };
        id.ok_or_else(|| reader.malformed("a replica without a number"))
    }
}

/// The replicas of the dots that runs name beside their own, in order.
fn named_by(runs: &[Run]) -> Vec<ReplicaId> {
    let mut named: Vec<ReplicaId> = Vec::new();
    for run in runs {
        for id in run.named() {
            // Neighbours mostly name the same.
            if let Some(id) = id.filter(|id| named.last() != Some(id)) {
                named.push(id);
            }
        }
    }
    sort(&mut named);
    named.dedup();
    named
}

/// Appends the positions; `known` are the replicas of the delta's applied operations.
pub(crate) fn put_positions(
    out: &mut Vec<u8>,
    nested: &Nested,
    known: &[(ReplicaId, u64)],
    coding: Coding,
    expansion: &mut Expansion,
) {
    let runs = &nested.runs;
    put_varint(out, runs.len() as u64);
    if runs.is_empty() {
        return;
    }
    let mut others = named_by(runs);
    others.retain(|id| known.binary_search_by_key(id, |(known, _)| *known).is_err());
    put_varint(out, others.len() as u64);
    for other in &others {
        out.extend_from_slice(&other.get().to_le_bytes());
    }
    let names = Names { known, others };

    let (mut containers, mut writers) = (Groups::default(), Groups::default());
    let mut firsts = Vec::with_capacity(runs.len());
    let mut lengths = Vec::with_capacity(runs.len());
    let mut flags = Groups::default();
    let mut parents = (Groups::default(), Vec::new());
    let (mut moved, mut adopted) = (Vec::new(), Vec::new());
    let mut next = (None, 0);
    for run in runs {
        containers.push(i64::from(run.container));
        let writer = names.number(run.replica);
        writers.push(writer as i64);
        let expected = if next.0 == Some(writer) { next.1 } else { 0 };
        firsts.push((run.first - expected) as i64);
        next = (Some(writer), run.last() + 1);
        lengths.push(i64::from(run.length - 1));
        let mut bits = 0;
        if run.side == Side::Left {
            bits |= LEFT;
        }
        if run.chain {
            bits |= CHAIN;
        }
        if let Some(parent) = run.parent {
            bits |= HAS_PARENT;
            parents.0.push(names.number(parent.replica) as i64);
            parents.1.push(run.first.wrapping_sub(parent.seq) as i64);
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
    coding.put_runs(out, &containers, UNSIGNED);
    coding.put_runs(out, &writers, UNSIGNED);
    coding.put_each(out, &lengths, UNSIGNED);
    coding.put_each(out, &firsts, UNSIGNED);
    coding.put_runs(out, &flags, UNSIGNED);
    coding.put_runs(out, &parents.0, UNSIGNED);
    coding.put_each(out, &parents.1, SIGNED);
    out.append(&mut moved);
    out.append(&mut adopted);
    put_births(out, nested, coding, expansion);
    match coding {
        Coding::Plain => out.resize(out.len() + nested.births.len() / POSITIONS_PER_BYTE, 0),
        Coding::Packed => {
            expansion.add(runs.len() as u64 * Expansion::RUN);
            expansion.add(nested.births.len() as u64 * Expansion::POSITION);
        }
    }
}

/// Appends which positions have a live value, the times, and these values.
fn put_births(out: &mut Vec<u8>, nested: &Nested, coding: Coding, expansion: &mut Expansion) {
    let mut live = true;
    let mut rest = nested.births.as_slice();
    let mut turns = Vec::new();
    while !rest.is_empty() {
        let run = rest.iter().take_while(|birth| birth.is_some() == live);
        let length = run.count();
        turns.push(length as i64);
        rest = &rest[length..];
        live = !live;
    }
    if coding == Coding::Packed {
        put_varint(out, turns.len() as u64);
    }
    coding.put_each(out, &turns, UNSIGNED);
    let before = core::iter::once(0).chain(nested.times.iter().map(|time| time.bits()));
    let steps = nested.times.iter().zip(before);
    let steps: Groups = steps
        .map(|(time, before)| time.bits().wrapping_sub(before) as i64)
        .collect();
    coding.put_runs(out, &steps, SIGNED);
    let mut values = ValueColumns::new(coding);
    let births = nested.births.iter().flatten();
    births.for_each(|value| values.push(value));
    values.put(out, expansion);
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

    /// Adds the dots of live values that were born in positions, in order.
    pub(crate) fn live_dots(&self, live: &mut Vec<Dot>) {
        let mut births = self.births.iter();
        for run in &self.runs {
            for (at, birth) in (0..run.length).zip(&mut births) {
                if birth.is_some() {
                    live.push(run.dot(at));
                }
            }
        }
    }

    /// The number of containers beside the root.
    pub(crate) fn read_count(reader: &mut Reader<'_>) -> Result<usize, Fault> {
        // Three bytes at the least for each.
        let most = reader.remaining() / 3;
        reader.bounded("the number of containers", most as u64)
    }

    /// Reads so many containers.
    pub(crate) fn read_containers(reader: &mut Reader<'_>, count: usize) -> Result<Self, Fault> {
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
                return Err(Fault::limit(what, found, limit));
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
        coding: Coding,
        expansion: &mut Expansion,
    ) -> Result<(), Fault> {
        let count = match coding {
            Coding::Plain => reader.count("the number of runs")? as u64,
            Coding::Packed => reader.varint()?,
        };
        expansion.claim(count, Expansion::RUN)?;
        let count = count as usize;
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
        self.read_runs(reader, count, &names, coding)?;
        if !crate::SMALL {
            let named = named_by(&self.runs);
            let mut others = names.others.iter();
            if !others.all(|other| named.binary_search(other).is_ok()) {
                return Err(reader.malformed("a replica that nothing names"));
            }
        }
        let total: u64 = self.runs.iter().map(|run| u64::from(run.length)).sum();
        expansion.claim(total, Expansion::POSITION)?;
        let most = reader.remaining().saturating_mul(POSITIONS_PER_BYTE);
        if coding == Coding::Plain && total > most as u64 {
            let (found, limit) = (total, most as u64);
            let what = "the number of positions";
            return Err(Fault::limit(what, found, limit));
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
        self.read_births(reader, total as usize, coding, expansion)?;
        if coding == Coding::Plain {
            let ballast = reader.take(total as usize / POSITIONS_PER_BYTE)?;
            if ballast.iter().any(|byte| *byte != 0) {
                return Err(reader.malformed("ballast that is not zero"));
            }
        }
        Ok(())
    }

    fn read_runs(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        names: &Names<'_>,
        coding: Coding,
    ) -> Result<(), Fault> {
        // Containers, writers, lengths, first numbers, kinds; then parents, and how near they are.
        let (alike, each) = ((true, UNSIGNED), (false, UNSIGNED));
        let mut columns = Vec::with_capacity(7);
        coding.read_columns(
            reader,
            count,
            &[alike, alike, each, each, alike],
            &mut columns,
        )?;
        for (_, number) in columns[0].groups() {
            let container = number
                .checked_sub(1)
                .map(|at| self.containers.get(at as usize));
            if container
                .flatten()
                .is_none_or(|container| container.form != Form::Array)
            {
                return Err(reader.malformed("positions in what is no array"));
            }
        }
        let mut with_parent = 0;
        for (length, bits) in columns[4].groups() {
            let orphan = bits & HAS_PARENT == 0 && bits & LEFT != 0;
            if !(0..=LEFT | CHAIN | HAS_PARENT | MOVED | ADOPTED).contains(&bits) || orphan {
                return Err(reader.malformed("an unknown kind of run"));
            }
            if bits & HAS_PARENT != 0 {
                with_parent += length;
            }
        }
        coding.read_columns(reader, with_parent, &[alike, (false, SIGNED)], &mut columns)?;
        let mut next = (None, 0u64);
        let mut rest: Vec<_> = columns.iter().map(Numbers::iter).collect();
        // proof: the columns have as many numbers as are taken.
        let mut take = |column: usize| rest.get_mut(column).and_then(Singly::next).unwrap_or(0);
        self.runs.reserve_exact(count);
        for _ in 0..count {
            const OVERFLOW: &str = "a sequence number of more than 64 bits";
            let [container, writer, length, step, bits] = [0, 1, 2, 3, 4].map(&mut take);
            let replica = names.of(reader, writer)?;
            let (found, limit) = (length as u64, u64::from(u32::MAX - 1));
            if found > limit {
                let what = "the length of a run";
                return Err(Fault::limit(what, found, limit));
            }
            let length = found as u32 + 1;
            let expected = if next.0 == Some(replica) { next.1 } else { 0 };
            let first = expected.checked_add(step as u64).filter(|first| *first > 0);
            let after = first.and_then(|first| first.checked_add(length.into()));
            let (Some(first), Some(after)) = (first, after) else {
                return Err(reader.malformed(OVERFLOW));
            };
            next = (Some(replica), after);
            let mut parent = None;
            if bits & HAS_PARENT != 0 {
                let [writer, near] = [5, 6].map(&mut take);
                let dot = dot_near(reader, names.of(reader, writer)?, first, near)?;
                if dot.replica == replica && dot.seq >= first {
                    return Err(reader.malformed("a position beside a later one"));
                }
                parent = Some(dot);
            }
            let side = if bits & LEFT == 0 {
                Side::Right
            } else {
                Side::Left
            };
            self.runs.push(Run {
                container: container as u32,
                replica,
                first,
                length,
                parent,
                side,
                chain: bits & CHAIN != 0,
                of: None,
                adopted: None,
            });
        }
        for (run, bits) in self.runs.iter_mut().zip(columns[4].iter()) {
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
        for (run, bits) in self.runs.iter_mut().zip(columns[4].iter()) {
            if bits & ADOPTED != 0 {
                let timestamp = Timestamp::from_bits(reader.varint()?);
                let replica = names.read(reader)?;
                let dot = read_dot(reader, replica, run.first)?;
                if (dot.replica, dot.seq) == (run.replica, run.first) {
                    return Err(reader.malformed("a position that has adopted its own place"));
                }
                let ordinal = reader.bounded("an ordinal", u32::MAX.into())? as u32;
                run.adopted = Some(((timestamp, dot.replica, dot.seq), ordinal));
            }
        }
        Ok(())
    }

    fn read_births(
        &mut self,
        reader: &mut Reader<'_>,
        total: usize,
        coding: Coding,
        expansion: &mut Expansion,
    ) -> Result<(), Fault> {
        let turns = read_turns(reader, total, coding)?;
        let live = turns.iter().step_by(2).sum();
        let steps = coding.read_runs(reader, total, SIGNED)?;
        self.times.reserve_exact(total);
        let mut bits = 0u64;
        self.times.extend(steps.iter().map(|step| {
            bits = bits.wrapping_add(step as u64);
            Timestamp::from_bits(bits)
        }));
        let values = Values::read(reader, coding, live, expansion)?;
        self.births.reserve_exact(total);
        let mut turns = turns.into_iter();
        let mut left = turns.next().unwrap_or(0);
        values.for_each(|value| {
            if left == 0 {
                let dead = turns.next().unwrap_or(0);
                self.births
                    .resize_with(self.births.len() + dead, Option::default);
                left = turns.next().unwrap_or(0);
            }
            self.births.push(Some(value));
            left -= 1;
        });
        self.births.resize_with(total, Option::default);
        Ok(())
    }

    /// What can only be told of all parts together.
    pub(crate) fn check(&self, reader: &Reader<'_>, entries: &[DeltaEntry]) -> Result<(), Fault> {
        if !crate::SMALL {
            self.check_form(reader, entries)?;
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
        }
        self.check_dots(entries)
            .map_err(|what| reader.malformed(what))
    }

    /// Whether it could not be written in fewer bytes. Nobody comes to harm by bytes that could.
    fn check_form(&self, reader: &Reader<'_>, entries: &[DeltaEntry]) -> Result<(), Fault> {
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
        for pair in self.runs.windows(2) {
            let [a, b] = pair else { continue };
            if a.clone().extend(b.clone()).is_none() {
                return Err(reader.malformed("a run that continues the one before it"));
            }
        }
        Ok(())
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

/// How many positions in a row, by turns, have a live value and have none.
fn read_turns(reader: &mut Reader<'_>, total: usize, coding: Coding) -> Result<Vec<usize>, Fault> {
    let mut turns = Vec::new();
    let mut left = total;
    let mut take = |reader: &Reader<'_>, length: i64| {
        let (found, limit) = (length as u64, left as u64);
        if found > limit {
            let what = "the length of a run";
            return Err(Fault::limit(what, found, limit));
        }
        if length == 0 && !turns.is_empty() {
            return Err(reader.malformed("an empty run"));
        }
        turns.push(length as usize);
        left -= length as usize;
        Ok(left)
    };
    match coding {
        Coding::Plain => {
            let mut left = total;
            while left > 0 {
                let length = reader.varint()? as i64;
                left = take(reader, length)?;
            }
        }
        Coding::Packed => {
            let count = reader.bounded("the number of runs", total as u64 + 1)?;
            let mut left = total;
            for length in read_numbers(reader, count)?.iter() {
                left = take(reader, length)?;
            }
            if left > 0 {
                return Err(reader.malformed("runs that cover too little"));
            }
        }
    }
    Ok(turns)
}

fn read_dot(reader: &mut Reader<'_>, replica: ReplicaId, near: u64) -> Result<Dot, Fault> {
    let difference = reader.zigzag()?;
    dot_near(reader, replica, near, difference)
}

fn dot_near(
    reader: &Reader<'_>,
    replica: ReplicaId,
    near: u64,
    difference: i64,
) -> Result<Dot, Fault> {
    let seq = near.wrapping_sub(difference as u64);
    if seq == 0 || seq == u64::MAX {
        return Err(reader.malformed("a sequence number that no operation has"));
    }
    Ok(Dot::new(replica, seq))
}
