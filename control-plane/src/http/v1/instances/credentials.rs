//! `POST /v1/instances/{instance_id}/credentials`

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use nemordp_api::CredentialsLink;
use nemordp_types::InstanceId;
use secrecy::ExposeSecret as _;

use crate::http::Api;
use crate::http::auth::{Caller, Orders};
use crate::http::describe::{ReadErrors, RevealErrors};
use crate::http::error::HttpError;
use crate::http::request::{Empty, JsonBody, Named};

/// Makes the link that shows the password once; an earlier link stops to open. Takes no Idempotency-Key: the answer is a
/// secret and is not kept; repeating makes a new link.
#[utoipa::path(
    post, path = "/v1/instances/{instance_id}/credentials", operation_id = "credentials_link", tag = "instances",
    security(("api_key" = ["orders"])), params(("instance_id" = String, Path, description = "Id of the instance")),
    responses((status = 201, description = "The link", body = CredentialsLink), ReadErrors, RevealErrors),
)]
pub(in crate::http) async fn credentials(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    JsonBody(Empty {}): JsonBody<Empty>,
) -> Result<Response, HttpError> {
    let link = api.app.credentials_link(caller.tenants(), id).await?;
    let body = CredentialsLink { url: link.url.expose_secret().to_owned(), expires_at: link.expires_at };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
