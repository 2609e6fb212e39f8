//! The order beside a model of Redis: whatever is written, wiped, read and answered in whatever
//! order, what the replica shows at a mark that was accepted is what Redis held there.

use std::collections::{BTreeMap, VecDeque};

use portolan::Pattern;
use proptest::prelude::*;

use super::*;
use crate::watch::{Event, Queue};

type Hash = BTreeMap<Key, Bytes>;

/// The message of the format.
fn published(revision: u64, mutation: &Mutation) -> Bytes {
    let revision = revision.to_string();
    let string = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    Bytes::from(match mutation {
        Mutation::Set(key, value) => [
            b"set:".to_vec(),
            string(key.as_bytes()),
            string(value),
            string(revision.as_bytes()),
        ]
        .concat(),
        Mutation::Delete(key) => [
            b"del:".to_vec(),
            string(key.as_bytes()),
            string(revision.as_bytes()),
        ]
        .concat(),
        Mutation::Clear => format!("reset:{revision}").into_bytes(),
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// Another node sets a key, deletes it, or clears the map.
    Set(u8),
    Delete(u8),
    Clear,
    /// The hash is gone, and no message tells.
    Wipe,
    /// This node writes one key or two, which nobody else writes.
    Write(bool),
    /// The next message comes.
    Hear,
    /// One of the answers comes.
    Answer(prop::sample::Index),
    /// A reading goes on, or a digest is asked for.
    Attend,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4).prop_map(Step::Set),
        2 => (0u8..4).prop_map(Step::Delete),
        1 => Just(Step::Clear),
        1 => Just(Step::Wipe),
        4 => any::<bool>().prop_map(Step::Write),
        12 => Just(Step::Hear),
        4 => any::<prop::sample::Index>().prop_map(Step::Answer),
        6 => Just(Step::Attend),
    ]
}

enum Pushed {
    /// As it is published.
    Message(Bytes),
    /// With what Redis held.
    Mark(Mark, Hash),
}

enum Reading {
    First(u64, oneshot::Receiver<Mark>),
    Last(super::Reading, u64, u64, oneshot::Receiver<Mark>),
}

struct Written {
    ticket: Ticket,
    last: u64,
    mutations: Vec<Mutation>,
    /// How often the map had been emptied.
    age: usize,
}

struct World {
    order: Order,
    replica: Arc<Replica>,
    hash: Hash,
    revision: u64,
    exists: bool,
    emptied: usize,
    writes: usize,
    stream: VecDeque<Pushed>,
    answers: Vec<Written>,
    /// Writes that wait to be read here: their keys.
    waiting: Vec<(oneshot::Receiver<()>, Vec<Key>, usize)>,
    reading: Option<Reading>,
    digest: Option<oneshot::Receiver<Mark>>,
    queue: Option<Arc<Queue>>,
    watched: Hash,
}

impl World {
    fn new(is_watched: bool) -> Self {
        let replica = Arc::new(Replica::default());
        let mut order = Order::new(Arc::clone(&replica));
        order.connect();
        let queue = is_watched.then(|| {
            let queue = Arc::new(Queue::new(Pattern::all(), usize::MAX, 0));
            order.events.add(Arc::clone(&queue));
            queue
        });
        Self {
            order,
            replica,
            hash: Hash::new(),
            revision: 0,
            exists: false,
            emptied: 0,
            writes: 0,
            stream: VecDeque::new(),
            answers: Vec::new(),
            waiting: Vec::new(),
            reading: None,
            digest: None,
            queue,
            watched: Hash::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let key = |n: &u8| Key::from(format!("k{n}").as_str());
        match step {
            Step::Set(n) => {
                let value = Bytes::from(self.revision.to_string());
                self.mutate(&Mutation::Set(key(n), value));
            }
            Step::Delete(n) if self.hash.contains_key(&key(n)) => {
                self.mutate(&Mutation::Delete(key(n)));
            }
            Step::Clear if !self.hash.is_empty() => self.mutate(&Mutation::Clear),
            Step::Wipe => {
                self.hash.clear();
                (self.revision, self.exists) = (0, false);
                self.emptied += 1;
            }
            Step::Write(two) => self.write(1 + usize::from(*two)),
            Step::Hear => self.hear(),
            Step::Answer(which) if !self.answers.is_empty() => {
                let written = self.answers.remove(which.index(self.answers.len()));
                self.answer(written);
            }
            // There is nothing to do it to.
            Step::Delete(_) | Step::Clear | Step::Answer(_) => {}
            Step::Attend => self.attend(),
        }
        self.look_at_those_who_wait();
    }

    /// What a script does.
    fn mutate(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::Set(key, value) => drop(self.hash.insert(key.clone(), value.clone())),
            Mutation::Delete(key) => drop(self.hash.remove(key)),
            Mutation::Clear => {
                self.hash.clear();
                self.emptied += 1;
            }
        }
        self.exists = true;
        self.revision += 1;
        let revision = self.revision;
        self.stream
            .push_back(Pushed::Message(published(revision, mutation)));
    }

    fn write(&mut self, count: usize) {
        let ticket = self.order.begin_write();
        let mut mutations = Vec::new();
        for _ in 0..count {
            self.writes += 1;
            let key = Key::from(format!("own{}", self.writes).as_str());
            let mutation = Mutation::Set(key, Bytes::from_static(b"own"));
            self.mutate(&mutation);
            mutations.push(mutation);
        }
        self.answers.push(Written {
            ticket,
            last: self.revision,
            mutations,
            age: self.emptied,
        });
    }

