//! `GET /healthz` and `GET /readyz`

use axum::Json;
use axum::extract::State;

use super::Api;
use super::describe::ReadErrors;
use super::error::HttpError;

/// Whether the process answers at all.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
    /// Version of the control plane.
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Tells that the process answers.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "operator", security(()),
    responses((status = 200, description = "It answers", body = Health)),
)]
pub(super) async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Tells whether requests can be served: the store answers, and the process is not about to end.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "operator", security(()),
    responses((status = 200, description = "It is ready", body = Health), ReadErrors),
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Health>, HttpError> {
    if api.shutdown.is_cancelled() {
        return Err(HttpError(nemordp_types::Failure::new(nemordp_types::Reason::Unavailable, "about to end")));
    }
    api.app.store.ping().await?;
    Ok(Json(OK))
}
