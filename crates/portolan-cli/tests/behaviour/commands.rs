//! get, set, unset, keys, export, status, completions: forms and exit codes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::{Server, feed, run};

#[test]
fn a_value_comes_back_as_it_was_set() {
    let server = Server::in_memory();
    for (value, shown, json) in [
        ("10", "10", "10"),
        ("1.0", "1.0", "1.0"),
        ("-1", "-1", "-1"),
        ("hello there", "hello there", "\"hello there\""),
        ("\"10\"", "10", "\"10\""),
        ("null", "null", "null"),
        ("", "", "\"\""),
        (
            "{\"b\": [1, 2.5, null], \"a\": true}",
            "{\"a\":true,\"b\":[1,2.5,null]}",
            "{\"a\":true,\"b\":[1,2.5,null]}",
        ),
        (
            "{\"$bytes\": \"AP8=\"}",
            "{\"$bytes\":\"AP8=\"}",
            "{\"$bytes\":\"AP8=\"}",
        ),
    ] {
        assert_eq!(server.run(["set", "m", "k", value]).ok(), "");
        assert_eq!(server.run(["get", "m", "k"]).ok(), format!("{shown}\n"));
        assert_eq!(
            server.run(["get", "m", "k", "--json"]).ok(),
            format!("{json}\n")
        );
        assert_eq!(
            server.run(["get", "m", "k", "--all", "--json"]).ok(),
            format!("[{json}]\n")
        );
    }
    for (input, json) in [
        ("hello\n", "\"hello\""),
        ("[1,\n2]\n", "[1,2]"),
        ("a\nb", "\"a\\nb\""),
    ] {
        feed(
            &mut server.command(["set", "m", "k", "-"]),
            input.as_bytes(),
        )
        .ok();
        assert_eq!(
            server.run(["get", "m", "k", "--json"]).ok(),
            format!("{json}\n")
        );
    }
}

#[test]
fn names_and_keys_may_hold_any_text() {
    let server = Server::in_memory();
    for name in [
        "fleet/config",
        "a b",
        "ü/é?&#%",
        ".",
        "..",
        "%2F",
        "+",
        "日本",
    ] {
        server.run(["set", name, name, name]).ok();
        assert_eq!(
            server.run(["get", name, name, "--json"]).ok(),
            format!("{}\n", json!(name))
        );
        assert_eq!(server.run(["keys", name]).ok(), format!("{name}\n"));
    }
    server.run(["set", "m", "", "empty"]).ok();
    assert_eq!(server.run(["get", "m", ""]).ok(), "empty\n");
    server.run(["unset", "m", ""]).ok();
    server.run(["get", "m", ""]).fails(1);
}

#[test]
fn keys_of_several_kinds_stay_apart() {
    let server = Server::in_memory();
    for (key, value) in [
        ("1", "integer"),
        ("\"1\"", "string"),
        ("true", "boolean"),
        ("{\"$bytes\":\"AQ==\"}", "bytes"),
    ] {
        server.run(["set", "m", key, value, "--typed"]).ok();
    }
    assert_eq!(server.run(["get", "m", "1"]).ok(), "string\n");
    assert_eq!(server.run(["get", "m", "1", "--typed"]).ok(), "integer\n");
    let keys = "true\n1\n1\n{\"$bytes\":\"AQ==\"}\n";
    assert_eq!(server.run(["keys", "m"]).ok(), keys);
    let typed = "true\n1\n\"1\"\n{\"$bytes\":\"AQ==\"}\n";
    assert_eq!(server.run(["keys", "m", "--json"]).ok(), typed);

    for format in ["json", "csv"] {
        let message = server.run(["export", "m", "--format", format]).fails(4);
        assert!(
            message.contains("ndjson") || message.contains("NDJSON"),
            "{message}"
        );
    }
    server.run(["unset", "m", "1"]).ok();
    let json = server.run(["export", "m"]).ok();
    assert_eq!(
        json,
        "{\"true\":\"boolean\",\"1\":\"integer\",\"{\\\"$bytes\\\":\\\"AQ==\\\"}\":\"bytes\"}\n"
    );
}

#[test]
fn keys_are_filtered_by_a_pattern() {
    let server = Server::in_memory();
    for key in ["feature/a", "feature/a/b", "other"] {
        server.run(["set", "m", key, "1"]).ok();
    }
    assert_eq!(server.run(["keys", "m", "feature/*"]).ok(), "feature/a\n");
    assert_eq!(
        server.run(["keys", "m", "feature/**"]).ok(),
        "feature/a\nfeature/a/b\n"
    );
    assert_eq!(server.run(["keys", "m", "none"]).ok(), "");
    server.run(["keys", "m", "[a"]).fails(4);
}

