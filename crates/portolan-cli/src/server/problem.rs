//! Errors over HTTP: problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portolan::Error;
use serde_json::json;

use crate::moment;

/// Why a request was not answered as asked. Nothing was changed, unless it says so.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request cannot be read",
            detail,
        )
    }

    pub(crate) fn unacceptable(detail: impl Into<String>) -> Self {
        let title = "The request breaks a limit or rule";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail)
    }

    pub(crate) fn no_token(detail: impl Into<String>) -> Self {
        let title = "A valid token is needed";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "token-needed", title, detail);
        let challenge = HeaderValue::from_static("Bearer realm=\"portolan\"");
        problem.headers.push((header::WWW_AUTHENTICATE, challenge));
        problem
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The token does not allow this",
            detail,
        )
    }

    pub(crate) fn origin(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "origin",
            "Web pages of this origin are not let in",
            detail,
        )
    }

    pub(crate) fn no_map(map: &str) -> Self {
        let detail = format!("no map {map:?} here: a map exists as long as it has a key");
        Self::new(
            StatusCode::NOT_FOUND,
            "no-map",
            "There is no such map",
            detail,
        )
    }

    pub(crate) fn no_key(map: &str, key: &str) -> Self {
        let detail = format!("no key {key} in the map {map:?}");
        Self::new(
            StatusCode::NOT_FOUND,
            "no-key",
            "There is no such key",
            detail,
        )
    }

    pub(crate) fn no_member(map: &str, replica: portolan::ReplicaId) -> Self {
        let detail = format!("no replica {replica} has been heard of in the map {map:?}");
        Self::new(
            StatusCode::NOT_FOUND,
            "no-member",
            "There is no such replica",
            detail,
        )
    }

    pub(crate) fn past_unknown(known_since: Option<portolan::Timestamp>) -> Self {
        let since = known_since.map_or_else(String::new, |since| {
            format!(": it is known from {} on", moment::text(since))
        });
        let detail = format!("what the map held then is not known here{since}");
        let title = "That part of the past is gone";
        Self::new(StatusCode::GONE, "past-unknown", title, detail)
    }

    pub(crate) fn no_route(path: &str) -> Self {
        let detail = format!("nothing at {path}: a `/` in a map or key is written %2F");
        Self::new(
            StatusCode::NOT_FOUND,
            "no-route",
            "There is no such address",
            detail,
        )
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let title = "The method does not fit the address";
        let detail = format!("the address takes {allow}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, detail);
        problem
            .headers
            .push((header::ALLOW, HeaderValue::from_static(allow)));
        problem
    }

    pub(crate) fn precondition(detail: impl Into<String>) -> Self {
        let title = "The key is not as the request expected";
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition",
            title,
            detail,
        )
    }

    pub(crate) fn keys_alike(text: &str) -> Self {
        let detail = format!(
            "two keys would both be written {text:?}: ask for NDJSON, which keeps keys typed \
             (Accept: application/x-ndjson)"
        );
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "keys-alike",
            "JSON cannot show these keys apart",
            detail,
        )
    }

    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        let title = "The body has another media type than the address takes";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            title,
            detail,
        )
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!(
            "the body has more than {limit} bytes: split it; the server's --max-body bounds transactions"
        );
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            detail,
        )
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "The body does not arrive",
            "nothing more of the body came in time: send it again",
        )
    }

    pub(crate) fn too_many_requests(seconds: u64) -> Self {
        let detail = format!("too many requests from this address: wait {seconds} s");
        let title = "The rate limit is reached";
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limit", title, detail);
        problem.headers.push((header::RETRY_AFTER, seconds.into()));
        problem
    }

    pub(crate) fn unpublished() -> Self {
        let detail = "it is written at this server, and reaches the others when the bus is there \
                      again: do not write it again, unless this server is lost before";
        let title = "The bus did not confirm the write in time";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unpublished",
            title,
            detail,
        )
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The server cannot do this now";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            title,
            detail,
        )
    }
}

/// What the node reports.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Operation(_) | Error::Conversion(_) => Self::unacceptable(detail),
            Error::PastUnknown { known_since } => Self::past_unknown(known_since),
            Error::MapName { .. } | Error::Pattern { .. } | Error::PastOrder => {
                Self::bad_request(detail)
            }
            Error::StoreFull { .. } => {
                let title = "The disk is full";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", title, detail)
            }
            _ => Self::unavailable(detail),
        }
    }
}

/// Why, beside the answer, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Reason(pub(crate) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:portolan:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Reason(self.detail));
        let headers = response.headers_mut();
        headers.extend(self.headers);
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        response
    }
}
