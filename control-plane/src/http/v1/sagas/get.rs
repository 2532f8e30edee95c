//! `GET /v1/sagas/{saga_id}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Saga;
use nemordp_types::SagaId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows a saga with its steps, who works on it and until when.
#[utoipa::path(
    get, path = "/v1/sagas/{saga_id}", operation_id = "saga_get", tag = "operator", security(("api_key" = ["operate"])),
    params(("saga_id" = String, Path, description = "Id of the saga; the operation's")),
    responses((status = 200, description = "The saga", body = Saga), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Operate>,
    Named(id): Named<SagaId>,
) -> Result<Json<Saga>, HttpError> {
    Ok(Json(view::saga(&api.app.operation(caller.tenants(), id).await?)))
}
