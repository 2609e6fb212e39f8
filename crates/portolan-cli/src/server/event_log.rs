//! The latest changes of a map, kept so that an event stream can be resumed.
//!
//! A log belongs to a map that somebody watches over HTTP. Streams read from it at their own
//! pace and hold nothing up; one that falls behind what the log keeps starts over from a
//! snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use portolan::{Change, Error, Event, Map, Value, Watch};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes of changes that the log of one map keeps, about; the latest batch stays in any case.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// How long a log is kept that nobody reads: as long as a watcher may be away and resume.
const IDLE: Duration = Duration::from_mins(10);

/// One batch, as a watch gave it.
pub(crate) type Batch = Arc<portolan::Numbered>;

/// The logs of all maps that are watched.
pub(crate) struct EventLogs {
    /// Tells the numbers of this run from those of another, in which they named other batches.
    run: String,
    logs: Mutex<HashMap<String, Arc<EventLog>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl EventLogs {
    /// No logs yet; `run` must differ each time the server starts.
    pub(crate) fn new(run: String) -> Self {
        Self {
            run,
            logs: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// What a client is told to resume after the batch of this number.
    pub(crate) fn event_id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The number in an id of this run.
    pub(crate) fn position_of(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.run)?.strip_prefix('-')?.parse().ok()
    }

    /// The log of a map, started now if there is none.
    pub(crate) fn of(&self, map: &Map) -> Result<Arc<EventLog>, Error> {
        let mut logs = self.logs.lock();
        if let Some(log) = logs.get(map.name()).filter(|log| !log.ended()) {
            return Ok(log.clone());
        }
        let watch = map.watch("**")?;
        // The watch gives every batch after this one, and perhaps some before.
        let number = map.read_numbered(|_, number| number);
        let log = Arc::new(EventLog::starting_after(number));
        logs.insert(map.name().to_owned(), log.clone());
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(fill(log.clone(), watch));
        Ok(log)
    }

    /// Forgets the logs that nobody has read for a while.
    pub(crate) fn forget_idle(&self, now: Instant) {
        self.logs.lock().retain(|_, log| !log.end_if_idle(now));
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.logs
            .lock()
            .values()
            .map(|log| log.head.receiver_count())
            .sum()
    }

    /// Ends all logs.
    pub(crate) async fn close(&self) {
        self.logs.lock().drain().for_each(|(_, log)| log.end());
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

async fn fill(log: Arc<EventLog>, mut watch: Watch) {
    let mut ending = log.ending.subscribe();
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = ending.wait_for(|ending| *ending) => None,
        };
        match event {
            Some(Event::Changed(batch)) => log.push(batch),
            // It was too slow; what it missed is gone, and every stream starts over.
            Some(Event::Snapshot { number, .. }) => log.skip_to(number),
            None => return log.end(),
        }
    }
}

/// The latest changes of one map.
pub(crate) struct EventLog {
    kept: Mutex<Kept>,
    /// Number of the latest batch; who waits for more subscribes.
    head: watch::Sender<u64>,
    ending: watch::Sender<bool>,
}

struct Kept {
    /// Number of the first batch kept, or of the next one if none is.
    first: u64,
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
    last_read: Instant,
}

/// What follows after a number.
pub(crate) enum Next {
    /// These batches, one at least.
    Batches(Vec<Batch>),
    /// Nothing yet.
    Nothing,
    /// Something that is not kept any more.
    Gone,
}

impl EventLog {
    fn starting_after(number: u64) -> Self {
        let (head, _) = watch::channel(number);
        let (ending, _) = watch::channel(false);
        let batches = VecDeque::new();
        let kept = Kept {
            first: number + 1,
            batches,
            bytes: 0,
            last_read: Instant::now(),
        };
        Self {
            kept: Mutex::new(kept),
            head,
            ending,
        }
    }

    /// Follows the number of the latest batch; closed when the log ends.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Whether the map will give no more, or this log none of it.
    pub(crate) fn ended(&self) -> bool {
        *self.ending.borrow()
    }

    /// Up to `most` batches after a number.
    pub(crate) fn after(&self, number: u64, most: usize) -> Next {
        let mut kept = self.kept.lock();
        kept.last_read = Instant::now();
        let next = number + 1;
        if next < kept.first {
            return Next::Gone;
        }
        let skip = usize::try_from(next - kept.first).unwrap_or(usize::MAX);
        if skip > kept.batches.len() {
            // A snapshot can be ahead of what this log was given; but not of what exists, as a
            // number that was made up would be: then nothing follows, until something does.
            return Next::Nothing;
        }
        let batches: Vec<_> = kept
            .batches
            .range(skip..)
            .take(most)
            .map(|(b, _)| b.clone())
            .collect();
        if batches.is_empty() {
            Next::Nothing
        } else {
            Next::Batches(batches)
        }
    }

    fn push(&self, batch: Batch) {
        let number = batch.number;
        {
            let mut kept = self.kept.lock();
            let next = kept.first + kept.batches.len() as u64;
            if number < next {
                return;
            }
            if number > next {
                kept.restart(number);
            }
            let weight = batch.changes.iter().map(change_weight).sum();
            kept.batches.push_back((batch, weight));
            kept.bytes += weight;
            while kept.bytes > KEPT_BYTES && kept.batches.len() > 1 {
                kept.drop_first();
            }
        }
        self.head.send_replace(number);
    }

    fn skip_to(&self, number: u64) {
        self.kept.lock().restart(number + 1);
        self.head.send_replace(number);
    }

    fn end_if_idle(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.kept.lock().last_read) > IDLE;
        if idle && self.head.receiver_count() == 0 {
            self.end();
        }
        self.ended()
    }

    fn end(&self) {
        self.ending.send_replace(true);
        // Wakes who waits for more.
        self.head.send_modify(|_| {});
    }
}

impl Kept {
    fn restart(&mut self, first: u64) {
        self.batches.clear();
        (self.first, self.bytes) = (first, 0);
    }

    fn drop_first(&mut self) {
        if let Some((_, weight)) = self.batches.pop_front() {
            self.first += 1;
            self.bytes -= weight;
        }
    }
}

fn change_weight(change: &Change) -> usize {
    let values = change.old.iter().chain(&change.new).chain(&change.siblings);
    let keys = change.path.iter().map(portolan::Key::byte_len);
    128 + keys.sum::<usize>() + values.map(value_weight).sum::<usize>()
}

fn value_weight(value: &Value) -> usize {
    let content = match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.iter().map(value_weight).sum(),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| 24 + key.len() + value_weight(value))
            .sum(),
    };
    24 + content
}
