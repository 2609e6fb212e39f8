//! Servers that share maps through a real Redis.

use serde_json::json;

use crate::support::{Redis, Server, wait_until};

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
