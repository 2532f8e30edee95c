//! `GET /v1/reserves`

use axum::Json;
use axum::extract::State;
use nemordp_api::ReserveList;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::{Api, view};

/// Lists what is held for scarce plans.
#[utoipa::path(
    get, path = "/v1/reserves", operation_id = "reserve_list", tag = "nodes", security(("api_key" = ["operate"])),
    responses((status = 200, description = "All reserves", body = ReserveList), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Operate>,
) -> Result<Json<ReserveList>, HttpError> {
    let items = api.app.reserves().await?.iter().map(view::reserve).collect();
    Ok(Json(ReserveList { items }))
}
