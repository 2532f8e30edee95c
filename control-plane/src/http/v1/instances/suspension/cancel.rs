//! `DELETE /v1/instances/{instance_id}/suspension`

use axum::extract::State;
use axum::http::StatusCode;
use nemordp_types::InstanceId;

use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;

/// Takes back what was scheduled for an instance; nothing when nothing was.
#[utoipa::path(
    delete, path = "/v1/instances/{instance_id}/suspension", operation_id = "suspension_cancel", tag = "instances",
    security(("api_key" = ["orders"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 204, description = "Nothing is scheduled any more"), ReadErrors),
)]
pub(in crate::http) async fn cancel(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
) -> Result<StatusCode, HttpError> {
    api.app.suspension_cancel(caller.tenants(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
