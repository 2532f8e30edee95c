//! What happens to every request: an id, a span, a deadline, a number, headers for browsers, and no panic to the outside.

use std::any::Any;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nemordp_api::REQUEST_ID as REQUEST_ID_HEADER;
use nemordp_trace::TraceParent;
use nemordp_types::id::uuid_v7;
use nemordp_types::{Failure, Reason};
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::Api;
use super::error::{HttpError, REQUEST_ID};

const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// What stands for the route of a request that has none.
const UNMATCHED: &str = "unmatched";
/// Routes that make no span.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", UNMATCHED];

/// The outermost layer.
pub(super) async fn around(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = uuid_v7(api.app.clock.as_ref(), api.app.entropy.as_ref()).to_string();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, %method, route, trace_id = Empty);
    let traced = traced(&request, &route, &id);
    if let Some(here) = nemordp_trace::context(&traced) {
        span.record("trace_id", here.trace_id());
    }
    let begun = Instant::now();
    let answered = REQUEST_ID.scope(id.clone(), next.run(request)).instrument(traced.clone()).instrument(span.clone());
    let mut response = answered.await;
    let took = begun.elapsed();
    let status = response.status().as_u16();
    api.telemetry.http(method.as_str(), &route, status, took);
    traced.record("http.response.status_code", i64::from(status));
    if response.status().is_server_error() {
        traced.record("otel.status_code", "ERROR");
    }
    span.in_scope(|| {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(status, milliseconds, "answered");
    });
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if api.app.public_url.scheme() == "https" {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// The request's span, beneath the one that its sender names. Of the request it says the method and the route's template,
/// nothing that anybody put into it. Questions whether we live make none, nor do paths that are not ours.
fn traced(request: &Request, route: &str, id: &str) -> Span {
    if UNTRACED.contains(&route) {
        return Span::none();
    }
    let method = request.method().as_str();
    let span = nemordp_trace::span!(
        parent: None,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        request_id = id,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty
    );
    nemordp_trace::follow(&span, sender(request));
    span
}

/// Where the sender's trace is; a header that is there twice, or cannot be read, says nothing.
fn sender(request: &Request) -> Option<TraceParent> {
    let mut values = request.headers().get_all(TraceParent::NAME).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.parse().ok()
}

/// Ends an ordinary request that takes too long. What it began in the store is whole or not there; its Idempotency-Key
/// finds out which.
pub(super) async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        HttpError(Failure::new(
            Reason::DeadlineExceeded,
            "this took too long: send it again with the same Idempotency-Key",
        ))
        .into_response()
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that the layer wants")]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    HttpError(Failure::internal(format!("panic: {text}"))).into_response()
}

pub(super) async fn no_such_path() -> HttpError {
    HttpError(Failure::new(Reason::NotFound, "there is nothing at this path: see /docs"))
}

pub(super) async fn wrong_method() -> Response {
    let failure = Failure::new(Reason::InvalidArgument, "this path does not take this method: see /docs");
    let mut response = HttpError(failure).into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
