//! `POST /v1/templates`

use std::path::Path;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{NewTemplate, Template};
use nemordp_store::RegisteredTemplate;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::{ChangeErrors, UploadErrors};
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Registers a template, whose file was uploaded before or lies on the control plane's own disk. A new digest under a
/// known name is what orders get from now on.
#[utoipa::path(
    post, path = "/v1/templates", operation_id = "template_register", tag = "catalogue",
    security(("api_key" = ["operate"])), params(IdempotencyHeader), request_body = NewTemplate,
    responses((status = 201, description = "The template", body = Template), UploadErrors, ChangeErrors),
)]
pub(in crate::http) async fn register(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    intent: Intent<NewTemplate>,
) -> Result<Response, HttpError> {
    let respond = |template: &RegisteredTemplate| stored(StatusCode::CREATED, &view::template(template));
    let (manifest, import) = (view::template_of(&intent.body), intent.body.file.as_deref().map(Path::new));
    let once = api.app.template_register(&manifest, import, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
