//! `POST /v1/keys`

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use nemordp_api::{CreatedApiKey, NewApiKey};
use nemordp_model::{ApiKey, ApiScopes, Label};
use nemordp_store::Once;
use secrecy::ExposeSecret as _;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Makes a key. Its secret stands in this answer only: a repetition with the same Idempotency-Key finds the key without
/// it.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "key_create", tag = "operator", security(("api_key" = ["admin"])),
    params(IdempotencyHeader), request_body = NewApiKey,
    responses((status = 201, description = "The key", body = CreatedApiKey), ChangeErrors),
)]
pub(in crate::http) async fn create(
    State(api): State<Api>,
    caller: Caller<Admin>,
    intent: Intent<NewApiKey>,
) -> Result<Response, HttpError> {
    let label = Label::new(intent.body.name.clone(), "name")?;
    let scopes = ApiScopes::new(intent.body.scopes.iter().copied().map(view::scope_of))?;
    let tenant_id = match &intent.body.tenant {
        Some(name) => api.app.tenant_named(name).await?,
        None => caller.tenant_id(),
    };
    let respond = |key: &ApiKey| stored(StatusCode::CREATED, &CreatedApiKey { key: view::key(key), secret: None });
    let (once, secret) = api.app.key_create(tenant_id, label, scopes, Some(&intent.once(&respond))).await?;
    let Once::Done(key) = &once else { return Ok(answer(&once, &respond)) };
    let created = CreatedApiKey { key: view::key(key), secret: Some(secret.expose_secret().to_owned()) };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(created)).into_response())
}
