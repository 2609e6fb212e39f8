//! Servers beside each other on one Redis, and clients that come to any of them: over lines that
//! are cut or go dead, while servers are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portolan::{Error, Event, Key, Map, Node, Value};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::support::{
    DEADLINE, Lines, Proxy, Random, Redis, Server, folder, try_http, wait_for, wait_until,
};

const MAP: &str = "fleet";

/// A server that keeps nothing but what Redis has.
fn server_at(redis: &str) -> Server {
    Server::start(["--memory", "--redis", redis])
}

/// Writes keys of its own over HTTP, one after the other.
struct Writer {
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

#[derive(Default)]
struct Written {
    acknowledged: Vec<String>,
    /// Not acknowledged, and kept by a server that lives on.
    kept: Vec<String>,
}

impl Writer {
    fn at(url: &str, name: &'static str) -> Self {
        Self::between(url, name, Arc::default())
    }

    /// Waits before each write until nobody else has the lock.
    fn between(url: &str, name: &'static str, others: Arc<RwLock<()>>) -> Self {
        let (acknowledged, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (url, count, end) = (url.to_owned(), acknowledged.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut written = Written::default();
            let keys = (0..).take_while(|_| !end.load(Ordering::SeqCst));
            for key in keys.map(|n| format!("{name}-{n}")) {
                let _writing = others.read().expect("not poisoned");
                let path = format!("/v1/maps/{MAP}/keys/{key}");
                match try_http(&url, "PUT", &path, &[], "1") {
                    Ok(answer) if answer.status == 201 => {
                        count.fetch_add(1, Ordering::SeqCst);
                        written.acknowledged.push(key);
                    }
                    Ok(answer) if answer.problem(503) == "unpublished" => written.kept.push(key),
                    // Its server was killed, or another one may not begin yet.
                    Ok(_) | Err(_) => {}
                }
            }
            written
        });
        Self {
            acknowledged,
            stop,
            thread,
        }
    }

