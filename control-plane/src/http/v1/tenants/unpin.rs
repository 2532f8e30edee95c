//! `POST /v1/tenants/{tenant_id}/unpin`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::Tenant;
use nemordp_types::TenantId;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{Empty, IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Lets the tenant's new instances lie on any node that is kept for nobody else.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant_id}/unpin", operation_id = "tenant_unpin", tag = "operator",
    security(("api_key" = ["admin"])),
    params(("tenant_id" = String, Path, description = "Id of the tenant"), IdempotencyHeader),
    responses((status = 200, description = "The tenant", body = Tenant), ChangeErrors),
)]
pub(in crate::http) async fn unpin(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    Named(id): Named<TenantId>,
    intent: Intent<Empty>,
) -> Result<Response, HttpError> {
    let respond = |tenant: &nemordp_model::Tenant| stored(StatusCode::OK, &view::tenant(tenant));
    let once = api.app.tenant_pin(id, false, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
