//! `GET /v1/orders/{order_id}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Order;
use nemordp_types::OrderId;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows an order.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}", operation_id = "order_get", tag = "orders", security(("api_key" = ["read"])),
    params(("order_id" = String, Path, description = "Id of the order")),
    responses((status = 200, description = "The order", body = Order), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<OrderId>,
) -> Result<Json<Order>, HttpError> {
    Ok(Json(view::order(&api.app.order(caller.tenants(), id).await?)))
}
