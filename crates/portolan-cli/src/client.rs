//! The command line's side of HTTP.

use std::io::{self, BufRead as _, BufReader, Read};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::uri::{Authority, InvalidUri};
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use crate::arguments::{Place, Server};
use crate::failure::Failure;
use crate::tls;

/// How long to try to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take to begin: a write waits for the store.
const ANSWER: Duration = Duration::from_mins(1);
/// The same for a transaction of any size.
const LONG_ANSWER: Duration = Duration::from_mins(30);

/// From this size on the server is asked whether it takes a body, before it is sent.
const ASK_FROM: usize = 256 * 1024;

/// What stands in a path as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A connection to the server, made when it is needed.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// The part of a problem (RFC 9457) that is for people.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Result<Self, Failure> {
        let base = base_url(&server.url)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .user_agent(concat!("portolan/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &server.ca {
            let roots = tls::certificates(file).map_err(Failure::Usage)?;
            let roots = roots
                .iter()
                .map(|root| Certificate::from_der(root).to_owned());
            let roots = RootCerts::Specific(std::sync::Arc::new(roots.collect()));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let agent = Agent::new_with_config(config.build());
        Ok(Self {
            agent,
            base,
            token: server.token.clone(),
        })
    }

    /// The server's URL, for people.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, Failure> {
        self.send(Method::GET, path, headers, SendBody::none())
    }

    pub(crate) fn put(&self, path: &str, json: &str) -> Result<(), Failure> {
        let length = json.len().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("content-length", length.as_str()),
            ("expect", "100-continue"),
        ];
        // A small body is sent without asking first.
        let headers = &headers[..if json.len() < ASK_FROM { 2 } else { 3 }];
        let mut body = json.as_bytes();
        self.send(Method::PUT, path, headers, SendBody::from_reader(&mut body))
            .map(drop)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, &[], SendBody::none())
            .map(drop)
    }

    /// Sends a transaction as NDJSON. The server is asked first whether it takes one of this
    /// length, so that a refusal is heard before it is all sent.
    pub(crate) fn transact(
        &self,
        map: &str,
        length: usize,
        body: &mut dyn Read,
    ) -> Result<Response<Body>, Failure> {
        let length = length.to_string();
        let headers = [
            ("content-type", "application/x-ndjson"),
            ("content-length", length.as_str()),
            ("expect", "100-continue"),
        ];
        let path = format!("{}/transact", map_path(map));
        let mut body = body;
        self.send(
            Method::POST,
            &path,
            &headers,
            SendBody::from_reader(&mut body),
        )
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<Response<Body>, Failure> {
        let long = method == Method::POST;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body);
        let request = request.map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
        let answer = if long {
            let request = self.agent.configure_request(request);
            self.agent
                .run(request.timeout_recv_response(Some(LONG_ANSWER)).build())
        } else {
            self.agent.run(request)
        };
        let response = answer.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response))
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        let base = &self.base;
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::Unreachable(format!(
                    "no server answers at {base}: start one with `portolan serve`, or name \
                     another with --server"
                ))
            }
            ureq::Error::BadUri(what) => Failure::Usage(format!("{base} is no URL: {what}")),
            ureq::Error::HostNotFound => {
                Failure::Unreachable(format!("the host of {base} is not known: check --server"))
            }
            ureq::Error::Timeout(_) => {
                Failure::Unreachable(format!("the server at {base} does not answer in time"))
            }
            error => Failure::Unreachable(format!("cannot talk to the server at {base}: {error}")),
        }
    }
}

/// What the server said instead of doing it.
fn refusal(response: Response<Body>) -> Failure {
    const LONGEST: u64 = 64 * 1024;
    let status = response.status();
    let mut text = String::new();
    // Whatever arrives is better than nothing.
    let _ = response
        .into_body()
        .into_reader()
        .take(LONGEST)
        .read_to_string(&mut text);
    let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
    let said = match (problem.detail.is_empty(), problem.title.is_empty()) {
        (false, _) => problem.detail,
        (true, false) => problem.title,
        (true, true) => format!("the server answers {status}; is it a Portolan server?"),
    };
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Failure::NotFound(said),
        StatusCode::UNAUTHORIZED => Failure::Refused(format!("{said} (--token or PORTOLAN_TOKEN)")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Failure::Unavailable(said)
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Failure::Unreachable(said),
        _ => Failure::Refused(said),
    }
}

