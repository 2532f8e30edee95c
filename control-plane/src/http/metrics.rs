//! `GET /metrics`, on an address of its own: plain on loopback, elsewhere only for monitoring and control-plane
//! certificates of our CA.

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use nemordp_types::{Failure, Reason};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::Peer;

use super::Api;
use super::error::HttpError;
use super::layer;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `mutual`: connections carry who is at the other end, and it is checked with each request.
pub(crate) fn router(api: Api, mutual: bool) -> Router {
    let plain = Router::new().route("/metrics", get(render)).fallback(layer::no_such_path);
    let router = if mutual {
        let revocations = api.app.pki.revocations().clone();
        plain.layer(from_fn(move |Extension(peer): Extension<Peer>, request, next: axum::middleware::Next| {
            let revocations = revocations.clone();
            async move {
                let role = peer.identity.map(|identity| identity.role);
                let revoked = peer.serial.as_deref().is_none_or(|serial| revocations.contains(serial));
                match role {
                    Some(Role::Monitoring | Role::ControlPlane) if !revoked => Ok(next.run(request).await),
                    Some(Role::Monitoring | Role::ControlPlane | Role::Node) | None => Err(HttpError(Failure::new(
                        Reason::Forbidden,
                        "metrics are for certificates of the roles monitoring and control-plane",
                    ))),
                }
            }
        }))
    } else {
        plain
    };
    router.with_state(api)
}

async fn render(State(api): State<Api>) -> Result<Response, HttpError> {
    let text = api.telemetry.render(&api.app).await?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
