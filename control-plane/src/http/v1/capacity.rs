//! `GET /v1/capacity`

use axum::Json;
use axum::extract::State;
use nemordp_api::{Capacity, CapacityList};
use nemordp_types::{PlanName, RegionName};
use utoipa::IntoParams;

use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Filter;

/// What to look for.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct CapacityQuery {
    /// Only this region.
    #[param(value_type = Option<String>)]
    region: Option<RegionName>,
    /// Only this plan.
    #[param(value_type = Option<String>)]
    plan: Option<PlanName>,
}

/// Tells how many more of each plan each region takes, one plan at a time: the plans share the room.
#[utoipa::path(
    get, path = "/v1/capacity", operation_id = "capacity_list", tag = "nodes", security(("api_key" = ["operate"])),
    params(CapacityQuery),
    responses((status = 200, description = "Regions and plans", body = CapacityList), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Filter(query): Filter<CapacityQuery>,
) -> Result<Json<CapacityList>, HttpError> {
    let found = api.app.capacity(query.region.as_ref(), query.plan.as_ref()).await?;
    let items = found.into_iter().map(|c| Capacity { region: c.region, plan: c.plan, more: c.more }).collect();
    Ok(Json(CapacityList { items }))
}
