//! `/v1/instances`

use axum::http::StatusCode;
use axum::response::Response;
use nemordp_model::{SagaKind, Wish};
use nemordp_store::Changed;
use nemordp_types::InstanceId;

use crate::http::auth::{Caller, Orders};
use crate::http::error::HttpError;
use crate::http::request::{Intent, answer, stored};
use crate::http::{Api, view};

pub(in crate::http) mod adopt;
pub(in crate::http) mod credentials;
pub(in crate::http) mod delete;
pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod paid_until;
pub(in crate::http) mod password_reset;
pub(in crate::http) mod rdp_file;
pub(in crate::http) mod reinstall;
pub(in crate::http) mod rename;
pub(in crate::http) mod rescue;
pub(in crate::http) mod reset;
pub(in crate::http) mod resize;
pub(in crate::http) mod restart;
pub(in crate::http) mod restore;
pub(in crate::http) mod start;
pub(in crate::http) mod stop;
pub(in crate::http) mod suspend;
pub(in crate::http) mod suspension;
pub(in crate::http) mod unrescue;
pub(in crate::http) mod unsuspend;
pub(in crate::http) mod usage;

/// What every change of an instance does: 202 with the operation.
async fn change<T>(
    api: &Api,
    caller: &Caller<Orders>,
    id: InstanceId,
    wanted: (SagaKind, Wish),
    intent: &Intent<T>,
) -> Result<Response, HttpError> {
    let respond = |changed: &Changed| stored(StatusCode::ACCEPTED, &view::operation(&changed.saga));
    let once = api.app.instance_change(caller.tenants(), id, wanted, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
