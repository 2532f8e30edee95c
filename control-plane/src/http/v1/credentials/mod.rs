//! `POST /v1/credentials/reveal`

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use nemordp_api::{CredentialsReveal, RevealedCredentials};
use secrecy::ExposeSecret as _;

use crate::http::Api;
use crate::http::auth::client_address;
use crate::http::describe::RevealErrors;
use crate::http::error::HttpError;
use crate::http::request::JsonBody;

/// Shows the credentials behind a link, and consumes it. Needs no API key: the token is the customer's. Takes no
/// Idempotency-Key: the answer is a secret and is not kept.
#[utoipa::path(
    post, path = "/v1/credentials/reveal", operation_id = "credentials_reveal", tag = "instances",
    request_body = CredentialsReveal, security(()),
    responses((status = 200, description = "The credentials, once", body = RevealedCredentials), RevealErrors),
)]
pub(in crate::http) async fn reveal(State(api): State<Api>, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let address = client_address(&parts, api.app.config.http.behind_proxy);
    api.throttle.admit(address, api.app.clock.now())?;
    let JsonBody(asked) = JsonBody::<CredentialsReveal>::from_request(Request::from_parts(parts, body), &api).await?;
    let revealing = match api.app.credentials_reveal(&asked.token).await {
        Ok(revealing) => revealing,
        Err(failure) => {
            api.throttle.failed(address, api.app.clock.now());
            return Err(HttpError(failure));
        }
    };
    let (instance, endpoint) = (&revealing.instance, revealing.instance.spec.network.endpoint);
    let credentials = RevealedCredentials {
        instance_id: instance.id,
        endpoint_address: endpoint.address.to_string(),
        endpoint_port: endpoint.port,
        login_name: instance.spec.guest.login_name.clone(),
        password: revealing.password.expose_secret().to_owned(),
        rdp_certificate_sha256: instance.rdp_certificate_sha256.map(hex::encode),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(credentials)).into_response())
}
