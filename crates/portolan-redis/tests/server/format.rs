//! The format of `goa.design/pulse/rmap`, byte by byte: this crate's messages, and a stand-in for a
//! Go node that knows the format alone.

use std::sync::mpsc;

use portolan_redis::CoordinatedMap;
use redis::aio::MultiplexedConnection;

use crate::support::{PATIENCE, Redis, agrees, hash, reads, until};

/// Listens to a channel as any program does.
async fn listen(redis: &Redis, name: &str) -> mpsc::Receiver<Vec<u8>> {
    let client = redis::Client::open(redis.url()).unwrap();
    let (tell, told) = mpsc::channel();
    let (mut sink, mut stream) = client.get_async_pubsub().await.unwrap().split();
    sink.subscribe(format!("map:{name}:updates")).await.unwrap();
    tokio::spawn(async move {
        use futures_util::StreamExt as _;
        let _sink = sink;
        while let Some(message) = stream.next().await {
            if tell.send(message.get_payload_bytes().to_vec()).is_err() {
                return;
            }
        }
    });
    told
}

fn next(told: &mpsc::Receiver<Vec<u8>>) -> Vec<u8> {
    tokio::task::block_in_place(|| told.recv_timeout(PATIENCE).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_byte_for_byte_those_of_the_format() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let told = listen(&redis, "fleet").await;

    map.set("foo", "bar").await.unwrap();
    assert_eq!(next(&told), b"set:\x03\0\0\0foo\x03\0\0\0bar\x01\0\0\x001");
    map.increment("n", 1).await.unwrap();
    assert_eq!(next(&told), b"set:\x01\0\0\0n\x01\0\0\x001\x01\0\0\x002");
    map.append("l", &["a"]).await.unwrap();
    assert_eq!(
        next(&told),
        b"set:\x01\0\0\0l\x05\0\0\0[\"a\"]\x01\0\0\x003"
    );
    map.remove("l", &["a"]).await.unwrap();
    assert_eq!(next(&told), b"del:\x01\0\0\0l\x01\0\0\x004");
    map.delete("n").await.unwrap();
    assert_eq!(next(&told), b"del:\x01\0\0\0n\x01\0\0\x005");
    map.reset().await.unwrap();
    assert_eq!(next(&told), b"reset:6");
    // What changes nothing is not published; two of one call are two messages.
    map.delete("none").await.unwrap();
    map.set_many([("a", ""), ("b", "2")]).await.unwrap();
    assert_eq!(next(&told), b"set:\x01\0\0\0a\0\0\0\0\x01\0\0\x007");
    assert_eq!(next(&told), b"set:\x01\0\0\0b\x01\0\0\x002\x01\0\0\x008");
    map.set("long", vec![b'x'; 300]).await.unwrap();
    let long = next(&told);
    assert_eq!(&long[..16], b"set:\x04\0\0\0long\x2c\x01\0\0");
    map.destroy().await.unwrap();
    assert_eq!(next(&told), b"destroy:10");

    let mut plain = redis.plain().await;
    let fields: Vec<(String, String)> = redis::cmd("HGETALL")
        .arg("map:fleet:content")
        .query_async(&mut plain)
        .await
        .unwrap();
    let mut fields = fields;
    fields.sort();
    let expected = [("=kind", "destroy"), ("=rev", "10")];
    assert_eq!(
        fields,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

/// What a Go node does: one script a mutation, and a message.
struct GoNode(MultiplexedConnection);

impl GoNode {
    async fn run(&mut self, body: &str, arguments: &[&str]) {
        let script = format!(
            "local function p(s) return struct.pack('<i4', string.len(s)) .. s end
             local function rev() return tostring(redis.call('HINCRBY', KEYS[1], '=rev', 1)) end
             {body}"
        );
        let mut eval = redis::cmd("EVAL");
        eval.arg(script)
            .arg(2)
            .arg("map:fleet:content")
            .arg("map:fleet:updates");
        eval.arg(arguments).exec_async(&mut self.0).await.unwrap();
    }

    async fn set(&mut self, key: &str, value: &str) {
        let body = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], '=kind', 'set')
             redis.call('PUBLISH', KEYS[2], 'set:' .. p(ARGV[1]) .. p(ARGV[2]) .. p(rev()))";
        self.run(body, &[key, value]).await;
    }

    async fn delete(&mut self, key: &str) {
        let body = "redis.call('HDEL', KEYS[1], ARGV[1])
             redis.call('HSET', KEYS[1], '=kind', 'del')
             redis.call('PUBLISH', KEYS[2], 'del:' .. p(ARGV[1]) .. p(rev()))";
        self.run(body, &[key]).await;
    }

    async fn reset(&mut self) {
        let body = "local last = redis.call('HGET', KEYS[1], '=rev')
             redis.call('DEL', KEYS[1])
             redis.call('HSET', KEYS[1], '=rev', last, '=kind', 'reset')
             redis.call('PUBLISH', KEYS[2], 'reset:' .. rev())";
        self.run(body, &[]).await;
    }
}

#[tokio::test]
async fn a_go_node_and_this_one_share_a_map() {
    let redis = Redis::start().await;
    let mut go = GoNode(redis.plain().await);
    go.set("early", "1").await;
    let map = redis.join("fleet").await;
    assert_eq!(map.get("early").as_deref(), Some(&b"1"[..]));
    go.set("late", "2").await;
    reads(&map, "late", "2").await;
    map.set("mine", "3").await.unwrap();
    go.delete("early").await;
    go.set("mine", "4").await;
    reads(&map, "mine", "4").await;
    assert!(!map.contains("early"));
    agrees(&map, &mut go.0).await;
    go.reset().await;
    until("the reset is seen", async || map.is_empty()).await;
    go.set("a", "1").await;
    reads(&map, "a", "1").await;
    assert_eq!(hash(&mut go.0, "fleet").await.1, 7);
    agrees(&map, &mut go.0).await;
}

#[tokio::test]
async fn a_message_that_is_not_of_the_format_leads_to_a_new_reading() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let mut plain = redis.plain().await;
    for payload in ["", "nonsense", "set:", "reset:x", "set:\u{7f}\0\0\0"] {
        // Written past the format too, so that only a new reading shows it.
        let write = redis::pipe()
            .cmd("HSET")
            .arg("map:fleet:content")
            .arg("k")
            .arg(format!("p{payload}"))
            .ignore()
            .cmd("PUBLISH")
            .arg("map:fleet:updates")
            .arg(payload)
            .ignore()
            .exec_async(&mut plain)
            .await;
        write.unwrap();
        reads(&map, "k", &format!("p{payload}")).await;
    }
}

async fn refused(redis: &Redis) -> portolan_redis::Error {
    CoordinatedMap::join(&redis.server(), "fleet", crate::support::options())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_is_no_hash_or_has_no_number_for_revision_is_an_error() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    redis::cmd("SET")
        .arg("map:fleet:content")
        .arg("x")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let error = refused(&redis).await;
    assert!(
        matches!(error, portolan_redis::Error::WrongType { .. }),
        "{error}"
    );
    redis::cmd("DEL")
        .arg("map:fleet:content")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let map = redis.join("fleet").await;
    redis::cmd("SET")
        .arg("map:fleet:content")
        .arg("x")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let error = map.set("a", "1").await.unwrap_err();
    assert!(
        matches!(error, portolan_redis::Error::WrongType { .. }),
        "{error}"
    );
    drop(map);
    redis::cmd("DEL")
        .arg("map:fleet:content")
        .exec_async(&mut plain)
        .await
        .unwrap();
    redis::cmd("HSET")
        .arg("map:fleet:content")
        .arg("=rev")
        .arg("many")
        .exec_async(&mut plain)
        .await
        .unwrap();
    let error = refused(&redis).await;
    assert!(
        matches!(error, portolan_redis::Error::Format { .. }),
        "{error}"
    );
}
