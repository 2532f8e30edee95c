//! `DELETE /v1/instances/{instance_id}`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use nemordp_api::Operation;
use nemordp_model::SagaKind;
use nemordp_store::Once;
use nemordp_types::{Failure, InstanceId};

use crate::http::auth::{Caller, Orders};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Removes an instance with its disk; wins over everything that is under way. Needs no key: a second deletion finds the
/// first one's operation.
#[utoipa::path(
    delete, path = "/v1/instances/{instance_id}", operation_id = "instance_delete", tag = "instances",
    security(("api_key" = ["orders"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 202, description = "The operation", body = Operation), ReadErrors),
)]
pub(in crate::http) async fn delete(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
) -> Result<Response, HttpError> {
    let once = api.app.instance_change(caller.tenants(), id, SagaKind::Delete, None).await?;
    let Once::Done(changed) = once else {
        return Err(HttpError(Failure::internal("a replay without an intention")));
    };
    let mut response = (StatusCode::ACCEPTED, Json(view::operation(&changed.saga))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{}", changed.saga.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
