//! Nodes with a store: what they keep, and what they say when they cannot.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, client, converge, memory, soon, until};
use portolan::{Document, Error, Node, Value};

async fn stored(directory: &Path) -> Node {
    Node::builder().store(directory).spawn().await.unwrap()
}

#[tokio::test]
async fn a_node_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = stored(directory.path()).await;
    let id = node.replica();
    let map = node.open("fleet/config").await.unwrap();
    for i in 0..1000i64 {
        map.set(i % 100, i).unwrap();
    }
    map.set("bytes", &b"\x00\xff"[..]).unwrap();
    map.unset(7i64).unwrap();
    soon("flush", map.flush()).await.unwrap();
    let (digest, version) = (map.digest(), map.version());
    assert_eq!(map.status().unstored, 0);
    soon("close", node.close()).await.unwrap();

    let node = stored(directory.path()).await;
    assert_eq!(node.replica(), id);
    assert_eq!(node.maps(), ["fleet/config"]);
    assert!(node.get("other").await.unwrap().is_none());
    assert_eq!(node.maps(), ["fleet/config"], "asking makes no map");
    let map = node.get("fleet/config").await.unwrap().unwrap();
    assert_eq!((map.digest(), map.version()), (digest, version));
    assert_eq!(map.get_as::<i64>(99i64).unwrap(), Some(999));
    map.set("more", 1).unwrap();
    assert_eq!(map.read(Document::own_seq), 1003);
}

#[tokio::test]
async fn a_store_is_used_by_one_node() {
    let directory = tempfile::tempdir().unwrap();
    let node = stored(directory.path()).await;
    let second = Node::builder().store(directory.path()).spawn().await;
    let error = second.err().unwrap();
    assert!(matches!(error, Error::StoreInUse { .. }), "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains(directory.path().to_str().unwrap()),
        "{shown}"
    );
    drop(node);
    // Dropping the last handle has closed it.
    stored(directory.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn what_others_wrote_is_stored_and_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(stored(directory.path()).await).await;
    let node = client(&server).await;
    let map = node.open("m").await.unwrap();
    for i in 0..200i64 {
        map.set(i, i).unwrap();
    }
    soon("flush", map.flush_peers()).await.unwrap();
    // Acknowledged is stored: the server goes without another word.
    let node = server.stop().await;
    let commits = node.status().store.unwrap().commits;
    assert!(commits < 200, "{commits} commits for 200 writes");
    drop(node);
    until("the server is gone", &map, |map| {
        map.status().sessions.is_empty()
    })
    .await;
    let again = stored(directory.path()).await;
    let there = again.get("m").await.unwrap().unwrap();
    assert_eq!((there.digest(), there.len()), (map.digest(), 200));
}

#[tokio::test]
async fn a_restarted_client_goes_on_where_it_was() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(stored(there.path()).await).await;
    for round in 0..3i64 {
        let node = Node::builder().store(here.path()).connect(server.url());
        let node = node.spawn().await.unwrap();
        let map = node.open("m").await.unwrap();
        assert_eq!(map.len() as i64, round * 10);
        (0..10i64).for_each(|i| map.set(round * 10 + i, round).unwrap());
        soon("flush", map.flush_peers()).await.unwrap();
        soon("close", node.close()).await.unwrap();
    }
    let map = server.node.get("m").await.unwrap().unwrap();
    assert_eq!(
        (map.len(), map.version().ranges().len()),
        (30, 1),
        "one id, no gaps"
    );
}

#[tokio::test]
async fn a_store_from_an_old_backup_takes_a_new_id_and_loses_nothing() {
    let here = tempfile::tempdir().unwrap();
    let server = Server::start(memory().await).await;
    let spawn = || async {
        let node = Node::builder().store(here.path()).connect(server.url());
        let node = node.max_back_off(Duration::from_millis(100));
        node.spawn().await.unwrap()
    };
    let node = spawn().await;
    let map = node.open("m").await.unwrap();
    map.set("old", 1).unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    soon("close", node.close()).await.unwrap();
    let file = here.path().join("portolan.redb");
    let backup = std::fs::read(&file).unwrap();

    let node = spawn().await;
    let map = node.open("m").await.unwrap();
    map.set("lost", 2).unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    soon("close", node.close()).await.unwrap();
    std::fs::write(&file, backup).unwrap();

    let node = spawn().await;
    let map = node.open("m").await.unwrap();
    map.set("new", 3).unwrap();
    let there = server.node.get("m").await.unwrap().unwrap();
    until("both have everything", &map, |map| {
        map.len() == 3 && there.len() == 3
    })
    .await;
    converge(&map, &there).await;
    let id = map.read(Document::replica);
    assert_ne!(id, node.replica());
    soon("flush", map.flush()).await.unwrap();
    soon("close", node.close()).await.unwrap();
    let node = stored(here.path()).await;
    let map = node.open("m").await.unwrap();
    assert_eq!(map.read(Document::replica), id, "it keeps the new id");
    assert_eq!(map.len(), 3);
}

