//! `POST /v1/nodes/{node_id}/unpin`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::Node;
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{Empty, IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Lets a node take everybody's instances again.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/unpin", operation_id = "node_unpin", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader),
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn unpin(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let once = api.app.node_pin(id, None, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
