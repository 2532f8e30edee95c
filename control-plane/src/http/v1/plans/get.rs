//! `GET /v1/plans/{plan}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Plan;
use nemordp_types::PlanName;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows a plan.
#[utoipa::path(
    get, path = "/v1/plans/{plan}", operation_id = "plan_get", tag = "catalogue", security(("api_key" = ["read"])),
    params(("plan" = String, Path, description = "Name of the plan")),
    responses((status = 200, description = "The plan", body = Plan), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    _caller: Caller<Read>,
    Named(name): Named<PlanName>,
) -> Result<Json<Plan>, HttpError> {
    Ok(Json(view::plan(&api.app.plan(&name).await?)))
}
