//! `POST /v1/sagas/{saga_id}/abandon`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Saga, SagaAbandon};
use nemordp_types::{Failure, SagaId};

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Gives a stuck saga up, once somebody has removed by hand what it left on the node: the order has failed, or the deletion
/// is done, and the room is given back.
#[utoipa::path(
    post, path = "/v1/sagas/{saga_id}/abandon", operation_id = "saga_abandon", tag = "operator",
    security(("api_key" = ["operate"])),
    params(("saga_id" = String, Path, description = "Id of the saga; the operation's"), IdempotencyHeader),
    request_body = SagaAbandon,
    responses((status = 200, description = "The saga", body = Saga), ChangeErrors),
)]
pub(in crate::http) async fn abandon(
    State(api): State<Api>,
    caller: Caller<Operate>,
    Named(id): Named<SagaId>,
    intent: Intent<SagaAbandon>,
) -> Result<Response, HttpError> {
    if !intent.body.cleaned_up {
        let fix = "remove by hand what the saga left on its node, then say true: its room is sold again at once";
        return Err(Failure::field("cleaned_up", fix).into());
    }
    let respond = |saga: &nemordp_model::Saga| stored(StatusCode::OK, &view::saga(saga));
    let once = api.app.saga_abandon(caller.tenants(), id, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
