//! A process that is told lines and answers with lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

/// A child process; it ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    patience: Duration,
}

impl Process {
    /// Starts it; an answer that takes longer than `patience` is an error.
    pub(crate) fn start(command: &mut Command, patience: Duration) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(anyhow!("the child has no pipes"));
        };
        let (sender, lines) = channel();
        // Ends with the child's output, at the latest when the child is killed.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            input,
            lines,
            patience,
        })
    }

    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{line}").context("the process has ended")?;
        Ok(())
    }

    /// Waits for the next line, which must begin with this word; returns the rest of it.
    pub(crate) fn expect(&mut self, word: &str) -> anyhow::Result<String> {
        let line = self.lines.recv_timeout(self.patience);
        let line = line.with_context(|| format!("the process does not say {word:?}"))?;
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        ensure!(first == word, "the process says {line:?} and not {word:?}");
        Ok(rest.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
