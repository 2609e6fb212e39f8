//! The HTTP routes: forms, conditions, problems.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::json;

use crate::support::{Server, http, wait_until};

#[test]
fn maps_are_listed_while_they_have_keys() {
    let server = Server::in_memory();
    assert_eq!(server.read("/v1/maps").json(), json!([]));
    server.put("b", "k", &json!(1));
    server.put("a%2Fb", "k", &json!(1));
    server.put("a%2Fb", "l", &json!(1));
    let expected = json!([{ "name": "a/b", "keys": 2 }, { "name": "b", "keys": 1 }]);
    assert_eq!(server.read("/v1/maps").json(), expected);
    assert_eq!(server.http("DELETE", "/v1/maps/a%2Fb", &[], "").status, 204);
    assert_eq!(
        server.read("/v1/maps").json(),
        json!([{ "name": "b", "keys": 1 }])
    );
    assert_eq!(
        server
            .http("DELETE", "/v1/maps/a%2Fb", &[], "")
            .problem(404),
        "no-map"
    );
}

#[test]
fn reading_does_not_make_a_map() {
    let server = Server::in_memory();
    for path in ["/v1/maps/m", "/v1/maps/m/keys", "/v1/maps/m/keys/k"] {
        assert_eq!(server.read(path).status, 404);
    }
    assert_eq!(server.read("/v1/status").json()["maps"], json!([]));
}

#[test]
fn a_write_that_does_nothing_does_not_make_a_map_that_stays() {
    let server = Server::in_memory();
    let put = |map: &str, key: &str, headers: &[(&str, &str)]| {
        let path = format!("/v1/maps/{map}/keys/{key}");
        server.http("PUT", &path, headers, "1").status
    };
    assert_eq!(put("a", &"k".repeat(5_000), &[]), 422);
    assert_eq!(put("b", "k", &[("if-match", "*")]), 412);
    server.transact("c", []);
    server.transact("d", [json!({ "op": "unset", "key": "k" })]);
    assert_eq!(put("e", "k", &[]), 201);
    let names = || server.read("/v1/status").json()["maps"].clone();
    wait_until("the others go", || {
        let names = names();
        names[0]["name"] == json!("e") && names.as_array().map(Vec::len) == Some(1)
    });
}

