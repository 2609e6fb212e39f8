//! `portolan redis` with a real Redis.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::support::{Done, Lines, Redis, binary, feed, free_port, wait_until};

impl Redis {
    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = binary();
        command.arg("redis").args(arguments);
        command.env("PORTOLAN_REDIS", self.url());
        command
    }

    fn run(&self, words: &str) -> Done {
        Done::of(
            self.command(words.split(' '))
                .stdin(Stdio::null())
                .output()
                .expect("it runs"),
        )
    }
}

#[test]
fn coordinated_maps_are_read_and_written() {
    let redis = Redis::start();
    assert_eq!(redis.run("set fleet rate 100").ok(), "");
    assert_eq!(redis.run("get fleet rate").ok(), "100\n");
    assert_eq!(redis.run("get fleet rate --json").ok(), "\"100\"\n");
    redis.run("get fleet none").fails(1);
    assert_eq!(redis.run("incr fleet starts").ok(), "1\n");
    assert_eq!(redis.run("incr fleet starts -3").ok(), "-2\n");
    assert_eq!(redis.run("incr fleet rate x").code, 2);
    assert_eq!(redis.run("append fleet hosts a b").ok(), "[\"a\",\"b\"]\n");
    assert_eq!(
        redis.run("append fleet hosts b c --unique").ok(),
        "[\"a\",\"b\",\"c\"]\n"
    );
    assert_eq!(redis.run("remove fleet hosts a c").ok(), "[\"b\"]\n");
    redis.run("remove fleet hosts a").fails(1);
    redis.run("append fleet starts a").fails(4);
    assert_eq!(redis.run("keys fleet").ok(), "hosts\nrate\nstarts\n");
    assert_eq!(redis.run("keys fleet r* --json").ok(), "\"rate\"\n");
    redis.run("set fleet rate 1 --if-absent").fails(4);
    redis.run("set fleet rate 1 --if-equals 99").fails(4);
    redis
        .run("set fleet rate 120 --if-equals 100 --wait 30")
        .ok();
    redis.run("delete fleet rate --if-equals 100").fails(4);
    redis.run("delete fleet rate").ok();
    redis.run("delete fleet rate").fails(1);
    let status = redis.run("status fleet --json").ok();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["keys"], 2);
    assert_eq!(
        (&status["nodes"], &status["answered"]),
        (&0.into(), &0.into())
    );
    assert!(
        redis
            .run("status fleet")
            .ok()
            .starts_with("fleet: 2 keys at revision ")
    );
    redis.run("reset fleet").ok();
    assert_eq!(redis.run("keys fleet").ok(), "");
    feed(&mut redis.command(["set", "fleet", "file", "-"]), b"a\nb\n").ok();
    assert_eq!(redis.run("get fleet file").ok(), "a\nb\n");
}

#[test]
fn changes_of_a_coordinated_map_are_printed() {
    let redis = Redis::start();
    let watching = Lines::of(&mut redis.command(["watch", "fleet", "feature/*", "--json"]));
    wait_until("the watcher is there", || {
        let status = redis.run("status fleet --json").ok();
        serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["answered"] == 1
    });
    redis.run("set fleet other 1").ok();
    redis.run("set fleet feature/a 1").ok();
    redis.run("delete fleet feature/a").ok();
    let set = watching.json();
    assert_eq!(
        (&set["key"], &set["new"]),
        (&"feature/a".into(), &"1".into())
    );
    assert_eq!((&set["kind"], &set["here"]), (&"set".into(), &false.into()));
    let deleted = watching.json();
    assert_eq!(
        (&deleted["old"], &deleted["kind"]),
        (&"1".into(), &"delete".into())
    );
    assert!(deleted["new"].is_null());
}

