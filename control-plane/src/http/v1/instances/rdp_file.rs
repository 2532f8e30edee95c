//! `GET /v1/instances/{instance_id}/rdp-file`

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use nemordp_types::InstanceId;

use crate::http::Api;
use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;

/// Gives the file that an RDP client opens: endpoint and user, no password.
#[utoipa::path(
    get, path = "/v1/instances/{instance_id}/rdp-file", operation_id = "instance_rdp_file", tag = "instances",
    security(("api_key" = ["read"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 200, description = "The file", body = String, content_type = "application/x-rdp"), ReadErrors),
)]
pub(in crate::http) async fn rdp_file(
    State(api): State<Api>,
    caller: Caller<Read>,
    Named(id): Named<InstanceId>,
) -> Result<Response, HttpError> {
    let file = api.app.rdp_file(caller.tenants(), id).await?;
    let name = format!("attachment; filename=\"{id}.rdp\"");
    Ok(([(header::CONTENT_TYPE, "application/x-rdp".to_owned()), (header::CONTENT_DISPOSITION, name)], file)
        .into_response())
}
