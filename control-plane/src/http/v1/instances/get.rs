//! `GET /v1/instances/{instance_id}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Instance;
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows an instance.
#[utoipa::path(
    get, path = "/v1/instances/{instance_id}", operation_id = "instance_get", tag = "instances",
    security(("api_key" = ["read"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 200, description = "The instance", body = Instance), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<InstanceId>,
) -> Result<Json<Instance>, HttpError> {
    let instance = api.app.instance(caller.tenants(), id).await?;
    Ok(Json(view::instance(&instance, caller.is_operator())))
}
