//! `GET /v1/tenants`

use axum::Json;
use axum::extract::State;
use nemordp_api::TenantPage;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the tenants, oldest first.
#[utoipa::path(
    get, path = "/v1/tenants", operation_id = "tenant_list", tag = "operator", security(("api_key" = ["admin"])),
    params(PageQuery), responses((status = 200, description = "A page of tenants", body = TenantPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<TenantPage>, HttpError> {
    Ok(Json(view::tenants(&api.app.tenants(query.page()?).await?)))
}
