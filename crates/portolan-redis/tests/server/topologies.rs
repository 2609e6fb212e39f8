//! Sentinels, clusters, permissions and encryption.

use std::time::Duration;

use portolan_redis::{CoordinatedMap, Error, Layout, Options, Server, State};

use crate::support::{
    Cluster, PATIENCE, Redis, Watched, agrees, ask, entries, free_port, hash, options, plain,
    reaches, reads, until,
};

#[tokio::test]
async fn a_failover_by_sentinels_is_followed() {
    let mut servers = Watched::start().await;
    let server = servers.server();
    let map = CoordinatedMap::join(&server, "fleet", options())
        .await
        .unwrap();
    map.set("a", "1").await.unwrap();
    let at_replica = servers.replica.plain().await;
    until("the write is at the replica", async || {
        hash(&mut at_replica.clone(), "fleet").await.1 == 1
    })
    .await;
    servers.master.kill();
    // A write waits for the new master, or is not known to be done.
    until("the new master takes writes", async || {
        map.set("b", "2").await.is_ok()
    })
    .await;
    assert_eq!(map.get("a").as_deref(), Some(&b"1"[..]));
    // A server ends its connections when it becomes the master.
    agrees(&map, &mut servers.replica.plain().await).await;
    // What the new master is told by others is heard.
    let other = CoordinatedMap::join(&server, "fleet", options())
        .await
        .unwrap();
    other.set("c", "3").await.unwrap();
    reads(&map, "c", "3").await;
}

#[tokio::test]
async fn a_master_that_is_demoted_and_stays_up_is_left() {
    let servers = Watched::start().await;
    let server = servers.server();
    let map = CoordinatedMap::join(&server, "fleet", options())
        .await
        .unwrap();
    map.set("a", "1").await.unwrap();
    servers.fail_over().await;
    until("the new master takes writes", async || {
        map.set("b", "2").await.is_ok()
    })
    .await;
    let mut at_new = servers.replica.plain().await;
    until("the node is at the new master", async || {
        let _ = map.set("c", "3").await;
        hash(&mut at_new.clone(), "fleet")
            .await
            .0
            .iter()
            .any(|(key, _)| key == "c")
    })
    .await;
    agrees(&map, &mut at_new).await;
}

#[tokio::test]
async fn a_failover_in_a_cluster_is_followed() {
    let mut cluster = Cluster::with_replicas().await;
    let server = cluster.server();
    let options = || options().layout(Layout::Cluster);
    let join = async || CoordinatedMap::join(&server, "fleet", options()).await;
    let (a, b) = (join().await.unwrap(), join().await.unwrap());
    a.set("a", "1").await.unwrap();
    reads(&b, "a", "1").await;
    let told = async {
        reaches(&b, |state| matches!(state, State::Stale { .. })).await;
        // What was there is read meanwhile.
        assert_eq!(b.get("a").as_deref(), Some(&b"1"[..]));
    };
    let (mut master, ()) = tokio::join!(cluster.fail_over("map:{fleet}:content"), told);
    until("the new master takes writes", async || {
        a.set("b", "2").await.is_ok()
    })
    .await;
    reads(&b, "b", "2").await;
    reaches(&b, |state| *state == State::Live).await;
    b.set("c", "3").await.unwrap();
    reads(&a, "c", "3").await;
    let all: Vec<String> = ask(&mut master, &["HKEYS", "map:{fleet}:content"]).await;
    assert_eq!(all.len(), 5);
}

#[tokio::test]
async fn a_map_in_a_cluster_goes_on_when_its_slot_moves() {
    let mut cluster = Cluster::start().await;
    let server = cluster.server();
    let options = || options().layout(Layout::Cluster);
    let (a, b) = (
        CoordinatedMap::join(&server, "fleet", options())
            .await
            .unwrap(),
        CoordinatedMap::join(&server, "fleet", options())
            .await
            .unwrap(),
    );
    a.set_many([("a", "1"), ("b", "2")]).await.unwrap();
    reads(&b, "b", "2").await;
    assert_eq!(a.set_and_wait("c", "3", PATIENCE).await.unwrap().value, 2);
    let lease = a.lease("job", Duration::from_mins(10)).await.unwrap();
    lease.set("x").await.unwrap();

    let writing = tokio::spawn({
        let a = a.clone();
        async move {
            for n in 0..300 {
                a.set("n", n.to_string()).await.unwrap();
            }
        }
    });
    let mut to = cluster.move_slot("map:{fleet}:content").await;
    writing.await.unwrap();
    reads(&b, "n", "299").await;
    a.set("d", "4").await.unwrap();
    reads(&b, "d", "4").await;
    b.set("e", "5").await.unwrap();
    reads(&a, "e", "5").await;
    lease.set("y").await.unwrap();
    assert_eq!(entries(&a).len(), 7);
    let all: Vec<String> = ask(&mut to, &["HKEYS", "map:{fleet}:content"]).await;
    assert_eq!(all.len(), 9);
}

