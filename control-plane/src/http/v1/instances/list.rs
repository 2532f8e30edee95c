//! `GET /v1/instances`

use axum::Json;
use axum::extract::State;
use nemordp_api::InstancePage;
use nemordp_model::Lifecycle;
use nemordp_store::InstanceFilter;
use nemordp_types::NodeId;
use utoipa::IntoParams;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery, cursor};
use crate::http::{Api, view};

/// Which instances.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct InstanceQuery {
    /// Only those at this point of their life.
    #[param(value_type = Option<nemordp_api::InstanceLifecycle>)]
    lifecycle: Option<Lifecycle>,
    /// Only those on this node; for operators.
    #[param(value_type = Option<String>)]
    node_id: Option<NodeId>,
    /// Rows, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the instances, oldest first.
#[utoipa::path(
    get, path = "/v1/instances", operation_id = "instance_list", tag = "instances", security(("api_key" = ["read"])),
    params(InstanceQuery),
    responses((status = 200, description = "A page of instances", body = InstancePage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Read>,
    Filter(query): Filter<InstanceQuery>,
) -> Result<Json<InstancePage>, HttpError> {
    let filter = InstanceFilter { node_id: query.node_id, lifecycle: query.lifecycle };
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let paged = api.app.instances(caller.tenants(), filter, page).await?;
    let operator = caller.is_operator();
    let items = paged.items.iter().map(|instance| view::instance(instance, operator)).collect();
    Ok(Json(InstancePage { items, next_cursor: cursor(&paged) }))
}
