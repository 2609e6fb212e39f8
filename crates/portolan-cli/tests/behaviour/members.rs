//! Who holds a map, and who is not waited for any more.

use serde_json::{Value as Json, json};

use crate::support::{Proxy, Server, folder, token, wait_until, write_auth};

/// A server that is joined to another at this address.
fn join(address: &str, store: &std::path::Path) -> Server {
    let url = format!("ws://{address}");
    let store = store.display().to_string();
    Server::start(["--store", &store, "--connect", &url])
}

/// The server's id in the map `m`, and the others.
fn told(server: &Server) -> (String, Vec<Json>) {
    let answer = server.read("/v1/maps/m/members");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    let replica = json["replica"].as_str().expect("an id").to_owned();
    (replica, json["members"].as_array().expect("a list").clone())
}

/// Whether the server has another as its only member, in this standing.
fn stands(server: &Server, other: &str, standing: &str) -> bool {
    let (_, members) = told(server);
    let [member] = members.as_slice() else {
        return false;
    };
    member["replica"] == json!(other) && member["standing"] == json!(standing)
}

#[test]
fn a_forgotten_server_is_not_waited_for_until_it_returns() {
    let (folder_a, folder_b) = (folder(), folder());
    let mut a = Server::on(folder_a.path());
    a.put("m", "from-a", &json!(1));
    let (_, alone) = told(&a);
    assert!(alone.is_empty());
    assert_eq!(a.run(["members", "m"]).ok(), "no other replicas\n");

    let proxy = Proxy::to(a.address());
    let b = join(&proxy.address.to_string(), folder_b.path());
    wait_until("they are joined", || {
        b.get("m", "from-a").is_some() && told(&a).1.len() == 1
    });
    let (id, _) = told(&b);
    wait_until("it is a member", || stands(&a, &id, "member"));
    let lines = a.run(["members", "m"]).ok();
    let words: Vec<&str> = lines
        .lines()
        .nth(1)
        .expect("a line")
        .split_whitespace()
        .collect();
    assert_eq!(words[..2], [id.as_str(), "member"], "{lines}");
    let status = |server: &Server| server.read("/v1/status").json()["maps"][0].clone();
    assert_eq!(
        (&status(&a)["members"], &status(&a)["forgotten"]),
        (&json!(1), &json!(0))
    );

    proxy.cut();
    b.put("m", "offline", &json!(2));
    a.run(["forget", "m", &id]).ok();
    assert!(stands(&a, &id, "forgotten"));
    // What is acknowledged is stored.
    a.kill();
    a.restart();
    assert!(stands(&a, &id, "forgotten"));
    assert_eq!(
        (&status(&a)["members"], &status(&a)["forgotten"]),
        (&json!(0), &json!(1))
    );
    let told_json: Json = serde_json::from_str(&a.run(["members", "m", "--json"]).ok()).unwrap();
    assert_eq!(told_json["members"][0]["missing"], Json::Null);
    // Twice is as once.
    a.run(["forget", "m", &id]).ok();

    proxy.mend();
    wait_until("it is back with what it wrote", || {
        a.get("m", "offline") == Some(json!(2)) && stands(&a, &id, "member")
    });
}

#[test]
fn only_others_that_are_known_can_be_forgotten() {
    let server = Server::in_memory();
    let path = |id: &str| format!("/v1/maps/m/members/{id}");
    let unknown = "0123456789abcdef";
    let forget = |id: &str| server.http("DELETE", &path(id), &[], "");
    assert_eq!(forget(unknown).problem(404), "no-map");
    assert_eq!(server.read("/v1/maps/m/members").problem(404), "no-map");
    server.put("m", "k", &json!(1));
    assert_eq!(forget(unknown).problem(404), "no-member");
    assert_eq!(forget("nobody").problem(400), "bad-request");
    let (own, _) = told(&server);
    assert_eq!(forget(&own).problem(422), "invalid");
    assert_eq!(server.read(&path(unknown)).problem(405), "method");
    server.run(["forget", "m", unknown]).fails(1);
    server.run(["forget", "m", &own]).fails(4);
    server.run(["members", "other"]).fails(1);
}

#[test]
fn members_are_for_whoever_administers_the_map() {
    let folder = folder();
    let file = write_auth(folder.path(), "");
    let server = Server::start(["--memory", "--auth", &file.display().to_string()]);
    let writer = token("w", 60, &json!({ "m": ["read", "write"] }));
    let admin = token("a", 60, &json!({ "m": "admin" }));
    let ask =
        |token: &str, method: &str, path: &str, body: &str| server.ask(token, method, path, body);
    assert_eq!(ask(&writer, "PUT", "/v1/maps/m/keys/k", "1").status, 201);
    let (members, member) = ("/v1/maps/m/members", "/v1/maps/m/members/0123456789abcdef");
    assert_eq!(ask(&writer, "GET", members, "").problem(403), "forbidden");
    assert_eq!(ask(&writer, "DELETE", member, "").problem(403), "forbidden");
    assert_eq!(ask(&admin, "GET", members, "").status, 200);
    assert_eq!(ask(&admin, "DELETE", member, "").problem(404), "no-member");
    server.run(["members", "m", "--token", &writer]).fails(4);
    server.run(["members", "m", "--token", &admin]).ok();
}
