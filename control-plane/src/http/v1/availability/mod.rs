//! `GET /v1/availability`

use axum::Json;
use axum::extract::State;
use nemordp_api::{Availability, AvailabilityList};
use nemordp_types::{PlanName, RegionName, TemplateName};
use utoipa::IntoParams;

use crate::http::Api;
use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Filter;

/// What to look for.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AvailabilityQuery {
    /// Only this region.
    #[param(value_type = Option<String>)]
    region: Option<RegionName>,
    /// Only this plan.
    #[param(value_type = Option<String>)]
    plan: Option<PlanName>,
    /// With this template: a node that lacks it needs room for its file too.
    #[param(value_type = Option<String>)]
    template: Option<TemplateName>,
}

/// Tells what can be had where, now: by region and plan, whether an order of the key's tenant would find room, and how
/// many more. Only an order reserves.
#[utoipa::path(
    get, path = "/v1/availability", operation_id = "availability_list", tag = "catalogue",
    security(("api_key" = ["read"])), params(AvailabilityQuery),
    responses((status = 200, description = "Regions and plans", body = AvailabilityList), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Read>,
    Filter(query): Filter<AvailabilityQuery>,
) -> Result<Json<AvailabilityList>, HttpError> {
    let (region, plan, template) = (query.region.as_ref(), query.plan.as_ref(), query.template.as_ref());
    let found = api.app.availability(caller.orderer(), region, plan, template).await?;
    let items = found
        .into_iter()
        .map(|room| Availability { region: room.region, plan: room.plan, available: room.more > 0, more: room.more })
        .collect();
    Ok(Json(AvailabilityList { items }))
}
