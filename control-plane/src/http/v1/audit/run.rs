//! `POST /v1/audit`

use axum::Json;
use axum::extract::State;
use nemordp_api::AuditReport;

use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;

/// Runs the money-leak check now: orders, capacity, ports, addresses, credentials, events and what every node runs are
/// compared with one another. Changes nothing.
#[utoipa::path(
    post, path = "/v1/audit", operation_id = "audit_run", tag = "operator", security(("api_key" = ["operate"])),
    responses((status = 200, description = "What it saw", body = AuditReport), ReadErrors),
)]
pub(in crate::http) async fn run(
    State(api): State<Api>,
    _caller: Caller<Operate>,
) -> Result<Json<AuditReport>, HttpError> {
    Ok(Json(api.app.work.audit().await?))
}
