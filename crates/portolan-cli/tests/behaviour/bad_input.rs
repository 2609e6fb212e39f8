//! Peers and clients that misbehave: they get an error, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use serde_json::json;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::support::{DEADLINE, Server, wait_until};

fn connect(server: &Server, protocol: &str) -> Result<WebSocket<TcpStream>, tungstenite::Error> {
    let mut request = format!("ws://{}/v1/sync", server.address()).into_client_request()?;
    let protocol = protocol.parse().expect("a header");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("the stream blocks"),
    }
}

/// What the server says until it ends the connection.
fn until_closed(mut socket: WebSocket<TcpStream>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(frame)) => frames.push(frame.to_vec()),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the connection is not ended")
            }
            Err(_) => return frames,
        }
    }
}

#[test]
fn frames_that_are_none_end_the_connection_and_nothing_else() {
    let server = Server::in_memory();
    let other = Server::start(["--memory", "--connect", &server.url]);
    server.put("m", "k", &json!(1));
    wait_until("they are joined", || other.get("m", "k").is_some());
    let noise: Vec<u8> = (0..1000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let frames = [
        Message::binary(Vec::new()),
        Message::binary(vec![0]),
        Message::binary(vec![255; 100]),
        Message::binary(noise),
        Message::text("hello"),
        Message::binary(vec![0; 5 << 20]),
    ];
    for frame in frames {
        let length = frame.len();
        let mut socket = connect(&server, "portolan.v1").expect("a connection");
        // The server may end the connection before it has read all of a long one.
        let _ = socket.send(frame);
        let said = until_closed(socket);
        assert!(said.len() < 4, "{length}: {}", said.len());
        server.put("m", "k", &json!(length));
        wait_until("the others go on", || {
            other.get("m", "k") == Some(json!(length))
        });
    }
    assert_eq!(
        server.read("/v1/maps").json(),
        json!([{ "name": "m", "keys": 1 }])
    );
}

#[test]
fn another_subprotocol_is_refused() {
    let server = Server::in_memory();
    for protocol in ["portolan.v2", "graphql-ws"] {
        match connect(&server, protocol) {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status().as_u16(), 400),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let server = Server::in_memory();
    server.put("m", "k", &json!(0));
    let stuck: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let head = "GET /v1/maps/m/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let reading = server.events("m", "", None);
    reading.expect("snapshot");
    let text = "x".repeat(500_000);
    for i in 0..40 {
        server.put("m", "k", &json!([i, text]));
        assert_eq!(
            reading.expect("change").data["changes"][0]["new"][0],
            json!(i)
        );
    }
    drop(stuck);
}

#[test]
fn a_client_that_sends_for_ever_is_slowed_and_holds_nobody_up() {
    const RATE: f64 = 500.0;
    let server = Server::start(["--memory", "--sync-rate", &RATE.to_string()]);
    let other = Server::start(["--memory", "--connect", &server.url]);
    server.put("m", "k", &json!(0));
    wait_until("they are joined", || other.get("m", "k").is_some());
    let start = Instant::now();
    let mut ping = vec![240];
    ping.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&ping).to_le_bytes()[..4]);
    let mut socket = connect(&server, "portolan.v1").expect("a connection");
    // Ends with the server; nothing that it answers is read.
    let flood = thread::spawn(move || while socket.send(Message::binary(ping.clone())).is_ok() {});
    let received = || {
        let metrics = server.read("/metrics").body;
        let name = "portolan_sync_frames_total{direction=\"in\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |count| count.parse().expect("a number"))
    };
    wait_until("the flood has come", || received() > 2.0 * RATE);
    for i in 1..=50 {
        server.put("m", "k", &json!(i));
        wait_until("it is visible", || other.get("m", "k") == Some(json!(i)));
    }
    let taken: f64 = received();
    // The other server's frames are few: it gives an answer for each write.
    let allowed = (start.elapsed().as_secs_f64() + 2.0) * RATE + 200.0;
    assert!(taken <= allowed, "{taken} of {allowed}");
    assert!(!flood.is_finished(), "it is slowed, not cut off");
}

#[test]
#[cfg(target_os = "linux")]
fn pings_without_end_take_no_memory() {
    const PINGS: usize = 700_000;
    let server = Server::in_memory();
    let resident_kib = || -> usize {
        let status = format!("/proc/{}/status", server.pid());
        let status = std::fs::read_to_string(status).expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse().ok()).expect("a number")
    };
    let mut socket = connect(&server, "portolan.v1").expect("a connection");
    // 125 bytes, masked with zeros; the answers, as long, are not read.
    let ping = [&[0x89, 0xFD, 0, 0, 0, 0][..], &[7; 125]].concat();
    let pings = ping.repeat(1_000);
    let before = resident_kib();
    for _ in 0..PINGS / 1_000 {
        socket.get_mut().write_all(&pings).expect("they are read");
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < PINGS * ping.len() / 1024 / 2, "by {grown} KiB");
    assert_eq!(server.read("/healthz").status, 200);
}

#[test]
fn a_body_that_never_ends_is_refused() {
    let server = Server::in_memory();
    for path in ["/v1/maps/m/keys/k", "/v1/maps/m/keys/l"] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head =
            format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = format!("10000\r\n{}\r\n", "1".repeat(0x10000));
        // The server stops reading, and then says why.
        while stream.write_all(chunk.as_bytes()).is_ok() {}
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
            "{answer}"
        );
    }
    assert_eq!(server.read("/v1/maps").json(), json!([]));
}

#[test]
fn what_is_no_http_is_told_so() {
    let server = Server::in_memory();
    for noise in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(noise.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 5"),
            "{answer}"
        );
    }
    assert_eq!(server.read("/healthz").status, 200);
}

#[test]
fn a_request_names_one_host() {
    let server = Server::in_memory();
    for (head, status) in [
        ("HTTP/1.1\r\nhost: localhost", "200"),
        ("HTTP/1.0", "200"),
        ("HTTP/1.1", "400"),
        ("HTTP/1.1\r\nhost: localhost\r\nhost: elsewhere", "400"),
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET /healthz {head}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head:?}: {answer}");
    }
}
