//! Containers over HTTP and from the command line: paths, forms, events.

use serde_json::json;

use crate::support::{Lines, Server, feed, wait_for, wait_until};

/// A map with a container of each kind, below others.
fn server() -> Server {
    let server = Server::in_memory();
    for arguments in [
        &["set", "m", "users", "ada", "name", "Ada"][..],
        &["append", "m", "users", "ada", "inbox", "hello"],
        &[
            "append", "m", "users", "ada", "inbox", "urgent", "--at", "0",
        ],
        &["insert", "m", "users", "ada", "tags", "b"],
        &["insert", "m", "users", "ada", "tags", "a"],
        &["add", "m", "hits", "5"],
        &["add", "m", "hits", "-2"],
    ] {
        assert_eq!(server.run(arguments).ok(), "", "{arguments:?}");
    }
    server
}

#[test]
fn several_keys_are_a_path_and_one_is_one_key() {
    let server = server();
    let get = |path: &[&str]| server.run([&["get", "m"], path].concat());
    assert_eq!(get(&["users", "ada", "name"]).ok(), "Ada\n");
    assert_eq!(get(&["users", "ada", "inbox", "1"]).ok(), "hello\n");
    assert_eq!(
        get(&["users", "ada", "inbox"]).ok(),
        "[\"urgent\",\"hello\"]\n"
    );
    assert_eq!(get(&["users", "ada", "tags"]).ok(), "[\"a\",\"b\"]\n");
    assert_eq!(get(&["hits"]).ok(), "3\n");
    let ada = "{\"inbox\":[\"urgent\",\"hello\"],\"name\":\"Ada\",\"tags\":[\"a\",\"b\"]}";
    assert_eq!(get(&["users", "ada", "--json"]).ok(), format!("{ada}\n"));
    get(&["users/ada"]).fails(1);
    server.run(["set", "m", "users/ada", "one key"]).ok();
    assert_eq!(get(&["users/ada"]).ok(), "one key\n");
    assert_eq!(get(&["users", "ada", "--json"]).ok(), format!("{ada}\n"));
    assert_eq!(server.run(["keys", "m"]).ok(), "hits\nusers\nusers/ada\n");
    let keys = server
        .run(["keys", "m", "--in", "users", "--in", "ada"])
        .ok();
    assert_eq!(keys, "inbox\nname\ntags\n");
    server.run(["keys", "m", "--in", "nobody"]).fails(1);
    server.run(["set", "m", "dash", "-x"]).ok();
    assert_eq!(get(&["dash"]).ok(), "-x\n");
    assert_eq!(server.run(["set", "m", "deep", "dash", "-x"]).code, 2);
    server.run(["set", "m", "--", "deep", "dash", "-x"]).ok();
    server.run(["set", "m", "deep", "number", "-1"]).ok();
    assert_eq!(
        get(&["deep", "--json"]).ok(),
        "{\"dash\":\"-x\",\"number\":-1}\n"
    );
    // Below, the kinds of keys stay apart too.
    server
        .run(["set", "m", "\"n\"", "1", "integer", "--typed"])
        .ok();
    server.run(["set", "m", "n", "1", "text"]).ok();
    assert_eq!(
        server.run(["get", "m", "\"n\"", "1", "--typed"]).ok(),
        "integer\n"
    );
    assert_eq!(get(&["n", "1"]).ok(), "text\n");
}

