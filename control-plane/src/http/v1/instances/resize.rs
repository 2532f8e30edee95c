//! `POST /v1/instances/{instance_id}/resize`

use axum::extract::State;
use axum::response::Response;
use nemordp_api::{Operation, ResizeInstance};
use nemordp_model::{SagaKind, Wish};
use nemordp_types::InstanceId;

use super::change;
use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::ResizeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named};

/// Gives an instance more processors, memory or disk on the node that it is on; it is shut down and booted for that. The
/// room is reserved at once, or the request is refused. Nothing ever shrinks.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/resize", operation_id = "instance_resize", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    request_body = ResizeInstance,
    responses((status = 202, description = "The operation", body = Operation), ResizeErrors),
)]
pub(in crate::http) async fn resize(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<ResizeInstance>,
) -> Result<Response, HttpError> {
    let ResizeInstance { vcpu, memory_mib, disk_gib } = intent.body;
    let wanted = (SagaKind::Resize, Wish::Resize { vcpu, memory: memory_mib, disk: disk_gib });
    change(&api, &caller, id, wanted, &intent).await
}
