//! A line between two programs: it can be cut, go dead without a word, or lead elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

/// Carries connections to a server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
}

struct Rule {
    target: SocketAddr,
    way: Way,
    lines: Vec<Weak<Line>>,
}

/// What becomes of connections.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Open,
    /// They end.
    Cut,
    /// They stay, and whatever is sent is swallowed.
    Dead,
}

/// Lives as long as one of its directions does.
struct Line {
    near: TcpStream,
    far: TcpStream,
    dead: AtomicBool,
}

impl Proxy {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let rule = Arc::new(Mutex::new(Rule {
            target,
            way: Way::Open,
            lines: Vec::new(),
        }));
        let proxy = Self {
            address,
            rule: rule.clone(),
        };
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut rule = rule.lock().expect("not poisoned");
                if rule.way == Way::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(rule.target) else {
                    continue;
                };
                let line = Arc::new(Line {
                    near,
                    far,
                    dead: AtomicBool::new(rule.way == Way::Dead),
                });
                rule.lines.retain(|line| line.strong_count() > 0);
                rule.lines.push(Arc::downgrade(&line));
                let other = line.clone();
                thread::spawn(move || carry(&line.near, &line.far, &line.dead));
                thread::spawn(move || carry(&other.far, &other.near, &other.dead));
            }
        });
        proxy
    }

    /// Ends all connections, and lets none through until [`mend`](Self::mend).
    pub(crate) fn cut(&self) {
        let mut rule = self.rule.lock().expect("not poisoned");
        rule.way = Way::Cut;
        for line in rule.lines.drain(..).filter_map(|line| line.upgrade()) {
            let _ = line.near.shutdown(Shutdown::Both);
            let _ = line.far.shutdown(Shutdown::Both);
        }
    }

    /// Nothing passes any more, and nobody is told. The connections that there are, and those that
    /// are made until [`mend`](Self::mend), are dead for good.
    pub(crate) fn deaden(&self) {
        let mut rule = self.rule.lock().expect("not poisoned");
        rule.way = Way::Dead;
        for line in rule.lines.iter().filter_map(Weak::upgrade) {
            line.dead.store(true, Ordering::SeqCst);
        }
    }

    /// New connections pass again.
    pub(crate) fn mend(&self) {
        self.rule.lock().expect("not poisoned").way = Way::Open;
    }

    /// New connections go to another server.
    pub(crate) fn aim(&self, target: SocketAddr) {
        self.rule.lock().expect("not poisoned").target = target;
    }
}

/// One direction of a line. A dead one swallows the end of the stream too.
fn carry(mut from: &TcpStream, mut to: &TcpStream, dead: &AtomicBool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !dead.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if !dead.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
    }
}
