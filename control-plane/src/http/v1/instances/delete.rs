//! `DELETE /v1/instances/{instance_id}`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use nemordp_api::Operation;
use nemordp_store::Once;
use nemordp_types::{Failure, InstanceId};
use utoipa::IntoParams;

use crate::http::auth::{Caller, Orders};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::{Filter, Named};
use crate::http::{Api, view};

/// When it is removed.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeleteQuery {
    /// Seconds until the instance is removed; it is off until then, and can be restored. 0: at once. The installation's
    /// setting when absent.
    #[param(minimum = 0)]
    grace_seconds: Option<u64>,
}

/// Removes an instance with its disk, at once or after a time of grace; wins over everything that is under way. Needs no
/// key: a second deletion at once finds the first one's operation.
#[utoipa::path(
    delete, path = "/v1/instances/{instance_id}", operation_id = "instance_delete", tag = "instances",
    security(("api_key" = ["orders"])),
    params(("instance_id" = String, Path, description = "Id of the instance"), DeleteQuery),
    responses((status = 202, description = "The operation", body = Operation), ReadErrors),
)]
pub(in crate::http) async fn delete(
    State(api): State<Api>,
    caller: Caller<Orders>,
    Named(id): Named<InstanceId>,
    Filter(query): Filter<DeleteQuery>,
) -> Result<Response, HttpError> {
    let wanted = api.app.deletion(query.grace_seconds)?;
    let once = api.app.instance_change(caller.tenants(), id, wanted, None).await?;
    let Once::Done(changed) = once else {
        return Err(HttpError(Failure::internal("a replay without an intention")));
    };
    let mut response = (StatusCode::ACCEPTED, Json(view::operation(&changed.saga))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{}", changed.saga.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
