//! `portolan serve`.

mod app;
mod auth;
mod entries;
mod event_log;
mod events;
mod health;
mod history;
mod listener;
mod members;
mod meter;
mod origin;
mod patient;
mod place;
mod problem;
mod rate;
mod router;
mod sync;
mod token_file;
mod transact;
mod watched_file;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portolan::{Node, Pattern, Peer};
use portolan_redis::{RedisBus, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::app::{App, BodyBudget, Turns};
use self::auth::Auth;
use self::event_log::EventLogs;
use self::listener::Listener;
use self::meter::Meter;
use self::origin::Origins;
use self::rate::RateLimit;
use self::token_file::TokenFile;
use crate::arguments::{LogFormat, Serve};
use crate::failure::Failure;
use crate::tls;

/// How often the auth file and the token file are looked at, expired tokens are looked for, and measures tidied.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// Runs a server until it is told to stop.
pub(crate) fn serve(arguments: &Serve) -> Result<(), Failure> {
    start_log(arguments.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start threads")?;
    runtime.block_on(run(arguments))
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            log.with_ansi(std::io::stderr().is_terminal()).init();
        }
    }
}

async fn run(arguments: &Serve) -> Result<(), Failure> {
    let auth = match &arguments.auth {
        Some(file) => Auth::from_file(file).map_err(|e| Failure::Usage(format!("{e:#}")))?,
        None => Auth::open(),
    };
    let local = arguments.listen.ip().is_loopback();
    if !local && auth.is_open() && !arguments.insecure {
        return Err(Failure::Usage(format!(
            "{} can be reached from other machines and nobody would be asked for a token: \
             give --auth FILE, or --insecure if that is meant",
            arguments.listen
        )));
    }
    // The socket first: who finds the address in use has not touched the store.
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificates), Some(key)) => {
            let config = listener::tls_config(certificates, key);
            Some(config.map_err(|error| Failure::Usage(format!("{error:#}")))?)
        }
        _ => None,
    };
    let descriptors = listener::raise_descriptor_limit();
    let listener = Listener::bind(arguments.listen, tls, descriptors).await;
    let listener = listener.map_err(|error| cannot_listen(arguments.listen, &error))?;
    let url = listener.url().context("cannot tell the address")?;
    let mut signals = Signals::new().context("cannot listen for signals")?;

    let token = token_file(arguments)?;
    let node = start_node(arguments, token.as_ref()).await?;
    let (stop, stopping) = watch::channel(false);
    let app = Arc::new(App {
        node: node.clone(),
        has_bus: !arguments.redis.is_empty(),
        origins: Origins::new(&arguments.allow_origin, local && auth.is_open()),
        auth,
        rate: RateLimit::new(arguments.rate_limit),
        logs: EventLogs::new(run_name()?),
        meter: Meter::install(descriptors)?,
        bodies: BodyBudget::new(arguments.max_body.saturating_mul(1024 * 1024)),
        turns: Turns::default(),
        expiry: sync::Expiry::default(),
        stopping: stopping.clone(),
    });
    announce(arguments, &url, descriptors);

    let mut listening = tokio::spawn(listener.serve(router::router(app.clone()), stopping.clone()));
    let keeping = tokio::spawn(keep_house(app.clone(), token, stopping));
    tokio::select! {
        signal = signals.stop() => tracing::info!(signal, "stopping"),
        ended = &mut listening => {
            let what = ended.err().map_or_else(String::new, |error| error.to_string());
            return Err(Failure::Refused(format!("the listener failed {what}")));
        }
    }
    stop.send_replace(true);
    // Answers under way are given, then the peers are told and the store is closed.
    let wind_up = async {
        let (_, _) = tokio::join!(listening, keeping);
        app.logs.close().await;
        node.close().await
    };
    tokio::select! {
        closed = wind_up => {
            closed.map_err(|error| Failure::Refused(error.to_string()))?;
            tracing::info!("stopped");
            Ok(())
        }
        signal = signals.stop() => {
            Err(Failure::Refused(format!("stopped at once by a second {signal}")))
        }
    }
}

fn token_file(arguments: &Serve) -> Result<Option<TokenFile>, Failure> {
    let Some(file) = &arguments.token_file else {
        return Ok(None);
    };
    let servers = arguments.connect.iter().map(|url| websocket_url(url));
    let opened = TokenFile::open(file, servers.collect());
    opened
        .map(Some)
        .map_err(|error| Failure::Usage(format!("{error:#}")))
}

