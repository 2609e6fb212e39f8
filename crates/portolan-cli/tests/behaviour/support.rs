//! Servers, commands and streams for the tests. Everything that waits has a deadline.

mod proxy;
mod random;
mod redis;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

pub(crate) use self::proxy::Proxy;
pub(crate) use self::random::Random;
pub(crate) use self::redis::{Redis, free_port};

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at that nothing announces.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        thread::sleep(POLL);
    }
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// A folder that goes away with the test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    for name in [
        "PORTOLAN_SERVER",
        "PORTOLAN_TOKEN",
        "PORTOLAN_CA",
        "PORTOLAN_REDIS",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The message of a command that must fail so.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("portolan: "), "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "{self:?}");
        self.err
    }
}

/// Runs a command that needs no server.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Done {
    Done::of(
        binary()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("it runs"),
    )
}

/// Runs a command that reads `input`.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // It may end without having read all.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    Done::of(output)
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    arguments: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) fn start<S: Into<String>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::start_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_on<S: Into<String>>(
        listen: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self::spawn(binary(), listen, arguments)
    }

    /// Starts a server through a command that ends by becoming it.
    pub(crate) fn start_with<S: Into<String>>(
        command: Command,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self::spawn(command, "127.0.0.1:0", arguments)
    }

    /// Starts a server that keeps nothing.
    pub(crate) fn in_memory() -> Self {
        Self::start(["--memory"])
    }

    /// Starts a server on a store.
    pub(crate) fn on(store: &Path) -> Self {
        Self::start(["--store".to_owned(), store.display().to_string()])
    }

    fn spawn(mut command: Command, listen: &str, arguments: Vec<String>) -> Self {
        let mut child = command
            .args(["serve", "--listen", listen])
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server runs");
        let log = Arc::new(Mutex::new(String::new()));
        let errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let sink = log.clone();
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("the server speaks");
        let Some(url) = line.split_whitespace().find(|word| word.contains("://")) else {
            let _ = child.wait();
            panic!(
                "the server does not start: {}",
                log.lock().expect("not poisoned")
            );
        };
        Self {
            url: url.to_owned(),
            child,
            arguments,
            log,
        }
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let address = self.address().to_string();
        *self = Self::spawn(binary(), &address, self.arguments.clone());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let (_, address) = self.url.split_once("://").expect("a URL");
        address.parse().expect("an address")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end; the exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = wait_for("the server ends", || {
            self.child.try_wait().expect("it is ours")
        });
        status.code().unwrap_or(-1)
    }

    /// A command to this server.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = binary();
        command.args(arguments).env("PORTOLAN_SERVER", &self.url);
        command
    }

    /// Runs a command to this server.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Done {
        let mut command = self.command(arguments);
        Done::of(command.stdin(Stdio::null()).output().expect("it runs"))
    }

    /// One request.
    pub(crate) fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        http(&self.url, method, path, headers, body)
    }

    /// One request of the bearer of a token.
    pub(crate) fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.http(method, path, &[("authorization", &bearer)], body)
    }

    pub(crate) fn read(&self, path: &str) -> Answer {
        self.http("GET", path, &[], "")
    }

    /// The winner of a key; `None` where it is not there.
    pub(crate) fn get(&self, map: &str, key: &str) -> Option<Json> {
        let answer = self.read(&format!("/v1/maps/{map}/keys/{key}"));
        (answer.status == 200).then(|| answer.json())
    }

    /// All siblings of a key.
    pub(crate) fn siblings(&self, map: &str, key: &str) -> Vec<Json> {
        let answer = self.read(&format!("/v1/maps/{map}/keys/{key}?all"));
        if answer.status != 200 {
            return Vec::new();
        }
        serde_json::from_str(&answer.body).expect("a list")
    }

    pub(crate) fn put(&self, map: &str, key: &str, value: &Json) {
        let path = format!("/v1/maps/{map}/keys/{key}");
        let answer = self.http("PUT", &path, &[], &value.to_string());
        assert!(matches!(answer.status, 201 | 204), "{answer:?}");
    }

    /// Several operations as one.
    pub(crate) fn transact(&self, map: &str, operations: impl IntoIterator<Item = Json>) {
        let lines: Vec<_> = operations
            .into_iter()
            .map(|line| line.to_string())
            .collect();
        let path = format!("/v1/maps/{map}/transact");
        let headers = [("content-type", "application/x-ndjson")];
        let answer = self.http("POST", &path, &headers, &lines.join("\n"));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Follows a map's events.
    pub(crate) fn events(&self, map: &str, query: &str, last: Option<&str>) -> Events {
        let headers: Vec<_> = last.iter().map(|id| ("last-event-id", *id)).collect();
        Events::open(
            &self.url,
            &format!("/v1/maps/{map}/events{query}"),
            &headers,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.url, self.log());
        }
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("ASCII"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The kind of a problem, which must be well-formed.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], json!(status));
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        let kind = problem["type"].as_str().expect("a type");
        kind.strip_prefix("urn:portolan:")
            .expect("one of ours")
            .to_owned()
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false);
    Agent::new_with_config(config.timeout_recv_response(Some(DEADLINE)).build())
}

