//! `POST /v1/instances/{instance_id}/reset`

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

/// Cuts the power and boots; what the guest has not written to its disk is lost.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/reset", operation_id = "instance_reset", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    responses((status = 202, description = "The operation", body = Operation), ChangeErrors),
)]
pub(in crate::http) async fn reset(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    change(&api, &caller, id, (SagaKind::Reset, Wish::PowerOn), &intent).await
}