    /// Ends it.
    fn end(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a writer")
    }
}

/// Checks that keys are at servers.
fn are_at(keys: &[String], servers: &[&Server]) {
    for server in servers {
        let held = server.read(&format!("/v1/maps/{MAP}")).json();
        let missing: Vec<_> = keys.iter().filter(|key| held.get(key).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} at {}", server.url);
    }
}

/// Waits until each writer was told of some more writes.
fn go_on(writers: &[Writer]) {
    let count = |writer: &Writer| writer.acknowledged.load(Ordering::SeqCst);
    let enough: Vec<usize> = writers.iter().map(|writer| count(writer) + 30).collect();
    wait_until("writes are acknowledged", || {
        let mut counts = writers.iter().map(count).zip(&enough);
        counts.all(|(count, enough)| count >= *enough)
    });
}

/// How the map stands at a server, which opens it.
fn map_of(server: &Server) -> Json {
    server.read(&format!("/v1/maps/{MAP}/keys"));
    server.read("/v1/status").json()["maps"][0].clone()
}

/// Waits until servers hold the same, and all of it is on the bus.
fn converge(servers: &[&Server]) {
    wait_until("the servers hold the same", || {
        let maps: Vec<Json> = servers.iter().map(|server| map_of(server)).collect();
        let told = |map: &Json| (map["digest"].clone(), map["operations"].clone());
        maps.iter()
            .all(|map| told(map) == told(&maps[0]) && map["bus"]["unpublished"] == json!(0))
    });
}

fn says_failing(server: &Server, is_failing: bool) -> bool {
    let ready = server.read("/readyz");
    let metrics = server.read("/metrics").body;
    let failure = &server.read("/v1/status").json()["bus"]["failure"];
    let told = format!("portolan_bus_failing {}", u8::from(is_failing));
    let words = if is_failing {
        "ready, without the bus\n"
    } else {
        "ready\n"
    };
    ready.status == 200
        && ready.body == words
        && metrics.lines().any(|line| line == told)
        && failure.is_string() == is_failing
}

/// Writes at two servers while the line of one to Redis is disturbed.
fn writes_beside_a_line_that(breaks: fn(&Proxy), rounds: usize) {
    let redis = Redis::start();
    let line = Proxy::to(redis.address());
    let first = server_at(&format!("redis://{}", line.address));
    let second = server_at(&redis.url());
    first.put(MAP, "begin", &json!(1));
    converge(&[&first, &second]);
    let at_first = [Writer::at(&first.url, "a"), Writer::at(&first.url, "b")];
    let at_second = [Writer::at(&second.url, "c"), Writer::at(&second.url, "d")];
    for _ in 0..rounds {
        go_on(&at_first);
        go_on(&at_second);
        breaks(&line);
        wait_until("it is told", || says_failing(&first, true));
        go_on(&at_second);
        assert!(says_failing(&second, false), "the other does not notice");
        line.mend();
        go_on(&at_first);
        wait_until("all is well", || says_failing(&first, false));
    }
    let written = at_first.into_iter().chain(at_second).map(Writer::end);
    let written = written.flat_map(|written| [written.acknowledged, written.kept].concat());
    let written: Vec<String> = written.collect();
    converge(&[&first, &second]);
    // Who comes late has it all from Redis.
    are_at(&written, &[&first, &second, &server_at(&redis.url())]);
}

#[test]
fn nothing_is_lost_while_a_server_is_cut_off_from_redis() {
    writes_beside_a_line_that(Proxy::cut, 3);
}

#[test]
fn nothing_is_lost_while_the_line_of_a_server_to_redis_is_dead() {
    writes_beside_a_line_that(Proxy::deaden, 1);
}

#[test]
fn what_is_acknowledged_outlives_servers_and_what_redis_held() {
    let mut random = Random::of_this_run();
    let mut redis = Redis::start();
    let lines = [Proxy::to(redis.address()), Proxy::to(redis.address())];
    let url = |line: &Proxy| format!("redis://{}", line.address);
    // One keeps what it has, the other what it is told.
    let folder = folder();
    let store = folder.path().display().to_string();
    let mut servers = [
        server_at(&url(&lines[0])),
        Server::start(["--store", &store, "--redis", &url(&lines[1])]),
    ];
    servers[0].put(MAP, "begin", &json!(1));
    converge(&servers.each_ref());
    let balancer = Proxy::to(servers[0].address());
    // Nothing but servers and Redis holds what they write.
    let url = format!("http://{}", balancer.address);
    let rest = Arc::<RwLock<()>>::default();
    let writers = ["a", "b", "c"].map(|name| Writer::between(&url, name, rest.clone()));
    let steps = std::env::var("PORTOLAN_STEPS");
    let steps = steps.ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    for _ in 0..steps {
        go_on(&writers);
        let at = random.below(2) as usize;
        match random.below(5) {
            0 | 1 => {
                // The clients of the one that is killed go to the other.
                balancer.aim(servers[1 - at].address());
                servers[at].kill();
                servers[at].restart();
            }
            2 => {
                lines[at].cut();
                balancer.aim(servers[at].address());
                wait_until("it is told", || says_failing(&servers[at], true));
                lines[at].mend();
            }
            3 => drop(redis.ask(&["FLUSHALL"])),
            _ => {
                // It kept nothing.
                redis.stop();
                redis.start_again();
            }
        }
        // What one of Redis and the servers alone holds would be lost with it.
        let _quiet = rest.write().expect("not poisoned");
        wait_until("all is well", || {
            servers.iter().all(|server| says_failing(server, false))
        });
        converge(&servers.each_ref());
    }
    go_on(&writers);
    let written = writers.map(|writer| writer.end().acknowledged).concat();
    converge(&servers.each_ref());
    are_at(
        &written,
        &[&servers[0], &servers[1], &server_at(&redis.url())],
    );
}

/// A client that connects to one address, behind which servers come and go.
async fn client(address: &str) -> (Node, Map) {
    let node = Node::builder()
        .connect(address)
        .max_back_off(Duration::from_millis(100));
    let node = node.spawn().await.expect("a node");
    let map = node.open(MAP).await.expect("a map");
    let ready = tokio::time::timeout(DEADLINE, map.ready()).await;
    ready.expect("it is ready in time").expect("it is ready");
    (node, map)
}

#[test]
fn a_client_is_not_ready_before_its_server_has_read_the_map() {
    let redis = Redis::start();
    let first = server_at(&redis.url());
    first.put(MAP, "k", &json!(1));
    // They have never seen the bus, and no store tells them of anything.
    let line = Proxy::to(redis.address());
    line.cut();
    let url = format!("redis://{}", line.address);
    let folder = folder();
    let store = folder.path().display().to_string();
    let late = [
        server_at(&url),
        Server::start(["--store", &store, "--redis", &url]),
    ];
    let runtime = Runtime::new().expect("a runtime");
    let mut clients = Vec::new();
    for server in &late {
        let address = server.url.replace("http", "ws");
        for _ in 0..2 {
            clients.push(runtime.block_on(async {
                let node = Node::builder().connect(&address).spawn().await;
                let node = node.expect("a node");
                let map = node.open(MAP).await.expect("a map");
                (node, map)
            }));
        }
    }
    for (_, map) in &clients {
        wait_until("it is told what it waits for", || {
            matches!(map.unready(), Some(Error::Incomplete { .. }))
        });
    }
    // Meanwhile clients of one server reach each other.
    for (n, pair) in clients.chunks(2).enumerate() {
        let key = format!("from {n}");
        pair[0].1.set(key.as_str(), 1).expect("it is open");
        wait_until("the other has it", || {
            pair[1].1.get(&key) == Some(Value::from(1))
        });
        // Nor is what a client wrote all that there is.
        assert!(matches!(
            pair[1].1.unready(),
            Some(Error::Incomplete { .. })
        ));
        let path = format!("/v1/maps/{MAP}");
        assert_eq!(late[n].read(&path).problem(503), "unavailable");
    }
    line.mend();
    for (_, map) in &clients {
        let ready = async { tokio::time::timeout(DEADLINE, map.ready()).await };
        let ready = runtime.block_on(ready).expect("it is ready in time");
        ready.expect("it is ready");
        assert_eq!(map.get("k"), Some(Value::from(1)));
        assert!(map.unready().is_none());
    }
    for (_, map) in &clients {
        wait_until("all is everywhere", || map.len() == 3);
    }
}

#[test]
fn a_silent_redis_holds_up_a_connection_once_and_not_for_each_of_its_maps() {
    let redis = Redis::start();
    let line = Proxy::to(redis.address());
    let server = server_at(&format!("redis://{}", line.address));
    let runtime = Runtime::new().expect("a runtime");
    let address = server.url.replace("http", "ws");
    let (node, known) = runtime.block_on(client(&address));
    known.set("k", 1).expect("it is open");
    runtime.block_on(known.flush_peers()).expect("it is stored");
    // Nothing is answered from now on, nor refused.
    line.deaden();
    let opened: Vec<Map> = (0..30)
        .map(|n| runtime.block_on(node.open(&format!("new/{n}"))))
        .collect::<Result<_, _>>()
        .expect("they are open");
    wait_until("it is told that the server has read none of them", || {
        let mut causes = opened.iter().map(Map::unready);
        causes.all(|cause| matches!(cause, Some(Error::Incomplete { .. })))
    });
    line.mend();
    for map in &opened {
        let ready = async { tokio::time::timeout(DEADLINE, map.ready()).await };
        let ready = runtime.block_on(ready).expect("it is ready in time");
        ready.expect("it is ready");
    }
}

type Held = BTreeMap<Vec<Key>, Value>;

/// Keeps what a watcher is told, each of which must follow on what it was told before, until that
/// is what is expected in the end.
async fn follow(map: Map, mut expected: tokio::sync::watch::Receiver<Option<Held>>) {
    let mut watch = map.watch_from_snapshot("**").expect("a pattern");
    let Some(Event::Snapshot { entries, .. }) = watch.next().await else {
        panic!("the first event is what there is");
    };
    let entries = entries.into_iter().map(|entry| (entry.path, entry.value));
    let mut held: Held = entries.collect();
    while expected.borrow().as_ref() != Some(&held) {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = expected.changed() => continue,
        };
        let Some(Event::Changed(batch)) = event else {
            panic!("a watcher that keeps up is told changes, not {event:?}");
        };
        for change in &batch.changes {
            let before = match &change.new {
                Some(value) => held.insert(change.path.clone(), value.clone()),
                None => held.remove(&change.path),
            };
            assert_eq!(before, change.old, "a gap at {:?}", change.path);
            assert_ne!(change.old, change.new, "{:?} is told twice", change.path);
        }
    }
    assert_eq!(watch.try_next(), None);
}