fn base_url(url: &str) -> Result<String, Failure> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let scheme = match scheme {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        other => {
            let message = format!("{url} is no URL of a server: {other} is not http or https");
            return Err(Failure::Usage(message));
        }
    };
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() {
        return Err(Failure::Usage(format!(
            "{url:?} names no server: write for example http://127.0.0.1:7117 (--server or \
             PORTOLAN_SERVER)"
        )));
    }
    let base = format!("{scheme}://{rest}");
    let odd = |reason: &dyn std::fmt::Display| {
        Failure::Usage(format!("{url:?} is no URL of a server: {reason}"))
    };
    let uri: Uri = base.parse().map_err(|error: InvalidUri| odd(&error))?;
    let authority = uri.authority().map_or("", Authority::as_str);
    // What stands there is a secret, perhaps.
    if authority.contains('@') {
        let message = "the URL of the server names a user: give a token by --token or \
                       PORTOLAN_TOKEN instead";
        return Err(Failure::Usage(message.to_owned()));
    }
    if authority != uri.host().unwrap_or_default() && uri.port_u16().is_none() {
        return Err(odd(&"a port is a number below 65536"));
    }
    if uri.query().is_some() {
        return Err(odd(&"it has a query"));
    }
    Ok(base)
}

/// The path of a map.
pub(crate) fn map_path(map: &str) -> String {
    format!("/v1/maps/{}", segment(map))
}

/// The path of a key.
pub(crate) fn key_path(place: &Place, all: bool) -> String {
    let query = match (all, place.typed) {
        (false, false) => "",
        (true, false) => "?all",
        (false, true) => "?typed",
        (true, true) => "?all&typed",
    };
    let keys: Vec<String> = place.keys().map(segment).collect();
    format!("{}/keys/{}{query}", map_path(&place.map), keys.join("/"))
}

/// A name as one segment of a path, or a value in a query.
pub(crate) fn segment(name: &str) -> String {
    match name {
        // Dots alone would be taken for a way up or nowhere.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        name => utf8_percent_encode(name, SEGMENT).to_string(),
    }
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) name: String,
    pub(crate) data: String,
    /// The id to resume after.
    pub(crate) id: Option<String>,
}

/// Reads server-sent events; an empty one is a sign of life.
pub(crate) struct ServerEvents<R>(BufReader<R>);

impl<R: Read> ServerEvents<R> {
    pub(crate) fn new(body: R) -> Self {
        Self(BufReader::new(body))
    }
}

impl<R: Read> Iterator for ServerEvents<R> {
    type Item = io::Result<ServerEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut event = ServerEvent::default();
        let mut line = String::new();
        loop {
            line.clear();
            match self.0.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                return Some(Ok(event));
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "id" => event.id = Some(value.to_owned()),
                "data" => event.data.push_str(value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_segments_of_a_path() {
        let place = Place {
            map: "fleet/a b".to_owned(),
            key: "ü?/..".to_owned(),
            deeper: vec!["3".to_owned()],
            typed: false,
        };
        assert_eq!(
            key_path(&place, true),
            "/v1/maps/fleet%2Fa%20b/keys/%C3%BC%3F%2F../3?all"
        );
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment(""), "");
    }

    #[test]
    fn a_server_may_be_named_in_several_ways() {
        for url in ["http://h:1", "h:1", "ws://h:1/", "http://h:1//"] {
            assert_eq!(base_url(url).expect(url), "http://h:1");
        }
        assert_eq!(base_url("wss://h").expect("a URL"), "https://h");
        assert!(base_url("ftp://h").is_err());
    }

    #[test]
    fn events_are_read_as_they_were_sent() {
        let text =
            "retry: 1\n\nevent: change\nid: x-1\ndata: {}\n\n: alive\n\nid: x-2\n\nevent: cut";
        let events: Vec<_> = ServerEvents::new(text.as_bytes())
            .map(Result::unwrap)
            .collect();
        assert_eq!(events.len(), 4);
        let (name, data) = ("change".to_owned(), "{}".to_owned());
        assert_eq!(
            events[1],
            ServerEvent {
                name,
                data,
                id: Some("x-1".to_owned())
            }
        );
        assert_eq!(events[3].id.as_deref(), Some("x-2"));
    }
}
