//! The ways in which a Redis may stand: behind a Sentinel, as a cluster, with TLS. Servers share a
//! map through it, and commands use one there.

use serde_json::json;

use crate::support::{Redis, Server, folder, run, wait_until};

/// Servers and commands with these flags do what they do without.
fn serves(redis: &str, flags: &[&str], of_the_server: &[&str]) {
    let arguments = [&["--memory", "--redis", redis], of_the_server].concat();
    let (first, second) = (Server::start(arguments.clone()), Server::start(arguments));
    first.put("fleet", "rate", &json!(10));
    wait_until("the other server has it", || {
        second.get("fleet", "rate") == Some(json!(10))
    });
    let command = |words: &[&str]| run([&["redis"], words, &["--redis", redis], flags].concat());
    command(&["set", "fleet", "rate", "100"]).ok();
    assert_eq!(command(&["get", "fleet", "rate"]).ok(), "100\n");
    assert_eq!(command(&["incr", "fleet", "starts"]).ok(), "1\n");
    let status = command(&["status", "fleet"]).ok();
    assert!(
        status.starts_with("fleet: 2 keys at revision 2"),
        "{status}"
    );
}

#[test]
fn a_sentinel_names_the_master() {
    let folder = folder();
    let master = Redis::start();
    let sentinel = Redis::sentinel(&master, folder.path());
    let flags = ["--sentinel", "fleet"];
    serves(&sentinel.url(), &flags, &["--redis-sentinel", "fleet"]);
    let unknown = ["redis", "get", "fleet", "k", "--redis", &sentinel.url()];
    run([&unknown[..], &["--sentinel", "other"]].concat()).fails(3);
}

#[test]
fn a_cluster_is_entered_by_any_of_its_nodes() {
    let folder = folder();
    let cluster = Redis::cluster(folder.path());
    serves(&cluster.url(), &["--cluster"], &["--redis-cluster"]);
    // The layout is that for clusters.
    assert_eq!(cluster.ask(&["EXISTS", "map:{fleet}:content"]), "1");
}

#[test]
fn redis_is_spoken_to_over_tls_where_its_certificate_is_trusted() {
    let folder = folder();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let (_redis, port) = Redis::with_tls(&certificate, &key);
    let url = format!("rediss://localhost:{port}");
    let ca = certificate.display().to_string();
    serves(&url, &["--ca", &ca], &["--ca", &ca]);
    let told = run(["redis", "get", "fleet", "rate", "--redis", &url]).fails(3);
    assert!(told.contains("certificate"), "{told}");
    let alone = Server::start(["--memory", "--redis", &url]);
    alone.http("PUT", "/v1/maps/fleet/keys/k", &[], "1");
    let status = alone.run(["status"]).ok();
    assert!(
        status.contains("FAILING") && status.contains("certificate"),
        "{status}"
    );
}
