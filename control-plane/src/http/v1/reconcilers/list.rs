//! `GET /v1/reconcilers`

use axum::Json;
use axum::extract::State;
use nemordp_api::ReconcilerList;

use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;

/// Lists what keeps the long-lived truth, and how it fared, on whichever replica runs it.
#[utoipa::path(
    get, path = "/v1/reconcilers", operation_id = "reconciler_list", tag = "operator",
    security(("api_key" = ["operate"])),
    responses((status = 200, description = "Every reconciler", body = ReconcilerList), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Operate>,
) -> Result<Json<ReconcilerList>, HttpError> {
    Ok(Json(ReconcilerList { items: api.app.work.reconcilers().await? }))
}