#[test]
fn clients_of_servers_that_are_killed_move_to_others_and_nothing_is_lost_or_told_twice() {
    const CLIENTS: usize = 6;
    let mut random = Random::of_this_run();
    let mut redis = Redis::start();
    let (mut serving, mut other) = (server_at(&redis.url()), server_at(&redis.url()));
    let balancer = Proxy::to(serving.address());
    let address = format!("ws://{}", balancer.address);
    let acknowledged = Arc::<AtomicUsize>::default();
    let stop = Arc::<AtomicBool>::default();
    let (tell, expected) = tokio::sync::watch::channel(None);
    let runtime = Runtime::new().expect("a runtime");
    let (mut writing, mut watching) = (JoinSet::new(), JoinSet::new());
    for n in 0..CLIENTS {
        let (node, map) = runtime.block_on(client(&address));
        watching.spawn_on(follow(map.clone(), expected.clone()), runtime.handle());
        let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
        let write = async move {
            let mut count = 0i64;
            while !stop.load(Ordering::SeqCst) {
                // A key of its own each, and one that is written again and again.
                map.set(format!("{n}-{count}"), count).expect("it is open");
                map.set(format!("{n}"), count).expect("it is open");
                map.flush_peers().await.expect("nothing is refused");
                count += 1;
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            (node, n, count)
        };
        writing.spawn_on(write, runtime.handle());
    }
    let goes_on = || {
        let enough = acknowledged.load(Ordering::SeqCst) + 60;
        wait_until("writes are acknowledged", || {
            acknowledged.load(Ordering::SeqCst) >= enough
        });
    };
    for _ in 0..6 {
        goes_on();
        // In the midst of it.
        match random.below(4) {
            0 | 1 => {
                balancer.aim(other.address());
                serving.kill();
                std::mem::swap(&mut serving, &mut other);
                other.restart();
            }
            2 => drop(redis.ask(&["FLUSHALL"])),
            _ => {
                redis.stop();
                redis.start_again();
            }
        }
    }
    goes_on();
    stop.store(true, Ordering::SeqCst);
    let written = writing.join_all();
    let written = runtime.block_on(async { tokio::time::timeout(DEADLINE, written).await });
    let mut held = Held::new();
    for (_node, n, count) in &written.expect("all is acknowledged in time") {
        held.insert(vec![Key::from(n.to_string())], Value::from(count - 1));
        held.extend((0..*count).map(|i| (vec![Key::from(format!("{n}-{i}"))], Value::from(i))));
    }
    // All that was acknowledged is at every server, at one that comes late, and was told.
    for server in [&serving, &other, &server_at(&redis.url())] {
        wait_until("all is at the server", || {
            let map = server.read(&format!("/v1/maps/{MAP}")).json();
            map.as_object().is_some_and(|map| map.len() == held.len())
        });
    }
    tell.send_replace(Some(held));
    let told =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, watching.join_all()).await });
    told.expect("all are told of all in time");
}

