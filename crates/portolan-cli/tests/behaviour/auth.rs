//! Tokens and origins.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::{Events, Lines, Server, folder, token, wait_until, write_auth};

fn start(folder: &Path, access: &str) -> Server {
    let file = write_auth(folder, access);
    Server::start(["--memory", "--auth", &file.display().to_string()])
}

#[test]
fn a_token_opens_what_it_names() {
    let folder = folder();
    let server = start(folder.path(), "");
    let writer = token("w", 60, &json!({ "fleet/**": ["read", "write"] }));
    let reader = token("r", 60, &json!({ "fleet/**": "read" }));
    let admin = token("a", 60, &json!({ "**": "admin" }));
    let key = "/v1/maps/fleet%2Fconfig/keys/rate";

    let answer = server.read(key);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"portolan\"")
    );
    assert_eq!(answer.problem(401), "token-needed");
    for path in [
        "/v1/maps",
        "/v1/maps/m",
        "/v1/maps/m/events",
        "/v1/status",
        "/metrics",
    ] {
        assert_eq!(server.read(path).problem(401), "token-needed", "{path}");
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(server.read(path).status, 200, "{path}");
    }

    assert_eq!(server.ask(&writer, "PUT", key, "10").status, 201);
    assert_eq!(server.ask(&reader, "GET", key, "").body, "10");
    assert_eq!(
        server.ask(&reader, "PUT", key, "11").problem(403),
        "forbidden"
    );
    assert_eq!(
        server.ask(&reader, "DELETE", key, "").problem(403),
        "forbidden"
    );
    assert_eq!(
        server
            .ask(&reader, "POST", "/v1/maps/fleet%2Fconfig/transact", "")
            .problem(403),
        "forbidden"
    );
    assert_eq!(
        server
            .ask(&writer, "GET", "/v1/maps/other/keys/k", "")
            .problem(403),
        "forbidden"
    );
    assert_eq!(
        server
            .ask(&writer, "DELETE", "/v1/maps/fleet%2Fconfig", "")
            .problem(403),
        "forbidden"
    );
    assert_eq!(
        server.ask(&writer, "GET", "/metrics", "").problem(403),
        "forbidden"
    );
    assert_eq!(server.ask(&admin, "GET", "/metrics", "").status, 200);

    // What may not be read is not even named.
    assert_eq!(
        server
            .ask(&admin, "PUT", "/v1/maps/secret/keys/k", "1")
            .status,
        201
    );
    let listed = server.ask(&reader, "GET", "/v1/maps", "").json();
    assert_eq!(listed, json!([{ "name": "fleet/config", "keys": 1 }]));
    let status = server.ask(&reader, "GET", "/v1/status", "").json();
    assert_eq!(status["maps"].as_array().map(Vec::len), Some(1));
    assert!(status.get("links").is_none());
    assert!(
        server
            .ask(&admin, "GET", "/v1/status", "")
            .json()
            .get("links")
            .is_some()
    );
    assert_eq!(
        server
            .ask(&admin, "DELETE", "/v1/maps/fleet%2Fconfig", "")
            .status,
        204
    );
}

#[test]
fn commands_send_their_token() {
    let folder = folder();
    let server = start(folder.path(), "");
    let good = token("t", 60, &json!({ "m": ["read", "write"] }));
    let message = server.run(["set", "m", "k", "1"]).fails(4);
    assert!(message.contains("PORTOLAN_TOKEN"), "{message}");
    server.run(["set", "m", "k", "1", "--token", &good]).ok();
    let mut get = server.command(["get", "m", "k"]);
    assert_eq!(
        crate::support::Done::of(get.env("PORTOLAN_TOKEN", &good).output().unwrap()).ok(),
        "1\n"
    );
    server
        .run(["set", "n", "k", "1", "--token", &good])
        .fails(4);
    let old = token("t", -60, &json!({ "m": "read" }));
    assert!(
        server
            .run(["get", "m", "k", "--token", &old])
            .fails(4)
            .contains("expired")
    );
    assert!(
        server
            .run(["get", "m", "k", "--token", "nonsense"])
            .fails(4)
            .contains("JWT")
    );
}

