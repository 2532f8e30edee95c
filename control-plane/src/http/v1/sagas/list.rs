//! `GET /v1/sagas`

use axum::Json;
use axum::extract::State;
use nemordp_api::SagaPage;
use nemordp_model::SagaStatus;
use nemordp_store::SagaFilter;
use nemordp_types::{InstanceId, OrderId};
use utoipa::IntoParams;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Which sagas.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct SagaQuery {
    /// Only those in this status; `stuck` are those that wait for a human.
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

/// Lists the sagas, oldest first, without their steps.
#[utoipa::path(
    get, path = "/v1/sagas", operation_id = "saga_list", tag = "operator", security(("api_key" = ["operate"])),
    params(SagaQuery),
    responses((status = 200, description = "A page of sagas", body = SagaPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller<Operate>,
    Filter(query): Filter<SagaQuery>,
) -> Result<Json<SagaPage>, HttpError> {
    let filter = SagaFilter { status: query.status, order_id: query.order_id, instance_id: query.instance_id };
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    Ok(Json(view::sagas(&api.app.operations(caller.tenants(), filter, page).await?)))
}
