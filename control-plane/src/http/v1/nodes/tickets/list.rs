//! `GET /v1/nodes/tickets`

use axum::Json;
use axum::extract::State;
use nemordp_api::TicketPage;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, PageQuery};
use crate::http::{Api, view};

/// Lists the tickets, used and expired ones too, without their text.
#[utoipa::path(
    get, path = "/v1/nodes/tickets", operation_id = "ticket_list", tag = "nodes", security(("api_key" = ["admin"])),
    params(PageQuery), responses((status = 200, description = "A page of tickets", body = TicketPage), ReadErrors),
)]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<TicketPage>, HttpError> {
    Ok(Json(view::tickets(&api.app.tickets(query.page()?).await?)))
}
