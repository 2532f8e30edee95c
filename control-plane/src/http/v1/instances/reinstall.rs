//! `POST /v1/instances/{instance_id}/reinstall`

use axum::extract::State;
use axum::response::Response;
use nemordp_api::{Operation, ReinstallInstance};
use nemordp_types::InstanceId;

use super::change;
use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::ReinstallErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named};

/// Begins anew on a fresh disk, with the same identity, address and endpoint: everything on the disk is lost once the new
/// login was proven. Make a new credentials link afterwards.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/reinstall", operation_id = "instance_reinstall", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    request_body = ReinstallInstance,
    responses((status = 202, description = "The operation", body = Operation), ReinstallErrors),
)]
pub(in crate::http) async fn reinstall(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<ReinstallInstance>,
) -> Result<Response, HttpError> {
    let wanted = api.app.reinstall(intent.body.template.as_ref()).await?;
    change(&api, &caller, id, wanted, &intent).await
}
