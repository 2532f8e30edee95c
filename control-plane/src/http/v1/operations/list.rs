//! `GET /v1/operations`

use axum::Json;
use axum::extract::State;
use nemordp_api::OperationPage;

use super::query::OperationQuery;
use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Filter;
use crate::http::{Api, view};

/// Lists the operations, oldest first.
#[utoipa::path(
    get, path = "/v1/operations", operation_id = "operation_list", tag = "orders", security(("api_key" = ["read"])),
    params(OperationQuery),
    responses((status = 200, description = "A page of operations", body = OperationPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Read>,
    Filter(query): Filter<OperationQuery>,
) -> Result<Json<OperationPage>, HttpError> {
    let (filter, page) = query.parts()?;
    Ok(Json(view::operations(&api.app.operations(caller.tenants(), filter, page).await?)))
}