#[test]
fn a_key_is_put_read_and_deleted() {
    let server = Server::in_memory();
    let path = "/v1/maps/m/keys/a%2Fb";
    assert_eq!(server.read(path).problem(404), "no-key");
    assert_eq!(server.http("PUT", path, &[], "{\"n\": 1.0}").status, 201);
    let answer = server.read(path);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"n\":1.0}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(server.read(&format!("{path}?all")).body, "[{\"n\":1.0}]");
    assert_eq!(server.http("PUT", path, &[], "null").status, 204);
    assert_eq!(server.read(path).body, "null");
    assert_eq!(server.http("DELETE", path, &[], "").status, 204);
    assert_eq!(server.http("DELETE", path, &[], "").problem(404), "no-key");
    assert_eq!(server.read(path).problem(404), "no-key");
}

#[test]
fn keys_are_listed_in_order_with_their_kind() {
    let server = Server::in_memory();
    for key in [
        "true",
        "2",
        "%22x%22",
        "%7B%22%24bytes%22%3A%22AA%3D%3D%22%7D",
    ] {
        let path = format!("/v1/maps/m/keys/{key}?typed");
        assert_eq!(server.http("PUT", &path, &[], "1").status, 201, "{key}");
    }
    let keys = json!([true, 2, "x", { "$bytes": "AA==" }]);
    assert_eq!(server.read("/v1/maps/m/keys").json(), keys);
    assert_eq!(
        server.read("/v1/maps/m/keys?pattern=x").json(),
        json!(["x"])
    );
    assert_eq!(
        server.read("/v1/maps/m/keys?pattern=%5B").problem(400),
        "bad-request"
    );
}

#[test]
fn tags_tell_whether_something_changed() {
    let server = Server::in_memory();
    let (key, map) = ("/v1/maps/m/keys/k", "/v1/maps/m");
    server.put("m", "k", &json!(1));
    for path in [key, map] {
        let tag = server.read(path).header("etag").expect("a tag").to_owned();
        let same = server.http("GET", path, &[("if-none-match", &tag)], "");
        assert_eq!((same.status, same.body.as_str()), (304, ""));
        assert_eq!(same.header("etag"), Some(tag.as_str()));
        // The same value again is another write.
        server.put("m", "k", &json!(2));
        let other = server.http("GET", path, &[("if-none-match", &tag)], "");
        assert_eq!(other.status, 200, "{path}");
        assert_ne!(other.header("etag"), Some(tag.as_str()));
    }
}

#[test]
fn a_write_may_depend_on_what_is_there() {
    let server = Server::in_memory();
    let path = "/v1/maps/m/keys/k";
    let put = |header, tag: &str, value: &str| server.http("PUT", path, &[(header, tag)], value);
    assert_eq!(put("if-match", "*", "0").problem(412), "precondition");
    let made = put("if-none-match", "*", "1");
    assert_eq!(made.status, 201);
    let tag = made.header("etag").expect("a tag").to_owned();
    assert_eq!(server.read(path).header("etag"), Some(tag.as_str()));
    assert_eq!(put("if-none-match", "*", "2").problem(412), "precondition");
    let next = put("if-match", &tag, "3");
    assert_eq!(next.status, 204);
    assert_eq!(put("if-match", &tag, "4").problem(412), "precondition");
    let delete = |tag: &str| server.http("DELETE", path, &[("if-match", tag)], "");
    assert_eq!(delete(&tag).problem(412), "precondition");
    assert_eq!(server.get("m", "k"), Some(json!(3)));
    assert_eq!(delete(next.header("etag").expect("a tag")).status, 204);
}

#[test]
fn a_map_is_one_object_or_typed_lines() {
    let server = Server::in_memory();
    server.put("m", "b", &json!({ "n": [1] }));
    server.http("PUT", "/v1/maps/m/keys/7?typed", &[], "\"seven\"");
    let answer = server.read("/v1/maps/m");
    assert_eq!(answer.body, "{\"7\":\"seven\",\"b\":{\"n\":[1]}}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let lines = server.http(
        "GET",
        "/v1/maps/m",
        &[("accept", "application/x-ndjson")],
        "",
    );
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(
        lines.body,
        "{\"key\":7,\"value\":\"seven\"}\n{\"key\":\"b\",\"value\":{\"n\":[1]}}\n"
    );
    server.put("m", "7", &json!("text"));
    let problem = server.read("/v1/maps/m");
    assert!(problem.body.contains("application/x-ndjson"), "{problem:?}");
    assert_eq!(problem.problem(406), "keys-alike");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let server = Server::in_memory();
    server.put("m", "old", &json!(1));
    let transact = |media_type: &str, body: &str| {
        server.http(
            "POST",
            "/v1/maps/m/transact",
            &[("content-type", media_type)],
            body,
        )
    };
    let body = json!({ "operations": [
        { "op": "set", "key": "a", "value": null },
        { "op": "set", "key": 1, "value": { "$bytes": "AA==" } },
        { "op": "unset", "key": "old" },
        { "op": "unset", "key": "never was" },
    ]});
    let done = transact("application/json; charset=utf-8", &body.to_string());
    assert_eq!(done.json(), json!({ "set": 2, "unset": 1 }));
    assert_eq!(
        server.read("/v1/maps/m").json(),
        json!({ "1": { "$bytes": "AA==" }, "a": null })
    );

    let before = server.read("/v1/maps/m").body;
    let long = "k".repeat(5_000);
    for (body, status) in [
        ("{\"op\":\"set\",\"key\":\"x\",\"value\":1}\n{\"op\":\"set\",\"key\":\"y\"}".to_owned(), 422),
        ("{\"op\":\"set\",\"key\":\"x\",\"value\":1}\n{\"op\":\"unset\",\"key\":\"a\",\"value\":1}".to_owned(), 422),
        ("{\"op\":\"set\",\"key\":\"x\",\"value\":1}\n{\"op\":".to_owned(), 400),
        ("{\"op\":\"set\",\"key\":\"x\",\"value\":1}\n{\"op\":\"grow\",\"key\":\"a\"}".to_owned(), 400),
        (format!("{{\"op\":\"set\",\"key\":\"x\",\"value\":1}}\n{{\"op\":\"set\",\"key\":\"{long}\",\"value\":1}}"), 400),
    ] {
        let answer = transact("application/x-ndjson", &body);
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 400 {
            assert!(answer.body.contains("line 2, column"), "{answer:?}");
        }
        assert_eq!(server.read("/v1/maps/m").body, before);
    }
    assert_eq!(transact("text/plain", "x").problem(415), "media-type");
    // What an operation would not look at was meant otherwise.
    for odd in [
        json!({ "op": "set", "key": "odd", "value": 1, "index": 0 }),
        json!({ "op": "append", "key": "odd", "value": 1, "to": 0 }),
        json!({ "op": "unset", "key": "a", "value": 1 }),
        json!({ "op": "unset-values", "key": "a", "value": 1 }),
    ] {
        let body = json!({ "operations": [odd] }).to_string();
        assert_eq!(transact("application/json", &body).problem(422), "invalid");
    }
    assert_eq!(server.get("m", "odd"), None);
    assert_eq!(
        transact("application/json", "[]").problem(400),
        "bad-request"
    );
}

#[test]
fn what_cannot_be_answered_is_a_problem() {
    let server = Server::start(["--memory", "--max-body", "1"]);
    assert_eq!(server.read("/nowhere").problem(404), "no-route");
    assert_eq!(server.read("/v1/maps/a/b").problem(404), "no-route");
    assert_eq!(
        server.http("POST", "/v1/maps", &[], "").problem(405),
        "method"
    );
    assert_eq!(
        server.http("POST", "/v1/maps/m", &[], "").header("allow"),
        Some("GET, HEAD, DELETE")
    );
    assert_eq!(server.read("/v1/maps/m/transact").problem(405), "method");
    for path in ["", "/keys", "/keys/k", "/events", "/history", "/members"] {
        let answer = server.read(&format!("/v1/maps/%FF{path}"));
        assert_eq!(answer.problem(400), "bad-request", "{path}");
    }
    assert_eq!(
        server.read("/v1/maps/m/keys/k?colour=1").problem(400),
        "bad-request"
    );
    assert_eq!(
        server.read("/v1/maps/m/keys/1.5?typed").problem(400),
        "bad-request"
    );
    assert_eq!(server.read("/v1/sync").problem(400), "bad-request");
    assert_eq!(
        server.read("/v1/maps/m/keys/k?all=false").problem(400),
        "bad-request"
    );
    let put = |path: &str, body: &str| server.http("PUT", path, &[], body);
    assert_eq!(put("/v1/maps/m/keys/k", "{").problem(400), "bad-request");
    assert_eq!(
        put("/v1/maps/m/keys/k", "{\"a\":1,\"a\":2}").problem(400),
        "bad-request"
    );
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    assert_eq!(put("/v1/maps/m/keys/k", &deep).problem(400), "bad-request");
    let long = "m".repeat(600);
    assert_eq!(
        put(&format!("/v1/maps/{long}/keys/k"), "1").problem(400),
        "bad-request"
    );
    let long = "k".repeat(5_000);
    assert_eq!(
        put(&format!("/v1/maps/m/keys/{long}"), "1").problem(422),
        "invalid"
    );
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    assert_eq!(put("/v1/maps/m/keys/k", &large).problem(422), "invalid");
    let length = large.len().to_string();
    let lines = [
        ("content-type", "application/x-ndjson"),
        ("content-length", length.as_str()),
        ("expect", "100-continue"),
    ];
    let answer = server.http("POST", "/v1/maps/m/transact", &lines, &large);
    assert_eq!(answer.problem(413), "too-large");
    assert_eq!(server.read("/v1/maps").json(), json!([]));
}

#[test]
fn health_and_measures_are_there() {
    let server = Server::in_memory();
    server.put("m", "k", &json!(1));
    assert_eq!(server.read("/healthz").body, "ok\n");
    assert_eq!(server.read("/readyz").body, "ready\n");
    let metrics = server.read("/metrics");
    assert_eq!(metrics.status, 200);
    for line in [
        "portolan_documents 1",
        "portolan_keys 1",
        "portolan_operations 1",
        "portolan_queued_bytes 0",
    ] {
        assert!(
            metrics.body.lines().any(|found| found == line),
            "{line} in {}",
            metrics.body
        );
    }
    for name in [
        "portolan_connections",
        "portolan_file_descriptors_limit",
        "portolan_http_requests_total",
    ] {
        assert!(metrics.body.contains(name), "{name}");
    }
}

#[test]
fn the_inspector_is_one_page_that_loads_nothing_else() {
    let server = Server::in_memory();
    let page = server.read("/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    for foreign in ["src=\"", "http://", "https://", "@import", "url("] {
        let body = page
            .body
            .replace("http://www.w3.org/2000/svg", "")
            .replace("'http:", "");
        assert!(!body.contains(foreign), "{foreign}");
    }
}

#[test]
fn one_address_cannot_ask_for_ever() {
    let server = Server::start(["--memory", "--rate-limit", "5"]);
    let answers: Vec<_> = (0..30).map(|_| server.read("/healthz")).collect();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(refused.len() >= 10, "{}", refused.len());
    assert_eq!(refused[0].problem(429), "rate-limit");
    assert!(refused[0].header("retry-after").is_some());
}

#[test]
fn an_unknown_host_name_is_not_answered_without_tokens() {
    let server = Server::in_memory();
    let answer = http(
        &server.url,
        "GET",
        "/v1/maps",
        &[("host", "evil.example:7117")],
        "",
    );
    assert_eq!(answer.problem(403), "origin");
}

/// A request that is sent, and whose answer nobody reads.
fn ask(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn large_maps_are_read_while_others_are_served() {
    let server = Server::in_memory();
    let sets = (0..30_000).flat_map(|i| {
        let key = format!("key-{i}");
        let set = |path: &[&str]| json!({"op": "set", "path": path, "value": i});
        [set(&[&key]), set(&["within", &key])]
    });
    server.transact("large", sets);
    let paths = [
        "/v1/maps/large",
        "/v1/maps/large/keys?in=[%22within%22]",
        "/v1/maps/large/keys/within",
    ];
    let _streams: Vec<_> = (0..6)
        .map(|_| ask(&server, "/v1/maps/large/events"))
        .collect();
    let readers: Vec<_> = (0..18).map(|i| ask(&server, paths[i % 3])).collect();
    for _ in 0..10 {
        assert_eq!(server.read("/healthz").status, 200);
    }
    let answered = readers
        .iter()
        .filter(|stream| stream.peek(&mut [0]).is_ok());
    let answered = answered.count();
    assert!(answered < readers.len() / 2, "{answered} came first");
}
