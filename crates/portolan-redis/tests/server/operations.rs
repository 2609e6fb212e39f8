//! Each operation: what it does, what it gives, and that this process reads it at once.

use std::time::Duration;

use portolan_redis::{CoordinatedMap, Error, Options, Outcome, Server, Ttl};

use crate::support::{Redis, agrees, ask, entries, hash, options, reads, until};

fn done<T>(value: T, previous: Option<&str>, revision: Option<u64>) -> Outcome<T> {
    Outcome {
        value,
        previous: previous.map(|text| text.as_bytes().to_vec().into()),
        revision,
    }
}

#[tokio::test]
async fn operations_give_what_was_there_and_are_read_at_once() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let get = |key: &str| {
        map.get(key)
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
    };

    assert_eq!(map.set("a", "1").await.unwrap(), done((), None, Some(1)));
    assert_eq!(get("a").as_deref(), Some("1"));
    assert_eq!(
        map.set("a", "2").await.unwrap(),
        done((), Some("1"), Some(2))
    );
    assert_eq!(
        map.set_if_absent("a", "3").await.unwrap(),
        done((), Some("2"), None)
    );
    assert_eq!(
        map.set_if_absent("b", "3").await.unwrap(),
        done((), None, Some(3))
    );
    assert_eq!(
        map.compare_and_set("a", "1", "4").await.unwrap(),
        done((), Some("2"), None)
    );
    assert_eq!(
        map.compare_and_set("a", "2", "4").await.unwrap(),
        done((), Some("2"), Some(4))
    );
    assert_eq!(
        map.compare_and_set("none", "", "4").await.unwrap(),
        done((), None, None)
    );
    assert_eq!(get("a").as_deref(), Some("4"));
    assert_eq!(
        map.compare_and_delete("a", "1").await.unwrap(),
        done((), Some("4"), None)
    );
    assert_eq!(
        map.compare_and_delete("a", "4").await.unwrap(),
        done((), Some("4"), Some(5))
    );
    assert_eq!(get("a"), None);
    assert_eq!(map.delete("a").await.unwrap(), done((), None, None));
    assert_eq!(map.delete("b").await.unwrap(), done((), Some("3"), Some(6)));
    assert!(map.is_empty());

    let previous = map
        .set_many([("x", "1"), ("y", "2"), ("x", "3")])
        .await
        .unwrap();
    assert_eq!(previous.value, [None, None, None]);
    assert_eq!(previous.revision, Some(9));
    assert_eq!(
        entries(&map),
        [("x".into(), "3".into()), ("y".into(), "2".into())]
    );
    let nothing: [(&str, &str); 0] = [];
    assert_eq!(map.set_many(nothing).await.unwrap().revision, None);

    assert!(
        !map.compare_and_reset([("x", "1")])
            .await
            .unwrap()
            .is_applied()
    );
    assert!(
        map.compare_and_reset([("x", "3"), ("y", "2")])
            .await
            .unwrap()
            .is_applied()
    );
    assert!(map.is_empty());
    assert!(
        !map.reset().await.unwrap().is_applied(),
        "there was nothing to reset"
    );
    map.set("z", "1").await.unwrap();
    assert_eq!(map.destroy().await.unwrap().revision, Some(12));
    assert_eq!(map.keys(), [] as [portolan_redis::Key; 0]);
    let mut plain = redis.plain().await;
    assert_eq!(hash(&mut plain, "fleet").await, (vec![], 12));
}

#[tokio::test]
async fn many_are_set_in_one_round_trip() {
    let redis = Redis::start().await;
    let map = redis
        .join_with("fleet", options().digest_period(Duration::from_hours(1)))
        .await;
    // The script is known to the server from here on.
    map.set_many([("k", "1")]).await.unwrap();
    let mut plain = redis.plain().await;
    let _: String = ask(&mut plain, &["CONFIG", "RESETSTAT"]).await;
    let entries = (0..1_000).map(|n| (format!("k{n}"), n.to_string()));
    let done = map.set_many(entries).await.unwrap();
    assert_eq!((done.value.len(), map.len()), (1_000, 1_001));
    let stats: String = ask(&mut plain, &["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_evalsha:calls=1,"), "{stats}");
    // What scripts call is counted too; nothing else was asked.
    let asked = ["get", "hgetall", "eval", "set", "multi"];
    for command in asked.map(|name| format!("cmdstat_{name}:")) {
        assert!(!stats.contains(&command), "{stats}");
    }
}

