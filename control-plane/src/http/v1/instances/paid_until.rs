//! `POST /v1/instances/{instance_id}/paid-until`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Instance, PaidUntil};
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Orders};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Notes until when an instance is paid for: a renewal. New orders are placed by it; nothing is switched off or deleted at
/// that time.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/paid-until", operation_id = "instance_paid_until", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), IdempotencyHeader),
    request_body = PaidUntil,
    responses((status = 200, description = "The instance", body = Instance), ChangeErrors),
)]
pub(in crate::http) async fn paid_until(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    intent: Intent<PaidUntil>,
) -> Result<Response, HttpError> {
    let operator = caller.is_operator();
    let respond = |instance: &nemordp_model::Instance| stored(StatusCode::OK, &view::instance(instance, operator));
    let intention = intent.once(&respond);
    let once = api.app.instance_paid_until(caller.tenants(), id, intent.body.paid_until, Some(&intention)).await?;
    Ok(answer(&once, &respond))
}
