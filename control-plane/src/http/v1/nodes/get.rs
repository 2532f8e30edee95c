//! `GET /v1/nodes/{node_id}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Node;
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows a node.
#[utoipa::path(
    get, path = "/v1/nodes/{node_id}", operation_id = "node_get", tag = "nodes", security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node")),
    responses((status = 200, description = "The node", body = Node), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
) -> Result<Json<Node>, HttpError> {
    Ok(Json(view::node(&api.app.node(id).await?)))
}
