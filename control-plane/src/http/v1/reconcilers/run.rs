//! `POST /v1/reconcilers/{name}/run`

use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;

/// Wants a reconciler to run now, on whichever replica runs them; wanting it twice is wanting it once. Its next
/// `last_run_at` is the answer.
#[utoipa::path(
    post, path = "/v1/reconcilers/{name}/run", operation_id = "reconciler_run", tag = "operator",
    security(("api_key" = ["operate"])), params(("name" = String, Path, description = "Name of the reconciler")),
    responses((status = 202, description = "It runs soon"), ReadErrors),
)]
pub(in crate::http) async fn run(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Path(name): Path<String>,
) -> Result<StatusCode, HttpError> {
    api.app.work.reconciler_want(&name).await?;
    Ok(StatusCode::ACCEPTED)
}
