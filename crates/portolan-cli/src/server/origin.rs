//! Which web pages are let in.
//!
//! A browser sends requests to any server for any page, and says in `Origin` whose page it was.
//! Only the server's own pages (the inspector) and those of allowed origins get through. A page
//! can also make its own host name resolve to this machine (DNS rebinding); so a server that
//! asks nobody for a token, and listens on this machine alone, answers only to names that
//! nobody else can hand out.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::auth::Auth;
use super::problem::Problem;

/// How long a browser may remember what a preflight request said, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, PUT, POST, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, accept, if-match, if-none-match, last-event-id",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static("etag, retry-after");

/// The rule for `Origin` and `Host`.
#[derive(Debug)]
pub(crate) struct Origins {
    allowed: Vec<String>,
    /// Nobody is asked for a token, and only this machine can connect.
    local: bool,
}

/// What to do about the origin of a request that may go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It is no web page of somewhere else.
    Plain,
    /// An allowed page asks what it may send: answer that.
    Preflight(HeaderValue),
    /// An allowed page: let it read the answer.
    Foreign(HeaderValue),
}

impl Origins {
    pub(crate) fn new(allowed: &[String], local: bool) -> Self {
        let allowed = allowed
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_owned());
        Self {
            allowed: allowed.collect(),
            local,
        }
    }

    /// Lets a request pass, or says why not.
    pub(crate) fn check(&self, request: &Parts, auth: &Auth) -> Result<Passed, Problem> {
        let host = request
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri.authority().map(Authority::as_str));
        if self.local && !host.is_none_or(|host| self.is_own_name(host)) {
            let host = host.unwrap_or_default();
            return Err(Problem::origin(format!(
                "the host {host:?} is not a name of this machine: use 127.0.0.1 or localhost, \
                 or start the server with --allow-origin http://{host}"
            )));
        }
        let Some(header) = request.headers.get(header::ORIGIN) else {
            return Ok(Passed::Plain);
        };
        let origin = header.to_str().unwrap_or_default();
        let own = origin.split_once("://").map(|(_, authority)| authority);
        if own.is_some() && own == host {
            return Ok(Passed::Plain);
        }
        if !self.allowed.iter().any(|allowed| allowed == origin) && !auth.allows_origin(origin) {
            return Err(Problem::origin(format!(
                "pages of {origin} are not let in: start the server with --allow-origin {origin}, \
                 or list it under `origins` in the auth file"
            )));
        }
        let asks = request
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method == Method::OPTIONS && asks {
            return Ok(Passed::Preflight(header.clone()));
        }
        Ok(Passed::Foreign(header.clone()))
    }

    fn is_own_name(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.allowed.iter().any(|origin| {
                origin
                    .split_once("://")
                    .is_some_and(|(_, authority)| authority == host)
            })
    }
}

impl Passed {
    /// What the answer must carry for the page to read it.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &HeaderValue| headers.insert(name, value.clone());
        match self {
            Passed::Plain => {}
            Passed::Preflight(origin) => {
                add(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                add(header::ACCESS_CONTROL_ALLOW_METHODS, &METHODS);
                add(header::ACCESS_CONTROL_ALLOW_HEADERS, &REQUEST_HEADERS);
                add(header::ACCESS_CONTROL_MAX_AGE, &PREFLIGHT_AGE);
            }
            Passed::Foreign(origin) => {
                add(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                add(header::ACCESS_CONTROL_EXPOSE_HEADERS, &RESPONSE_HEADERS);
            }
        }
        if !headers.is_empty() {
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn check(origins: &Origins, host: &str, origin: Option<&str>) -> Option<Passed> {
        let mut request = Request::builder().uri("/v1/maps").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        origins.check(&parts, &Auth::open()).ok()
    }

    #[test]
    fn foreign_pages_stay_out_unless_allowed() {
        let origins = Origins::new(&["https://app.example/".to_owned()], true);
        let here = "127.0.0.1:7117";
        assert_eq!(check(&origins, here, None), Some(Passed::Plain));
        assert_eq!(
            check(&origins, here, Some("http://127.0.0.1:7117")),
            Some(Passed::Plain)
        );
        let app = "https://app.example";
        let foreign = Passed::Foreign(HeaderValue::from_static(app));
        assert_eq!(check(&origins, here, Some(app)), Some(foreign));
        assert_eq!(check(&origins, here, Some("https://evil.example")), None);
        assert_eq!(check(&origins, here, Some("http://127.0.0.1:8000")), None);
        assert_eq!(check(&origins, here, Some("null")), None);
    }

    #[test]
    fn a_rebound_name_is_refused_where_no_token_is_needed() {
        let local = Origins::new(&[], true);
        let evil = Some("http://evil.example:7117");
        assert_eq!(check(&local, "evil.example:7117", None), None);
        assert_eq!(check(&local, "evil.example:7117", evil), None);
        for own in ["localhost:7117", "LOCALHOST", "[::1]:7117", "192.168.0.7"] {
            assert_eq!(check(&local, own, None), Some(Passed::Plain), "{own}");
        }
        let public = Origins::new(&[], false);
        assert_eq!(
            check(&public, "portolan.internal:7117", None),
            Some(Passed::Plain)
        );
    }
}
