//! `POST /v1/orders/{order_id}/cancel`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::Order;
use nemordp_types::OrderId;

use crate::http::auth::{Caller, Orders};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{Empty, IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Calls an order off; what was built of it is removed. An active order is ended by deleting its instance.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/cancel", operation_id = "order_cancel", tag = "orders",
    security(("api_key" = ["orders"])),
    params(("order_id" = String, Path, description = "Id of the order"), IdempotencyHeader),
    responses((status = 202, description = "It is being undone", body = Order), ChangeErrors),
)]
pub(in crate::http) async fn cancel(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<OrderId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    let respond = |order: &nemordp_model::Order| stored(StatusCode::ACCEPTED, &view::order(order));
    let once = api.app.order_cancel(caller.tenants(), id, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
