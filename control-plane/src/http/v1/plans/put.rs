//! `POST /v1/plans`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use nemordp_api::{NewPlan, Plan};
use nemordp_model::placement::labels;

use crate::http::auth::{Caller, Operate};
use crate::http::describe::ChangeErrors;
use crate::http::error::HttpError;
use crate::http::request::{IdempotencyHeader, Intent, answer, stored};
use crate::http::{Api, view};

/// Makes a plan, or changes the one of this name. Instances that were sold keep their shape.
#[utoipa::path(
    post, path = "/v1/plans", operation_id = "plan_put", tag = "catalogue", security(("api_key" = ["operate"])),
    params(IdempotencyHeader), request_body = NewPlan,
    responses((status = 200, description = "The plan", body = Plan), ChangeErrors),
)]
pub(in crate::http) async fn put(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    intent: Intent<NewPlan>,
) -> Result<Response, HttpError> {
    let respond = |plan: &nemordp_model::Plan| stored(StatusCode::OK, &view::plan(plan));
    let new = &intent.body;
    let new = nemordp_store::NewPlan {
        name: new.name.clone(),
        vcpu: new.vcpu,
        memory: new.memory_mib,
        disk: new.disk_gib,
        storage_class: new.storage_class.clone(),
        gpus: new.gpus.clone().map(view::gpus_of),
        labels: labels(new.labels.clone(), "labels")?,
        on_sale: new.on_sale,
    };
    let once = api.app.plan_put(&new, Some(&intent.once(&respond))).await?;
    Ok(answer(&once, &respond))
}
