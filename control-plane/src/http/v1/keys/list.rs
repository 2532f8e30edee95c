//! `GET /v1/keys`

use axum::Json;
use axum::extract::State;
use nemordp_api::ApiKeyPage;
use nemordp_store::TenantScope;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the keys of every tenant, revoked ones too, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "key_list", tag = "operator", security(("api_key" = ["admin"])),
    params(PageQuery), responses((status = 200, description = "A page of keys", body = ApiKeyPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<ApiKeyPage>, HttpError> {
    Ok(Json(view::keys(&api.app.keys(TenantScope::All, query.page()?).await?)))
}
