//! `GET /v1/nodes`

use axum::Json;
use axum::extract::State;
use nemordp_api::NodePage;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the nodes, oldest first.
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "node_list", tag = "nodes", security(("api_key" = ["operate"])),
    params(PageQuery), responses((status = 200, description = "A page of nodes", body = NodePage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<NodePage>, HttpError> {
    Ok(Json(view::nodes(&api.app.nodes(query.page()?).await?)))
}