#[test]
fn elements_and_members_are_changed_and_removed() {
    let server = server();
    let inbox = ["m", "users", "ada", "inbox"];
    let run = |command: &str, rest: &[&str]| server.run([&[command], &inbox[..], rest].concat());
    run("set", &["0", "changed"]).ok();
    run("set", &["1", "read", "true"]).ok();
    assert_eq!(
        run("get", &["--json"]).ok(),
        "[\"changed\",{\"read\":true}]\n"
    );
    assert_eq!(run("get", &["1", "read"]).ok(), "true\n");
    run("unset", &["0"]).ok();
    assert_eq!(run("get", &["--json"]).ok(), "[{\"read\":true}]\n");
    run("unset", &["1"]).fails(1);
    run("get", &["7"]).fails(1);
    run("set", &["7", "x"]).fails(1);
    server
        .run(["remove", "m", "users", "ada", "tags", "a"])
        .ok();
    server
        .run(["remove", "m", "users", "ada", "tags", "a"])
        .fails(1);
    assert_eq!(
        server.run(["get", "m", "users", "ada", "tags"]).ok(),
        "[\"b\"]\n"
    );
    server.run(["add", "m", "hits", "many"]).fails(2);
    server.run(["unset", "m", "users"]).ok();
    server.run(["unset", "m", "hits"]).ok();
    server.run(["keys", "m"]).fails(1);
}

#[test]
fn a_path_is_written_with_slashes_and_a_slash_in_a_key_is_encoded() {
    let server = server();
    let base = "/v1/maps/m/keys";
    assert_eq!(
        server.read(&format!("{base}/users/ada/inbox/0")).body,
        "\"urgent\""
    );
    assert_eq!(
        server.read(&format!("{base}/users%2Fada")).problem(404),
        "no-key"
    );
    let put = |path: &str, body: &str| server.http("PUT", &format!("{base}/{path}"), &[], body);
    assert_eq!(put("users/a%2Fb/", "1").status, 201);
    assert_eq!(
        server.read(&format!("{base}/users")).json()["a/b"],
        json!({ "": 1 })
    );
    assert_eq!(put("users/ada/inbox/9", "1").problem(404), "no-key");
    assert_eq!(server.read(&format!("{base}/hits?all")).body, "[3]");
    put("hits", "\"a value beside it\"");
    assert_eq!(
        server.read(&format!("{base}/hits?all")).body,
        "[\"a value beside it\",3]"
    );
}

#[test]
fn a_path_is_as_deep_as_containers_may_be_and_no_deeper() {
    let server = Server::in_memory();
    let path = |depth: usize| format!("/v1/maps/m/keys/{}", vec!["k"; depth].join("/"));
    assert_eq!(server.http("PUT", &path(65), &[], "1").status, 201);
    assert_eq!(server.read(&path(65)).body, "1");
    assert_eq!(
        server.read(&path(1)).json().pointer(&"/k".repeat(64)),
        Some(&json!(1))
    );
    for depth in [66, 10_000] {
        assert_eq!(
            server.http("PUT", &path(depth), &[], "1").status,
            422,
            "{depth}"
        );
        assert_eq!(server.read(&path(depth)).status, 422, "{depth}");
    }
    let keys = vec!["k"; 100_000];
    let operation = json!({ "operations": [{ "op": "add", "path": keys, "value": 1 }] });
    let headers = [("content-type", "application/json")];
    let answer = server.http(
        "POST",
        "/v1/maps/m/transact",
        &headers,
        &operation.to_string(),
    );
    assert_eq!(answer.status, 422);
    let exported = server.run(["export", "m", "--format", "ndjson"]).ok();
    assert_eq!(exported.matches("\"map\"").count(), 64);
}

#[test]
fn tags_of_containers_tell_whether_what_they_show_changed() {
    let server = server();
    for path in [
        "/v1/maps/m/keys/users",
        "/v1/maps/m/keys/users/ada/inbox",
        "/v1/maps/m",
    ] {
        let tag = server.read(path).header("etag").expect("a tag").to_owned();
        assert_eq!(
            server
                .http("GET", path, &[("if-none-match", &tag)], "")
                .status,
            304
        );
        server
            .run(["append", "m", "users", "ada", "inbox", "more"])
            .ok();
        assert_eq!(
            server
                .http("GET", path, &[("if-none-match", &tag)], "")
                .status,
            200
        );
        if path.contains("keys") {
            let delete = server.http("DELETE", path, &[("if-match", &tag)], "");
            assert_eq!(delete.problem(412), "precondition");
        }
    }
}