#[tokio::test]
async fn damage_is_told_and_the_file_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let node = stored(directory.path()).await;
    let map = node.open("m").await.unwrap();
    map.set("k", "a value that can be found").unwrap();
    soon("close", node.close()).await.unwrap();
    let file = directory.path().join("portolan.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let text = b"a value that can be found";
    let places = bytes.windows(text.len()).enumerate();
    let places: Vec<_> = places
        .filter(|(_, w)| w == text)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 0x20;
    }
    std::fs::write(&file, &bytes).unwrap();
    let node = stored(directory.path()).await;
    let error = node.open("m").await.unwrap_err();
    assert!(matches!(error, Error::StoreDamaged { .. }), "{error}");
    assert!(error.to_string().contains("map `m`"), "{error}");
    let other = node.open("other").await.unwrap();
    other.set("k", 1).unwrap();
    soon("flush", other.flush()).await.unwrap();
    drop((other, node));
    assert!(matches!(
        portolan::verify(directory.path()),
        Err(Error::StoreDamaged { .. })
    ));
}

/// Runs this very test in a process of its own, as the writer that is killed.
const WRITER: &str = "PORTOLAN_TEST_WRITER";

#[tokio::test]
async fn what_was_flushed_survives_kill_9() {
    if let Ok(directory) = std::env::var(WRITER) {
        return write_until_killed(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut flushed: BTreeMap<i64, i64> = BTreeMap::new();
    for round in 0..5usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_flushed_survives_kill_9", "--nocapture"])
            .env(WRITER, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed at a moment that has nothing to do with the line.
        let mut seen = 0;
        while seen < 3 + round * 7 {
            let line = lines.next().unwrap().unwrap();
            if let Some(numbers) = line.strip_prefix("flushed ") {
                let (key, value) = numbers.split_once(' ').unwrap();
                flushed.insert(key.parse().unwrap(), value.parse().unwrap());
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = lines.map_while(Result::ok);
        let rest = rest.filter_map(|line| Some(line.strip_prefix("flushed ")?.to_owned()));
        for line in rest {
            // The last line may be cut.
            if let Some((Ok(key), Ok(value))) = line
                .split_once(' ')
                .map(|(key, value)| (key.parse(), value.parse()))
            {
                flushed.insert(key, value);
            }
        }
        portolan::verify(directory.path()).unwrap();
        let node = stored(directory.path()).await;
        let map = node.open("m").await.unwrap();
        for (key, value) in &flushed {
            let found = map.get_as::<i64>(*key).unwrap().unwrap();
            assert!(found >= *value, "{key}: {found}, {value} was flushed");
        }
        node.close().await.unwrap();
    }
    assert!(flushed.len() > 10);
}

async fn write_until_killed(directory: &Path) {
    let node = stored(directory).await;
    let map = node.open("m").await.unwrap();
    let start = map.get_as::<i64>("next").unwrap().unwrap_or_default();
    for i in start.. {
        let text = "x".repeat((i % 3000) as usize);
        map.transact(|tx| {
            tx.set("next", i + 1)?;
            tx.set(i % 19, i)?;
            tx.set(format!("text {}", i % 50), text)?;
            Ok::<(), Error>(())
        })
        .unwrap();
        if i % 10 == 0 {
            map.flush().await.unwrap();
            println!("flushed {} {i}", i % 19);
        }
    }
}

/// A file system of a few megabytes; `None` where tests may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mount
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no right to mount; the same is tested on a disk in memory");
        return;
    };
    let path = disk.0.path();
    let ballast = path.join("ballast");
    let server = Server::start(stored(&path.join("store")).await).await;
    let map = server.node.open("m").await.unwrap();
    map.set("before", 1).unwrap();
    soon("flush", map.flush()).await.unwrap();
    let free = "x".repeat(4 << 20);
    assert!(std::fs::write(&ballast, free).is_err(), "that filled it");

    let far = client(&server).await;
    let far = far.open("m").await.unwrap();
    soon("ready", far.ready()).await.unwrap();
    for i in 0..20i64 {
        // The first are taken, before the disk is met.
        let _ = map.set(i, "x".repeat(100_000));
    }
    let failed = soon("the failure", map.flush()).await.unwrap_err();
    assert!(matches!(failed, Error::StoreFull { .. }), "{failed}");
    let refused = map.set("refused", 1).unwrap_err();
    assert!(matches!(refused, Error::StoreFull { .. }), "{refused}");
    assert_eq!(map.get("before"), Some(Value::Int(1)), "reads go on");
    assert!(
        !far.contains_key(19i64),
        "what is not stored is not published"
    );
    far.set("from afar", 1).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), far.flush_peers()).await;
    assert!(early.is_err(), "what is not stored is not acknowledged");

    std::fs::remove_file(&ballast).unwrap();
    soon("room", far.flush_peers()).await.unwrap();
    soon("room", map.flush()).await.unwrap();
    map.set("after", 1).unwrap();
    soon("all is there", map.flush()).await.unwrap();
    converge(&map, &far).await;
    let digest = map.digest();
    drop(map);
    let node = server.stop().await;
    soon("close", node.close()).await.unwrap();
    drop(node);
    let report = portolan::verify(path.join("store")).unwrap();
    assert_eq!(report.maps[0].digest, digest);
}

