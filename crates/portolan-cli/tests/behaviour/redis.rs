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
