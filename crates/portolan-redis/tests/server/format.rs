//! The format of `goa.design/pulse/rmap`, byte by byte: this crate's messages, and a stand-in for a
//! Go node that knows the format alone.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use portolan_redis::{CoordinatedMap, Error, Server, Ttl};
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{PATIENCE, Redis, agrees, ask, hash, options, reads, until};

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

/// The messages of the format, put together as the format says.
mod expected {
    fn packed(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_le_bytes()[..], bytes].concat()
    }

    pub(super) fn set(key: &str, value: &str, revision: u64) -> Vec<u8> {
        let revision = revision.to_string();
        let parts = [key, value, &revision].map(|part| packed(part.as_bytes()));
        [b"set:".to_vec(), parts.concat()].concat()
    }

    pub(super) fn deleted(key: &str, revision: u64) -> Vec<u8> {
        let revision = revision.to_string();
        let parts = [key, &revision].map(|part| packed(part.as_bytes()));
        [b"del:".to_vec(), parts.concat()].concat()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_says_what_it_changed_and_nothing_where_it_changed_nothing() {
    use expected::{deleted, set};
    let redis = Redis::start().await;
    let (minute, long) = (Duration::from_mins(1), Duration::from_mins(10));
    let options = [
        options(),
        options().ttl(Ttl::Absolute(minute)),
        options().ttl(Ttl::Sliding(minute)),
    ];
    for (n, options) in options.into_iter().enumerate() {
        let name = format!("fleet{n}");
        let map = redis.join_with(&name, options).await;
        let told = listen(&redis, &name).await;
        // What was refused or changed nothing is not heard before what comes next.
        assert!(map.set_if_absent("k", "1").await.unwrap().is_applied());
        assert_eq!(next(&told), set("k", "1", 1));
        assert!(!map.set_if_absent("k", "2").await.unwrap().is_applied());
        assert!(
            !map.compare_and_set("k", "2", "3")
                .await
                .unwrap()
                .is_applied()
        );
        assert!(
            map.compare_and_set("k", "1", "3")
                .await
                .unwrap()
                .is_applied()
        );
        assert_eq!(next(&told), set("k", "3", 2));
        // Written again it is told again.
        map.set("k", "3").await.unwrap();
        assert_eq!(next(&told), set("k", "3", 3));
        map.increment("k", -5).await.unwrap();
        assert_eq!(next(&told), set("k", "-2", 4));
        assert!(map.append("k", &["a"]).await.is_err());
        map.append("l", &["a", "b"]).await.unwrap();
        assert_eq!(next(&told), set("l", r#"["a","b"]"#, 5));
        assert!(map.increment("l", 1).await.is_err());
        assert!(!map.append_unique("l", &["a"]).await.unwrap().is_applied());
        map.append_unique("l", &["a", "c"]).await.unwrap();
        assert_eq!(next(&told), set("l", r#"["a","b","c"]"#, 6));
        assert!(!map.remove("l", &["x"]).await.unwrap().is_applied());
        map.remove("l", &["a", "c"]).await.unwrap();
        assert_eq!(next(&told), set("l", r#"["b"]"#, 7));
        map.remove("l", &["b"]).await.unwrap();
        assert_eq!(next(&told), deleted("l", 8));
        assert!(!map.compare_and_delete("k", "1").await.unwrap().is_applied());
        map.compare_and_delete("k", "-2").await.unwrap();
        assert_eq!(next(&told), deleted("k", 9));
        assert!(!map.reset().await.unwrap().is_applied());
        map.set_and_wait("k", "4", PATIENCE).await.unwrap();
        assert_eq!(next(&told), set("k", "4", 10));
        assert!(
            !map.compare_and_reset([("k", "5")])
                .await
                .unwrap()
                .is_applied()
        );
        map.compare_and_reset([("k", "4")]).await.unwrap();
        assert_eq!(next(&told), b"reset:11");
        let lease = map.lease("job", long).await.unwrap();
        lease.set("5").await.unwrap();
        assert_eq!(next(&told), set("job", "5", 12));
        lease.delete().await.unwrap();
        assert_eq!(next(&told), deleted("job", 13));
        map.set("k", "6").await.unwrap();
        assert_eq!(next(&told), set("k", "6", 14));
        // With nothing to compare it is a reset.
        let nothing: [(&str, &str); 0] = [];
        assert!(map.compare_and_reset(nothing).await.unwrap().is_applied());
        assert_eq!(next(&told), b"reset:15");
        map.set("k", "7").await.unwrap();
        assert_eq!(next(&told), set("k", "7", 16));
        map.destroy().await.unwrap();
        assert_eq!(next(&told), b"destroy:17");
        assert_eq!(hash(&mut redis.plain().await, &name).await, (vec![], 17));
    }
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

/// What a Go node holds: what it read when it joined, and what it was told since.
struct GoReplica {
    told: mpsc::Receiver<Vec<u8>>,
    held: BTreeMap<Vec<u8>, Vec<u8>>,
    revision: u64,
}

impl GoReplica {
    async fn join(redis: &Redis, name: &str) -> Self {
        let told = listen(redis, name).await;
        let mut held: BTreeMap<Vec<u8>, Vec<u8>> = redis::cmd("HGETALL")
            .arg(format!("map:{name}:content"))
            .query_async(&mut redis.plain().await)
            .await
            .unwrap();
        let revision = held.remove(&b"=rev"[..]).map_or(0, |text| decimal(&text));
        held.remove(&b"=kind"[..]);
        Self {
            told,
            held,
            revision,
        }
    }

    /// Takes in what it was told, as the format says.
    fn catch_up(&mut self) {
        while let Ok(message) = self.told.try_recv() {
            let colon = message.iter().position(|byte| *byte == b':').unwrap();
            let (operation, mut body) = (&message[..colon], &message[colon + 1..]);
            let mut word = || {
                let (length, rest) = body.split_at(4);
                let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                let (word, rest) = rest.split_at(length);
                body = rest;
                word.to_vec()
            };
            let (revision, change) = match operation {
                b"set" => {
                    let (key, value) = (word(), word());
                    (decimal(&word()), Some((key, Some(value))))
                }
                b"del" => {
                    let key = word();
                    (decimal(&word()), Some((key, None)))
                }
                b"reset" | b"destroy" => (decimal(body), None),
                other => panic!("{other:?}"),
            };
            assert!(matches!(operation, b"reset" | b"destroy") || body.is_empty());
            assert_eq!(revision, self.revision + 1, "a change is missing");
            self.revision = revision;
            match change {
                Some((key, Some(value))) => drop(self.held.insert(key, value)),
                Some((key, None)) => assert!(self.held.remove(&key).is_some()),
                None => self.held.clear(),
            }
        }
    }
}

fn decimal(text: &[u8]) -> u64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_go_node_that_knows_the_format_alone_follows_whatever_is_done_here() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    map.set("early", "1").await.unwrap();
    let (mut replica, mut go) = (
        GoReplica::join(&redis, "fleet").await,
        GoNode(redis.plain().await),
    );
    for n in 0..300u32 {
        let (key, list) = (format!("k{}", n % 7), format!("l{}", n % 3));
        let item = (n % 5).to_string();
        match n * 7 % 13 {
            0 | 1 => drop(map.set(&key, format!("\0:{n}")).await.unwrap()),
            2 => drop(
                map.set_many([(&key, "a"), (&list, r#"["x"]"#)])
                    .await
                    .unwrap(),
            ),
            3 => drop(map.set_if_absent(&key, "b").await.unwrap()),
            4 => drop(map.compare_and_set(&key, "b", "c").await.unwrap()),
            5 => drop(map.delete(&key).await.unwrap()),
            6 => drop(map.increment(format!("n{}", n % 2), -3).await.unwrap()),
            7 => drop(map.append(&list, &[&item]).await.unwrap()),
            8 => drop(map.append_unique(&list, &[&item, &list]).await.unwrap()),
            9 => drop(map.remove(&list, &[&item]).await.unwrap()),
            10 => go.set(&key, "go").await,
            11 if map.contains(&list) => go.delete(&list).await,
            12 if n % 4 == 0 => go.reset().await,
            12 if n % 4 == 1 => drop(map.reset().await.unwrap()),
            12 if n % 4 == 2 => drop(map.destroy().await.unwrap()),
            _ => drop(map.compare_and_delete(&key, "go").await.unwrap()),
        }
        // What Go does is heard here before the next operation looks at it.
        agrees(&map, &mut go.0).await;
    }
    until("it has heard all", || {
        replica.catch_up();
        std::future::ready(replica.revision == map.revision())
    })
    .await;
    let here = map
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()));
    assert_eq!(replica.held, here.collect());
}

#[tokio::test]
async fn maps_of_one_name_in_two_databases_are_right_though_they_share_a_channel() {
    let redis = Redis::start().await;
    let second = Server::single(&format!("{}/1", redis.url())).unwrap();
    let first = redis.join("fleet").await;
    let second = CoordinatedMap::join(&second, "fleet", options())
        .await
        .unwrap();
    for n in 0..20 {
        let value = n.to_string();
        first.set("k", &value).await.unwrap();
        second.set("j", &value).await.unwrap();
        assert_eq!(first.get("k").as_deref(), Some(value.as_bytes()));
        assert_eq!(second.get("j").as_deref(), Some(value.as_bytes()));
    }
    for (map, database) in [(&first, "0"), (&second, "1")] {
        let mut plain = redis.plain().await;
        redis::cmd("SELECT")
            .arg(database)
            .exec_async(&mut plain)
            .await
            .unwrap();
        agrees(map, &mut plain).await;
    }
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

#[tokio::test]
async fn replies_that_make_no_sense_are_an_error_and_no_panic() {
    // Whoever answers there is no Redis, or something in between spoils what it says.
    for garbage in [
        "",
        "\0",
        "+OK\r\n",
        "%1\r\n",
        "*-5\r\n",
        "$99999999999\r\nx",
        "HTTP/1.1 400\r\n\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            while let Ok((mut line, _)) = listener.accept().await {
                // To whatever is asked.
                let mut asked = [0; 4096];
                while let Ok(1..) = line.read(&mut asked).await {
                    if line.write_all(garbage.repeat(20).as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        let server = Server::single(&format!("redis://{address}")).unwrap();
        let soon = options().patience(Duration::from_millis(300));
        let joined = CoordinatedMap::join(&server, "fleet", soon).await;
        let told = matches!(
            joined,
            Err(Error::Unreachable { .. } | Error::Refused { .. } | Error::Format { .. })
        );
        assert!(told, "{garbage:?}: {joined:?}");
        answering.abort();
    }
}

async fn refused(redis: &Redis) -> Error {
    CoordinatedMap::join(&redis.server(), "fleet", options())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_is_no_hash_or_has_no_number_for_revision_is_an_error() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let content = "map:fleet:content";
    let _: String = ask(&mut plain, &["SET", content, "x"]).await;
    let error = refused(&redis).await;
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    let _: u64 = ask(&mut plain, &["DEL", content]).await;
    let map = redis.join("fleet").await;
    let _: String = ask(&mut plain, &["SET", content, "x"]).await;
    let error = map.set("a", "1").await.unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    drop(map);
    let _: u64 = ask(&mut plain, &["DEL", content]).await;
    let _: u64 = ask(&mut plain, &["HSET", content, "=rev", "many"]).await;
    let error = refused(&redis).await;
    assert!(matches!(error, Error::Format { .. }), "{error}");
}
