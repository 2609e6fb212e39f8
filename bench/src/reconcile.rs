//! Reconciliation: two replicas of many keys, of which few differ, and no log that would tell.

use anyhow::{Context, ensure};
use portolan_core::sync::{Access, Config, Frame, Replica, SessionId};
use portolan_core::{Delta, Document, Error, ReplicaId};

use crate::report::Measure;
use crate::stopwatch::Stopwatch;

/// A moment of 2026, in milliseconds.
const NOW: u64 = 1_767_225_600_000;
/// Keys that differ.
const DIFFERENT: usize = 10;

struct Side {
    replica: Replica,
    session: Option<SessionId>,
    /// Milliseconds of its own work.
    time: f64,
}

impl Side {
    fn new(document: Document) -> Self {
        let replica = Replica::new("map", 1, document, false, Config::default());
        Self {
            replica,
            session: None,
            time: 0.0,
        }
    }
}

/// Lets a replica catch up with one that has overwritten ten of `n` keys and lost its log: all
/// bytes exchanged, the work of either side, and that of encoding the whole state.
pub(crate) fn catch_up(n: usize, watch: &mut Stopwatch) -> anyhow::Result<Vec<Measure>> {
    let past = past(n)?;
    let copy = |id| -> anyhow::Result<Document> {
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&Delta::decode(&past)?);
        Ok(document)
    };
    let mut ahead = copy(1)?;
    for i in 0..DIFFERENT {
        ahead.set(NOW + 2, key(i * (n / DIFFERENT) + n / 50), -1)?;
    }
    ahead.prune_log(&ahead.version());
    let (encode, state) = watch.time(|| Ok(ahead.encode()))?;

    let mut sides = [Side::new(ahead), Side::new(copy(2)?)];
    let session = sides[0].replica.connect(NOW, Access::ALL, None);
    sides[0].session = Some(session);
    let bytes = exchange(&mut sides, watch)?;
    let [ahead, behind] = &sides;
    ensure!(
        behind.replica.document().encode() == state,
        "the states differ"
    );
    Ok(vec![
        Measure::new("bytes", bytes as f64, "bytes"),
        Measure::new("time_ms", ahead.time.max(behind.time), "ms"),
        Measure::new("encode_ms", encode, "ms"),
    ])
}

fn key(i: usize) -> String {
    format!("key-{i:06}")
}

/// What both had: two of three keys overwritten in random order, so that what is live does not
/// lie side by side.
fn past(n: usize) -> anyhow::Result<Vec<u8>> {
    let mut writer = Document::new(ReplicaId::new(3));
    writer.transact(NOW, |tx| {
        (0..n).try_for_each(|i| tx.set(key(i), i as i64))?;
        Ok::<_, Error>(())
    })?;
    for i in (0..n).map(|i| i * 611_953 % n).filter(|i| i % 3 != 0) {
        writer.set(NOW + 1, key(i), i as i64)?;
    }
    Ok(writer.encode())
}

/// Passes frames until both are silent; the bytes of all.
fn exchange(sides: &mut [Side; 2], watch: &mut Stopwatch) -> anyhow::Result<usize> {
    let mut bytes = 0;
    loop {
        let before = bytes;
        for from in 0..2 {
            let [one, two] = sides.each_mut();
            let (from, to) = if from == 0 { (one, two) } else { (two, one) };
            let Some(session) = from.replica.poll_ready().and(from.session) else {
                continue;
            };
            loop {
                let (time, frame) = watch.time(|| Ok(from.replica.poll_frame(session, NOW)))?;
                from.time += time;
                let Some(frame) = frame else { break };
                bytes += frame.len();
                let (time, ()) = watch.time(|| {
                    let frame = Frame::decode(frame)?;
                    if let Some(session) = to.session {
                        return Ok(to.replica.receive(session, NOW, frame)?);
                    }
                    let hello = frame.hello().context("a hello comes first")?;
                    to.session = Some(to.replica.accept(NOW, hello, Access::ALL)?);
                    Ok(())
                })?;
                to.time += time;
            }
        }
        if bytes == before {
            return Ok(bytes);
        }
    }
}
