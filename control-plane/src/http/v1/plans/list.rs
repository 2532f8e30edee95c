//! `GET /v1/plans`

use axum::Json;
use axum::extract::State;
use nemordp_api::PlanPage;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the plans, by name.
#[utoipa::path(
    get, path = "/v1/plans", operation_id = "plan_list", tag = "catalogue", security(("api_key" = ["read"])),
    params(PageQuery), responses((status = 200, description = "A page of plans", body = PlanPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Read>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<PlanPage>, HttpError> {
    Ok(Json(view::plans(&api.app.plans(query.page()?).await?)))
}
