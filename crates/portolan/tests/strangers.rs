//! Peers that do what they should not: one connection's fault never touches another's.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Server, client, converge, memory, soon, until};
use futures_util::{SinkExt as _, StreamExt as _};
use portolan::{Access, Authorize, Error, Node, Peer, Value};
use portolan_core::sync::{Frame, Replica};
use portolan_core::{Document, ReplicaId};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn raw(server: &Server) -> Socket {
    let uri = format!("{}/v1/sync", server.url()).parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("portolan.v1");
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// The frames that come until the server ends the connection.
async fn until_end(socket: &mut Socket) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(frame) = message {
            frames.push(frame);
        }
    }
    frames
}

fn last_error(frames: &[Bytes]) -> String {
    let errors = frames
        .iter()
        .filter_map(|frame| Frame::decode(frame.clone()).ok());
    let errors = errors.filter_map(|frame| Some(frame.error()?.message.clone()));
    errors.last().expect("an error frame")
}

/// Two honest clients that share a map while something happens.
async fn undisturbed(server: &Server, happening: impl Future<Output = ()>) {
    let (a, b) = (client(server).await, client(server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    soon("ready", a.ready()).await.unwrap();
    a.set("before", 1).unwrap();
    happening.await;
    a.set("after", 2).unwrap();
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    assert_eq!(a.len(), 2);
}

/// A hello as a correct client sends it, and what a correct client would send after it.
fn hello(document: &str, id: u64) -> Bytes {
    let mut replica = Replica::new(
        document,
        1,
        Document::new(ReplicaId::new(id)),
        false,
        portolan::Config::default(),
    );
    let session = replica.connect(0, Access::ALL, None);
    replica.poll_frame(session, 0).unwrap()
}

#[tokio::test]
async fn garbage_is_answered_with_the_rule_and_the_end() {
    let server = Server::start(memory().await).await;
    Box::pin(undisturbed(&server, async {
        let whole = hello("m", 99);
        let mut flipped = whole.to_vec();
        flipped[5] ^= 1;
        let garbage = [
            Bytes::new(),
            Bytes::from_static(b"garbage"),
            Bytes::from(vec![0xff; 1000]),
            Bytes::from(vec![0xf2; 1000]),
            whole.slice(..whole.len() - 1),
            Bytes::from(flipped),
        ];
        for bytes in garbage {
            let mut socket = raw(&server).await;
            socket.send(Message::Binary(bytes.clone())).await.unwrap();
            let frames = soon("the end", until_end(&mut socket)).await;
            let error = last_error(&frames);
            assert!(!error.is_empty(), "{bytes:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn rules_broken_again_and_again_end_a_connection() {
    let server = Server::start(memory().await).await;
    Box::pin(undisturbed(&server, async {
        let mut socket = raw(&server).await;
        let greeting = hello("m", 99);
        let flood = async {
            // Every second one is the second of its map.
            while socket.send(Message::Binary(greeting.clone())).await.is_ok() {}
        };
        soon("the end", flood).await;
    }))
    .await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_bounded_and_the_others_go_on() {
    let node = Node::builder().sync(portolan::Config {
        queue_bytes: 100_000,
        ..portolan::Config::default()
    });
    let server = Server::start(node.spawn().await.unwrap()).await;
    let mut deaf = raw(&server).await;
    deaf.send(Message::Binary(hello("m", 99))).await.unwrap();
    let map = server.node.open("m").await.unwrap();
    until("it is connected", &map, |map| {
        map.status().sessions.len() == 1
    })
    .await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    for i in 0..300i64 {
        // More than the system buffers on the way to it.
        a.set(i % 10, format!("{i}{}", "x".repeat(100_000)))
            .unwrap();
        if i % 20 == 0 {
            soon("flush", a.flush_peers()).await.unwrap();
        }
    }
    soon("flush", a.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    let sessions = map.status().sessions;
    let deaf_one = sessions
        .iter()
        .find(|s| s.peer == Some(ReplicaId::new(99)))
        .unwrap();
    assert!(deaf_one.queued_bytes < 2_000_000, "{deaf_one:?}");
    assert!(deaf_one.missing > 0, "{deaf_one:?}");
    drop(deaf);
    until("it is gone", &map, |map| map.status().sessions.len() == 2).await;
}

/// Writes and asks for signs of life as fast as the connection takes it, until it breaks.
async fn flood(socket: Socket, id: u64) {
    let (mut sink, mut stream) = socket.split();
    let document = Document::new(ReplicaId::new(id));
    let mut replica = Replica::new("m", 1, document, false, portolan::Config::default());
    let session = replica.connect(0, Access::ALL, None);
    let greeting = replica.poll_frame(session, 0).unwrap();
    sink.send(Message::Binary(greeting)).await.unwrap();
    let Some(Ok(Message::Binary(answer))) = stream.next().await else {
        panic!("an answer")
    };
    let answer = Frame::decode(answer).unwrap();
    replica.receive(session, 1, answer).unwrap();
    let mut ping = vec![240];
    ping.extend(xxhash_rust::xxh3::xxh3_64(&ping).to_le_bytes()[..4].to_vec());
    let ping = Bytes::from(ping);
    let reading = async { while stream.next().await.is_some() {} };
    let writing = async {
        for i in 0i64.. {
            let written = replica.transact(1, |tx| tx.set("flood", i));
            written.unwrap();
            while let Some(frame) = replica.poll_frame(session, 1) {
                sink.send(Message::Binary(frame)).await.unwrap();
            }
            sink.send(Message::Binary(ping.clone())).await.unwrap();
        }
    };
    tokio::join!(reading, writing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_for_ever_is_slowed_and_the_others_go_on() {
    const RATE: u32 = 500;
    let node = Node::builder().receive_rate(RATE).spawn().await.unwrap();
    let server = Server::start(node).await;
    let map = server.node.open("m").await.unwrap();
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    soon("ready", a.ready()).await.unwrap();
    soon("ready", b.ready()).await.unwrap();
    let start = Instant::now();
    let flooding = tokio::spawn(flood(raw(&server).await, 99));
    // More than the burst: the flood is up against the limit.
    until("the flood has come", &map, |map| {
        map.version().last_seq(ReplicaId::new(99)) > u64::from(RATE)
    })
    .await;
    for i in 0..100i64 {
        a.set("k", i).unwrap();
        until("it is visible", &b, |b| b.get("k") == Some(Value::from(i))).await;
    }
    let taken = map.version().last_seq(ReplicaId::new(99));
    // Each write comes with a ping.
    let allowed = (start.elapsed().as_secs_f64() + 2.0) * f64::from(RATE) / 2.0;
    assert!(taken as f64 <= allowed + 10.0, "{taken} of {allowed}");
    assert!(!flooding.is_finished(), "it is slowed, not cut off");
    flooding.abort();
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let node = Node::builder().keep_alive(Duration::from_millis(100));
    let server = Server::start(node.spawn().await.unwrap()).await;
    let mut mute = raw(&server).await;
    mute.send(Message::Binary(hello("m", 99))).await.unwrap();
    let map = server.node.open("m").await.unwrap();
    until("it is connected", &map, |map| {
        !map.status().sessions.is_empty()
    })
    .await;
    until("it is given up", &map, |map| {
        map.status().sessions.is_empty()
    })
    .await;

    // A server that answers the handshake and then says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let node = Node::builder()
        .connect(url)
        .keep_alive(Duration::from_millis(100));
    let node = node.max_back_off(Duration::from_millis(100));
    let _node = node.spawn().await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (stream, _) = soon("it connects again", listener.accept()).await.unwrap();
        #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
        let accepted = tokio_tungstenite::accept_hdr_async(
            stream,
            |_: &_, mut response: tokio_tungstenite::tungstenite::handshake::server::Response| {
                let name = "portolan.v1".parse().unwrap();
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", name);
                Ok(response)
            },
        );
        kept.push(accepted.await.unwrap());
    }
}

#[tokio::test]
async fn a_connection_that_lives_is_not_given_up() {
    let builder = || Node::builder().keep_alive(Duration::from_millis(50));
    let server = Server::start(builder().spawn().await.unwrap()).await;
    let node = builder().connect(server.url()).spawn().await.unwrap();
    let map = node.open("m").await.unwrap();
    soon("ready", map.ready()).await.unwrap();
    let session = map.status().sessions[0].id;
    let received = node.status().links[0].received_bytes;
    until("many answers", &map, |_| {
        node.status().links[0].received_bytes > received + 50
    })
    .await;
    assert_eq!(
        map.status().sessions[0].id,
        session,
        "the first session lasts"
    );
}

#[tokio::test]
async fn a_node_that_meets_itself_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let node = Node::builder()
        .store(directory.path())
        .spawn()
        .await
        .unwrap();
    node.close().await.unwrap();
    drop(node);
    let file = "portolan.redb";
    std::fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    let node = Node::builder()
        .store(directory.path())
        .spawn()
        .await
        .unwrap();
    let server = Server::start(node).await;
    let twin = Node::builder().store(copy.path()).connect(server.url());
    let twin = twin.spawn().await.unwrap();
    let map = twin.open("m").await.unwrap();
    let error = soon("an answer", map.ready()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    assert!(error.to_string().contains("replica id"), "{error}");
}

/// Lets in who says the word, for maps under `open/`, and only to read unless told otherwise.
struct Doorkeeper {
    writable: AtomicBool,
    closed: AtomicBool,
}

impl Authorize for Doorkeeper {
    fn authorize(&self, map: &str, asked: Access, word: Option<&[u8]>) -> Result<Access, String> {
        if word != Some(b"mellon") || self.closed.load(Ordering::SeqCst) {
            return Err("speak, friend".into());
        }
        if !map.starts_with("open/") {
            return Err("not this one".into());
        }
        let write = self.writable.load(Ordering::SeqCst);
        Ok(asked.and(Access { read: true, write }))
    }
}

#[tokio::test]
async fn access_is_what_the_authorizer_grants_while_it_grants_it() {
    let doorkeeper = Arc::new(Doorkeeper {
        writable: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    let node = memory().await;
    let map = node.open("open/m").await.unwrap();
    map.set("k", 1).unwrap();
    let server = Server::start_with(node, doorkeeper.clone(), "127.0.0.1:0").await;
    let stranger = client(&server).await;
    let refused = soon("refusal", stranger.open("open/m").await.unwrap().ready()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("speak, friend"));

    let friend = Node::builder().connect(Peer::new(server.url()).token("mellon"));
    let friend = friend.max_back_off(Duration::from_millis(100));
    let friend = friend.spawn().await.unwrap();
    for i in 0..20 {
        let closed = friend.open(&format!("closed/{i}")).await.unwrap();
        let refused = soon("refusal", closed.flush_peers()).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        let refused = closed.status().refused;
        assert!(refused[0].contains("not this one"), "{refused:?}");
    }
    let mine = friend.open("open/m").await.unwrap();
    soon("ready", mine.ready()).await.unwrap();
    assert_eq!(mine.get_as::<i64>("k").unwrap(), Some(1));
    mine.set("mine", 2).unwrap();
    map.set("theirs", 3).unwrap();
    until("it may read", &mine, |mine| mine.contains_key("theirs")).await;
    assert!(!map.contains_key("mine"), "it may not write");

    doorkeeper.writable.store(true, Ordering::SeqCst);
    server.node.reauthorize();
    until("it may write now", &map, |map| map.contains_key("mine")).await;

    doorkeeper.closed.store(true, Ordering::SeqCst);
    server.node.reauthorize();
    until("it may no more", &map, |map| {
        map.status().sessions.is_empty()
    })
    .await;
    until("and knows", &mine, |mine| !mine.status().refused.is_empty()).await;
    mine.set("later", 4).unwrap();
    let refused = soon("refusal", mine.flush_peers()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })));
    assert!(!map.contains_key("later"));
}

#[tokio::test]
async fn a_connection_carries_no_more_maps_than_allowed_and_others_take_the_rest() {
    let server = Server::start(memory().await).await;
    let node = client(&server).await;
    let mut maps = Vec::new();
    for i in 0..1_100 {
        maps.push(node.open(&format!("m{i}")).await.unwrap());
    }
    for map in &maps {
        soon("ready", map.ready()).await.unwrap();
    }
    let links = node.status().links;
    let counts: Vec<usize> = links.iter().map(|link| link.maps).collect();
    assert_eq!(counts, [1_024, 76]);
}

#[tokio::test]
async fn maps_that_were_only_looked_at_do_not_stay() {
    let server = Server::start(memory().await).await;
    let kept = server.node.open("kept").await.unwrap();
    let node = client(&server).await;
    for i in 0..50 {
        let map = node.open(&format!("m{i}")).await.unwrap();
        soon("ready", map.ready()).await.unwrap();
    }
    let written = node.open("written").await.unwrap();
    written.set("k", 1).unwrap();
    soon("flush", written.flush_peers()).await.unwrap();
    assert_eq!(server.node.maps().len(), 52);
    node.close().await.unwrap();
    until("they are forgotten", &kept, |_| {
        server.node.maps() == ["kept", "written"]
    })
    .await;
}
