//! `GET /v1/operations`

use axum::Json;
use axum::extract::State;
use nemordp_api::OperationPage;
use nemordp_model::SagaStatus;
use nemordp_store::SagaFilter;
use nemordp_types::{InstanceId, OrderId};
use utoipa::IntoParams;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Which operations.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OperationQuery {
    /// Only those in this status.
    #[param(value_type = Option<nemordp_api::OperationStatus>)]
    status: Option<SagaStatus>,
    /// Only those about this order.
    #[param(value_type = Option<String>)]
    order_id: Option<OrderId>,
    /// Only those about this instance.
    #[param(value_type = Option<String>)]
    instance_id: Option<InstanceId>,
    /// Rows, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the operations, oldest first.
#[utoipa::path(
    get, path = "/v1/operations", operation_id = "operation_list", tag = "orders", security(("api_key" = ["read"])),
    params(OperationQuery),
    responses((status = 200, description = "A page of operations", body = OperationPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Read>,
    Filter(query): Filter<OperationQuery>,
) -> Result<Json<OperationPage>, HttpError> {
    let filter = SagaFilter { status: query.status, order_id: query.order_id, instance_id: query.instance_id };
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    Ok(Json(view::operations(&api.app.operations(caller.tenants(), filter, page).await?)))
}
