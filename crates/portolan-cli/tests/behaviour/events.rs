//! Server-sent events, and the command that follows them.

use serde_json::json;

use crate::support::{Lines, Server, folder};

#[test]
fn a_stream_starts_with_the_map_and_goes_on_with_its_changes() {
    let server = Server::in_memory();
    server.put("m", "a", &json!(1));
    let events = server.events("m", "", None);
    let snapshot = events.expect("snapshot");
    assert_eq!(
        (&snapshot.data["first"], &snapshot.data["last"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(snapshot.data["entries"][0]["path"], json!(["a"]));
    assert_eq!(snapshot.data["entries"][0]["value"], json!(1));
    assert!(snapshot.id.is_some());

    server.put("m", "a", &json!(null));
    let change = events.expect("change").data;
    assert_eq!(change["changes"][0]["old"], json!(1));
    assert!(
        change["changes"][0]
            .as_object()
            .unwrap()
            .contains_key("new")
    );
    assert_eq!(change["changes"][0]["new"], json!(null));
    server.http("DELETE", "/v1/maps/m/keys/a", &[], "");
    let change = events.expect("change").data;
    assert!(
        !change["changes"][0]
            .as_object()
            .unwrap()
            .contains_key("new")
    );

    // A transaction is one event.
    server.transact(
        "m",
        [
            json!({ "op": "set", "key": 1, "value": 1 }),
            json!({ "op": "set", "key": "b", "value": 2 }),
        ],
    );
    let change = events.expect("change").data;
    assert_eq!(change["changes"].as_array().unwrap().len(), 2);
    assert_eq!(change["changes"][0]["path"], json!([1]));
}

#[test]
fn a_stream_resumes_after_the_last_event() {
    let server = Server::in_memory();
    let events = server.events("m", "", None);
    events.expect("snapshot");
    server.put("m", "k", &json!(1));
    let id = events.expect("change").id.expect("an id");
    drop(events);
    for i in 2..6 {
        server.put("m", "k", &json!(i));
    }
    let events = server.events("m", "", Some(&id));
    for i in 2..6 {
        assert_eq!(events.expect("change").data["changes"][0]["new"], json!(i));
    }
    let by_query = server.events("m", &format!("?last_event_id={id}"), None);
    assert_eq!(
        by_query.expect("change").data["changes"][0]["new"],
        json!(2)
    );
}

#[test]
fn an_id_that_is_not_known_gets_a_snapshot() {
    let folder = folder();
    let mut server = Server::on(folder.path());
    server.put("m", "k", &json!(1));
    let events = server.events("m", "", None);
    let id = events.expect("snapshot").id.expect("an id");
    let (run, number) = id.rsplit_once('-').expect("a number");
    let number: u64 = number.parse().expect("a number");
    let ahead = format!("{run}-{}", number + 1_000);
    for unknown in ["nonsense", "", ahead.as_str()] {
        let events = server.events("m", "", Some(unknown));
        assert_eq!(
            events.expect("snapshot").data["entries"][0]["value"],
            json!(1)
        );
    }
    server.restart();
    let events = server.events("m", "", Some(&id));
    assert_eq!(
        events.expect("snapshot").data["entries"][0]["value"],
        json!(1)
    );
}

#[test]
fn an_id_that_is_too_old_gets_a_snapshot() {
    let server = Server::in_memory();
    let events = server.events("m", "", None);
    let id = events.expect("snapshot").id.expect("an id");
    drop(events);
    // More than the server keeps.
    for i in 0..12 {
        server.put("m", "k", &json!(format!("{i}{}", "x".repeat(900_000))));
    }
    let events = server.events("m", "", Some(&id));
    let entries = events.expect("snapshot").data["entries"].clone();
    assert!(entries[0]["value"].as_str().unwrap().starts_with("11x"));
}

#[test]
fn a_large_snapshot_comes_in_pieces_that_end_with_the_id() {
    let server = Server::in_memory();
    let text = "some text, so that there is something to send";
    server.transact(
        "m",
        (0..30_000).map(|i| json!({ "op": "set", "key": i, "value": text })),
    );
    let events = server.events("m", "", None);
    let (mut keys, mut pieces) = (0, 0);
    loop {
        let piece = events.expect("snapshot");
        assert_eq!(piece.data["first"], json!(pieces == 0));
        keys += piece.data["entries"].as_array().unwrap().len();
        pieces += 1;
        assert_eq!(piece.id.is_some(), piece.data["last"] == json!(true));
        if piece.id.is_some() {
            break;
        }
    }
    assert!(pieces > 1);
    assert_eq!(keys, 30_000);
}

#[test]
fn a_pattern_leaves_the_rest_out() {
    let server = Server::in_memory();
    server.put("m", "other", &json!(1));
    server.put("m", "feature%2Fa", &json!(1));
    let events = server.events("m", "?pattern=feature/**", None);
    assert_eq!(
        events.expect("snapshot").data["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    server.put("m", "other", &json!(2));
    server.put("m", "feature%2Fb", &json!(2));
    assert_eq!(
        events.expect("change").data["changes"][0]["path"],
        json!(["feature/b"])
    );
}

#[test]
fn watch_prints_each_change_as_a_line() {
    let server = Server::in_memory();
    server.put("m", "feature%2Fa", &json!(1));
    let watch = Lines::of(&mut server.command(["watch", "m", "feature/**", "--json"]));
    // Nobody tells when the watch has begun; so write until it says something.
    let first = crate::support::wait_for("the watch begins", || {
        server.put("m", "feature%2Fping", &json!(0));
        watch.try_next()
    });
    assert!(first.contains("feature/ping"));
    server.put("m", "other", &json!(1));
    server.put("m", "feature%2Fa", &json!({ "x": 1.0 }));
    let change =
        std::iter::from_fn(|| Some(watch.json())).find(|c| c["path"] == json!(["feature/a"]));
    let change = change.expect("a change");
    assert_eq!(
        (&change["old"], &change["new"]),
        (&json!(1), &json!({ "x": 1.0 }))
    );
    server.run(["unset", "m", "feature/a"]).ok();
    let change = watch.json();
    assert_eq!(change["old"], json!({ "x": 1.0 }));
    assert!(change.get("new").is_none());
}

#[test]
fn watch_for_people_has_no_colours_in_a_file() {
    let server = Server::in_memory();
    let watch = Lines::of(&mut server.command(["watch", "m"]));
    let line = crate::support::wait_for("the watch begins", || {
        server.put("m", "key", &json!("text"));
        watch.try_next()
    });
    assert!(line.contains("key") && line.contains("\"text\""), "{line}");
    assert!(!line.contains('\x1b'), "{line:?}");
}

#[test]
fn watch_outlives_its_server_and_misses_nothing() {
    let folder = folder();
    let mut server = Server::on(folder.path());
    server.put("m", "kept", &json!(1));
    server.put("m", "gone", &json!(1));
    let watch = Lines::of(&mut server.command(["watch", "m", "--json"]));
    crate::support::wait_for("the watch begins", || {
        server.put("m", "ping", &json!(0));
        watch.try_next()
    });
    server.restart();
    // What happens before the watcher is back is told all the same.
    server.put("m", "new", &json!(2));
    server.run(["unset", "m", "gone"]).ok();
    server.put("m", "kept", &json!(3));
    let mut last = std::collections::BTreeMap::new();
    while last.len() < 3 {
        let change = watch.json();
        if change["path"] != json!(["ping"]) {
            last.insert(change["path"][0].as_str().unwrap().to_owned(), change);
        }
    }
    assert_eq!(last["new"]["new"], json!(2));
    assert_eq!(
        (&last["gone"]["old"], last["gone"].get("new")),
        (&json!(1), None)
    );
    assert_eq!(
        (&last["kept"]["old"], &last["kept"]["new"]),
        (&json!(1), &json!(3))
    );
}
