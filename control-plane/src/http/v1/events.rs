//! `GET /v1/events`

use axum::Json;
use axum::extract::State;
use nemordp_api::EventPage;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists what happened, of every tenant, oldest first. Each page with events has a `next_cursor`: keep the last one to go
/// on from there. No event ever appears before one that was listed.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "event_list", tag = "operator", security(("api_key" = ["operate"])),
    params(PageQuery), responses((status = 200, description = "A page of events", body = EventPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<EventPage>, HttpError> {
    Ok(Json(view::events(&api.app.events(query.page()?).await?)))
}