#[tokio::test]
async fn without_permission_nothing_is_written_in_part() {
    let redis = Redis::start().await;
    let mut plain = redis.plain().await;
    let full = redis.join("fleet").await;
    full.set_many([("a", "1"), ("l", r#"["x"]"#), ("n", "1")])
        .await
        .unwrap();
    let before = hash(&mut plain, "fleet").await;
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}", redis.port);
    for missing in ["hset", "hincrby", "hdel", "unlink", "pexpire"] {
        let without = format!("-{missing}");
        let rule = [
            "ACL", "SETUSER", missing, "on", ">secret", "~*", "&*", "+@all", &without,
        ];
        let _: String = ask(&mut plain, &rule).await;
        let server = Server::single(&url(missing)).unwrap();
        let ttl = portolan_redis::Ttl::Sliding(Duration::from_mins(10));
        let map = CoordinatedMap::join(&server, "fleet", options().ttl(ttl))
            .await
            .unwrap();
        let refused = |done: Result<(), Error>, what: &str| {
            let refused = matches!(done, Err(Error::Refused { .. }));
            assert!(refused, "{what} without {missing}: {done:?}");
        };
        match missing {
            "hset" | "hincrby" | "pexpire" => {
                refused(map.set("a", "2").await.map(drop), "set");
                refused(map.increment("n", 2).await.map(drop), "increment");
                refused(map.append("l", &["y"]).await.map(drop), "append");
                refused(map.delete("a").await.map(drop), "delete");
                refused(map.reset().await.map(drop), "reset");
                refused(
                    map.set_many([("a", "3"), ("b", "3")]).await.map(drop),
                    "set_many",
                );
            }
            "hdel" => {
                refused(map.delete("a").await.map(drop), "delete");
                refused(map.remove("l", &["x"]).await.map(drop), "remove");
            }
            _ => refused(map.reset().await.map(drop), "reset"),
        }
        assert_eq!(hash(&mut plain, "fleet").await, before, "without {missing}");
        assert_eq!(entries(&map), before.0);
    }
    // A lease that could not expire would be held for ever.
    for missing in ["hset", "pexpire"] {
        let server = Server::single(&url(missing)).unwrap();
        let map = CoordinatedMap::join(&server, "fleet", options())
            .await
            .unwrap();
        let refused = map.lease("job", Duration::from_mins(10)).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        let lease = full.lease("job", Duration::from_mins(10)).await.unwrap();
        lease.release().await.unwrap();
    }
    // Without a time to live another script sets; what it may is taken from it while it is joined.
    let _: String = ask(
        &mut plain,
        &[
            "ACL", "SETUSER", "less", "on", ">secret", "~*", "&*", "+@all",
        ],
    )
    .await;
    let server = Server::single(&url("less")).unwrap();
    let rarely = options().digest_period(Duration::from_hours(1));
    let map = CoordinatedMap::join(&server, "fleet", rarely)
        .await
        .unwrap();
    for missing in ["-hset", "-publish"] {
        let _: String = ask(&mut plain, &["ACL", "SETUSER", "less", "+@all", missing]).await;
        let refused = map.set("a", "2").await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert_eq!(hash(&mut plain, "fleet").await, before, "{missing}");
        assert_eq!(entries(&map), before.0);
    }
    // What the guide says is enough.
    let enough = "hello subscribe publish eval evalsha hget hset hdel hexists hlen hgetall hincrby \
                  unlink pttl pexpire get set del time";
    let enough: Vec<String> = enough
        .split_whitespace()
        .map(|word| format!("+{word}"))
        .collect();
    let mut rule = vec!["ACL", "SETUSER", "enough", "on", ">secret"];
    rule.extend(["~map:enough:*", "&map:enough:*", "-@all"]);
    rule.extend(enough.iter().map(String::as_str));
    let _: String = ask(&mut plain, &rule).await;
    let server = Server::single(&url("enough")).unwrap();
    let ttl = portolan_redis::Ttl::Absolute(Duration::from_mins(10));
    let map = CoordinatedMap::join(&server, "enough", options().ttl(ttl))
        .await
        .unwrap();
    map.set_and_wait("a", "1", PATIENCE).await.unwrap();
    map.increment("n", 1).await.unwrap();
    map.append("l", &["x"]).await.unwrap();
    map.remove("l", &["x"]).await.unwrap();
    map.delete("a").await.unwrap();
    let lease = map.lease("job", Duration::from_mins(10)).await.unwrap();
    lease.set("x").await.unwrap();
    lease.release().await.unwrap();
    map.reset().await.unwrap();

    // Another map's user, and a wrong password.
    let rule = [
        "ACL",
        "SETUSER",
        "other",
        "on",
        ">secret",
        "~map:other:*",
        "&map:other:*",
        "+@all",
    ];
    let _: String = ask(&mut plain, &rule).await;
    let other = Server::single(&url("other")).unwrap();
    let refused = CoordinatedMap::join(&other, "fleet", Options::default()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    CoordinatedMap::join(&other, "other", options())
        .await
        .unwrap()
        .set("a", "1")
        .await
        .unwrap();
    let wrong = Server::single(&format!("redis://other:wrong@127.0.0.1:{}", redis.port)).unwrap();
    let refused = CoordinatedMap::join(&wrong, "other", Options::default()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_server_is_reached_over_tls_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let certificate = certificate.display().to_string();
    let redis = Redis::of_the_system(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key.display().to_string(),
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let server = Server::single(&format!("rediss://localhost:{port}")).unwrap();
    let untrusted = CoordinatedMap::join(&server, "fleet", options()).await;
    assert!(
        matches!(untrusted, Err(Error::Unreachable { .. })),
        "{untrusted:?}"
    );
    let server = server.with_root_certificate(signed.cert.pem());
    let map = CoordinatedMap::join(&server, "fleet", options())
        .await
        .unwrap();
    map.set("a", "1").await.unwrap();
    agrees(&map, &mut plain(&redis.url()).await).await;
}