#[test]
fn a_token_that_expires_ends_its_streams() {
    let folder = folder();
    let server = start(folder.path(), "");
    // Five seconds of leeway for clocks are added to it.
    let short = token("t", -3, &json!({ "m": ["read", "write"] }));
    let bearer = format!("Bearer {short}");
    let events = Events::open(
        &server.url,
        "/v1/maps/m/events",
        &[("authorization", &bearer)],
    );
    events.expect("snapshot");
    assert!(
        events.expect("refused").data["detail"]
            .as_str()
            .unwrap()
            .contains("expired")
    );
    assert!(events.next().is_none());
}

#[test]
fn a_revoked_token_is_no_good_at_once() {
    let folder = folder();
    let server = start(folder.path(), "");
    let rights = json!({ "m": ["read", "write"] });
    let (kept, lost) = (token("kept", 600, &rights), token("lost", 600, &rights));
    let follow = |token: &str| {
        let bearer = format!("Bearer {token}");
        Events::open(
            &server.url,
            "/v1/maps/m/events",
            &[("authorization", &bearer)],
        )
    };
    let (kept_events, lost_events) = (follow(&kept), follow(&lost));
    kept_events.expect("snapshot");
    lost_events.expect("snapshot");
    let watch = Lines::of(&mut server.command(["watch", "m", "--json", "--token", &lost]));
    crate::support::wait_for("the watch begins", || {
        server.ask(&kept, "PUT", "/v1/maps/m/keys/ping", "1");
        watch.try_next()
    });

    write_auth(folder.path(), "revoked = [\"lost\"]");
    let end = std::iter::from_fn(|| lost_events.next()).find(|event| event.name == "refused");
    assert!(
        end.expect("it is told").data["detail"]
            .as_str()
            .unwrap()
            .contains("revoked")
    );
    let (code, message) = watch.end();
    assert_eq!(code, 4, "{message}");
    assert!(message.contains("revoked"), "{message}");
    assert_eq!(
        server
            .ask(&lost, "GET", "/v1/maps/m/keys/ping", "")
            .problem(401),
        "token-needed"
    );

    // The others go on.
    assert_eq!(
        server.ask(&kept, "PUT", "/v1/maps/m/keys/end", "1").status,
        201
    );
    let last = std::iter::from_fn(|| kept_events.next())
        .find(|event| event.data["changes"][0]["path"] == json!(["end"]));
    assert!(last.is_some());
}

#[test]
fn a_broken_auth_file_leaves_the_old_rules_in_force() {
    let folder = folder();
    let server = start(folder.path(), "");
    let good = token("t", 600, &json!({ "m": ["read", "write"] }));
    std::fs::write(folder.path().join("auth.toml"), "nonsense").unwrap();
    wait_until("it complains", || {
        server.log().contains("the old rules stay")
    });
    assert_eq!(
        server.ask(&good, "PUT", "/v1/maps/m/keys/k", "1").status,
        201
    );
    // A signal has it read at once, too.
    write_auth(folder.path(), "revoked = [\"t\"]");
    server.signal("HUP");
    wait_until("it is revoked", || {
        server.ask(&good, "GET", "/v1/maps/m/keys/k", "").status == 401
    });
}

/// A server joined to another with a token.
fn joined(server: &Server, token: &str) -> Server {
    Server::start(["--memory", "--connect", &server.url, "--token", token])
}

fn read_as(server: &Server, token: &str, map: &str, key: &str) -> Option<Json> {
    let answer = server.ask(token, "GET", &format!("/v1/maps/{map}/keys/{key}"), "");
    (answer.status == 200).then(|| answer.json())
}

