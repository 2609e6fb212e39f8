//! Starting and stopping, and what keeps a server from starting.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::support::{Done, Server, folder, run, wait_until};

fn refused(arguments: &[&str], code: i32) -> String {
    run([&["serve", "--listen", "127.0.0.1:0"], arguments].concat()).fails(code)
}

#[test]
fn what_was_stored_is_there_after_a_stop() {
    for signal in ["TERM", "INT"] {
        let folder = folder();
        let mut server = Server::on(folder.path());
        server.put("m", "k", &json!(1));
        let events = server.events("m", "", None);
        events.expect("snapshot");
        server.signal(signal);
        // Streams end by themselves; nobody has to cut them.
        assert!(events.next().is_none());
        assert_eq!(server.wait(), 0, "{}", server.log());
        wait_until("it says so", || server.log().contains("stopped"));
        let report = run(["verify".as_ref(), folder.path().as_os_str()]).ok();
        assert!(
            report.contains("m: 1 keys") && report.contains("is sound"),
            "{report}"
        );
        let server = Server::on(folder.path());
        assert_eq!(server.get("m", "k"), Some(json!(1)));
    }
}

#[test]
fn an_address_is_numbers_or_localhost() {
    let server = Server::start_on("localhost:0", ["--memory"]);
    assert!(server.address().ip().is_loopback());
    for wrong in [
        "localhost",
        "127.0.0.1",
        "127.0.0.1:99999",
        "example.org:80",
    ] {
        let done = run(["serve", "--memory", "--listen", wrong]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains("127.0.0.1:7117"), "{done:?}");
    }
}

#[test]
fn a_request_under_way_is_answered_when_the_server_stops() {
    let mut server = Server::in_memory();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "PUT /v1/maps/m/keys/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).unwrap();
    assert!(told.starts_with(b"HTTP/1.1 100"));
    server.signal("TERM");
    wait_until("it stops listening", || {
        TcpStream::connect(server.address()).is_err()
    });
    stream.write_all(b"123").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.wait(), 0);
}

#[test]
fn an_address_in_use_is_told_and_the_store_left_alone() {
    let server = Server::in_memory();
    let folder = folder();
    let store = folder.path().join("store");
    let address = server.address().to_string();
    let store_text = store.display().to_string();
    let message = run(["serve", "--listen", &address, "--store", &store_text]).fails(4);
    assert!(
        message.contains(&address) && message.contains("--listen"),
        "{message}"
    );
    assert!(!store.exists());
}

