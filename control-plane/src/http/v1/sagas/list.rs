//! `GET /v1/sagas`

use axum::Json;
use axum::extract::State;
use nemordp_api::SagaPage;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Filter;
use crate::http::v1::operations::query::OperationQuery;
use crate::http::{Api, view};

/// Lists the sagas, oldest first, without their steps.
#[utoipa::path(
    get, path = "/v1/sagas", operation_id = "saga_list", tag = "operator", security(("api_key" = ["operate"])),
    params(OperationQuery),
    responses((status = 200, description = "A page of sagas", body = SagaPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Operate>,
    Filter(query): Filter<OperationQuery>,
) -> Result<Json<SagaPage>, HttpError> {
    let (filter, page) = query.parts()?;
    Ok(Json(view::sagas(&api.app.operations(caller.tenants(), filter, page).await?)))
}