/// How many connections the server's first map is open on.
fn peers(server: &Server) -> u64 {
    server.read("/v1/status").json()["maps"][0]["peers"]
        .as_u64()
        .expect("a number")
}

#[test]
fn synchronisation_follows_the_token() {
    let folder = folder();
    let center = start(folder.path(), "");
    let admin = token("admin", 600, &json!({ "**": "admin" }));
    let reader = token("reader", 600, &json!({ "shared/**": "read" }));
    let writer = token("writer", 600, &json!({ "shared/**": ["read", "write"] }));
    assert_eq!(
        center
            .ask(&admin, "PUT", "/v1/maps/shared%2Fa/keys/k", "1")
            .status,
        201
    );
    assert_eq!(
        center
            .ask(&admin, "PUT", "/v1/maps/secret/keys/k", "1")
            .status,
        201
    );

    let (one, two) = (joined(&center, &reader), joined(&center, &writer));
    for server in [&one, &two] {
        wait_until("it is shared", || {
            server.get("shared%2Fa", "k") == Some(json!(1))
        });
    }
    two.put("shared%2Fa", "from-two", &json!(2));
    wait_until("a write is taken", || {
        read_as(&center, &admin, "shared%2Fa", "from-two").is_some()
    });
    wait_until("it is relayed", || {
        one.get("shared%2Fa", "from-two") == Some(json!(2))
    });
    // A reader's write stays at home.
    one.put("shared%2Fa", "from-one", &json!(3));
    two.put("shared%2Fa", "after", &json!(4));
    wait_until("the next is relayed", || {
        one.get("shared%2Fa", "after").is_some()
    });
    assert_eq!(read_as(&center, &admin, "shared%2Fa", "from-one"), None);
    assert_eq!(one.get("secret", "k"), None);

    // Revoked while the connection lasts.
    write_auth(folder.path(), "revoked = [\"writer\"]");
    wait_until("it is noticed", || center.log().contains("read again"));
    wait_until("the map is closed", || peers(&two) == 0);
    let status = two.run(["status"]).ok();
    assert!(status.contains("revoked"), "{status}");
    two.put("shared%2Fa", "too-late", &json!(5));
    assert_eq!(
        center
            .ask(&admin, "PUT", "/v1/maps/shared%2Fa/keys/fence", "1")
            .status,
        201
    );
    wait_until("the others go on", || {
        one.get("shared%2Fa", "fence").is_some()
    });
    assert_eq!(two.get("shared%2Fa", "fence"), None);
    assert_eq!(read_as(&center, &admin, "shared%2Fa", "too-late"), None);
}

#[test]
fn synchronisation_ends_when_the_token_expires() {
    let folder = folder();
    let center = start(folder.path(), "");
    let admin = token("admin", 600, &json!({ "**": "admin" }));
    // With the leeway it is good for three seconds.
    let short = token("short", -2, &json!({ "m": ["read", "write"] }));
    assert_eq!(
        center.ask(&admin, "PUT", "/v1/maps/m/keys/k", "1").status,
        201
    );
    let other = joined(&center, &short);
    wait_until("it is shared", || other.get("m", "k").is_some());
    wait_until("the map is closed", || peers(&other) == 0);
    let status = other.run(["status"]).ok();
    assert!(status.contains("expired"), "{status}");
    assert_eq!(
        center
            .ask(&admin, "PUT", "/v1/maps/m/keys/later", "1")
            .status,
        201
    );
    assert_eq!(other.get("m", "later"), None);
}

