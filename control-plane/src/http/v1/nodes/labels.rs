//! `POST /v1/nodes/{node_id}/labels`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{LabelNode, Node};
use nemordp_model::placement::labels as as_labels;
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Gives a node labels and takes some away. Orders of plans that ask for labels go to nodes that have them all; instances
/// that lie there already stay.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/labels", operation_id = "node_label", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader), request_body = LabelNode,
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn labels(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<LabelNode>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let LabelNode { add, remove } = intent.body.clone();
    let (add, remove) = (as_labels(add, "add")?, as_labels(remove, "remove")?);
    let once = api.app.node_label(id, &add, &remove, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
