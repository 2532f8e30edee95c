//! `GET /v1/audit`

use axum::Json;
use axum::extract::State;
use nemordp_api::AuditReport;
use nemordp_types::{Failure, Reason};

use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;

/// The last money-leak check of the replica that answers.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "audit_get", tag = "operator", security(("api_key" = ["operate"])),
    responses((status = 200, description = "What it saw", body = AuditReport), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    _caller: Caller<Operate>,
) -> Result<Json<AuditReport>, HttpError> {
    let last = api.app.work.last_audit();
    let none = || Failure::new(Reason::NotFound, "this replica has not audited yet: POST /v1/audit does it now");
    Ok(Json(last.ok_or_else(none)?))
}