/// The database of a store as it was first written, as pieces: u32 length, and as many bytes; or
/// u32 0, u32 length and the one byte that is repeated so often. Integers are little-endian.
mod golden {
    use std::path::PathBuf;

    const PAGE: usize = 512;

    fn file() -> PathBuf {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-1.bin");
        PathBuf::from(file)
    }

    pub(super) fn read() -> Vec<u8> {
        let packed = std::fs::read(file()).unwrap();
        let (mut rest, mut whole) = (&packed[..], Vec::new());
        while !rest.is_empty() {
            let (length, after) = number(rest);
            if length == 0 {
                let (length, after) = number(after);
                whole.resize(whole.len() + length, after[0]);
                rest = &after[1..];
            } else {
                let (piece, after) = after.split_at(length);
                whole.extend_from_slice(piece);
                rest = after;
            }
        }
        whole
    }

    fn number(bytes: &[u8]) -> (usize, &[u8]) {
        let (number, rest) = bytes.split_first_chunk().unwrap();
        (u32::from_le_bytes(*number) as usize, rest)
    }

    pub(super) fn write(whole: &[u8]) {
        let repeated = |page: &[u8]| page.iter().all(|byte| *byte == page[0]).then_some(page[0]);
        let mut packed = Vec::new();
        let pages: Vec<&[u8]> = whole.chunks(PAGE).collect();
        for alike in pages.chunk_by(|a, b| repeated(a) == repeated(b)) {
            let bytes = alike.concat();
            let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            match repeated(&bytes) {
                Some(byte) => packed.extend([&[0; 4][..], &length, &[byte]].concat()),
                None => packed.extend([&length[..], &bytes].concat()),
            }
        }
        std::fs::write(file(), packed).unwrap();
    }
}

/// Fills a store with all that one has: maps with containers and siblings, whole states and logs
/// after them, members.
async fn fill(directory: &Path) {
    let server = Server::start(stored(directory).await).await;
    let peers = tempfile::tempdir().unwrap();
    let peer = Node::builder().store(peers.path()).connect(server.url());
    let peer = peer.spawn().await.unwrap();
    let there = peer.open("fleet/config").await.unwrap();
    let here = server.node.open("fleet/config").await.unwrap();
    soon("ready", there.ready()).await.unwrap();
    // Zeros, which take no room in the golden file. A log of more than a mebibyte is condensed.
    for _ in 0..2 {
        here.set("bulk", vec![0u8; 600_000]).unwrap();
        soon("flush", here.flush()).await.unwrap();
    }
    here.unset("bulk").unwrap();
    there
        .map("users")
        .map("ada")
        .array("inbox")
        .append("hello")
        .unwrap();
    there.or_set("tags").insert(1.5).unwrap();
    there.counter("hits").add(5).unwrap();
    there.set(7i64, true).unwrap();
    soon("flush", there.flush_peers()).await.unwrap();
    converge(&here, &there).await;
    until("the peer is a member", &here, |map| {
        !map.members().is_empty()
    })
    .await;
    here.set("rate", 10).unwrap();
    soon("flush", here.flush()).await.unwrap();
    let other = server.node.open("other").await.unwrap();
    other.set("k", "v").unwrap();
    soon("close", peer.close()).await.unwrap();
    let node = server.stop().await;
    soon("close", node.close()).await.unwrap();
}

#[tokio::test]
async fn a_store_of_yesterday_opens() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portolan.redb");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        fill(directory.path()).await;
        golden::write(&std::fs::read(&file).unwrap());
    }
    std::fs::write(&file, golden::read()).unwrap();

    for round in 1..3i64 {
        let node = stored(directory.path()).await;
        assert_eq!(node.maps(), ["fleet/config", "other"]);
        let map = node.get("fleet/config").await.unwrap().unwrap();
        assert_eq!(map.get("rate"), Some(Value::from(10)));
        assert_eq!(map.get(7i64), Some(Value::from(true)));
        assert_eq!(map.get("bulk"), None);
        let inbox = map.map("users").map("ada").array("inbox");
        assert_eq!(inbox.get(0), Some(Value::from("hello")));
        assert_eq!(map.or_set("tags").members(), [Value::from(1.5)]);
        assert_eq!(map.counter("hits").get(), 4 + round);
        assert_eq!(map.members().len(), 1);
        let other = node.get("other").await.unwrap().unwrap();
        assert_eq!(other.get("k"), Some(Value::from("v")));
        // And it is written to.
        map.counter("hits").add(1).unwrap();
        soon("flush", map.flush()).await.unwrap();
        soon("close", node.close()).await.unwrap();
    }
}