async fn start_node(arguments: &Serve, file: Option<&TokenFile>) -> Result<Node, Failure> {
    let mut builder = Node::builder()
        .receive_rate(arguments.sync_rate)
        .history(arguments.history);
    if !arguments.memory {
        builder = builder.store(&arguments.store);
    }
    let usage = |error: portolan::Error| Failure::Usage(error.to_string());
    let shared: Vec<Pattern> = {
        let patterns = arguments.maps.iter().map(|text| Pattern::new(text));
        patterns.collect::<Result<_, _>>().map_err(usage)?
    };
    let shared = match &*shared {
        [] => Pattern::all(),
        patterns => Pattern::any(patterns).map_err(usage)?,
    };
    let roots = match &arguments.ca {
        Some(file) => Some(tls::client_config(file).map_err(Failure::Usage)?),
        None => None,
    };
    if let Some(server) = redis_server(arguments)? {
        builder = builder.bus(Arc::new(RedisBus::new(server)));
    }
    let token = file.map(TokenFile::token).or(arguments.token.clone());
    for url in &arguments.connect {
        let mut peer = Peer::new(websocket_url(url)).share(shared.clone());
        if let Some(token) = &token {
            peer = peer.token(token.clone());
        }
        if let Some(roots) = &roots {
            peer = peer.tls(roots.clone());
        }
        builder = builder.connect(peer);
    }
    builder.spawn().await.map_err(|error| match error {
        portolan::Error::Address { .. } | portolan::Error::Token { .. } => {
            Failure::Usage(error.to_string())
        }
        _ => Failure::Refused(error.to_string()),
    })
}

/// Where the bus is, if there is one.
fn redis_server(arguments: &Serve) -> Result<Option<Server>, Failure> {
    let urls: Vec<&str> = arguments.redis.iter().map(String::as_str).collect();
    let server = match (&*urls, &arguments.redis_sentinel) {
        ([], _) => return Ok(None),
        (urls, Some(master)) => Server::sentinel(urls, master, &arguments.redis_master),
        (urls, None) if arguments.redis_cluster => Server::cluster(urls),
        ([url], None) => Server::single(url),
        _ => {
            let what = "several --redis are for --redis-sentinel or --redis-cluster: give one";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    let mut server = server.map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(file) = &arguments.ca {
        let pem = std::fs::read(file)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
        server = server.with_root_certificate(pem);
    }
    Ok(Some(server))
}

/// People copy the address that they see in the browser.
fn websocket_url(url: &str) -> String {
    match url.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        _ => url.to_owned(),
    }
}

/// Tells this run of the server from all others.
fn run_name() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    let random = ring::rand::SystemRandom::new();
    let filled = ring::rand::SecureRandom::fill(&random, &mut bytes);
    filled.map_err(|_| Failure::Refused("the system gives no random numbers".to_owned()))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

fn announce(arguments: &Serve, url: &str, descriptors: u64) {
    let store = if arguments.memory {
        "in memory only".to_owned()
    } else {
        format!("store {}", arguments.store.display())
    };
    // Whoever started the server may not read what it says; that is no reason to stop.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "portolan listens on {url} ({store})");
    let _ = out.flush();
    tracing::info!(
        url,
        store,
        descriptors,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    if arguments.insecure && arguments.auth.is_none() {
        tracing::warn!("nobody is asked for a token: whoever reaches {url} can change every map");
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "the address is in use; stop the server that runs there, or choose another with --listen"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address; choose another with --listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "not permitted; choose a port above 1023 with --listen"
        }
        _ => return Failure::Refused(format!("cannot listen on {address}: {error}")),
    };
    Failure::Refused(format!("cannot listen on {address}: {advice}"))
}

/// What must be done now and then.
async fn keep_house(app: Arc<App>, token: Option<TokenFile>, mut stopping: watch::Receiver<bool>) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            () = next_signal(hangup.as_mut()) => true,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        if app.auth.file_changed() || asked {
            match app.auth.reload() {
                Ok(true) => {
                    tracing::info!("the auth file was read again");
                    app.node.reauthorize();
                }
                Ok(false) => {}
                Err(error) => tracing::error!(error = format!("{error:#}"), "the old rules stay"),
            }
        }
        if let Some(token) = &token {
            token.follow(&app.node, asked);
        }
        if app.expiry.is_due() {
            app.node.reauthorize();
        }
        app.logs.forget_idle(Instant::now());
        app.node.forget_unused();
        app.meter.upkeep();
    }
}

async fn next_signal(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The signals that stop a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            terminate,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
