//! Tokens that are replaced while connections last.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::{Server, converge, memory, soon, until};
use parking_lot::Mutex;
use portolan::{Access, Authorize, Error, Event, Map, Node, Pattern, Peer, Value};

/// Lets in whose token is good now; `name/**` is for the bearer of a token that starts so.
#[derive(Default)]
struct Issuer(Mutex<HashSet<String>>);

impl Issuer {
    fn only(&self, tokens: &[&str]) {
        *self.0.lock() = tokens.iter().map(ToString::to_string).collect();
    }
}

impl Authorize for Issuer {
    fn authorize(&self, map: &str, asked: Access, token: Option<&[u8]>) -> Result<Access, String> {
        let token = token.and_then(|token| std::str::from_utf8(token).ok());
        let token = token.filter(|token| self.0.lock().contains(*token));
        let token = token.ok_or("the token is no good")?;
        let allowed = map.starts_with("all/") || map.starts_with(token);
        allowed.then_some(asked).ok_or("not this map".into())
    }
}

async fn start(tokens: &[&str]) -> (Arc<Issuer>, Server) {
    let issuer = Arc::new(Issuer::default());
    issuer.only(tokens);
    let server = Server::start_with(memory().await, issuer.clone(), "127.0.0.1:0").await;
    (issuer, server)
}

async fn bearer(peer: Peer) -> Node {
    let node = Node::builder().connect(peer);
    // Who would have to connect again would be noticed: it would take longer than the test may.
    node.max_back_off(Duration::from_mins(10))
        .spawn()
        .await
        .unwrap()
}

fn only_session(map: &Map) -> u64 {
    let sessions = map.status().sessions;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions[0].id.get()
}

#[tokio::test]
async fn a_token_is_renewed_within_its_connection() {
    let (issuer, server) = start(&["first"]).await;
    let renewing = bearer(Peer::new(server.url()).token("first")).await;
    let idle = bearer(Peer::new(server.url()).token("first")).await;
    let (mine, other) = (
        renewing.open("all/m").await.unwrap(),
        idle.open("all/m").await.unwrap(),
    );
    soon("ready", mine.ready()).await.unwrap();
    soon("ready", other.ready()).await.unwrap();
    let there = server.node.open("all/m").await.unwrap();
    let mut watch = mine.watch("**").unwrap();
    let session = only_session(&mine);

    issuer.only(&["first", "second"]);
    renewing.set_token(&server.url(), "second").unwrap();
    // Behind the token on its way: once this is there, so is the token.
    mine.set("fence", 1).unwrap();
    soon("flush", mine.flush_peers()).await.unwrap();
    issuer.only(&["second"]);
    server.node.reauthorize();
    until("who did not renew is out", &other, |other| {
        !other.status().refused.is_empty()
    })
    .await;
    there.set("after", 2).unwrap();
    soon("the watch goes on", async {
        loop {
            let Some(Event::Changed(batch)) = watch.next().await else {
                panic!("a change")
            };
            if batch.changes[0].new == Some(Value::from(2)) {
                return;
            }
        }
    })
    .await;
    assert_eq!(only_session(&mine), session, "the same session");
    assert!(!other.contains_key("after"));

    // What is opened later is opened with the new token.
    let later = renewing.open("second/later").await.unwrap();
    soon("ready", later.ready()).await.unwrap();
    // And it is never too late.
    idle.set_token(&server.url(), "second").unwrap();
    soon("ready", other.ready()).await.unwrap();
    converge(&mine, &other).await;
}

#[tokio::test]
async fn a_token_that_overtakes_the_refusal_of_the_last_one_is_tried() {
    let (_issuer, server) = start(&["good"]).await;
    for _ in 0..20 {
        let node = bearer(Peer::new(server.url()).token("bad")).await;
        let map = node.open("all/m").await.unwrap();
        until("it connects", &map, |map| {
            !map.status().sessions.is_empty() || !map.status().refused.is_empty()
        })
        .await;
        node.set_token(&server.url(), "good").unwrap();
        until("it is let in", &map, |map| {
            let sessions = map.status().sessions;
            sessions.iter().any(|session| session.ready)
        })
        .await;
        assert!(map.status().refused.is_empty());
    }
}

#[tokio::test]
async fn who_mirrors_hears_of_what_the_new_token_opens() {
    let (issuer, server) = start(&["one"]).await;
    for name in ["one/a", "two/b"] {
        let map = server.node.open(name).await.unwrap();
        map.set("k", 1).unwrap();
    }
    let node = bearer(
        Peer::new(server.url())
            .token("one")
            .share(Pattern::new("**").unwrap()),
    )
    .await;
    let here = node.open("one/a").await.unwrap();
    until("the first", &here, |here| here.contains_key("k")).await;
    issuer.only(&["two"]);
    node.set_token(&server.url(), "two").unwrap();
    until("the second", &here, |_| {
        node.maps().contains(&"two/b".to_owned())
    })
    .await;
    server
        .node
        .open("two/later")
        .await
        .unwrap()
        .set("k", 1)
        .unwrap();
    until("one that comes later", &here, |_| {
        node.maps().contains(&"two/later".to_owned())
    })
    .await;
    assert!(here.status().refused[0].contains("not this map"));
}

#[tokio::test]
async fn tokens_that_cannot_be_meant_are_refused() {
    let long = "x".repeat(16 * 1024 + 1);
    let built = Node::builder().connect(Peer::new("ws://127.0.0.1:1").token(long.clone()));
    assert!(matches!(built.spawn().await, Err(Error::Token { .. })));
    let node = Node::builder().connect("ws://127.0.0.1:1");
    let node = node.spawn().await.unwrap();
    let set = |url: &str, token: &str| node.set_token(url, token);
    assert!(matches!(
        set("ws://127.0.0.1:2", "t"),
        Err(Error::UnknownServer { .. })
    ));
    assert!(matches!(
        set("ws://127.0.0.1:1", &long),
        Err(Error::Token { .. })
    ));
    set("ws://127.0.0.1:1", "t").unwrap();
}
