//! Waiting until all nodes have what this one has written.
//!
//! A node asks on the channel of all nodes. Redis delivers the question behind the updates that
//! were published before it, so a node that is live when it hears it has them; one that is reading
//! the map answers when it has read it. How many nodes were asked, Redis tells: it is the number of
//! those to whom it delivered the question. So no list of nodes is kept, and none that died in the
//! meantime is waited for at the next question.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::limits::{ASK_AGAIN, MAX_QUESTIONS};
use crate::map::{CoordinatedMap, Shared};
use crate::reply;

/// Of another node: its name, and the number of its question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    node: String,
    number: u64,
}

/// Who has answered one question.
#[derive(Debug)]
pub(crate) struct Answers {
    nodes: HashSet<String>,
    count: watch::Sender<usize>,
}

impl CoordinatedMap {
    /// Waits until every node that has joined the map, and is connected to Redis, reads all that
    /// this node has read or written; returns how many nodes there are. Go nodes are not among
    /// them.
    ///
    /// A node that is cut off is not waited for once Redis knows; what it reads it calls stale,
    /// from the moment it notices.
    pub async fn confirm(&self, within: Duration) -> Result<usize> {
        let until = Instant::now() + within;
        let revision = self.revision();
        let (mut told, mut of) = (0, 0);
        while Instant::now() < until {
            let again = until.min(Instant::now() + ASK_AGAIN);
            match self.shared.ask(again).await {
                Ok((answered, asked)) if answered >= asked => return Ok(asked),
                Ok((answered, asked)) => (told, of) = (answered, asked),
                // Connected again, it asks again.
                Err(Error::Unknown { .. } | Error::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unconfirmed { revision, told, of })
    }
}

impl Shared {
    /// Asks all nodes, and waits for as many answers as there are nodes, or until time is up.
    /// Returns the answers, and how many there should be.
    async fn ask(&self, until: Instant) -> Result<(usize, usize)> {
        let (generation, mut connection) = self.commands(until).await?;
        let (count, mut counted) = watch::channel(0);
        let number = {
            // Never a number again: a late answer says nothing of what was written since.
            let number = self.questions.fetch_add(1, Ordering::Relaxed);
            let nodes = HashSet::new();
            self.asking.lock().insert(number, Answers { nodes, count });
            number
        };
        let _end = Asking {
            shared: self,
            number,
        };
        let question = format!("ask:{number}:{}", self.node);
        let mut publish = redis::cmd(self.place.publish());
        publish.arg(&self.place.nodes).arg(question);
        let asked: usize = match publish.query_async(&mut connection).await {
            Ok(asked) => asked,
            Err(error) => {
                let failure = reply::failure(&error, &self.place.content);
                if matches!(failure, Error::Unknown { .. } | Error::Unreachable { .. }) {
                    self.broken(generation);
                }
                return Err(failure);
            }
        };
        let all = counted.wait_for(|count| *count >= asked);
        let in_time = tokio::time::timeout_at(until, all).await.is_ok();
        let answered = *counted.borrow();
        Ok((if in_time { asked } else { answered }, asked))
    }

    /// `ask:NUMBER:NODE`, on the channel of all nodes.
    pub(crate) fn hear_question(&self, payload: &[u8]) {
        let Some((number, node)) = numbered(payload, "ask:") else {
            return;
        };
        let mut asked = self.asked.lock();
        if asked.len() < MAX_QUESTIONS {
            let node = node.to_owned();
            asked.push(Question { node, number });
        }
        drop(asked);
        self.attention.notify_one();
    }

    /// `have:NUMBER:NODE`, on the channel of this node.
    pub(crate) fn hear_answer(&self, payload: &[u8]) {
        let Some((number, node)) = numbered(payload, "have:") else {
            return;
        };
        if let Some(answers) = self.asking.lock().get_mut(&number) {
            answers.nodes.insert(node.to_owned());
            answers.count.send_replace(answers.nodes.len());
        }
    }

    /// Answers what was asked, if this node is live.
    pub(crate) async fn answer(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        let asked = {
            let order = self.order.lock();
            let mut asked = self.asked.lock();
            if !order.is_live() || asked.is_empty() {
                return Ok(());
            }
            std::mem::take(&mut *asked)
        };
        let mut answers = redis::pipe();
        for Question { node, number } in asked {
            let channel = self.place.node(&node);
            let answer = format!("have:{number}:{}", self.node);
            answers
                .cmd(self.place.publish())
                .arg(channel)
                .arg(answer)
                .ignore();
        }
        let done: redis::RedisResult<()> = answers.query_async(connection).await;
        done.map_err(|error| reply::failure(&error, &self.place.content))
    }
}

/// Forgets a question when nobody waits for its answers any more.
struct Asking<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.shared.asking.lock().remove(&self.number);
    }
}

/// The number and the name after a word.
fn numbered<'a>(payload: &'a [u8], word: &str) -> Option<(u64, &'a str)> {
    let text = std::str::from_utf8(payload).ok()?.strip_prefix(word)?;
    let (number, name) = text.split_once(':')?;
    Some((number.parse().ok()?, name))
}