#[test]
fn a_redis_that_is_not_there_and_bad_names_have_their_exit_codes() {
    let redis = Redis::start();
    redis.run("get a*b key").fails(2);
    redis.run("set fleet a=b 1").fails(2);
    let away = format!("get fleet key --redis redis://127.0.0.1:{}", free_port());
    redis.run(&away).fails(3);
    redis.run("get fleet key --redis nonsense").fails(2);
}

/// Each command, with what a map `fleet` with a number under `n`, a text under `k` and a list under
/// `l` lets it do.
const COMMANDS: [&str; 10] = [
    "get fleet k",
    "set fleet k 2",
    "keys fleet",
    "watch fleet",
    "delete fleet k",
    "incr fleet n",
    "append fleet l b",
    "remove fleet l a",
    "reset fleet",
    "status fleet",
];
/// Those that write.
const WRITING: [&str; 6] = [
    "set fleet k 2",
    "delete fleet k",
    "incr fleet n",
    "append fleet l b",
    "remove fleet l a",
    "reset fleet",
];

fn filled() -> Redis {
    let redis = Redis::start();
    redis.run("set fleet k 1").ok();
    redis.run("incr fleet n").ok();
    redis.run("append fleet l a").ok();
    redis
}

#[test]
fn every_command_says_what_is_wrong_and_with_its_exit_code() {
    let redis = filled();
    let away = format!("redis://127.0.0.1:{}", free_port());
    let content = "map:fleet:content";
    let before = redis.ask(&["HGETALL", content]);
    for words in COMMANDS {
        let told = redis.run(&format!("{words} --redis {away}")).fails(3);
        assert!(told.contains("cannot be reached"), "{words}: {told}");
        redis.run(&format!("{words} --redis nonsense")).fails(2);
        let told = redis.run(&words.replace("fleet", "fle?t")).fails(2);
        assert!(told.contains("no name of a map"), "{words}: {told}");
        // A password is not told to whoever reads the message.
        let secret = away.replace("redis://", "redis://user:secret@");
        let told = redis.run(&format!("{words} --redis {secret}")).fails(3);
        assert!(!told.contains("secret"), "{words}: {told}");
    }
    assert_eq!(redis.ask(&["HGETALL", content]), before);
    redis.ask(&["SET", "map:other:content", "x"]);
    for words in COMMANDS {
        let told = redis.run(&words.replace("fleet", "other")).fails(4);
        assert!(told.contains("holds no hash"), "{words}: {told}");
    }
    for words in ["incr fleet k2", "append fleet k2 b", "remove fleet k2 b"] {
        redis.run("set fleet k2 {}").ok();
        redis.run(words).fails(4);
        assert_eq!(redis.run("get fleet k2").ok(), "{}\n");
    }
}

#[test]
fn what_a_user_may_not_do_is_refused_and_nothing_is_written() {
    let redis = filled();
    let content = "map:fleet:content";
    let before = redis.ask(&["HGETALL", content]);
    let setuser = |name: &str, rules: &[&str]| {
        redis.ask(&[&["ACL", "SETUSER", name, "on", ">secret"], rules].concat());
        redis.url().replace("://", &format!("://{name}:secret@"))
    };
    let reader = setuser(
        "reader",
        &["~*", "&*", "+@all", "-hset", "-hdel", "-unlink"],
    );
    for words in WRITING {
        let told = redis.run(&format!("{words} --redis {reader}")).fails(4);
        assert!(told.contains("Redis refuses"), "{words}: {told}");
    }
    assert_eq!(
        redis.run(&format!("get fleet k --redis {reader}")).ok(),
        "1\n"
    );
    redis.run(&format!("keys fleet --redis {reader}")).ok();
    redis.run(&format!("status fleet --redis {reader}")).ok();
    let other = setuser("other", &["~map:other:*", "&map:other:*", "+@all"]);
    let wrong = other.replace("secret", "wrong");
    for words in COMMANDS {
        for url in [&other, &wrong] {
            redis.run(&format!("{words} --redis {url}")).fails(4);
        }
    }
    assert_eq!(redis.ask(&["HGETALL", content]), before);
}
