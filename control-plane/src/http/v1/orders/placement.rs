//! `GET /v1/orders/{order_id}/placement`

use axum::Json;
use axum::extract::State;
use nemordp_api::OrderPlacement;
use nemordp_types::OrderId;

use crate::http::Api;
use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::view::placement;

/// Explains where an order went: the decision that was kept with it, and what the same request would be told now. Keys with
/// `operate` see each node with its score or its refusal; others the count of each refusal.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}/placement", operation_id = "order_placement", tag = "orders",
    security(("api_key" = ["read"])),
    params(("order_id" = String, Path, description = "Id of the order")),
    responses((status = 200, description = "The placement", body = OrderPlacement), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<OrderId>,
) -> Result<Json<OrderPlacement>, HttpError> {
    let found = api.app.order_placement(caller.tenants(), id).await?;
    Ok(Json(placement::order(&found, caller.is_operator())))
}