#[test]
fn a_store_that_cannot_be_used_is_told() {
    let folder = folder();
    let store = folder.path().join("store");
    let text = store.display().to_string();
    let mut server = Server::on(&store);
    server.put("m", "k", &json!(1));
    let message = refused(&["--store", &text], 4);
    assert!(message.contains("in use"), "{message}");
    assert!(run(["verify", &text]).fails(4).contains("in use"));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);

    let file = store.join("portolan.redb");
    let sound = std::fs::read(&file).unwrap();
    {
        let database = redb::Database::open(&file).unwrap();
        let write = database.begin_write().unwrap();
        {
            let table = redb::TableDefinition::<&str, &[u8]>::new("portolan");
            let mut table = write.open_table(table).unwrap();
            let (name, mut header) = {
                let row = redb::ReadableTable::first(&table).unwrap().unwrap();
                (row.0.value().to_owned(), row.1.value().to_vec())
            };
            header[4..8].copy_from_slice(&99u32.to_le_bytes());
            table.insert(name.as_str(), header.as_slice()).unwrap();
        }
        write.commit().unwrap();
    }
    for message in [
        refused(&["--store", &text], 4),
        run(["verify", &text]).fails(4),
    ] {
        assert!(
            message.contains("99") && message.contains("upgrade"),
            "{message}"
        );
    }

    std::fs::write(&file, &sound[..sound.len() / 2]).unwrap();
    assert!(refused(&["--store", &text], 4).contains("damaged"));
    std::fs::write(&file, b"this is no store").unwrap();
    for message in [
        refused(&["--store", &text], 4),
        run(["verify", &text]).fails(4),
    ] {
        assert!(message.contains("damaged"), "{message}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"this is no store");

    std::fs::write(&file, &sound).unwrap();
    assert_eq!(Server::on(&store).get("m", "k"), Some(json!(1)));
    run(["verify", "/nowhere"]).fails(1);
}

#[test]
fn a_damaged_map_is_told_and_the_others_go_on() {
    let folder = folder();
    let store = folder.path().join("store");
    let mut server = Server::on(&store);
    server.put("broken", "k", &json!("a value that can be found"));
    server.put("whole", "k", &json!(1));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let file = store.join("portolan.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let text = b"a value that can be found";
    for at in 0..bytes.len() - text.len() {
        if bytes[at..].starts_with(text) {
            bytes[at] ^= 0x20;
        }
    }
    std::fs::write(&file, &bytes).unwrap();

    let server = Server::on(&store);
    assert_eq!(server.get("whole", "k"), Some(json!(1)));
    let message = server.run(["get", "broken", "k"]).fails(4);
    assert!(message.contains("damaged"), "{message}");
    server.run(["set", "broken", "k", "1"]).fails(4);
    wait_until("the log tells why", || {
        server.log().contains("map `broken`")
    });
    let listed = server.read("/v1/maps").json();
    assert_eq!(listed[1], json!({ "name": "whole", "keys": 1 }));
    assert_eq!(listed[0]["name"], json!("broken"));
    for text in [listed[0].to_string(), server.run(["status"]).ok()] {
        assert!(
            text.contains("broken") && text.contains("damaged"),
            "{text}"
        );
    }
    // A peer cannot put another in its place, and both sides say why.
    let url = server.url.replace("http", "ws");
    let peer = Server::start(["--memory", "--connect", &url]);
    wait_until("the peer has the other", || {
        peer.get("whole", "k").is_some()
    });
    peer.put("broken", "k", &json!(2));
    wait_until("the log tells of the peer", || {
        server.log().contains("not opened for a peer")
    });
    wait_until("the peer is told", || {
        let text = peer.run(["status"]).ok();
        text.contains("refused by a server") && text.contains("damaged")
    });
    server.run(["get", "broken", "k"]).fails(4);
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    // A file system of its own, small, that goes away with the process.
    let folder = folder();
    let mount = folder.path().display().to_string();
    let can_mount = format!("mount -t tmpfs -o size=1m tmpfs '{mount}'");
    let allowed = Command::new("unshare")
        .args(["-rm", "sh", "-c", &can_mount])
        .output();
    if !allowed.is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: this machine does not let its users mount a file system");
        return;
    }
    let script = format!(
        "mount -t tmpfs -o size=6m tmpfs '{mount}' && exec '{}' \"$@\"",
        env!("CARGO_BIN_EXE_portolan")
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, "sh"]);
    let server = Server::start_with(command, ["--store".to_owned(), format!("{mount}/store")]);
    let mut stored = Vec::new();
    let full = (0..200).find_map(|i| {
        let value = format!("{i}{}", "x".repeat(100_000));
        let path = format!("/v1/maps/m/keys/{i}");
        let answer = server.http("PUT", &path, &[], &json!(value).to_string());
        if answer.status == 201 {
            stored.push(i);
            return None;
        }
        Some(answer)
    });
    let full = full.expect("the disk fills");
    assert_eq!(full.problem(507), "disk-full");
    assert!(full.body.contains("free some room"), "{full:?}");
    assert_eq!(server.read("/readyz").status, 507);
    assert_eq!(server.read("/healthz").status, 200);
    assert!(
        server
            .run(["set", "m", "more", &"x".repeat(100_000)])
            .fails(4)
            .contains("full")
    );
    assert!(!stored.is_empty());
    // What is on the disk now, as after a crash; its file system is seen by the server alone.
    let disk = format!("/proc/{}/root{mount}/store/portolan.redb", server.pid());
    let copy = crate::support::folder();
    server.signal("STOP");
    std::fs::copy(disk, copy.path().join("portolan.redb")).expect("it can be read");
    server.signal("CONT");
    let again = Server::on(copy.path());
    for (i, server) in stored.iter().flat_map(|i| [(i, &server), (i, &again)]) {
        let value = server.get("m", &i.to_string()).expect("it was stored");
        assert!(value.as_str().unwrap().starts_with(&format!("{i}x")));
    }
}