#[test]
fn a_transaction_may_change_containers() {
    let server = Server::in_memory();
    server.transact(
        "m",
        [
            json!({ "op": "append", "path": ["todo"], "value": "a" }),
            json!({ "op": "append", "key": "todo", "value": "c" }),
            json!({ "op": "insert", "path": ["todo"], "index": 1, "value": "b" }),
            json!({ "op": "move", "path": ["todo", 2], "to": 0 }),
            json!({ "op": "delete", "path": ["todo", 1] }),
            json!({ "op": "insert", "path": ["deep", 7, "set"], "value": 1 }),
            json!({ "op": "insert", "path": ["deep", 7, "set"], "value": 2 }),
            json!({ "op": "remove", "path": ["deep", 7, "set"], "value": 1 }),
            json!({ "op": "add", "key": "count", "value": -3 }),
        ],
    );
    let shown = json!({ "todo": ["c", "b"], "deep": { "7": { "set": [2] } }, "count": -3 });
    assert_eq!(server.read("/v1/maps/m").json(), shown);
    let answer = |operation: serde_json::Value| {
        let headers = [("content-type", "application/x-ndjson")];
        server.http(
            "POST",
            "/v1/maps/m/transact",
            &headers,
            &operation.to_string(),
        )
    };
    for wrong in [
        json!({ "op": "add", "key": "count", "value": "x" }),
        json!({ "op": "append", "key": "todo" }),
        json!({ "op": "move", "path": ["todo"], "to": 0 }),
        json!({ "op": "move", "path": ["todo", 0], "to": 9 }),
        json!({ "op": "set", "path": ["todo", 9], "value": 1 }),
        json!({ "op": "set", "path": [], "value": 1 }),
        json!({ "op": "set", "value": 1 }),
    ] {
        assert_eq!(answer(wrong.clone()).status, 422, "{wrong}");
    }
    let done = answer(json!({ "op": "remove", "path": ["deep", 7, "set"], "value": 9 }));
    assert_eq!(done.json(), json!({ "set": 0, "unset": 0 }));
    assert_eq!(server.read("/v1/maps/m").json(), shown);
}

#[test]
fn nested_keys_that_look_alike_ask_for_typed_lines() {
    let server = Server::in_memory();
    server
        .run(["set", "m", "\"n\"", "1", "integer", "--typed"])
        .ok();
    server.run(["set", "m", "n", "1", "text"]).ok();
    assert_eq!(server.read("/v1/maps/m").problem(406), "keys-alike");
    assert_eq!(server.read("/v1/maps/m/keys/n").problem(406), "keys-alike");
    let lines = server.run(["export", "m", "--format", "ndjson"]).ok();
    let line = json!({ "key": "n", "map": [
        { "key": 1, "value": "integer" },
        { "key": "1", "value": "text" },
    ]});
    assert_eq!(lines, format!("{line}\n"));
}

