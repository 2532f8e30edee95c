//! `POST /v1/nodes/{node_id}/cordon`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::Node;
use nemordp_types::NodeId;
use nemordp_types::node::NodePolicy;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{Empty, IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Lets a node take no new instances; those it has stay.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/cordon", operation_id = "node_cordon", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader),
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn cordon(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let once = api.app.node_policy(id, NodePolicy::Cordoned, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
