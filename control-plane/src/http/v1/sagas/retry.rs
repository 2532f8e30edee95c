//! `POST /v1/sagas/{saga_id}/retry`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{Saga, SagaDirection, SagaRetry};
use nemordp_model::SagaStatus;
use nemordp_types::SagaId;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, Named, answer, stored};
use crate::http::{Api, view};

/// Lets a stuck saga go on, once what stopped it was removed: where it stuck, or in the direction that is named.
#[utoipa::path(
    post, path = "/v1/sagas/{saga_id}/retry", operation_id = "saga_retry", tag = "operator",
    security(("api_key" = ["operate"])),
    params(("saga_id" = String, Path, description = "Id of the saga; the operation's"), IdempotencyHeader),
    request_body = SagaRetry,
    responses((status = 200, description = "The saga", body = Saga), ChangeErrors),
)]
pub(in crate::http) async fn retry(
    State(api): State<Api>,
    caller: Caller<Operate>,
    Named(id): Named<SagaId>,
    intent: Intent<SagaRetry>,
) -> Result<Response, HttpError> {
    let to = intent.body.direction.map(|direction| match direction {
        SagaDirection::Forward => SagaStatus::Running,
        SagaDirection::Back => SagaStatus::Unwinding,
    });
    let respond = |saga: &nemordp_model::Saga| stored(StatusCode::OK, &view::saga(saga));
    let once = api.app.saga_resume(caller.tenants(), id, to, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
