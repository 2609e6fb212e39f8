//! What somebody else writes into the keys and channels of a bus.

use redis::aio::MultiplexedConnection;

use crate::format::put_golden;
use crate::support::{Redis, until};
use crate::{Map, NAME, converge, node};

fn key(what: &str) -> String {
    format!("portolan:{{{NAME}}}:{what}")
}

/// What a command may refer to.
const KEYS: [&str; 5] = ["meta", "log", "snapshot", "claim", "entries"];

/// Sends a command, in which `@NAME` stands for a key of the map, and `$EPOCH` and `$NEXT` for what
/// they are now.
async fn send(plain: &mut MultiplexedConnection, words: &[&str]) {
    let field = async |plain: &mut MultiplexedConnection, name: &str| -> Option<String> {
        let get = redis::cmd("HGET").arg(key("meta")).arg(name).to_owned();
        get.query_async(plain).await.unwrap()
    };
    let epoch = field(plain, "epoch").await.unwrap_or_default();
    let last = field(plain, "last").await.unwrap_or_default();
    let next = last.parse::<u64>().map_or(1, |last| last + 1);
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        let named = KEYS
            .iter()
            .find(|name| word.strip_prefix('@') == Some(name));
        let word = named.map_or_else(|| (*word).to_owned(), |name| key(name));
        let word = word.replace("$EPOCH", &epoch);
        command.arg(word.replace("$NEXT", &next.to_string()));
    }
    // What Redis refuses has done nothing.
    let _: redis::RedisResult<redis::Value> = command.query_async(plain).await;
}

/// Writes at both, and waits until all is where it belongs.
async fn go_on(redis: &Redis, first: &Map, second: &Map, what: &str) {
    for (map, name) in [(first, "a"), (second, "b")] {
        map.set(format!("{what}/{name}"), 1).unwrap();
        let flushed = tokio::time::timeout(crate::support::PATIENCE, map.flush()).await;
        flushed.expect("it is on the bus in time").unwrap();
    }
    converge(&[first, second]).await;
    until("who comes has it all", async || {
        let (_late, late) = node(redis).await;
        late.version() == first.version() && late.digest() == first.digest()
    })
    .await;
}

async fn survive(all: &[&[&str]]) {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let (a, first) = node(&redis).await;
    let (b, second) = node(&redis).await;
    go_on(&redis, &first, &second, "before").await;
    for (n, words) in all.iter().enumerate() {
        eprintln!("{words:?}");
        send(&mut plain, words).await;
        go_on(&redis, &first, &second, &n.to_string()).await;
    }
    assert_eq!(first.len(), 2 * all.len() + 2);
    for node in [a, b] {
        let failure = node.status().bus.and_then(|bus| bus.failure);
        assert!(failure.is_none(), "{failure:?}");
    }
}

#[tokio::test]
async fn garbage_in_the_stream_stops_nobody() {
    survive(&[
        &["XADD", "@log", "*", "e", "garbage"],
        &["XADD", "@log", "$NEXT-0", "e", "garbage"],
        &["XADD", "@log", "$NEXT-7", "x", "1", "y", "2"],
        &["XADD", "@log", "18446744073709551615-0", "e", "garbage"],
        &["XDEL", "@log", "2-0"],
        &["XTRIM", "@log", "MAXLEN", "1"],
        &["XTRIM", "@log", "MAXLEN", "0"],
        &["XSETID", "@log", "99999999-0"],
    ])
    .await;
}

#[tokio::test]
async fn garbage_in_the_meta_data_stops_nobody() {
    survive(&[
        &["HSET", "@meta", "last", "garbage"],
        &["HSET", "@meta", "last", ""],
        &["HSET", "@meta", "last", "0"],
        &["HSET", "@meta", "last", "-7"],
        &["HSET", "@meta", "last", "1e300"],
        &["HSET", "@meta", "last", "99999999"],
        &["HDEL", "@meta", "last"],
        &["HSET", "@meta", "epoch", "garbage"],
        &["HSET", "@meta", "epoch", ""],
        &["HSET", "@meta", "epoch", "7"],
        &["HDEL", "@meta", "epoch"],
        &["HSET", "@meta", "format", "garbage"],
        &["HDEL", "@meta", "format"],
        &["HSET", "@meta", "snapshot", "garbage"],
        &["HSET", "@meta", "snapshot", "2"],
        &["HSET", "@meta", "snapshot", "99999999"],
        &["HDEL", "@meta", "snapshot"],
        &["HSET", "@meta", "x", "garbage"],
    ])
    .await;
}

#[tokio::test]
async fn garbage_on_the_channel_stops_nobody() {
    survive(&[
        &["PUBLISH", "@entries", ""],
        &["PUBLISH", "@entries", "garbage"],
        &["PUBLISH", "@entries", "! "],
        &["PUBLISH", "@entries", "! garbage"],
        &["PUBLISH", "@entries", "7 1 garbage"],
        &["PUBLISH", "@entries", "$EPOCH 1 garbage"],
        &["PUBLISH", "@entries", "$EPOCH $NEXT garbage"],
        &["PUBLISH", "@entries", "$EPOCH $NEXT "],
        &["PUBLISH", "@entries", "$EPOCH 18446744073709551615 garbage"],
        &["SADD", "portolan:maps", "", "x"],
    ])
    .await;
}

#[tokio::test]
async fn garbage_in_the_snapshot_stops_nobody() {
    for words in [
        &["HSET", "@snapshot", "0", "garbage"],
        &["HSET", "@snapshot", "place", "garbage"],
        &["HSET", "@snapshot", "place", "99999999"],
        &["HSET", "@snapshot", "pieces", "18446744073709551615"],
        &["HSET", "@snapshot", "bytes", "7"],
        &["HSET", "@snapshot", "id", "garbage"],
        &["HDEL", "@snapshot", "0", "sum"],
    ] {
        eprintln!("{words:?}");
        let redis = Redis::start().await;
        let mut plain = redis.plain().await;
        put_golden(&mut plain).await;
        let (_a, first) = node(&redis).await;
        let (_b, second) = node(&redis).await;
        send(&mut plain, words).await;
        go_on(&redis, &first, &second, "after").await;
        assert_eq!(first.len(), 5);
    }
}

#[tokio::test]
async fn what_the_log_holds_is_found_though_its_meta_data_make_no_sense() {
    for words in [
        &["HSET", "@meta", "last", "garbage"][..],
        &["HSET", "@meta", "epoch", ""],
        &["HDEL", "@meta", "format"],
        &["DEL", "@meta"],
    ] {
        eprintln!("{words:?}");
        let redis = Redis::start().await;
        let mut plain = redis.plain().await;
        put_golden(&mut plain).await;
        send(&mut plain, words).await;
        // Nobody else holds anything.
        let (_a, first) = node(&redis).await;
        until("it has all of it", async || first.len() == 3).await;
        let (_b, second) = node(&redis).await;
        go_on(&redis, &first, &second, "after").await;
        assert_eq!(first.get("k"), Some(portolan::Value::from(998)));
    }
}
