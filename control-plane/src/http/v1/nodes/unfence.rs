//! `POST /v1/nodes/{node_id}/unfence`

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

/// Lets a fenced node work again: its next heartbeat makes it available. What was moved away from it stays withdrawn.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/unfence", operation_id = "node_unfence", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader),
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn unfence(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let once = api.app.node_unfence(id, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
