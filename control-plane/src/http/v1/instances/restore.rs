//! `POST /v1/instances/{instance_id}/restore`

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

/// Takes back a deletion whose time of grace is not over.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/restore", operation_id = "instance_restore", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    responses((status = 202, description = "The operation", body = Operation), ChangeErrors),
)]
pub(in crate::http) async fn restore(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    change(&api, &caller, id, (SagaKind::Restore, Wish::Restore), &intent).await
}