#[tokio::test]
async fn integers_of_64_bits_are_added_exactly() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    assert_eq!(map.increment("n", 5).await.unwrap(), done(5, None, Some(1)));
    assert_eq!(
        map.increment("n", -7).await.unwrap(),
        done(-2, Some("5"), Some(2))
    );
    // A number of Lua has 53 bits.
    map.set("n", (i64::MAX - 2).to_string()).await.unwrap();
    assert_eq!(map.increment("n", 1).await.unwrap().value, i64::MAX - 1);
    assert!(matches!(
        map.increment("n", 2).await,
        Err(Error::Overflow { .. })
    ));
    reads(&map, "n", &(i64::MAX - 1).to_string()).await;
    for other in ["", "abc", "1.5", " 1", "[1]"] {
        map.set("t", other).await.unwrap();
        let refused = map.increment("t", 1).await;
        assert!(
            matches!(refused, Err(Error::NotAnInteger { .. })),
            "{other:?}: {refused:?}"
        );
        reads(&map, "t", other).await;
    }
    agrees(&map, &mut redis.plain().await).await;
}

#[tokio::test]
async fn lists_are_json_or_older_text_and_nothing_else_is_touched() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();

    assert_eq!(
        map.append("l", &["a", "b"]).await.unwrap(),
        done(list(&["a", "b"]), None, Some(1))
    );
    assert_eq!(map.get_values("l").unwrap().unwrap(), ["a", "b"]);
    let appended = map.append("l", &["b,\"/é\n"]).await.unwrap();
    assert_eq!(appended.value, ["a", "b", "b,\"/é\n"]);
    assert_eq!(map.get_values("l").unwrap().unwrap(), appended.value);
    let same = map.append_unique("l", &["a", "b"]).await.unwrap();
    assert_eq!((same.value.len(), same.revision), (3, None));
    let one = map.append_unique("l", &["c", "a", "c"]).await.unwrap();
    assert_eq!(one.value, ["a", "b", "b,\"/é\n", "c"]);

    map.append("l", &["a"]).await.unwrap();
    let rest = map.remove("l", &["a", "b,\"/é\n"]).await.unwrap();
    assert_eq!(rest.value, ["b", "c"]);
    assert_eq!(map.remove("l", &["x"]).await.unwrap().revision, None);
    let emptied = map.remove("l", &["b", "c"]).await.unwrap();
    assert!(emptied.is_applied() && emptied.value.is_empty());
    assert!(!map.contains("l"), "an emptied list is deleted");
    assert_eq!(
        map.remove("l", &["b"]).await.unwrap(),
        done(vec![], None, None)
    );
    let none: [&str; 0] = [];
    assert_eq!(
        map.append("l", &none).await.unwrap(),
        done(vec![], None, None)
    );

    map.set("older", "x,y").await.unwrap();
    assert_eq!(map.get_values("older").unwrap().unwrap(), ["x", "y"]);
    assert_eq!(
        map.append("older", &["z"]).await.unwrap().value,
        ["x", "y", "z"]
    );
    reads(&map, "older", r#"["x","y","z"]"#).await;

    for other in [
        r#"{"a":1}"#,
        "[1]",
        r#"["a",null]"#,
        "5",
        "true",
        r#""a""#,
        "[a",
        "{}",
        "null",
    ] {
        map.set("other", other).await.unwrap();
        let refused = map.append("other", &["b"]).await;
        assert!(
            matches!(refused, Err(Error::NotAList { .. })),
            "{other}: {refused:?}"
        );
        assert!(map.append_unique("other", &["b"]).await.is_err(), "{other}");
        assert!(map.remove("other", &["b"]).await.is_err(), "{other}");
        assert!(map.get_values("other").is_err(), "{other}");
        reads(&map, "other", other).await;
    }
    agrees(&map, &mut redis.plain().await).await;
}