#[test]
fn a_token_from_a_file_is_renewed_within_the_connection() {
    let folder = folder();
    let center = start(folder.path(), "");
    let admin = token("admin", 600, &json!({ "**": "admin" }));
    let rights = json!({ "m": ["read", "write"], "n": ["read", "write"] });
    let put = |map: &str, key: &str, value: &str| {
        let path = format!("/v1/maps/{map}/keys/{key}");
        assert_eq!(center.ask(&admin, "PUT", &path, value).status, 201);
    };
    put("m", "k", "1");
    // With the leeway they are good for five seconds.
    let short = token("short", 0, &rights);
    let file = folder.path().join("token");
    let write = |text: &str| {
        let draft = folder.path().join("token.new");
        std::fs::write(&draft, text).expect("it can be written");
        std::fs::rename(&draft, &file).expect("it can be renamed");
    };
    write(&format!("{short}\n"));
    let path = file.display().to_string();
    let renewing = Server::start(["--memory", "--connect", &center.url, "--token-file", &path]);
    let other = joined(&center, &short);
    for server in [&renewing, &other] {
        wait_until("it is shared", || server.get("m", "k").is_some());
    }
    let watch = Lines::of(&mut renewing.command(["watch", "m", "--json"]));
    wait_until("the watch begins", || {
        renewing.put("m", "ping", &json!(1));
        watch.try_next().is_some()
    });

    write(&token("long", 600, &rights));
    wait_until("it is read", || {
        renewing.log().contains("the token file was read again")
    });
    // Neither nonsense nor nothing takes the place of a good token.
    write(" \n");
    wait_until("it complains", || {
        renewing.log().contains("the old token stays")
    });
    wait_until("the other's map is closed", || peers(&other) == 0);
    wait_until("it is told why", || {
        other.run(["status"]).ok().contains("expired")
    });
    put("m", "later", "2");
    let told = std::iter::from_fn(|| watch.next()).any(|line| line.contains("later"));
    assert!(told, "the watch goes on");
    put("n", "k", "3");
    wait_until("a new map is shared", || renewing.get("n", "k").is_some());
    assert_eq!(other.get("m", "later"), None);
    let log = renewing.log();
    assert_eq!(log.matches(" connected").count(), 1, "{log}");
    assert!(
        !log.contains("not connected") && !log.contains("not shared"),
        "{log}"
    );

    let none = folder.path().join("none").display().to_string();
    let arguments = ["serve", "--memory", "--listen", "127.0.0.1:0"];
    let more = ["--connect", &center.url, "--token-file", &none];
    let message = crate::support::run(arguments.iter().chain(&more)).fails(2);
    assert!(message.contains("token file"), "{message}");
}

#[test]
fn pages_of_other_origins_stay_out() {
    let folder = folder();
    let file = write_auth(folder.path(), "origins = [\"https://listed.example\"]");
    let file = file.display().to_string();
    let server = Server::start([
        "--memory",
        "--auth",
        &file,
        "--allow-origin",
        "https://flag.example",
    ]);
    let good = token("t", 600, &json!({ "m": ["read", "write"] }));
    let bearer = format!("Bearer {good}");
    let from = |method: &str, origin: &str, more: &[(&str, &str)]| {
        let headers = [
            &[("authorization", bearer.as_str()), ("origin", origin)],
            more,
        ]
        .concat();
        server.http(method, "/v1/maps/m/keys/k", &headers, "1")
    };
    assert_eq!(
        from("PUT", "https://evil.example", &[]).problem(403),
        "origin"
    );
    assert_eq!(from("PUT", "null", &[]).problem(403), "origin");
    assert_eq!(from("PUT", &server.url, &[]).status, 201);
    for origin in ["https://listed.example", "https://flag.example"] {
        let answer = from("GET", origin, &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        let asks = [("access-control-request-method", "PUT")];
        let preflight = from("OPTIONS", origin, &asks);
        assert_eq!(preflight.status, 204);
        assert!(
            preflight
                .header("access-control-allow-methods")
                .unwrap()
                .contains("PUT")
        );
        assert_eq!(
            from("OPTIONS", "https://evil.example", &asks).problem(403),
            "origin"
        );
    }
    let upgrade = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "portolan.v1"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(
        server.http("GET", "/v1/sync", &upgrade, "").problem(403),
        "origin"
    );
}
