//! `POST /v1/instances/{instance_id}/suspension`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{NewSuspension, Suspension};
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Orders};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Has an instance suspended at a time. Its node is told ahead and does it even when the control plane cannot be reached
/// then. Replaces what was scheduled before.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/suspension", operation_id = "suspension_schedule", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    request_body = NewSuspension,
    responses((status = 200, description = "What is scheduled", body = Suspension), ChangeErrors),
)]
pub(in crate::http) async fn schedule(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<NewSuspension>,
) -> Result<Response, HttpError> {
    let respond = |suspension: &nemordp_model::Suspension| stored(StatusCode::OK, &view::suspension(suspension));
    let intention = intent.once(&respond);
    let once = api.app.suspension_schedule(caller.tenants(), id, intent.body.at, Some(&intention)).await?;
    Ok(answer(&once, &respond))
}