#[test]
fn an_export_of_containers_imports_as_the_same_map() {
    let server = server();
    for arguments in [
        &[
            "append", "m", "users", "ada", "inbox", "0", "replies", "first",
        ][..],
        &["set", "m", "users", "ada", "inbox", "1", "from", "ben"],
        &["set", "m", "hits", "{\"$map\":{\"$bytes\":1}}"],
        &["set", "m", "odd", "$bytes", "text"],
        &["insert", "m", "odd", "$set", "[1,{\"a\":2}]"],
    ] {
        server.run(arguments).ok();
    }
    let exported = server.run(["export", "m", "--format", "ndjson"]).ok();
    let mut import = server.command(["import", "n", "-", "--format", "ndjson"]);
    feed(&mut import, exported.as_bytes()).ok();
    let mut again = server.command(["import", "n", "-", "--format", "ndjson"]);
    feed(&mut again, exported.as_bytes()).ok();
    let sorted = |map: &str| {
        let text = server.run(["export", map, "--format", "ndjson"]).ok();
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        lines.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(sorted("n"), sorted("m"));

    // As plain JSON it is one value for each key, or containers where that is asked for.
    let object = server.run(["export", "m"]).ok();
    for (target, nested) in [("flat", false), ("nested", true)] {
        let mut arguments = vec!["import", target, "-", "--format", "json"];
        arguments.extend(nested.then_some("--nested"));
        feed(&mut server.command(arguments), object.as_bytes()).ok();
        assert_eq!(server.run(["export", target]).ok(), object);
        let line = &sorted(target)[2];
        assert_eq!(
            (line.get("map").is_some(), line.get("value").is_none()),
            (nested, nested)
        );
    }
    server
        .run(["append", "nested", "users", "ada", "tags", "c"])
        .ok();
    let tags = server.run(["get", "nested", "users", "ada", "tags"]).ok();
    assert_eq!(tags, "[\"a\",\"b\",\"c\"]\n");
}

#[test]
fn events_carry_paths_and_places() {
    let server = server();
    let events = server.events("m", "?pattern=users/*/*", None);
    let snapshot = events.expect("snapshot").data;
    let entries = snapshot["entries"].as_array().unwrap();
    let places: Vec<_> = entries.iter().map(|entry| &entry["place"]).collect();
    assert_eq!(places.len(), 5, "{snapshot}");
    assert_eq!(entries[0]["path"], json!(["users", "ada", "inbox"]));
    assert_eq!(
        (&entries[1]["place"]["index"], &entries[1]["value"]),
        (&json!(1), &json!("hello"))
    );
    assert_eq!(entries[2]["path"], json!(["users", "ada", "name"]));
    assert_eq!(entries[2].get("place"), None);
    assert_eq!(entries[3]["place"], json!("member"));

    server
        .run(["append", "m", "users", "ada", "inbox", "more"])
        .ok();
    server.run(["add", "m", "hits", "1"]).ok();
    server
        .run(["remove", "m", "users", "ada", "tags", "a"])
        .ok();
    let change = &events.expect("change").data["changes"][0];
    assert_eq!(
        (&change["place"]["index"], &change["new"]),
        (&json!(2), &json!("more"))
    );
    assert!(
        change["place"]["element"].as_str().unwrap().contains(':'),
        "{change}"
    );
    let change = &events.expect("change").data["changes"][0];
    assert_eq!(
        (&change["place"], &change["old"]),
        (&json!("member"), &json!("a"))
    );
}

#[test]
fn a_path_leads_through_an_element_by_its_id() {
    let server = server();
    let events = server.events("m", "", None);
    events.expect("snapshot");
    server
        .run(["set", "m", "users", "ada", "inbox", "1", "read", "true"])
        .ok();
    let path = events.expect("change").data["changes"][0]["path"].clone();
    let id = path[3]["$element"].as_str().expect("an element").to_owned();
    server.transact(
        "m",
        [json!({ "op": "move", "path": ["users", "ada", "inbox", 1], "to": 0 })],
    );
    let step = format!("@{id}");
    let read = server
        .run(["get", "m", "users", "ada", "inbox", &step, "read"])
        .ok();
    assert_eq!(read, "true\n");
    server.transact("m", [json!({ "op": "set", "path": path, "value": false })]);
    assert_eq!(
        server
            .run(["get", "m", "users", "ada", "inbox", "0", "read"])
            .ok(),
        "false\n"
    );
}

#[test]
fn watch_tells_of_containers() {
    let server = server();
    let watch = Lines::of(&mut server.command(["watch", "m", "users/**"]));
    let json = Lines::of(&mut server.command(["watch", "m", "hits", "--json"]));
    let (mut json_told, mut told) = (false, false);
    wait_until("both watch", || {
        server.run(["add", "m", "hits", "1"]).ok();
        server
            .run(["append", "m", "users", "ada", "inbox", "x"])
            .ok();
        json_told |= json.try_next().is_some();
        told |= watch.try_next().is_some();
        json_told && told
    });
    server
        .run(["insert", "m", "users", "ada", "tags", "last"])
        .ok();
    let line = wait_for("the member", || {
        watch.next().filter(|line| line.contains("tags"))
    });
    assert!(
        line.contains("users / ada / tags") && line.contains("\"last\""),
        "{line}"
    );
}
