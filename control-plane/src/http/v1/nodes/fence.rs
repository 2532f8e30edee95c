//! `POST /v1/nodes/{node_id}/fence`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{FenceNode, Node};
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// States that a lost node is off, so that what it held may be built elsewhere. Refused while it sends heartbeats. When it
/// comes back it starts nothing, and gives up what was moved away, until it is unfenced.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/fence", operation_id = "node_fence", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader), request_body = FenceNode,
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn fence(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<FenceNode>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let once = api.app.node_fence(id, intent.body.confirmed_off, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