#[test]
fn other_machines_are_let_in_only_on_purpose() {
    let anywhere = ["serve", "--listen", "0.0.0.0:0", "--memory"];
    let message = run(anywhere).fails(2);
    assert!(
        message.contains("--auth") && message.contains("--insecure"),
        "{message}"
    );
    let server = Server::start_on(
        "0.0.0.0:0",
        ["--memory".to_owned(), "--insecure".to_owned()],
    );
    crate::support::wait_until("a warning", || server.log().contains("nobody is asked"));
    let folder = folder();
    let file = crate::support::write_auth(folder.path(), "");
    Server::start_on(
        "0.0.0.0:0",
        [
            "--memory".to_owned(),
            "--auth".to_owned(),
            file.display().to_string(),
        ],
    );
}

#[test]
fn files_that_are_wrong_are_named() {
    let folder = folder();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let auth = write(
        "auth.toml",
        "[[keys]]\nalgorithm = \"HS256\"\nsecret = \"short\"\n",
    );
    assert!(refused(&["--memory", "--auth", &auth], 2).contains("32"));
    assert!(refused(&["--memory", "--auth", "/nowhere"], 2).contains("/nowhere"));
    let empty = write("empty.pem", "");
    refused(&["--memory", "--tls-cert", &empty, "--tls-key", &empty], 2);
    refused(&["--memory", "--connect", "nonsense://x"], 2);
    refused(
        &["--memory", "--connect", "ws://127.0.0.1:1", "--map", "[a"],
        2,
    );
}

#[test]
fn the_log_is_json_when_asked() {
    let mut server = Server::start(["--memory", "--log-format", "json"]);
    server.signal("TERM");
    server.wait();
    wait_until("it has logged", || server.log().contains("stopped"));
    for line in server.log().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            entry["timestamp"].is_string() && entry["level"] == json!("INFO"),
            "{line}"
        );
    }
}

#[test]
fn many_files_may_be_open() {
    let mut shell = Command::new("sh");
    let script = format!(
        "ulimit -S -n 200 && exec '{}' \"$@\"",
        env!("CARGO_BIN_EXE_portolan")
    );
    shell.args(["-c", &script, "sh"]);
    let server = Server::start_with(shell, ["--memory".to_owned()]);
    let connections: Vec<_> = (0..400)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    assert_eq!(server.read("/healthz").status, 200);
    drop(connections);
}

#[test]
fn tls_protects_commands_streams_and_servers() {
    let folder = folder();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let server = Server::start(["--memory", "--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://"));
    let run = |arguments: &[&str]| {
        let mut command = server.command(arguments);
        Done::of(command.env("PORTOLAN_CA", &cert).output().unwrap())
    };
    run(&["set", "m", "k", "1"]).ok();
    assert_eq!(run(&["get", "m", "k"]).ok(), "1\n");
    // Whoever does not know the certificate does not talk.
    server.run(["get", "m", "k"]).fails(3);

    let joined = Server::start(["--memory", "--connect", &server.url, "--ca", &cert]);
    wait_until("they are joined", || joined.get("m", "k") == Some(json!(1)));
    // Plain HTTP on the port for TLS harms nobody.
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = plain.read(&mut [0; 64]);
    assert_eq!(run(&["get", "m", "k"]).ok(), "1\n");
}
