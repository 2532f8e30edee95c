//! `GET /v1/templates/{template}`

use axum::Json;
use axum::extract::State;
use nemordp_api::Template;
use nemordp_types::TemplateName;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;
use crate::http::{Api, view};

/// Shows the newest template of a name.
#[utoipa::path(
    get, path = "/v1/templates/{template}", operation_id = "template_get", tag = "catalogue",
    security(("api_key" = ["read"])), params(("template" = String, Path, description = "Name of the template")),
    responses((status = 200, description = "The template", body = Template), ReadErrors),
)]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    _caller: Caller<Read>,
    Named(name): Named<TemplateName>,
) -> Result<Json<Template>, HttpError> {
    Ok(Json(view::template(&api.app.template(&name).await?)))
}
