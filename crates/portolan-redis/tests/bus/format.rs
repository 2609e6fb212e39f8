//! What the bus keeps in Redis, which servers of other releases have to read.

use futures_util::StreamExt as _;
use portolan::Value;
use redis::aio::MultiplexedConnection;

use crate::support::{PATIENCE, Redis, ask, until};
use crate::{NAME, converge, node};

/// A log of format 1 with a snapshot, as it stood in Redis once: the key, the field or id, and the
/// content, where it is bytes in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

/// Its id, and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

fn key(what: &str) -> String {
    format!("portolan:{{{NAME}}}:{what}")
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) async fn put_golden(plain: &mut MultiplexedConnection) {
    for line in GOLDEN.lines() {
        let [what, name, content] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let mut put = match what {
            "log" => redis::cmd("XADD")
                .arg(key(what))
                .arg(name)
                .arg("e")
                .to_owned(),
            _ => redis::cmd("HSET").arg(key(what)).arg(name).to_owned(),
        };
        match (what, name) {
            ("log", _) | ("snapshot", "0") => put.arg(bytes(content)),
            _ => put.arg(content),
        };
        put.exec_async(plain).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_written_once_is_read_for_ever() {
    let redis = Redis::start().await;
    put_golden(&mut redis.plain().await).await;
    let (_a, first) = node(&redis).await;
    assert_eq!(first.get("k"), Some(Value::from(998)));
    assert_eq!(first.get("after"), Some(Value::from("x")));
    assert_eq!(first.get_as("list").unwrap(), Some(vec!["x".to_owned()]));
    assert_eq!(first.len(), 3);
    // It goes on there.
    first.set("k", 999).unwrap();
    first.flush().await.unwrap();
    let (_b, second) = node(&redis).await;
    converge(&[&first, &second]).await;
    assert_eq!(second.get("k"), Some(Value::from(999)));
    let epoch: String = ask(&mut redis.plain().await, &["HGET", &key("meta"), "epoch"]).await;
    assert!(
        GOLDEN.contains(&format!("meta epoch {epoch}\n")),
        "it was begun anew"
    );
}

#[tokio::test]
async fn a_log_of_a_newer_format_is_told_and_left_alone() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    put_golden(&mut plain).await;
    let _: u64 = ask(&mut plain, &["HSET", &key("meta"), "format", "2"]).await;
    let mut keys = Vec::new();
    for what in ["meta", "log", "snapshot"] {
        let dump: redis::Value = ask(&mut plain, &["DUMP", &key(what)]).await;
        keys.push((what, dump));
    }
    let (a, first) = node(&redis).await;
    first.set("k", 1).unwrap();
    until("it is told", async || {
        let failure = a.status().bus.and_then(|bus| bus.failure);
        failure.is_some_and(|failure| failure.to_string().contains("newer release"))
    })
    .await;
    for (what, before) in keys {
        let after: redis::Value = ask(&mut plain, &["DUMP", &key(what)]).await;
        assert_eq!(after, before, "{what}");
    }
}

#[tokio::test]
async fn keys_and_messages_are_those_of_the_format() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (_a, map) = node(&redis).await;
    map.set("k", 1).unwrap();
    map.flush().await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut messages = client.get_async_pubsub().await.unwrap();
    messages.subscribe(key("entries")).await.unwrap();
    map.set("k", 2).unwrap();
    map.flush().await.unwrap();
    let next = tokio::time::timeout(PATIENCE, messages.on_message().next()).await;
    let message = next.unwrap().unwrap();

    let mut meta: Vec<(String, u64)> = ask(&mut plain, &["HGETALL", &key("meta")]).await;
    meta.sort();
    let [
        ("epoch", epoch),
        ("format", 1),
        ("last", last),
        ("snapshot", 0),
    ] = meta
        .iter()
        .map(|(field, number)| (&**field, *number))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{meta:?}");
    };
    let log: Vec<Entry> = ask(&mut plain, &["XRANGE", &key("log"), "-", "+"]).await;
    assert_eq!(log.len() as u64, last);
    let mut before: Option<&[u8]> = None;
    for (n, (id, fields)) in (1..).zip(&log) {
        assert_eq!(*id, format!("{n}-0"));
        let [(field, entry)] = &fields[..] else {
            panic!("{fields:?}");
        };
        // The run, the number in it, and the format of the content.
        let (tag, content) = entry.split_at(16);
        assert_eq!((&**field, content[0]), ("e", 1));
        if let Some(before) = before.replace(tag) {
            let number = |tag: &[u8]| u64::from_le_bytes(tag[8..].try_into().unwrap());
            assert_eq!(tag[..8], before[..8], "one server wrote");
            assert!(number(tag) > number(before));
        }
    }
    // The node may have told of the members meanwhile.
    let told = message.get_payload_bytes();
    let mut entries = (1..).zip(&log).map(|(n, (_, fields))| {
        let told = format!("{epoch} {n} ");
        [told.as_bytes(), &fields[0].1].concat()
    });
    assert!(entries.any(|entry| entry == told), "{told:?}");
    let names: Vec<String> = ask(&mut plain, &["SMEMBERS", "portolan:maps"]).await;
    assert_eq!(names, [NAME]);
}
