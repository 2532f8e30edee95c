//! `POST /v1/instances/{instance_id}/rename`

use axum::extract::State;
use axum::response::Response;
use nemordp_api::{Operation, RenameInstance};
use nemordp_model::{SagaKind, Wish};
use nemordp_types::InstanceId;

use super::change;
use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named};

/// Gives the guest another host name; one that is off takes it at its next start.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/rename", operation_id = "instance_rename", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    request_body = RenameInstance,
    responses((status = 202, description = "The operation", body = Operation), ChangeErrors),
)]
pub(in crate::http) async fn rename(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<RenameInstance>,
) -> Result<Response, HttpError> {
    change(&api, &caller, id, (SagaKind::Rename, Wish::Rename { host_name: intent.body.host_name.clone() }), &intent)
        .await
}