#[tokio::test]
async fn bad_names_keys_and_values_are_refused_before_redis_sees_them() {
    let redis = Redis::start().await;
    let long = "n".repeat(513);
    for name in ["", "a b", "a\0", "*", "a?", "[", "a]", &long] {
        let refused = CoordinatedMap::join(&redis.server(), name, Options::default()).await;
        assert!(matches!(refused, Err(Error::Name { .. })), "{name:?}");
    }
    for name in ["a", "é".repeat(512).as_str(), "a/b:{c}=d\n"] {
        redis.join(name).await.set("k", "1").await.unwrap();
    }
    let map = redis.join("fleet").await;
    for key in ["", "=rev", "a=b", &"k".repeat(5000)] {
        assert!(
            matches!(map.set(key, "1").await, Err(Error::Limit { .. })),
            "{key}"
        );
        assert!(
            matches!(map.increment(key, 1).await, Err(Error::Limit { .. })),
            "{key}"
        );
        assert!(
            matches!(map.set_many([(key, "1")]).await, Err(Error::Limit { .. })),
            "{key}"
        );
    }
    assert!(map.set("a", vec![0; 2 << 20]).await.is_err());
    assert_eq!(map.revision(), 0);
    // Any other bytes are a key.
    map.set([0xff, 0, b':'], [0xfe]).await.unwrap();
    assert_eq!(map.get([0xff, 0, b':']).as_deref(), Some(&[0xfe][..]));
}

#[tokio::test]
async fn a_map_expires_by_its_time_to_live() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let minute = Duration::from_mins(1);
    let left = async |plain: &mut _, name: &str| -> i64 {
        let content = format!("map:{name}:content");
        redis::cmd("PTTL")
            .arg(content)
            .query_async(plain)
            .await
            .unwrap()
    };
    let shorten = async |plain: &mut _, name: &str| {
        let content = format!("map:{name}:content");
        redis::cmd("PEXPIRE")
            .arg(content)
            .arg(30_000)
            .exec_async(plain)
            .await
            .unwrap();
    };

    let absolute = options().ttl(Ttl::Absolute(minute));
    let map = redis.join_with("absolute", absolute).await;
    map.set("a", "1").await.unwrap();
    assert!((30_001..=60_000).contains(&left(&mut plain, "absolute").await));
    shorten(&mut plain, "absolute").await;
    map.set("a", "2").await.unwrap();
    map.reset().await.unwrap();
    map.set("a", "3").await.unwrap();
    assert!(
        left(&mut plain, "absolute").await <= 30_000,
        "the time runs from the first write"
    );

    let sliding = options().ttl(Ttl::Sliding(minute));
    let map = redis.join_with("sliding", sliding).await;
    map.set("a", "1").await.unwrap();
    shorten(&mut plain, "sliding").await;
    map.set("a", "2").await.unwrap();
    assert!(
        left(&mut plain, "sliding").await > 30_000,
        "the time runs from the last write"
    );
}

#[tokio::test]
async fn keys_that_expire_by_themselves_need_a_newer_server() {
    let redis = Redis::start().await;
    let map = redis.join("fleet").await;
    let mut plain = redis.plain().await;
    let info: redis::Value = redis::cmd("COMMAND")
        .arg("INFO")
        .arg("HPEXPIRE")
        .query_async(&mut plain)
        .await
        .unwrap();
    let is_known = format!("{info:?}").to_lowercase().contains("hpexpire");
    let done = map.set_for("a", "1", Duration::from_millis(50)).await;
    if is_known {
        done.unwrap();
        let other = redis.join("fleet").await;
        until("the key is gone", async || !map.contains("a")).await;
        until("it is for others", async || !other.contains("a")).await;
        // A later write makes it stay.
        let minute = Duration::from_mins(1);
        map.set_for("b", "1", minute).await.unwrap();
        let left = async |connection: &mut redis::aio::MultiplexedConnection| {
            let mut ask = redis::cmd("HPTTL");
            ask.arg("map:fleet:content").arg(&["FIELDS", "1", "b"]);
            let left: Vec<i64> = ask.query_async(connection).await.unwrap();
            left[0]
        };
        assert!((1..=60_000).contains(&left(&mut plain).await));
        map.set("b", "2").await.unwrap();
        assert_eq!(left(&mut plain).await, -1);
        agrees(&other, &mut plain).await;
        // Who may not let it expire may not set it so.
        for missing in ["-hpexpire", "-hpttl"] {
            let rule = [
                "ACL", "SETUSER", "less", "on", ">secret", "~*", "&*", "+@all", missing,
            ];
            let _: String = ask(&mut plain, &rule).await;
            let url = format!("redis://less:secret@127.0.0.1:{}", redis.port);
            let server = Server::single(&url).unwrap();
            let less = CoordinatedMap::join(&server, "fleet", options())
                .await
                .unwrap();
            let refused = less.set_for("c", "1", minute).await;
            assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
            assert!(
                !hash(&mut plain, "fleet")
                    .await
                    .0
                    .iter()
                    .any(|(key, _)| key == "c")
            );
        }
    } else {
        assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
        assert_eq!(hash(&mut plain, "fleet").await, (vec![], 0));
    }
}
