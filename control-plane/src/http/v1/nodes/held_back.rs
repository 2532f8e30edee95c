//! `POST /v1/nodes/{node_id}/held-back`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{HeldBack, Node};
use nemordp_types::NodeId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Holds back amounts of a node that new instances do not get, so that maintenance has room. It replaces what was held back
/// before; instances that lie there already stay.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/held-back", operation_id = "node_hold_back", tag = "nodes",
    security(("api_key" = ["operate"])),
    params(("node_id" = String, Path, description = "Id of the node"), IdempotencyHeader), request_body = HeldBack,
    responses((status = 200, description = "The node", body = Node), ChangeErrors),
)]
pub(in crate::http) async fn held_back(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(id): Named<NodeId>,
    intent: Intent<HeldBack>,
) -> Result<Response, HttpError> {
    let respond = |node: &nemordp_model::Node| stored(StatusCode::OK, &view::node(node));
    let HeldBack { vcpu, memory_mib, disk_gib } = intent.body;
    let amounts = nemordp_model::Amounts { vcpu, memory: memory_mib, disk: disk_gib.into() };
    let once = api.app.node_hold_back(id, amounts, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
