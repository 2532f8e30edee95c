//! `POST /v1/instances/{instance_id}/adopt`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Instance, NewAdoption};
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Settles an instance that was frozen after a restore: its node's numbers are taken, and work on it goes on.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/adopt", operation_id = "instance_adopt", tag = "instances",
    security(("api_key" = ["operate"])), request_body = NewAdoption,
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    responses((status = 200, description = "The instance", body = Instance), ChangeErrors),
)]
pub(in crate::http) async fn adopt(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<InstanceId>,
    intent: Intent<NewAdoption>,
) -> Result<Response, HttpError> {
    let respond = |instance: &nemordp_model::Instance| stored(StatusCode::OK, &view::instance(instance, true));
    let how = view::adoption_of(intent.body.how);
    let once = api.app.instance_adopt(id, how, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