#[test]
fn what_is_not_there_is_exit_code_one() {
    let server = Server::in_memory();
    server.run(["get", "m", "k"]).fails(1);
    server.run(["keys", "m"]).fails(1);
    server.run(["export", "m"]).fails(1);
    server.run(["unset", "m", "k"]).fails(1);
    server.run(["set", "m", "k", "1"]).ok();
    server.run(["unset", "m", "k"]).ok();
    server.run(["unset", "m", "k"]).fails(1);
    // A map exists as long as it has a key.
    server.run(["keys", "m"]).fails(1);
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for arguments in [
        &["get", "m"][..],
        &["nonsense"],
        &["get", "m", "k", "--nonsense"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--memory", "--store", "x"],
        &["serve", "--tls-cert", "x"],
    ] {
        assert_eq!(run(arguments).code, 2, "{arguments:?}");
    }
    run(["get", "m", "k", "--server", "ftp://x"]).fails(2);
    for value in [
        "9223372036854775808",
        "1e400",
        "\"\\ud800\"",
        "{\"a\":1,\"a\":2}",
    ] {
        run(["set", "m", "k", value]).fails(2);
    }
    for url in [
        "http://a b",
        "http://[::1",
        "http://#",
        "http://h:99999",
        "http://h/?q",
    ] {
        let message = run(["get", "m", "k", "--server", url]).fails(2);
        assert!(message.contains(url), "{message}");
    }
    let message = run(["get", "m", "k", "--server", "http://me:secret@h"]).fails(2);
    assert!(message.contains("--token") && !message.contains("secret"));
    let message = run(["get", "m", "k", "--server", ""]).fails(2);
    assert!(message.contains("--server"), "{message}");
    let message = run(["forget", "m", "nonsense"]).fails(2);
    assert!(message.contains("16 hex digits"), "{message}");
    run(["get", "m", "k", "--ca", "/nowhere.pem"]).fails(2);
}

#[test]
fn a_server_that_is_not_there_is_exit_code_three() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = format!("http://{port}");
    for arguments in [
        &["get", "m", "k"][..],
        &["set", "m", "k", "1"],
        &["unset", "m", "k"],
        &["keys", "m"],
        &["watch", "m"],
        &["export", "m"],
        &["status"],
    ] {
        let message = run(arguments.iter().chain(&["--server", server.as_str()])).fails(3);
        assert!(message.contains("portolan serve"), "{message}");
    }
    run(["get", "m", "k", "--server", "http://no-such-host.invalid"]).fails(3);
}

#[test]
fn what_the_server_refuses_is_exit_code_four() {
    let server = Server::in_memory();
    let long = "k".repeat(5_000);
    let message = server.run(["set", "m", &long, "1"]).fails(4);
    assert!(message.contains("4096"), "{message}");
    server.run(["set", &"m".repeat(600), "k", "1"]).fails(4);
    let mut set = server.command(["set", "m", "k", "-"]);
    let large = feed(&mut set, format!("\"{}\"", "x".repeat(2 << 20)).as_bytes());
    assert!(large.fails(4).contains("1048576"));
    let mut set = server.command(["set", "m", "k", "-"]);
    let larger = feed(&mut set, "x".repeat(20 << 20).as_bytes());
    assert!(larger.fails(4).contains("the body"));
    server.run(["get", "m", "k"]).fails(1);
}

#[test]
fn an_export_imports_as_the_same_map() {
    let server = Server::in_memory();
    server.transact(
        "m",
        [
            json!({ "op": "set", "key": 1, "value": { "$bytes": "AAEC" } }),
            json!({ "op": "set", "key": "1", "value": [1, 1.5, { "$float": "NaN" }] }),
            json!({ "op": "set", "key": true, "value": null }),
            json!({ "op": "set", "key": { "$bytes": "/w==" }, "value": "a,\"b\"\n" }),
        ],
    );
    let exported = server.run(["export", "m", "--format", "ndjson"]).ok();
    assert_eq!(exported.lines().count(), 4);
    let imported = feed(
        &mut server.command(["import", "n", "-", "--format", "ndjson"]),
        exported.as_bytes(),
    )
    .ok();
    assert!(
        imported.starts_with("imported 4 entries into n"),
        "{imported}"
    );
    assert_eq!(
        server.run(["export", "n", "--format", "ndjson"]).ok(),
        exported
    );

    // Without the integer the keys are told apart by their text, and all forms work; but they
    // are strings then.
    server.run(["unset", "m", "1", "--typed"]).ok();
    for format in ["json", "csv"] {
        let exported = server.run(["export", "m", "--format", format]).ok();
        let target = format!("from-{format}");
        let mut import = server.command(["import", &target, "-", "--format", format]);
        feed(&mut import, exported.as_bytes()).ok();
        let read = |map: &str| server.read(&format!("/v1/maps/{map}")).json();
        assert_eq!(read(&target), read("m"));
        let keys = server.run(["keys", &target, "--json"]).ok();
        assert!(keys.lines().all(|key| key.starts_with('"')), "{keys}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let server = Server::in_memory();
    let set = |i| json!({ "op": "set", "key": format!("key-{i:06}"), "value": i });
    server.transact("m", (0..20_000).map(set));
    for arguments in [
        &["export", "m"][..],
        &["export", "m", "--format", "ndjson"],
        &["keys", "m"],
    ] {
        let mut command = server.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        drop(child.stdout.take());
        let mut complaints = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(complaints.next().is_none());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn status_shows_maps_and_store() {
    let folder = crate::support::folder();
    let mut server = Server::on(&folder.path().join("store"));
    server.run(["set", "fleet/config", "rate", "10"]).ok();
    let text = server.run(["status"]).ok();
    assert!(
        text.contains("fleet/config") && text.contains("store"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&server.run(["status", "--json"]).ok()).unwrap();
    assert_eq!(json["maps"][0]["name"], json!("fleet/config"));
    assert_eq!(json["maps"][0]["keys"], json!(1));
    assert!(json["store"]["commits"].as_u64().unwrap() >= 1, "{json}");
    // Also of maps that nobody has asked for since the start.
    server.kill();
    server.restart();
    let text = server.run(["status"]).ok();
    assert!(text.contains("fleet/config"), "{text}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            run(["completions", shell]).ok().contains("portolan"),
            "{shell}"
        );
    }
}
