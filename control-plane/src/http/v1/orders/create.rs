//! `POST /v1/orders`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{NewOrder, Order};
use nemordp_store::Accepted;

use crate::http::auth::{Caller, Orders};
use crate::http::describe::OrderErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Places an order. 202 means that node, port and address are reserved and the desktop is being built: watch the
/// operation in `Location`. When nothing fits the answer is 409 and nothing was stored.
#[utoipa::path(
    post, path = "/v1/orders", operation_id = "order_create", tag = "orders", security(("api_key" = ["orders"])),
    params(IdempotencyHeader), request_body = NewOrder,
    responses(
        (status = 202, description = "Accepted", body = Order, headers(
            ("Location" = String, description = "The operation that fulfils it"),
            ("Idempotent-Replayed" = String, description = "`true` when this was answered before"),
        )),
        OrderErrors,
    ),
)]
pub(in crate::http) async fn create(
    State(api): State<Api>,
    caller: Caller<Orders>,
    intent: Intent<NewOrder>,
) -> Result<Response, HttpError> {
    let respond = |accepted: &Accepted| stored(StatusCode::ACCEPTED, &view::order(&accepted.order));
    let once = api.app.order_accept(caller.orderer(), intent.body.clone(), Some(intent.kept(respond))).await?;
    Ok(answer(&once, &respond))
}
