//! Keystrokes of real documents, recorded by others; they are read where they exist.
//!
//! The files are those of the dataset `josephg/editing-traces`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use flate2::bufread::GzDecoder;
use serde::Deserialize;

use crate::edits::{Edit, Element};

/// The variable of the environment that names the folder of the traces.
const FOLDER: &str = "TRACES";

/// Where they are if it does not, seen from this crate.
const DEFAULT_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces");

/// A trace that a task replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// A paper by one author, a keystroke an edit.
    Paper,
    /// Two people who type at once.
    Friends,
}

/// What one author did, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Solo {
    pub(crate) edits: Vec<Edit>,
    pub(crate) end: String,
}

/// What two people did, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Duet {
    changes: Vec<Change>,
    pub(crate) end: String,
}

/// One transaction of a duet.
#[derive(Clone, Debug)]
struct Change {
    agent: usize,
    edits: Vec<Edit>,
    /// How many changes of the other its author has seen.
    seen: usize,
}

/// One thing that happens when a duet is played by two replicas. What one of them sends waits
/// until the other receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A transaction of this replica.
    Change(usize, &'a [Edit]),
    /// The replica sends all of its own that it has not sent yet.
    Send(usize),
    /// The replica receives the oldest of what was sent to it.
    Receive(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recording {
    end_content: String,
    txns: Vec<Transaction>,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    parents: Vec<usize>,
    #[serde(default)]
    agent: usize,
    patches: Vec<(usize, usize, String)>,
}

impl Transaction {
    /// The patches, an element a character.
    fn edits(&self) -> impl Iterator<Item = Edit> {
        self.patches
            .iter()
            .flat_map(|(position, deleted, inserted)| {
                let deletes = (0..*deleted).map(|_| Edit::Delete(*position));
                let characters = inserted.chars().enumerate();
                let inserts = characters.map(move |(i, character)| {
                    Edit::Insert(position + i, Element::Character(character))
                });
                deletes.chain(inserts)
            })
    }
}

impl Trace {
    pub(crate) fn path(self) -> PathBuf {
        let folder = std::env::var_os(FOLDER).unwrap_or_else(|| DEFAULT_FOLDER.into());
        PathBuf::from(folder).join(match self {
            Self::Paper => "automerge-paper.json.gz",
            Self::Friends => "friendsforever.json.gz",
        })
    }

    /// Why the tasks that replay it cannot be done here, if they cannot.
    pub(crate) fn obstacle(self) -> Option<String> {
        let path = self.path();
        (!path.exists()).then(|| {
            format!(
                "there is no {}; {FOLDER} may name the folder that has it",
                path.display()
            )
        })
    }

    fn read(self) -> anyhow::Result<Recording> {
        let path = self.path();
        let read = || -> anyhow::Result<Recording> {
            let mut text = Vec::new();
            GzDecoder::new(BufReader::new(File::open(&path)?)).read_to_end(&mut text)?;
            Ok(serde_json::from_slice(&text)?)
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Solo {
    pub(crate) fn read(trace: Trace) -> anyhow::Result<Self> {
        let recording = trace.read()?;
        Ok(Self {
            edits: recording.txns.iter().flat_map(Transaction::edits).collect(),
            end: recording.end_content,
        })
    }
}

impl Duet {
    pub(crate) fn read(trace: Trace) -> anyhow::Result<Self> {
        Self::of(trace.read()?)
    }

    fn of(recording: Recording) -> anyhow::Result<Self> {
        // How many changes of each agent are among a transaction and what led to it.
        let mut known: Vec<[usize; 2]> = Vec::with_capacity(recording.txns.len());
        let mut own = [0; 2];
        let mut changes = Vec::with_capacity(recording.txns.len());
        for (i, transaction) in recording.txns.iter().enumerate() {
            let agent = transaction.agent;
            ensure!(agent < 2, "transaction {i} is by a third agent");
            let mut counts = [0; 2];
            for &parent in &transaction.parents {
                let parent = known
                    .get(parent)
                    .context("a parent comes after its child")?;
                counts = [0, 1].map(|agent| counts[agent].max(parent[agent]));
            }
            ensure!(
                counts[agent] == own[agent],
                "transaction {i} does not follow what its agent did before"
            );
            changes.push(Change {
                agent,
                edits: transaction.edits().collect(),
                seen: counts[1 - agent],
            });
            own[agent] += 1;
            counts[agent] = own[agent];
            known.push(counts);
        }
        Ok(Self {
            changes,
            end: recording.end_content,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The first `n` changes and what is sent between them, as in life: a replica that makes a
    /// change has received what its author had seen, and nothing else. At the end both have all.
    pub(crate) fn steps(&self, n: usize) -> Vec<Step<'_>> {
        let changes = &self.changes[..n];
        // After which of its changes each agent sends, in their order.
        let mut sends = [const { Vec::new() }; 2];
        let mut received = [0; 2];
        for change in changes {
            if change.seen > received[change.agent] {
                received[change.agent] = change.seen;
                sends[1 - change.agent].push(change.seen);
            }
        }
        let mut sends = sends.map(|sends| sends.into_iter().peekable());
        let (mut made, mut received) = ([0; 2], [0; 2]);
        let mut steps = Vec::with_capacity(n);
        for change in changes {
            let agent = change.agent;
            if change.seen > received[agent] {
                received[agent] = change.seen;
                steps.push(Step::Receive(agent));
            }
            steps.push(Step::Change(agent, &change.edits));
            made[agent] += 1;
            if sends[agent].next_if_eq(&made[agent]).is_some() {
                steps.push(Step::Send(agent));
            }
        }
        steps.extend([0, 1].map(Step::Send));
        steps.extend([0, 1].map(Step::Receive));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duet(transactions: &str) -> anyhow::Result<Duet> {
        let text = format!(r#"{{"endContent": "", "txns": [{transactions}]}}"#);
        Duet::of(serde_json::from_str(&text)?)
    }

    #[test]
    fn changes_are_received_as_their_authors_saw_them() {
        let duet = duet(
            r#"{"parents": [], "agent": 0, "patches": [[0, 0, "a"]]},
               {"parents": [0], "agent": 0, "patches": [[1, 0, "b"]]},
               {"parents": [0], "agent": 1, "patches": [[0, 1, ""]]},
               {"parents": [1, 2], "agent": 0, "patches": []}"#,
        )
        .unwrap();
        let insert = |index, character| Edit::Insert(index, Element::Character(character));
        assert_eq!(
            duet.steps(4),
            [
                Step::Change(0, &[insert(0, 'a')]),
                Step::Send(0),
                Step::Change(0, &[insert(1, 'b')]),
                Step::Receive(1),
                Step::Change(1, &[Edit::Delete(0)]),
                Step::Send(1),
                Step::Receive(0),
                Step::Change(0, &[]),
                Step::Send(0),
                Step::Send(1),
                Step::Receive(0),
                Step::Receive(1),
            ]
        );
    }

    #[test]
    fn agent_that_forgets_its_own_changes_is_refused() {
        let forgetful = duet(
            r#"{"parents": [], "agent": 0, "patches": []},
               {"parents": [], "agent": 0, "patches": []}"#,
        );
        assert!(forgetful.is_err());
    }
}
