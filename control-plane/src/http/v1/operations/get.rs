//! `GET /v1/operations/{operation_id}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Operation;
use nemordp_types::SagaId;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows an operation with its steps.
#[utoipa::path(
    get, path = "/v1/operations/{operation_id}", operation_id = "operation_get", tag = "orders",
    security(("api_key" = ["read"])), params(("operation_id" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The operation", body = Operation), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<SagaId>,
) -> Result<Json<Operation>, HttpError> {
    Ok(Json(view::operation(&api.app.operation(caller.tenants(), id).await?)))
}
