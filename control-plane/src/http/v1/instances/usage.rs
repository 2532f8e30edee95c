//! `GET /v1/instances/{instance_id}/usage`

use axum::Json;
use axum::extract::State;
use nemordp_api::InstanceUsage;
use nemordp_types::InstanceId;

use crate::http::Api;
use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;

/// What an instance has used so far, over all its starts and nodes, as far as its node has reported.
#[utoipa::path(
    get, path = "/v1/instances/{instance_id}/usage", operation_id = "instance_usage", tag = "instances",
    security(("api_key" = ["read"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 200, description = "What it used", body = InstanceUsage), ReadErrors),
)]
pub(in crate::http) async fn usage(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<InstanceId>,
) -> Result<Json<InstanceUsage>, HttpError> {
    let total = api.app.store.usage_total(caller.tenants(), id).await.map_err(nemordp_types::Failure::from)?;
    Ok(Json(InstanceUsage {
        received_bytes: total.received_bytes,
        sent_bytes: total.sent_bytes,
        running_seconds: total.running_ms / 1_000,
        until: total.until,
    }))
}
