//! `GET /v1/templates`

use axum::Json;
use axum::extract::State;
use nemordp_api::TemplatePage;

use crate::http::auth::{Caller, Read};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the templates, by name; the newest of each.
#[utoipa::path(
    get, path = "/v1/templates", operation_id = "template_list", tag = "catalogue",
    security(("api_key" = ["read"])), params(PageQuery),
    responses((status = 200, description = "A page of templates", body = TemplatePage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Read>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<TemplatePage>, HttpError> {
    Ok(Json(view::templates(&api.app.templates(query.page()?).await?)))
}
