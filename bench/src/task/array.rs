//! Arrays: what each engine has to do with them, and what of it is measured.

use std::collections::VecDeque;

use anyhow::{Context, bail, ensure};

use super::{ms, same, size};
use crate::edits::{Edit, Element, outcome, pushes, random_inserts, text};
use crate::engine::ArrayEngine;
use crate::report::Measure;
use crate::stopwatch::Stopwatch;
use crate::trace::{Duet, Solo, Step, Trace};

/// The replicas that play a trace of two. Where both inserted at one place, some engines put
/// first what is of the lower id; in the trace that is the first agent's.
const PLAYERS: [u64; 2] = [2, 3];

/// A task on an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArrayTask {
    /// Integers put at the end in one transaction.
    PushBatch,
    /// The same, each a transaction.
    PushEach,
    /// Integers put at random places, in one transaction.
    Random,
    /// [`Trace::Paper`] in one transaction, and the whole array to bytes and back.
    PaperBatch,
    /// The same edits, each a transaction.
    PaperEach,
    /// [`Trace::Friends`], played by two replicas.
    Friends,
}

impl ArrayTask {
    pub(crate) const ALL: [Self; 6] = [
        Self::PushBatch,
        Self::PushEach,
        Self::Random,
        Self::PaperBatch,
        Self::PaperEach,
        Self::Friends,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PushBatch => "array/push-batch",
            Self::PushEach => "array/push-each",
            Self::Random => "array/random",
            Self::PaperBatch => "array/paper-batch",
            Self::PaperEach => "array/paper-each",
            Self::Friends => "array/friends",
        }
    }

    /// How many operations its figures are for; of a trace, all that it has.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::PushBatch | Self::PushEach | Self::Random => 100_000,
            Self::PaperBatch | Self::PaperEach => 259_778,
            Self::Friends => 26_078,
        }
    }

    /// The trace that it replays.
    pub(crate) const fn trace(self) -> Option<Trace> {
        match self {
            Self::PushBatch | Self::PushEach | Self::Random => None,
            Self::PaperBatch | Self::PaperEach => Some(Trace::Paper),
            Self::Friends => Some(Trace::Friends),
        }
    }
}

/// What a task's operations are taken from; to be made once for all sizes.
pub(crate) enum Input {
    Generated(fn(usize) -> Vec<Edit>),
    Solo(Solo),
    Duet(Duet),
}

impl Input {
    pub(crate) fn of(task: ArrayTask) -> anyhow::Result<Self> {
        let input = match task {
            ArrayTask::PushBatch | ArrayTask::PushEach => Self::Generated(pushes),
            ArrayTask::Random => Self::Generated(random_inserts),
            ArrayTask::PaperBatch | ArrayTask::PaperEach => Self::Solo(Solo::read(Trace::Paper)?),
            ArrayTask::Friends => Self::Duet(Duet::read(Trace::Friends)?),
        };
        let length = match &input {
            Self::Generated(_) => task.size(),
            Self::Solo(solo) => solo.edits.len(),
            Self::Duet(duet) => duet.len(),
        };
        ensure!(
            length == task.size(),
            "the trace has {length} operations and not {}",
            task.size()
        );
        Ok(input)
    }

    /// `n` edits by one replica, and what comes of them.
    fn edits(&self, n: usize) -> anyhow::Result<(Vec<Edit>, Vec<Element>)> {
        match self {
            Self::Generated(generate) => {
                let edits = generate(n);
                let expected = outcome(&edits);
                Ok((edits, expected))
            }
            Self::Solo(solo) => {
                let edits = solo.edits[..n].to_vec();
                let expected = outcome(&edits);
                ensure!(
                    n < solo.edits.len() || text(&expected) == solo.end,
                    "the trace does not lead to its own end"
                );
                Ok((edits, expected))
            }
            Self::Duet(_) => bail!("these edits are by two replicas"),
        }
    }
}

/// Does `n` operations of the task and tells times and sizes.
pub(crate) fn figures<E: ArrayEngine>(
    task: ArrayTask,
    input: &Input,
    n: usize,
    watch: &mut Stopwatch,
) -> anyhow::Result<Vec<Measure>> {
    if let Input::Duet(duet) = input {
        return play::<E>(duet, n, watch);
    }
    let (edits, expected) = input.edits(n)?;
    match task {
        ArrayTask::PushEach | ArrayTask::PaperEach => {
            edit::<E>(&edits, &expected, watch, E::edit_each).map(|(_, time)| vec![time])
        }
        ArrayTask::PaperBatch => {
            let (array, time) = edit::<E>(&edits, &expected, watch, E::edit_batch)?;
            let mut measures = vec![time];
            measures.extend(snapshot(array, &expected, watch)?);
            Ok(measures)
        }
        _ => edit::<E>(&edits, &expected, watch, E::edit_batch).map(|(_, time)| vec![time]),
    }
}

fn edit<E: ArrayEngine>(
    edits: &[Edit],
    expected: &[Element],
    watch: &mut Stopwatch,
    write: fn(&mut E, &[Edit]) -> anyhow::Result<()>,
) -> anyhow::Result<(E, Measure)> {
    let mut array = E::new(1)?;
    let (time, ()) = watch.time(|| write(&mut array, edits))?;
    same_elements(&array.elements()?, expected)?;
    Ok((array, ms("time_ms", time)))
}

fn snapshot<E: ArrayEngine>(
    mut array: E,
    expected: &[Element],
    watch: &mut Stopwatch,
) -> anyhow::Result<[Measure; 3]> {
    let (encode, bytes) = watch.time(|| array.snapshot())?;
    let (decode, (_copy, elements)) = watch.time(|| {
        let copy = E::open(2, &bytes)?;
        let elements = copy.elements()?;
        Ok((copy, elements))
    })?;
    same_elements(&elements, expected)?;
    Ok([
        ms("encode_ms", encode),
        ms("decode_ms", decode),
        size(bytes.len()),
    ])
}

fn play<E: ArrayEngine>(
    duet: &Duet,
    n: usize,
    watch: &mut Stopwatch,
) -> anyhow::Result<Vec<Measure>> {
    let steps = duet.steps(n);
    let mut replicas = [E::new(PLAYERS[0])?, E::new(PLAYERS[1])?];
    let (time, ()) = watch.time(|| {
        // What waits for each replica.
        let mut letters = [const { VecDeque::<Vec<u8>>::new() }; 2];
        for step in &steps {
            match *step {
                Step::Change(replica, edits) => replicas[replica].share(edits)?,
                Step::Send(replica) => letters[1 - replica].push_back(replicas[replica].send()?),
                Step::Receive(replica) => {
                    let letter = letters[replica].pop_front();
                    replicas[replica].receive(&letter.context("nothing was sent")?)?;
                }
            }
        }
        Ok(())
    })?;
    let [left, right] = &replicas;
    let elements = left.elements()?;
    same_elements(&right.elements()?, &elements)?;
    if n == duet.len() {
        same(&text(&elements), &duet.end)?;
    }
    Ok(vec![ms("time_ms", time)])
}

fn same_elements(found: &[Element], expected: &[Element]) -> anyhow::Result<()> {
    same(&found.len(), &expected.len())?;
    let difference = found.iter().zip(expected).position(|(a, b)| a != b);
    ensure!(
        difference.is_none(),
        "the engine's array is wrong at {difference:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::replica_id;

    #[test]
    fn first_player_has_the_lower_id() {
        let [first, second] = PLAYERS.map(replica_id);
        assert!(first < second);
    }
}
