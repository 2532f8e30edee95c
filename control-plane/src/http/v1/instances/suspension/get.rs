//! `GET /v1/instances/{instance_id}/suspension`

use axum::Json;
use axum::extract::State;
use nemordp_api::Suspension;
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows what is scheduled for an instance; 404 when nothing is.
#[utoipa::path(
    get, path = "/v1/instances/{instance_id}/suspension", operation_id = "suspension_get", tag = "instances",
    security(("api_key" = ["read"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 200, description = "What is scheduled", body = Suspension), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<InstanceId>,
) -> Result<Json<Suspension>, HttpError> {
    Ok(Json(view::suspension(&api.app.suspension(caller.tenants(), id).await?)))
}
