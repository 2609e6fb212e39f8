//! What became of a map, and its elements brought back.

use serde_json::Value as Json;

use crate::support::{Server, folder};

/// What the server tells of the map `m`, and the version it ends at.
fn told(server: &Server, query: &str) -> (Vec<Json>, String) {
    let answer = server.read(&format!("/v1/maps/m/history{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    let until = json["until"].as_str().expect("a version").to_owned();
    (json["changes"].as_array().expect("changes").clone(), until)
}

#[test]
fn history_tells_what_is_different_or_each_change() {
    let server = Server::in_memory();
    let set = |value: &str| server.run(["set", "m", "rate", value]).ok();
    set("1");
    let (_, first) = told(&server, "");
    set("2");
    set("3");
    let (_, second) = told(&server, "");
    server.run(["unset", "m", "rate"]).ok();

    let (changes, _) = told(&server, &format!("?since={first}&until={second}"));
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (&changes[0]["old"], &changes[0]["new"]),
        (&1.into(), &3.into())
    );
    let replica = server.read("/v1/status").json()["replica"].clone();
    assert_eq!(changes[0]["by"], replica);
    assert!(changes[0]["at"].is_string() && changes[0]["transaction"].is_string());

    let (changes, _) = told(&server, &format!("?since={first}"));
    assert_eq!(
        (&changes[0]["old"], changes[0].get("new")),
        (&1.into(), None)
    );
    let (changes, _) = told(&server, "?each");
    let new: Vec<Option<&Json>> = changes.iter().map(|change| change.get("new")).collect();
    assert_eq!(
        new,
        [Some(&1.into()), Some(&2.into()), Some(&3.into()), None]
    );
    let (changes, _) = told(&server, "?each&limit=1");
    assert_eq!(changes.len(), 1);
    assert!(changes[0].get("new").is_none());
    let exchanged = format!("/v1/maps/m/history?since={second}&until={first}");
    assert_eq!(server.read(&exchanged).problem(400), "bad-request");
    // Nothing is there any more that was not there before.
    assert!(told(&server, "").0.is_empty());

    let lines = server.run(["history", "m", "--each", "--json"]).ok();
    let lines: Vec<Json> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[3]["old"], 3);
    let people = server.run(["history", "m", "rate", "--since", &first]).ok();
    assert!(
        people.ends_with("rate 1 → removed by this server\n"),
        "{people}"
    );
    assert_eq!(server.run(["history", "m", "other"]).ok(), "");
}

#[test]
fn a_key_can_be_read_as_it_was() {
    let server = Server::in_memory();
    server.run(["append", "m", "list", "first"]).ok();
    let (_, then) = told(&server, "");
    server.run(["append", "m", "list", "second"]).ok();
    server.run(["unset", "m", "list", "0"]).ok();
    let get = |more: &[&str]| server.run([&["get", "m", "list"], more].concat());
    assert_eq!(get(&[]).ok(), "[\"second\"]\n");
    assert_eq!(get(&["--at", &then]).ok(), "[\"first\"]\n");
    assert_eq!(get(&["0", "--at", &then]).ok(), "first\n");
    server.run(["get", "m", "list", "--at", "1h"]).fails(1);
    assert_eq!(get(&["--at", "teatime"]).code, 2);
    let put = server.http("PUT", "/v1/maps/m/keys/a?at=1h", &[], "1");
    assert_eq!(put.problem(400), "bad-request");
}

#[test]
fn a_past_that_is_gone_is_said_to_be_gone() {
    let server = Server::start(["--memory", "--history", "2"]);
    for n in 0..5 {
        server.run(["set", "m", "a", &n.to_string()]).ok();
    }
    let old = server.read("/v1/maps/m/history?since=1h");
    assert_eq!(old.problem(410), "past-unknown");
    assert!(old.body.contains("it is known from 20"), "{}", old.body);
    server.run(["history", "m", "--since", "1h"]).fails(1);
    let (changes, _) = told(&server, "?each");
    let olds: Vec<&Json> = changes.iter().map(|change| &change["old"]).collect();
    assert_eq!(olds, [2, 3]);
    let bad = |query: &str| {
        server
            .read(&format!("/v1/maps/m/history{query}"))
            .problem(400)
    };
    assert_eq!(bad("?since=teatime"), "bad-request");
    assert_eq!(bad("?sense=1h"), "bad-request");
    assert_eq!(server.read("/v1/maps/none/history").problem(404), "no-map");
    server.run(["history", "none"]).fails(1);
    let usage = server.run(["history", "m", "--since", "teatime"]);
    assert_eq!(usage.code, 2);
}

#[test]
fn history_survives_a_restart_as_far_as_the_store_tells() {
    let store = folder();
    let mut server = Server::on(store.path());
    for n in 0..3 {
        server.run(["set", "m", "a", &n.to_string()]).ok();
    }
    server.restart();
    let (changes, _) = told(&server, "?each");
    let new: Vec<&Json> = changes.iter().map(|change| &change["new"]).collect();
    assert_eq!(new, [0, 1, 2]);
}

#[test]
fn a_deleted_element_comes_back_by_its_id() {
    let server = Server::in_memory();
    for value in ["a", "b", "c"] {
        server.run(["append", "m", "users", "list", value]).ok();
    }
    let ids = server.run(["get", "m", "users", "list", "--ids"]).ok();
    let second = ids.lines().nth(1).expect("three elements");
    let (id, value) = second.split_once(' ').expect("an id and a value");
    assert_eq!(value, "\"b\"");
    server.run(["unset", "m", "users", "list", "1"]).ok();
    let history = server.run(["history", "m", "users", "list", "--each"]).ok();
    assert!(
        history.contains(&format!("{id} \"b\" → removed")),
        "{history}"
    );
    server.run(["undelete", "m", "users", "list", id]).ok();
    let list = server.run(["get", "m", "users", "list"]).ok();
    assert_eq!(list, "[\"a\",\"b\",\"c\"]\n");
    server.run(["undelete", "m", "users", "list", id]).fails(1);
    server.run(["undelete", "m", "users", "list", "b"]).fails(2);
    let unknown = server.run(["undelete", "m", "users", "list", "0000000000000001:1"]);
    unknown.fails(4);
    server.run(["get", "m", "users", "--ids"]).fails(4);
}
