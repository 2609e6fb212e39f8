//! Servers that are clients of each other.

use serde_json::{Value as Json, json};

use crate::support::{Proxy, Server, feed, folder, wait_until};

fn join(address: &str, more: &[&str]) -> Server {
    let url = format!("ws://{address}");
    Server::start([&["--memory", "--connect", &url], more].concat())
}

/// Both hold the same, by their own account.
fn agree(a: &Server, b: &Server, map: &str) -> bool {
    let digest = |server: &Server| {
        let status = server.read("/v1/status").json();
        let maps = status["maps"].as_array().expect("a list").clone();
        maps.into_iter()
            .find(|entry| entry["name"] == json!(map))
            .map(|entry| entry["digest"].clone())
    };
    let (one, two) = (digest(a), digest(b));
    one.is_some() && one == two
}

#[test]
fn two_servers_cut_apart_edited_and_joined_again_converge() {
    let a = Server::in_memory();
    let proxy = Proxy::to(a.address());
    let b = join(&proxy.address.to_string(), &[]);
    a.put("m", "both", &json!("at first"));
    a.put("m", "only-a", &json!(0));
    b.put("m", "only-b", &json!(0));
    wait_until("they are joined", || {
        agree(&a, &b, "m") && a.get("m", "only-b").is_some()
    });

    proxy.cut();
    a.put("m", "both", &json!("from a"));
    b.put("m", "both", &json!("from b"));
    a.put("m", "only-a", &json!(1));
    b.put("m", "only-b", &json!(1));
    a.run(["set", "m", "removed-and-set", "set by a"]).ok();
    for server in [&a, &b] {
        server.put("new", "here", &json!(server.url));
    }
    // Apart, each goes on alone.
    assert_eq!(a.siblings("m", "both"), [json!("from a")]);
    assert_eq!(b.siblings("m", "both"), [json!("from b")]);
    assert_eq!(b.get("m", "removed-and-set"), None);

    let (events_a, events_b) = (a.events("m", "", None), b.events("m", "", None));
    events_a.expect("snapshot");
    events_b.expect("snapshot");
    proxy.mend();
    wait_until("they converge", || {
        agree(&a, &b, "m") && agree(&a, &b, "new") && b.get("m", "only-a") == Some(json!(1))
    });
    let siblings = a.siblings("m", "both");
    assert_eq!(siblings, b.siblings("m", "both"));
    assert_eq!(
        siblings,
        [json!("from b"), json!("from a")],
        "the later first"
    );
    assert_eq!(a.siblings("new", "here").len(), 2);
    assert_eq!(a.siblings("new", "here"), b.siblings("new", "here"));
    for key in ["only-a", "only-b"] {
        assert_eq!(
            (a.get("m", key), b.get("m", key)),
            (Some(json!(1)), Some(json!(1)))
        );
    }
    // Watchers are told of the sibling, on both sides alike.
    for events in [events_a, events_b] {
        let change = loop {
            let event = events.expect("change").data;
            let changes = event["changes"].as_array().unwrap().clone();
            if let Some(change) = changes
                .into_iter()
                .find(|change| change["path"] == json!(["both"]))
            {
                break change;
            }
        };
        assert_eq!(
            (&change["new"], &change["siblings"]),
            (&json!("from b"), &json!(["from a"]))
        );
    }
    assert_eq!(
        a.run(["get", "m", "both", "--all", "--json"]).ok(),
        "[\"from b\",\"from a\"]\n"
    );
    assert_eq!(
        b.run(["get", "m", "both", "--all"]).ok(),
        "from b\nfrom a\n"
    );

    // A write that has seen both is the only one left.
    b.put("m", "both", &json!("settled"));
    wait_until("it is settled", || {
        a.siblings("m", "both") == [json!("settled")]
    });
}

#[test]
fn an_export_of_typed_lines_holds_siblings() {
    let a = Server::in_memory();
    let proxy = Proxy::to(a.address());
    proxy.cut();
    let b = join(&proxy.address.to_string(), &[]);
    a.put("m", "k", &json!(1));
    b.put("m", "k", &json!(2));
    proxy.mend();
    wait_until("they converge", || {
        a.siblings("m", "k").len() == 2 && agree(&a, &b, "m")
    });
    let lines = a.run(["export", "m", "--format", "ndjson"]).ok();
    let line: Json = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(line, json!({ "key": "k", "value": 2, "siblings": [1] }));
    // One import is one writer, who cannot disagree with himself: he says so.
    let mut import = a.command(["import", "n", "-", "--format", "ndjson"]);
    let said = feed(&mut import, lines.as_bytes()).ok();
    assert!(
        said.contains("of 1 key with siblings only the winner"),
        "{said}"
    );
    assert_eq!(a.siblings("n", "k"), [json!(2)]);
}

#[test]
fn only_maps_that_match_are_shared() {
    let a = Server::in_memory();
    a.put("fleet%2Fa", "k", &json!(1));
    a.put("other", "k", &json!(1));
    a.put("team%2Fx", "k", &json!(1));
    // A comma stands between alternatives in braces alone.
    a.put("x", "k", &json!(1));
    a.put("x,y", "k", &json!(1));
    let b = join(
        &a.address().to_string(),
        &["--map", "fleet/**", "--map", "team/*", "--map", "x,{y,z}"],
    );
    wait_until("they are joined", || {
        let shared = ["fleet%2Fa", "team%2Fx", "x,y"];
        shared.iter().all(|map| b.get(map, "k").is_some())
    });
    b.put("private", "k", &json!(1));
    b.put("fleet%2Fb", "k", &json!(1));
    wait_until("a new map is shared", || a.get("fleet%2Fb", "k").is_some());
    a.put("fleet%2Fc", "k", &json!(1));
    wait_until("whichever side it is new on", || {
        b.get("fleet%2Fc", "k").is_some()
    });
    assert_eq!(b.get("other", "k"), None);
    assert_eq!(b.get("x", "k"), None);
    assert_eq!(a.get("private", "k"), None);
}

#[test]
fn a_chain_carries_changes_and_survives_its_middle() {
    let folder = folder();
    let mut middle = Server::on(folder.path());
    let address = middle.address().to_string();
    let (one, two) = (join(&address, &[]), join(&address, &[]));
    one.put("m", "k", &json!(1));
    wait_until("it went through", || two.get("m", "k") == Some(json!(1)));
    middle.kill();
    one.put("m", "k", &json!("one"));
    two.put("m", "k", &json!("two"));
    middle.restart();
    wait_until("they converge", || {
        [&one, &two, &middle]
            .iter()
            .all(|server| server.siblings("m", "k").len() == 2)
    });
    assert_eq!(one.siblings("m", "k"), two.siblings("m", "k"));
    assert_eq!(one.siblings("m", "k"), middle.siblings("m", "k"));
    let status = one.run(["status"]).ok();
    assert!(status.contains("online"), "{status}");
}