#[test]
fn a_command_that_watches_moves_to_another_server_and_tells_each_change_once() {
    let redis = Redis::start();
    let (mut first, second) = (server_at(&redis.url()), server_at(&redis.url()));
    let balancer = Proxy::to(first.address());
    let mut watch = first.command(["watch", MAP, "--json"]);
    watch.env("PORTOLAN_SERVER", format!("http://{}", balancer.address));
    first.put(MAP, "before", &json!(1));
    let watching = Lines::of(&mut watch);
    let mut pings = 0;
    wait_for("it is told of a write", || {
        pings += 1;
        first.put(MAP, &format!("ping-{pings}"), &json!(1));
        watching.try_next()
    });
    let mut written = Vec::new();
    let mut put = |server: &Server, key: String| {
        server.put(MAP, &key, &json!(1));
        written.push(key);
    };
    (0..50).for_each(|n| put(&first, format!("first-{n}")));
    balancer.aim(second.address());
    first.kill();
    // The other server has not had the map so far.
    (0..50).for_each(|n| put(&second, format!("second-{n}")));
    let mut told = BTreeSet::new();
    while !written.iter().all(|key| told.contains(key)) {
        let change = watching.json();
        let key = change["path"][0].as_str().expect("a key").to_owned();
        assert!(change.get("old").is_none(), "{change}");
        assert!(told.insert(key), "{change} is told twice");
    }
}

