//! `GET /v1/orders`

use axum::Json;
use axum::extract::State;
use nemordp_api::OrderPage;
use nemordp_model::{Label, OrderState};
use nemordp_store::OrderFilter;
use utoipa::IntoParams;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Which orders.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OrderQuery {
    /// Only those in this state.
    #[param(value_type = Option<nemordp_api::OrderState>)]
    state: Option<OrderState>,
    /// Only those that the storefront calls so.
    external_reference: Option<String>,
    /// Rows, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the orders, oldest first.
#[utoipa::path(
    get, path = "/v1/orders", operation_id = "order_list", tag = "orders", security(("api_key" = ["read"])),
    params(OrderQuery), responses((status = 200, description = "A page of orders", body = OrderPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Read>,
    Filter(query): Filter<OrderQuery>,
) -> Result<Json<OrderPage>, HttpError> {
    let external_reference = query.external_reference.map(|text| Label::new(text, "external_reference")).transpose()?;
    let filter = OrderFilter { state: query.state, external_reference };
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    Ok(Json(view::orders(&api.app.orders(caller.tenants(), &filter, page).await?)))
}
