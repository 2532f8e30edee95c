//! `POST /v1/reserves`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Reserve, SetReserve};
use nemordp_store::PlanReserve;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Keeps so many orders of a scarce plan possible in a region. Orders that ask for no GPU are refused there (`reserve`) on
/// nodes where they would take one of the last slots; instances that lie there stay.
#[utoipa::path(
    post, path = "/v1/reserves", operation_id = "reserve_set", tag = "nodes", security(("api_key" = ["operate"])),
    params(IdempotencyHeader), request_body = SetReserve,
    responses((status = 200, description = "What is held", body = Reserve), ChangeErrors),
)]
pub(in crate::http) async fn set(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    intent: Intent<SetReserve>,
) -> Result<Response, HttpError> {
    let respond = |reserve: &PlanReserve| stored(StatusCode::OK, &view::reserve(reserve));
    let SetReserve { region, plan, slots } = &intent.body;
    let once = api.app.reserve_set(region, plan, *slots, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
