//! Servers that share maps through a real Redis.

use serde_json::json;

use crate::support::{Redis, Server, folder, run, wait_until};

fn server(redis: &Redis) -> Server {
    Server::start(["--memory".to_owned(), "--redis".to_owned(), redis.url()])
}

#[test]
fn two_servers_serve_one_map() {
    let redis = Redis::start();
    let (first, second) = (server(&redis), server(&redis));
    first.put("fleet", "rate", &json!(10));
    wait_until("the other server has it", || {
        second.get("fleet", "rate") == Some(json!(10))
    });
    second.put("fleet", "rate", &json!(20));
    wait_until("the first server has it", || {
        first.get("fleet", "rate") == Some(json!(20))
    });
    let maps = second.read("/v1/maps").json();
    assert_eq!(maps.to_string().matches("fleet").count(), 1, "{maps}");
    let status = first.run(["status"]).ok();
    assert!(status.contains("\nbus     redis://127.0.0.1:"), "{status}");
    let metrics = first.read("/metrics");
    assert!(metrics.body.contains("portolan_bus_failing 0"));
    assert_eq!(first.read("/readyz").status, 200);
}

#[test]
fn what_a_server_that_is_killed_has_acknowledged_is_at_the_others() {
    let redis = Redis::start();
    let (mut first, second) = (server(&redis), server(&redis));
    for n in 0..200 {
        first.put("fleet", &format!("{n}"), &json!(n));
    }
    first.kill();
    wait_until("all of it is at the other server", || {
        let answer = second.read("/v1/maps/fleet");
        answer.status == 200
            && answer
                .json()
                .as_object()
                .is_some_and(|map| map.len() == 200)
    });
    let third = server(&redis);
    let map = third.read("/v1/maps/fleet").json();
    assert_eq!(map.as_object().map(serde_json::Map::len), Some(200));
}

#[test]
fn a_write_that_the_bus_does_not_confirm_is_kept() {
    let mut redis = Redis::start();
    let (first, second) = (server(&redis), server(&redis));
    first.put("fleet", "before", &json!(1));
    redis.stop();
    let answer = first.http("PUT", "/v1/maps/fleet/keys/after", &[], "2");
    assert_eq!(answer.problem(503), "unpublished");
    assert_eq!(first.get("fleet", "after"), Some(json!(2)));
    assert_eq!(first.read("/readyz").status, 200);
    assert!(first.run(["status"]).ok().contains("FAILING"));
    redis.start_again();
    wait_until("the other server has it", || {
        second.get("fleet", "after") == Some(json!(2))
    });
    assert_eq!(second.get("fleet", "before"), Some(json!(1)));
}

#[test]
fn what_was_not_read_from_the_bus_is_not_told_to_be_missing() {
    let mut redis = Redis::start();
    let first = server(&redis);
    first.put("fleet", "k", &json!(1));
    redis.stop();
    // It has never seen the bus, and no store tells it of anything.
    let folder = folder();
    let store = folder.path().display().to_string();
    let empty = Server::start(["--store", &store, "--redis", &redis.url()]);
    let late = server(&redis);
    let paths = [
        "/v1/maps/fleet",
        "/v1/maps/fleet/keys",
        "/v1/maps/fleet/keys/k",
        "/v1/maps/fleet/events",
        "/v1/maps/fleet/history",
        "/v1/maps/fleet/members",
    ];
    for path in paths {
        for server in [&late, &empty] {
            assert_eq!(server.read(path).problem(503), "unavailable", "{path}");
        }
        // Who has read it goes on.
        if !path.ends_with("events") {
            assert_eq!(first.read(path).status, 200, "{path}");
        }
    }
    assert_eq!(late.read("/v1/maps").problem(503), "unavailable");
    assert_eq!(late.read("/readyz").problem(503), "unavailable");
    let remove = |path: &str| late.http("DELETE", path, &[], "").problem(503);
    assert_eq!(remove("/v1/maps/fleet/keys/k"), "unavailable");
    assert_eq!(remove("/v1/maps/fleet"), "unavailable");
    // Nor is it known whether there is another map.
    assert_eq!(first.read("/v1/maps/other").problem(503), "unavailable");
    redis.start_again();
    for server in [&late, &empty] {
        wait_until("it has it from the other server", || {
            server.get("fleet", "k") == Some(json!(1))
        });
    }
    assert_eq!(first.read("/v1/maps/other").problem(404), "no-map");
}

#[test]
fn where_the_bus_is_has_to_be_told_in_one_way() {
    let redis = Redis::start();
    let url = redis.url();
    let serve =
        |flags: &[&str]| run([&["serve", "--memory", "--listen", "127.0.0.1:0"], flags].concat());
    serve(&["--redis", "nonsense"]).fails(2);
    let told = serve(&["--redis", &url, "--redis", &url]).fails(2);
    assert!(told.contains("give one"), "{told}");
    assert_eq!(serve(&["--redis-sentinel", "fleet"]).code, 2);
    assert_eq!(serve(&["--redis-cluster"]).code, 2);
    let both = [
        "--redis",
        &url,
        "--redis-cluster",
        "--redis-sentinel",
        "fleet",
    ];
    assert_eq!(serve(&both).code, 2);
    serve(&["--redis", &url, "--ca", "/nowhere.pem"]).fails(2);
}

#[test]
fn a_password_of_redis_is_told_to_nobody() {
    let redis = Redis::start();
    redis.ask(&[
        "ACL", "SETUSER", "fleet", "on", ">secret", "~*", "&*", "+@all",
    ]);
    for password in ["secret", "wrong-secret"] {
        let url = redis.url().replace("://", &format!("://fleet:{password}@"));
        let server = Server::start(["--memory", "--redis", &url]);
        let answer = server.http("PUT", "/v1/maps/fleet/keys/k", &[], "1");
        let is_right = password == "secret";
        assert_eq!(
            answer.status,
            if is_right { 201 } else { 503 },
            "{answer:?}"
        );
        let told = [
            server.read("/v1/status").body,
            server.read("/metrics").body,
            server.read("/readyz").body,
            server.run(["status"]).ok(),
            answer.body,
            server.log(),
        ];
        assert!(told[3].contains("FAILING") != is_right, "{}", told[3]);
        for text in told {
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
