//! `kill -9` under load, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{Random, Server, folder, run, try_http, wait_until};

const WRITERS: usize = 4;
const KEYS: u64 = 16;

/// A write whose answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Set(u64),
    Unset,
}

impl Doing {
    /// What is there once it is done.
    fn leaves(self) -> Option<u64> {
        match self {
            Doing::Set(value) => Some(value),
            Doing::Unset => None,
        }
    }
}

/// What a writer knows of one of its keys: nobody else writes it.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The value that was acknowledged last, `None` after a removal.
    acknowledged: Option<u64>,
    /// What it was doing when the server died: that may have happened or not.
    under_way: Option<Doing>,
}

/// Sets and removes until the server is gone.
fn write(
    url: &str,
    writer: usize,
    mut random: Random,
    mut known: BTreeMap<u64, Known>,
    done: &AtomicU64,
) -> BTreeMap<u64, Known> {
    loop {
        let key = random.below(KEYS);
        let path = format!("/v1/maps/m/keys/{writer}-{key}");
        let entry = known.entry(key).or_default();
        let doing = match random.below(3) {
            0 => Doing::Unset,
            _ => Doing::Set(random.below(1 << 30)),
        };
        entry.under_way = Some(doing);
        let answer = match doing {
            Doing::Set(value) => try_http(url, "PUT", &path, &[], &json!(value).to_string()),
            Doing::Unset => try_http(url, "DELETE", &path, &[], ""),
        };
        match answer {
            Ok(answer) => {
                let expected = match (doing, entry.acknowledged) {
                    (_, Some(_)) => 204,
                    (Doing::Set(_), None) => 201,
                    (Doing::Unset, None) => 404,
                };
                assert_eq!(answer.status, expected, "{entry:?}: {answer:?}");
                *entry = Known {
                    acknowledged: doing.leaves(),
                    under_way: None,
                };
                done.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => return known,
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_removed_returns() {
    let rounds = std::env::var("PORTOLAN_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10);
    let mut random = Random::of_this_run();
    let folder = folder();
    let mut server = Server::on(folder.path());
    let mut known = vec![BTreeMap::new(); WRITERS];
    let mut writes = 0;
    for round in 0..rounds {
        let done = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (url, done) = (server.url.clone(), done.clone());
                let (random, known) = (random.another(), known[writer].clone());
                thread::spawn(move || write(&url, writer, random, known, &done))
            })
            .collect();
        // At any moment: while few writes were made, or many, or the store tidies up.
        let enough = random.below(300);
        wait_until("writes go on", || done.load(Ordering::SeqCst) >= enough);
        server.kill();
        for (writer, thread) in writers.into_iter().enumerate() {
            known[writer] = thread.join().expect("a writer");
        }
        writes += done.load(Ordering::SeqCst);
        server.restart();
        let held = server.read("/v1/maps/m");
        let held = if held.status == 200 {
            held.json()
        } else {
            json!({})
        };
        for (writer, keys) in known.iter_mut().enumerate() {
            for (key, known) in keys {
                let found = held
                    .get(format!("{writer}-{key}"))
                    .map(|value| value.as_u64().unwrap());
                let allowed = found == known.acknowledged
                    || Some(found) == known.under_way.map(Doing::leaves);
                assert!(
                    allowed,
                    "round {round}, key {writer}-{key}: {found:?}, but {known:?}"
                );
                // From here on this is what is known.
                *known = Known {
                    acknowledged: found,
                    under_way: None,
                };
            }
        }
    }
    server.kill();
    let report = run(["verify".as_ref(), folder.path().as_os_str()]).ok();
    assert!(report.contains("is sound"), "{report}");
    eprintln!("{rounds} rounds, {writes} writes acknowledged");
}