fn send(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response<Body>, ureq::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{base}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if matches!(method, "PUT" | "POST") {
        return agent().run(request.body(body.to_owned()).expect("a request"));
    }
    agent().run(request.body(()).expect("a request"))
}

pub(crate) fn try_http(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, ureq::Error> {
    let response = send(base, method, path, headers, body)?;
    let (head, mut body) = response.into_parts();
    let body = body.with_config().limit(1 << 30).read_to_string()?;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

pub(crate) fn http(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    try_http(base, method, path, headers, body).expect("an answer")
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Json,
}

/// A stream of server-sent events, read by a thread.
pub(crate) struct Events(Receiver<ServerEvent>);

impl Events {
    pub(crate) fn open(base: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let response = send(base, "GET", path, headers, "").expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (give, take) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(response.into_body().into_reader()).lines();
            let mut event = ServerEvent::default();
            for line in lines.map_while(Result::ok) {
                match line.split_once(": ") {
                    Some(("event", name)) => name.clone_into(&mut event.name),
                    Some(("id", id)) => event.id = Some(id.to_owned()),
                    Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                    _ => {}
                }
                if line.is_empty() {
                    let event = std::mem::take(&mut event);
                    if !event.name.is_empty() && give.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Self(take)
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) fn next(&self) -> Option<ServerEvent> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no event"),
        }
    }

    /// The next event, which must be of this name.
    #[track_caller]
    pub(crate) fn expect(&self, name: &str) -> ServerEvent {
        let event = self
            .next()
            .unwrap_or_else(|| panic!("the stream has ended before {name}"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

/// A command that goes on, whose lines are read by a thread.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    pub(crate) fn of(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (give, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line; `None` when the command has ended.
    pub(crate) fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line"),
        }
    }

    /// The next line if it is there.
    pub(crate) fn try_next(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        let line = self.next().expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Its end: the exit code, and what it complained about.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = wait_for("the command ends", || {
            self.child.try_wait().expect("it is ours")
        });
        let mut text = String::new();
        let mut errors = self.child.stderr.take().expect("it is piped");
        errors.read_to_string(&mut text).expect("UTF-8");
        (status.code().unwrap_or(-1), text)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The secret of the auth files in the tests.
pub(crate) const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// Writes an auth file with [`SECRET`] and these lines under `[access]`.
pub(crate) fn write_auth(folder: &Path, access: &str) -> PathBuf {
    let text = format!(
        "[[keys]]\nid = \"test\"\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n\n[access]\n{access}\n"
    );
    let file = folder.join("auth.toml");
    // In one step: a server that watches the file never sees half of it.
    let draft = folder.join("auth.toml.new");
    std::fs::write(&draft, text).expect("it can be written");
    std::fs::rename(&draft, &file).expect("it can be renamed");
    file
}

/// A token that is good for this many seconds.
pub(crate) fn token(id: &str, seconds: i64, maps: &Json) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let expires = i64::try_from(now).expect("a time") + seconds;
    let claims = json!({ "jti": id, "sub": id, "exp": expires, "maps": maps });
    let encode = |part: &Json| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!(
        "{}.{}",
        encode(&json!({ "alg": "HS256", "typ": "JWT" })),
        encode(&claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
}
