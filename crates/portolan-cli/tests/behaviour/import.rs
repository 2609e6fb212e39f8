//! import: forms, errors, sizes.

use serde_json::json;

use crate::support::{Server, feed, folder};

#[test]
fn each_form_is_imported() {
    let server = Server::in_memory();
    let folder = folder();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let object = write("a.json", r#"{"x": 1, "y": {"n": null}}"#);
    server.run(["import", "object", &object]).ok();
    assert_eq!(
        server.read("/v1/maps/object").json(),
        json!({ "x": 1, "y": { "n": null } })
    );

    let rows = write(
        "rows.json",
        r#"{"all": {"rows": [{"id": "a", "n": 1}, {"id": 2}]}}"#,
    );
    server
        .run([
            "import",
            "rows",
            &rows,
            "--rows",
            "/all/rows",
            "--key",
            "id",
        ])
        .ok();
    assert_eq!(
        server.read("/v1/maps/rows").json(),
        json!({ "a": { "id": "a", "n": 1 }, "2": { "id": 2 } })
    );

    let lines = write(
        "a.ndjson",
        "{\"key\":1,\"value\":\"one\"}\n{\"key\":\"b\",\"value\":[]}\n",
    );
    server.run(["import", "lines", &lines]).ok();
    assert_eq!(
        server.read("/v1/maps/lines").json(),
        json!({ "1": "one", "b": [] })
    );

    let table = write(
        "a.csv",
        "code,name\nDE,Germany\nFR,\"France, or \"\"l'Hexagone\"\"\"\n",
    );
    let said = server.run(["import", "table", &table]).ok();
    assert!(said.starts_with("imported 2 entries into table"), "{said}");
    let expected = json!({
        "DE": { "code": "DE", "name": "Germany" },
        "FR": { "code": "FR", "name": "France, or \"l'Hexagone\"" },
    });
    assert_eq!(server.read("/v1/maps/table").json(), expected);
    server
        .run(["import", "table", &table, "--key", "name"])
        .ok();
    assert!(server.get("table", "Germany").is_some());
}

#[test]
fn an_import_is_one_change() {
    let server = Server::in_memory();
    let events = server.events("m", "", None);
    events.expect("snapshot");
    let text = json!({ "a": 1, "b": 2, "c": 3 }).to_string();
    feed(
        &mut server.command(["import", "m", "-", "--format", "json"]),
        text.as_bytes(),
    )
    .ok();
    assert_eq!(
        events.expect("change").data["changes"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_broken_file_is_named_with_its_place_and_nothing_is_imported() {
    let server = Server::in_memory();
    for (format, text, place) in [
        ("json", "{\"a\": 1,\n\"b\": }", "line 2, column 6"),
        (
            "ndjson",
            "{\"key\":1,\"value\":1}\n{\"key\":2}\n",
            "line 2, column 9",
        ),
        ("csv", "a,b\n1,2\n3\n", "line 3, column 1"),
        ("csv", "a,b\n1,\"2\n3,4\n", "line 2, column 2"),
        ("csv", "a,b\n1,2\n3,\"4\"5\n", "line 3, column 2"),
        (
            "ndjson",
            "{\"key\":1,\"value\":1}\n{\"key\":2,\"value\":1,\"value\":2}\n",
            "line 2, column",
        ),
        (
            "ndjson",
            "{\"key\":1,\"map\":[{\"key\":2,\"value\":1},\n",
            "line 1, column",
        ),
        (
            "ndjson",
            "{\"key\":1,\"map\":[{\"key\":2,\"value\":1},{\"key\":2,\"value\":2}]}\n",
            "line 1, column",
        ),
        ("json", "{\"a\":1,\"b\":2,\"a\":3}", "line 1, column"),
    ] {
        let mut command = server.command(["import", "m", "-", "--format", format]);
        let message = feed(&mut command, text.as_bytes()).fails(2);
        assert!(
            message.contains(place) && message.contains("nothing was imported"),
            "{message}"
        );
    }
    server.run(["import", "m", "/nowhere.json"]).fails(2);
    server.run(["import", "m", "/etc/hostname"]).fails(2);
    let mut command = server.command(["import", "m", "-", "--rows", "/r"]);
    assert_eq!(feed(&mut command, b"{}").code, 2);
    server.run(["keys", "m"]).fails(1);
}

#[test]
fn duplicates_are_refused_unless_a_rule_is_given() {
    let server = Server::in_memory();
    let text = b"{\"a\":1,\"b\":2,\"a\":3}";
    let import = |rule: &str| {
        feed(
            &mut server.command(["import", "m", "-", "--format", "json", "--duplicates", rule]),
            text,
        )
    };
    assert!(import("refuse").fails(2).contains("--duplicates"));
    for (rule, kept) in [("first", 1), ("last", 3)] {
        assert!(import(rule).ok().contains("1 duplicate left out"));
        assert_eq!(server.get("m", "a"), Some(json!(kept)));
    }
}

#[test]
fn what_one_value_breaks_imports_nothing() {
    let server = Server::in_memory();
    let text = json!({ "a": 1, "b": "x".repeat(2 << 20) }).to_string();
    let mut command = server.command(["import", "m", "-", "--format", "json"]);
    let message = feed(&mut command, text.as_bytes()).fails(4);
    assert!(
        message.contains("\"b\"") && message.contains("1048576"),
        "{message}"
    );
    server.run(["keys", "m"]).fails(1);
}

#[test]
fn a_hundred_thousand_rows_are_one_transaction() {
    let folder = folder();
    let mut server = Server::on(&folder.path().join("store"));
    let filler = "lorem ipsum dolor sit amet ".repeat(10);
    let rows: Vec<_> = (0..100_000)
        .map(|i| json!({ "id": format!("row-{i:06}"), "n": i, "text": filler }))
        .collect();
    let file = folder.path().join("rows.json");
    std::fs::write(&file, json!({ "rows": rows }).to_string()).unwrap();
    let file = file.display().to_string();
    let said = server
        .run(["import", "m", &file, "--rows", "/rows", "--key", "id"])
        .ok();
    assert!(said.starts_with("imported 100000 entries"), "{said}");
    server.restart();
    assert_eq!(
        server.read("/v1/maps").json(),
        json!([{ "name": "m", "keys": 100_000 }])
    );
    assert_eq!(server.get("m", "row-099999").unwrap()["n"], json!(99_999));
}

#[test]
fn an_import_larger_than_the_server_takes_is_refused_before_it_is_sent() {
    let server = Server::start(["--memory", "--max-body", "1"]);
    let text = json!({ "a": "x".repeat(600_000), "b": "x".repeat(600_000) }).to_string();
    let mut command = server.command(["import", "m", "-", "--format", "json"]);
    let message = feed(&mut command, text.as_bytes()).fails(4);
    assert!(message.contains("--max-body"), "{message}");
}

#[test]
fn elements_that_hold_containers_alone_are_imported_without_a_value() {
    let server = Server::in_memory();
    let file = r#"{"users": [{"name": "Ada"}, "plain", [1]]}"#;
    let mut import = server.command(["import", "m", "-", "--format", "json", "--nested"]);
    feed(&mut import, file.as_bytes()).ok();
    let export = server.run(["export", "m", "--format", "ndjson"]).ok();
    let line: serde_json::Value = serde_json::from_str(&export).expect("one line");
    let users = &line["array"];
    assert_eq!(
        users[0],
        serde_json::json!({"map": [{"key": "name", "value": "Ada"}]})
    );
    assert_eq!(users[1], serde_json::json!({"value": "plain"}));
    assert_eq!(users[2], serde_json::json!({"array": [{"value": 1}]}));
}

#[test]
fn the_deepest_map_can_be_exported_and_imported() {
    let server = Server::in_memory();
    let path: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    server
        .run([&["set", "m"], &path[..], &[&deep]].concat())
        .ok();
    let typed = server.run(["export", "m", "--format", "ndjson"]).ok();
    let mut import = server.command(["import", "copy", "-", "--format", "ndjson"]);
    feed(&mut import, typed.as_bytes()).ok();
    assert_eq!(
        server.run(["export", "copy", "--format", "ndjson"]).ok(),
        typed
    );
    let table = server.run(["export", "m", "--format", "csv"]).ok();
    assert!(table.lines().nth(1).expect("a row").contains(&deep));
    let line = format!(
        "{}{}",
        r#"{"key":"a","map":[{"#.repeat(300),
        "}]}".repeat(300)
    );
    let mut import = server.command(["import", "m", "-", "--format", "ndjson"]);
    let said = feed(&mut import, line.as_bytes()).fails(2);
    assert!(said.contains("nested deeper than 64 containers"), "{said}");
}
