//! `POST /v1/nodes/{node_id}/pin`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Node, PinNode};
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Keeps a node for one tenant: orders of all others are refused there (`pinned`). Instances that lie there already stay.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/pin", operation_id = "node_pin", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader), request_body = PinNode,
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn pin(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<PinNode>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let once = api.app.node_pin(id, Some(&intent.body.tenant), Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