    fn answer(&mut self, written: Written) {
        let keys = written.mutations.iter().map(|mutation| match mutation {
            Mutation::Set(key, _) => key.clone(),
            other => panic!("{other:?} is no write of this node"),
        });
        let keys: Vec<Key> = keys.collect();
        // A fault is put right by what attends.
        let (seen, _) = self
            .order
            .written(&written.ticket, written.last, written.mutations);
        match seen {
            Seen::Now => self.is_read_here(&keys, written.age),
            Seen::Soon(told) | Seen::Afresh(told) => self.waiting.push((told, keys, written.age)),
        }
    }

    fn look_at_those_who_wait(&mut self) {
        for (mut told, keys, age) in std::mem::take(&mut self.waiting) {
            match told.try_recv() {
                Ok(()) => self.is_read_here(&keys, age),
                Err(oneshot::error::TryRecvError::Empty) => self.waiting.push((told, keys, age)),
                Err(oneshot::error::TryRecvError::Closed) => panic!("who waits is forgotten"),
            }
        }
    }

    /// Unless the map was emptied since, which may be known here already.
    fn is_read_here(&self, keys: &[Key], age: usize) {
        for key in keys {
            let is_there = self.replica.get(key.as_bytes()).is_some();
            assert!(
                is_there || self.emptied > age,
                "{key} is not read after it was written"
            );
        }
    }

    fn hear(&mut self) {
        match self.stream.pop_front() {
            None => {}
            // A fault is put right by what attends.
            Some(Pushed::Message(payload)) => {
                let message = Message::read(&payload).unwrap();
                let _ = self.order.hear(&message);
            }
            Some(Pushed::Mark(mark, hash)) => {
                let accepted = self.order.hear_mark(mark).is_ok() && self.order.is_live();
                // Where nothing of this node is ahead of the stream.
                if accepted && self.order.revision() == mark.revision {
                    assert_eq!(self.held(), hash, "a mark was accepted");
                }
            }
        }
    }

    fn mark(&mut self) -> (u64, oneshot::Receiver<Mark>) {
        let (number, told) = self.order.expect_mark();
        let mark = Mark {
            number,
            revision: self.revision,
            entries: self.hash.len(),
            left: -1,
        };
        self.stream.push_back(Pushed::Mark(mark, self.hash.clone()));
        (number, told)
    }

    /// What the keeper does.
    fn attend(&mut self) {
        use oneshot::error::TryRecvError::{Closed, Empty};
        self.reading = match self.reading.take() {
            None if self.order.is_live() && !self.order.is_asked_again() => {
                let asked = self.digest.as_mut().map(oneshot::Receiver::try_recv);
                if asked != Some(Err(Empty)) {
                    self.digest = Some(self.mark().1);
                }
                None
            }
            None => {
                self.order.begin();
                let (number, told) = self.mark();
                Some(Reading::First(number, told))
            }
            Some(Reading::First(first, mut told)) => match told.try_recv() {
                Ok(_) => {
                    let reading = super::Reading {
                        revision: self.revision,
                        kind: self.exists.then(|| Bytes::from_static(b"set")),
                        entries: self.hash.clone().into_iter().collect(),
                    };
                    let (last, told) = self.mark();
                    Some(Reading::Last(reading, first, last, told))
                }
                Err(Empty) => Some(Reading::First(first, told)),
                Err(Closed) => None,
            },
            Some(Reading::Last(reading, first, last, mut told)) => match told.try_recv() {
                Ok(_) => {
                    // One that does not count is done again.
                    let _ = self.order.finish(reading, first, last);
                    None
                }
                Err(Empty) => Some(Reading::Last(reading, first, last, told)),
                Err(Closed) => None,
            },
        };
    }

    fn held(&self) -> Hash {
        let mut held = Hash::new();
        self.replica
            .each(|key, value| drop(held.insert(key.clone(), value.clone())));
        held
    }

    /// Everything comes; at the end replica, hash and watcher agree, and nobody waits.
    fn settle(mut self) {
        for written in std::mem::take(&mut self.answers) {
            self.answer(written);
        }
        for _ in 0..20 {
            self.attend();
            while !self.stream.is_empty() {
                self.hear();
            }
            self.look_at_those_who_wait();
        }
        assert!(self.order.is_live());
        assert!(self.waiting.is_empty(), "somebody waits for ever");
        assert_eq!(self.held(), self.hash);
        assert_eq!(self.order.revision(), self.revision);
        let Some(queue) = self.queue else {
            return;
        };
        while let Some(Event::Changed(batch)) = queue.try_next() {
            for change in &batch.changes {
                let old = self.watched.remove(&change.key);
                assert_eq!(old, change.old, "an event follows on the one before");
                if let Some(new) = &change.new {
                    self.watched.insert(change.key.clone(), new.clone());
                }
            }
        }
        assert_eq!(self.watched, self.hash);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_replica_that_agrees_is_what_redis_holds(
        steps in prop::collection::vec(step(), 0..80),
        is_watched in any::<bool>(),
    ) {
        let mut world = World::new(is_watched);
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