/// Who else is present, by what they say.
fn present(map: &Map) -> Vec<String> {
    let states = map.presences().into_iter().map(|(_, state)| state);
    let texts = states.map(|state| String::from_utf8_lossy(&state).into_owned());
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

#[test]
fn clients_of_all_servers_see_each_other_and_nothing_of_it_is_kept() {
    let redis = Redis::start();
    let (mut first, second) = (server_at(&redis.url()), server_at(&redis.url()));
    let balancer = Proxy::to(first.address());
    let runtime = Runtime::new().expect("a runtime");
    let come = |address: String, name: &'static str| {
        let (node, map) = runtime.block_on(client(&address));
        map.set_presence(Some(name.into())).expect("it is short");
        (node, map)
    };
    // Two come by the balancer, to the first server; one to the second.
    let address = format!("ws://{}", balancer.address);
    let (_a, ada) = come(address.clone(), "ada");
    let (bob, map_of_bob) = come(address, "bob");
    let (_c, cy) = come(second.url.replace("http", "ws"), "cy");
    let see = |map: &Map, names: &[&str]| {
        wait_until(&format!("{names:?} are seen"), || present(map) == names);
    };
    see(&ada, &["bob", "cy"]);
    see(&map_of_bob, &["ada", "cy"]);
    see(&cy, &["ada", "bob"]);
    // Who moves to another server is present there.
    balancer.aim(second.address());
    first.kill();
    see(&ada, &["bob", "cy"]);
    see(&cy, &["ada", "bob"]);
    // What changes there, and who leaves, is seen at once by clients of a server that comes.
    first.restart();
    let (_d, dan) = come(first.url.replace("http", "ws"), "dan");
    see(&dan, &["ada", "bob", "cy"]);
    ada.set_presence(Some("ada writes".into()))
        .expect("it is short");
    see(&dan, &["ada writes", "bob", "cy"]);
    runtime.block_on(bob.close()).expect("it closes");
    see(&dan, &["ada writes", "cy"]);
    see(&cy, &["ada writes", "dan"]);
    let keys = redis.ask(&["KEYS", "*"]);
    for key in keys.lines().filter(|key| key.contains("log")) {
        let log = redis.ask(&["XRANGE", key, "-", "+"]);
        assert!(!log.contains("writes"), "{log}");
    }
}

