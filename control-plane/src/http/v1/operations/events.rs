//! `GET /v1/operations/{operation_id}/events`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use nemordp_store::TenantScope;
use nemordp_types::{Failure, Reason, SagaId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::{HttpError, problem};
use crate::http::request::Named;
use crate::http::{Api, view};

/// Between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A stream ends after this long; whoever still watches connects again.
const STREAM_MAX: Duration = Duration::from_secs(3_600);

/// Streams an operation as server-sent events: `operation` with the whole of it as often as it changes, beginning with
/// what it is now, ending with its outcome; `problem` when it cannot be read any more.
#[utoipa::path(
    get, path = "/v1/operations/{operation_id}/events", operation_id = "operation_events", tag = "orders",
    security(("api_key" = ["read"])), params(("operation_id" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream"), ReadErrors),
)]
pub(in crate::http) async fn events(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<SagaId>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, HttpError> {
    let permit = Arc::clone(&api.streams).try_acquire_owned().map_err(|_| {
        Failure::new(Reason::RateLimited, "too many streams are open: ask GET /v1/operations/{id} instead")
    })?;
    // A stream that begins with an error is an ordinary answer.
    api.app.operation(caller.tenants(), id).await?;
    let watch = Watch {
        scope: caller.tenants(),
        id,
        sent: None,
        until: Instant::now() + STREAM_MAX,
        over: false,
        _permit: permit,
        api,
    };
    Ok(Sse::new(unfold(watch, next)).keep_alive(KeepAlive::default()))
}

struct Watch {
    api: Api,
    scope: TenantScope,
    id: SagaId,
    sent: Option<String>,
    until: Instant,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

async fn next(mut watch: Watch) -> Option<(Result<Event, Infallible>, Watch)> {
    while !watch.over && Instant::now() < watch.until && !watch.api.shutdown.is_cancelled() {
        let operation = match watch.api.app.operation(watch.scope, watch.id).await {
            Ok(saga) => view::operation(&saga),
            Err(failure) => {
                watch.over = true;
                let problem = serde_json::to_string(&problem(&failure, None)).unwrap_or_default();
                return Some((Ok(Event::default().event("problem").data(problem)), watch));
            }
        };
        let text = serde_json::to_string(&operation).unwrap_or_default();
        if watch.sent.as_ref() != Some(&text) {
            watch.over = operation.status.is_final();
            let event = Event::default().event("operation").data(&text);
            watch.sent = Some(text);
            return Some((Ok(event), watch));
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = watch.api.shutdown.cancelled() => {}
        }
    }
    None
}
