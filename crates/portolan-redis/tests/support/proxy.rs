//! A line between a node and a server that can be disturbed.

use portolan_redis::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A line between a node and a server.
pub(crate) struct Proxy {
    port: u16,
    /// Of the lines that pass: held back, and which of them are dead or cut.
    rule: tokio::sync::watch::Sender<Rule>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Rule {
    held: bool,
    /// What a node says.
    mute: bool,
    /// Lines with a number below this are dead, or cut.
    dead_below: u64,
    cut_below: u64,
    lines: u64,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (rule, _) = tokio::sync::watch::channel(Rule::default());
        let rules = rule.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let mut number = 0;
                rules.send_modify(|rule| {
                    number = rule.lines;
                    rule.lines += 1;
                });
                let Ok(server) = tokio::net::TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let says = pass(from_client, to_server, (number, true), rules.subscribe());
                tokio::spawn(says);
                let hears = pass(from_server, to_client, (number, false), rules.subscribe());
                tokio::spawn(hears);
            }
        });
        Self { port, rule, task }
    }

    pub(crate) fn server(&self) -> Server {
        Server::single(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// What a node says does not pass while it is mute; it hears all.
    pub(crate) fn mute(&self, mute: bool) {
        self.rule.send_modify(|rule| rule.mute = mute);
    }

    /// Nothing passes while it holds.
    pub(crate) fn hold(&self, held: bool) {
        self.rule.send_modify(|rule| rule.held = held);
    }

    /// Nothing passes any more on the lines there are; new ones do pass.
    pub(crate) fn deaden(&self) {
        self.rule.send_modify(|rule| rule.dead_below = rule.lines);
    }

    /// Ends the lines there are.
    pub(crate) fn cut(&self) {
        self.rule.send_modify(|rule| rule.cut_below = rule.lines);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    (number, says): (u64, bool),
    mut rule: tokio::sync::watch::Receiver<Rule>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *rule.borrow_and_update();
        if number < now.cut_below {
            return;
        }
        if now.held || (says && now.mute) || number < now.dead_below {
            if rule.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            changed = rule.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer) => match read {
                Ok(1..) if to.write_all(&buffer[..read.unwrap()]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
