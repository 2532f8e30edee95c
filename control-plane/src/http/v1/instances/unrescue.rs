//! `POST /v1/instances/{instance_id}/unrescue`

use axum::extract::State;
use axum::response::Response;
use nemordp_api::Operation;
use nemordp_model::{SagaKind, Wish};
use nemordp_types::InstanceId;

use super::change;
use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{Empty, IdempotencyHeader, Intent, Named};

/// Boots from the instance's own disk again and removes the rescue system. The instance's own password holds again.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/unrescue", operation_id = "instance_unrescue", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    responses((status = 202, description = "The operation", body = Operation), ChangeErrors),
)]
pub(in crate::http) async fn unrescue(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    change(&api, &caller, id, (SagaKind::Unrescue, Wish::Unrescue), &intent).await
}
