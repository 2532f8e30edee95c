//! `POST /v1/nodes/tickets`

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use nemordp_api::{CreatedTicket, NewTicket};
use nemordp_model::{Overcommit, Ticket};
use nemordp_store::Once;
use secrecy::ExposeSecret as _;

use crate::http::auth::{Admin, Caller};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Makes a ticket that lets one machine in. Its text stands in this answer only: a repetition with the same
/// Idempotency-Key finds the ticket without it.
#[utoipa::path(
    post, path = "/v1/nodes/tickets", operation_id = "ticket_create", tag = "nodes", security(("api_key" = ["admin"])),
    params(IdempotencyHeader), request_body = NewTicket,
    responses((status = 201, description = "The ticket", body = CreatedTicket), ChangeErrors),
)]
pub(in crate::http) async fn create(
    State(api): State<Api>,
    _caller: Caller<Admin>,
    intent: Intent<NewTicket>,
) -> Result<Response, HttpError> {
    let new = &intent.body;
    let overcommit = new.overcommit.map(|overcommit| Overcommit {
        vcpu_percent: overcommit.vcpu_percent,
        memory_percent: overcommit.memory_percent,
    });
    let respond =
        |ticket: &Ticket| stored(StatusCode::CREATED, &CreatedTicket { ticket: view::ticket(ticket), text: None });
    let intention = intent.once(&respond);
    let (once, text) = api
        .app
        .ticket_create(new.region.clone(), overcommit, new.node_id, new.lifetime_minutes, Some(&intention))
        .await?;
    let Once::Done(ticket) = &once else { return Ok(answer(&once, &respond)) };
    let created = CreatedTicket { ticket: view::ticket(ticket), text: Some(text.expose_secret().to_owned()) };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(created)).into_response())
}