#[test]
fn redis_sees_as_many_connections_with_two_hundred_clients_as_with_one() {
    let redis = Redis::start();
    let servers = [server_at(&redis.url()), server_at(&redis.url())];
    let runtime = Runtime::new().expect("a runtime");
    let mut clients = Vec::new();
    let mut come = |count: usize| {
        let mut coming = JoinSet::new();
        for n in 0..count {
            let address = servers[n % 2].url.replace("http", "ws");
            let come = async move {
                let (node, map) = client(&address).await;
                if n % 19 == 0 {
                    map.set(format!("{n}"), 1).expect("it is open");
                    map.flush_peers().await.expect("nothing is refused");
                }
                node
            };
            coming.spawn_on(come, runtime.handle());
        }
        clients.extend(runtime.block_on(coming.join_all()));
    };
    let connections = || redis.ask(&["CLIENT", "LIST"]).lines().count();
    come(1);
    converge(&[&servers[0], &servers[1]]);
    let with_one = connections();
    assert_eq!(
        with_one,
        2 * 2 + 1,
        "two of each server, and the one that asks"
    );
    come(200);
    converge(&[&servers[0], &servers[1]]);
    assert_eq!(connections(), with_one);
    let subscribed = redis.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert_eq!(subscribed.lines().count(), 2, "one subscription a server");
    let served: usize = servers
        .iter()
        .map(|server| map_of(server)["peers"].as_u64().expect("a number") as usize)
        .sum();
    assert_eq!(served, 201);
}

#[test]
fn a_log_stays_bounded_over_twenty_thousand_writes_and_who_comes_late_has_all_of_them() {
    const WRITES: usize = 20_000;
    const KEYS: usize = 1_000;
    let redis = Redis::start();
    let servers = [server_at(&redis.url()), server_at(&redis.url())];
    let runtime = Runtime::new().expect("a runtime");
    let mut writing = JoinSet::new();
    for n in 0..4 {
        let address = servers[n % 2].url.replace("http", "ws");
        let write = async move {
            let (node, map) = client(&address).await;
            for i in 0..WRITES / 4 {
                let key = (i * 4 + n) % KEYS;
                map.set(format!("{key}"), format!("{i:0100}"))
                    .expect("it is open");
                if i % 4 == 3 {
                    map.flush_peers().await.expect("nothing is refused");
                }
            }
            node
        };
        writing.spawn_on(write, runtime.handle());
    }
    let log = format!("portolan:{{{MAP}}}:log");
    let (mut longest, mut largest) = (0, 0);
    let written = runtime.spawn(writing.join_all());
    while !written.is_finished() {
        longest = longest.max(redis.count(&["XLEN", &log]));
        let bytes = redis.ask(&["MEMORY", "USAGE", &log]);
        largest = largest.max(bytes.parse().unwrap_or(0u64));
    }
    let _nodes = runtime.block_on(written).expect("the writers end");
    converge(&[&servers[0], &servers[1]]);
    let last = redis.count(&["HGET", &format!("portolan:{{{MAP}}}:meta"), "last"]);
    println!("{last} entries, at most {longest} at a time, with {largest} bytes");
    assert!(last > 2_000, "{last} entries in all");
    assert!(longest < 2_500, "{longest} entries at a time");
    assert!(largest < 4 << 20, "{largest} bytes at a time");
    let first = redis.ask(&["XRANGE", &log, "-", "+", "COUNT", "1"]);
    let (first, _) = first.split_once("-0").expect("an id");
    assert!(
        first.parse::<u64>().expect("a number") > 1,
        "it was trimmed"
    );
    // So who comes now has it from the snapshot and the rest.
    let late = server_at(&redis.url());
    wait_until("it has the map", || late.get(MAP, "0").is_some());
    converge(&[&servers[0], &servers[1], &late]);
    assert_eq!(map_of(&late)["keys"], json!(KEYS));
}
