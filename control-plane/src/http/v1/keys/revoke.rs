//! `DELETE /v1/keys/{key_id}`

use axum::extract::State;
use axum::http::StatusCode;
use nemordp_store::TenantScope;
use nemordp_types::ApiKeyId;

use crate::http::Api;
use crate::http::auth::{Admin, Caller};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;

/// Refuses a key from now on; safe to repeat.
#[utoipa::path(
    delete, path = "/v1/keys/{key_id}", operation_id = "key_revoke", tag = "operator",
    security(("api_key" = ["admin"])), params(("key_id" = String, Path, description = "Id of the key")),
    responses((status = 204, description = "Revoked"), ReadErrors),
)]
pub(in crate::http) async fn revoke(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    Named(id): Named<ApiKeyId>,
) -> Result<StatusCode, HttpError> {
    api.app.key_revoke(TenantScope::All, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
