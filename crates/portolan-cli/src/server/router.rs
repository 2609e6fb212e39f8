//! The addresses, and what every request passes on its way.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};

use super::app::{App, PeerAddress};
use super::origin::Passed;
use super::problem::{Problem, Reason};
use super::{entries, events, health, history, members, meter, sync, transact};

const INSPECTOR: &str = include_str!("../../assets/inspector.html");
/// The inspector holds all that it needs; nothing else may be loaded into it, nor it into a frame.
const INSPECTOR_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let key = || {
        let routes = get(entries::read_key)
            .put(entries::write_key)
            .delete(entries::remove_key);
        or_problem(routes, "GET, HEAD, PUT, DELETE")
    };
    let only = |handler: MethodRouter<Arc<App>>| or_problem(handler, "GET, HEAD");
    Router::new()
        .route("/", only(get(inspector)))
        .route("/healthz", only(get(health::healthz)))
        .route("/readyz", only(get(health::readyz)))
        .route("/metrics", only(get(health::metrics)))
        .route("/v1/status", only(get(health::status)))
        .route("/v1/sync", only(get(sync::sync)))
        .route("/v1/maps", only(get(entries::list)))
        .route("/v1/maps/{map}", or_problem(get(entries::read_map).delete(entries::remove_map), "GET, HEAD, DELETE"))
        .route("/v1/maps/{map}/keys", only(get(entries::list_keys)))
        .route("/v1/maps/{map}/keys/{*path}", key())
        // The empty string is a key too.
        .route("/v1/maps/{map}/keys/", key())
        .route("/v1/maps/{map}/transact", or_problem(post(transact::transact), "POST"))
        .route("/v1/maps/{map}/events", only(get(events::events)))
        .route("/v1/maps/{map}/history", only(get(history::history)))
        .route("/v1/maps/{map}/members", only(get(members::list)))
        .route("/v1/maps/{map}/members/{replica}", or_problem(delete(members::forget), "DELETE"))
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

fn or_problem(routes: MethodRouter<Arc<App>>, allow: &'static str) -> MethodRouter<Arc<App>> {
    routes.fallback(move || async move { Problem::method(allow) })
}

/// `GET /`
async fn inspector() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, INSPECTOR_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (headers, Html(INSPECTOR)).into_response()
}

/// Rate and origin before a request is looked at; log and measures after.
async fn guard(
    State(app): State<Arc<App>>,
    Extension(PeerAddress(peer)): Extension<PeerAddress>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match admit(&app, peer, request) {
        Ok((Passed::Preflight(origin), _)) => {
            let headers = Passed::Preflight(origin).headers();
            (StatusCode::NO_CONTENT, headers).into_response()
        }
        Ok((passed, request)) => {
            let mut response = next.run(request).await;
            response.headers_mut().extend(passed.headers());
            response
        }
        Err(problem) => problem.into_response(),
    };
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let (status, took) = (response.status(), start.elapsed());
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    meter::request(method.as_str(), route, status.as_u16(), took);
    let micros = took.as_micros() as u64;
    if status.is_server_error() {
        let reason = response.extensions().get::<Reason>();
        let reason = reason.map_or("", |reason| &reason.0);
        let status = status.as_u16();
        tracing::warn!(%peer, %method, path, status, micros, reason, "request failed");
    } else {
        tracing::debug!(%peer, %method, path, status = status.as_u16(), micros, "request");
    }
    response
}

fn admit(
    app: &App,
    peer: std::net::SocketAddr,
    request: Request,
) -> Result<(Passed, Request), Problem> {
    app.rate
        .count(peer.ip(), Instant::now())
        .map_err(|wait| Problem::too_many_requests(wait.as_secs() + 1))?;
    let (parts, body) = request.into_parts();
    // Who stands in between may have gone by the other one (RFC 9112, 3.2).
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
        return Err(Problem::bad_request("a request has one Host header"));
    }
    let passed = app.origins.check(&parts, &app.auth)?;
    Ok((passed, Request::from_parts(parts, body)))
}
