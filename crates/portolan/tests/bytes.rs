//! How many bytes really go over a WebSocket.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Server, converge, memory, soon};
use portolan::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What lies between a node and its server, and counts the bytes to the server and back.
struct Meter {
    address: SocketAddr,
    counts: Arc<[AtomicU64; 2]>,
}

impl Meter {
    async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
        let (counted, server) = (Arc::clone(&counts), server.address);
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(server).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            for (way, mut from, mut to) in [(0, from_near, to_far), (1, from_far, to_near)] {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        counted[way].fetch_add(read as u64, Ordering::SeqCst);
                        if to.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, counts }
    }

    async fn node(&self) -> Node {
        let builder = Node::builder().connect(format!("ws://{}", self.address));
        builder.spawn().await.unwrap()
    }

    fn read(&self) -> [u64; 2] {
        [0, 1].map(|way| self.counts[way].load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_write_of_one_key_takes_few_bytes_on_a_websocket() {
    const WRITES: u64 = 1_000;
    let server = Server::start(memory().await).await;
    let (here, there) = (Meter::before(&server).await, Meter::before(&server).await);
    let (writer, reader) = (here.node().await, there.node().await);
    let (writer, reader) = (
        writer.open("m").await.unwrap(),
        reader.open("m").await.unwrap(),
    );
    soon("ready", writer.ready()).await.unwrap();
    soon("ready", reader.ready()).await.unwrap();
    writer.set("key-000000", 0).unwrap();
    soon("flush", writer.flush_peers()).await.unwrap();
    converge(&writer, &reader).await;

    let before = [here.read(), there.read()];
    for i in 1..=WRITES {
        let key = format!("key-{:06}", i * 7_919 % 100_000);
        writer.set(key, (i * 6_271 % 1_000_000) as i64).unwrap();
    }
    soon("flush", writer.flush_peers()).await.unwrap();
    converge(&writer, &reader).await;
    let after = [here.read(), there.read()];
    let bytes =
        |end: usize, way: usize| (after[end][way] - before[end][way]) as f64 / WRITES as f64;
    let (sent, passed_on) = (bytes(0, 0), bytes(1, 1));
    println!("{sent} bytes an update to the server, {passed_on} bytes from it");
    // An update of 19 bytes, type and handle, and a header of 6 bytes (with a mask) or 2.
    assert!(sent <= 29.0 && passed_on <= 25.0, "{sent}, {passed_on}");
}
