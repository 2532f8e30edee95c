//! `POST /v1/placements/what-if`

use axum::Json;
use axum::extract::State;
use nemordp_api::{SupposedNode, WhatIf, WhatIfRequest};
use nemordp_model::Demand;
use nemordp_types::Failure;

use crate::app::{Addition, SupposedNode as Machine, Supposition, supposed_plan};
use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::ReadErrors;
use crate::http::error::HttpError;
use crate::http::request::JsonBody;
use crate::http::view::{gpus_of, placement};

/// Tells where an order would go, and how many more of each plan would fit, if nodes or plans were added or removed. It is
/// the decision that orders get, on a copy; nothing is changed, so no `Idempotency-Key` is needed.
#[utoipa::path(
    post, path = "/v1/placements/what-if", operation_id = "placement_what_if", tag = "nodes",
    security(("api_key" = ["operate"])), request_body = WhatIfRequest,
    responses((status = 200, description = "Now and then", body = WhatIf), ReadErrors),
)]
pub(in crate::http) async fn what_if(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    JsonBody(request): JsonBody<WhatIfRequest>,
) -> Result<Json<WhatIf>, HttpError> {
    let foresight = api.app.what_if(&supposition(request)?).await?;
    Ok(Json(placement::what_if(&foresight)))
}

fn supposition(request: WhatIfRequest) -> Result<Supposition, Failure> {
    let add = request.add_nodes.into_iter().map(addition).collect::<Result<_, _>>()?;
    let plans = request.add_plans.into_iter().map(|plan| {
        let demand = Demand {
            vcpu: plan.vcpu,
            memory: plan.memory_mib,
            disk: plan.disk_gib,
            storage_class: plan.storage_class,
            gpus: plan.gpus.map(gpus_of),
        };
        (supposed_plan(plan.name, demand), plan.orders)
    });
    Ok(Supposition {
        region: request.region,
        plan: request.plan,
        template: request.template,
        paid_until: request.paid_until,
        add,
        remove: request.remove_nodes.into_iter().collect(),
        add_plans: plans.collect(),
        remove_plans: request.remove_plans.into_iter().collect(),
    })
}

fn addition(node: SupposedNode) -> Result<Addition, Failure> {
    let SupposedNode { like, region, vcpu, memory_mib, disk_gib, storage_class, gpus, count } = node;
    match (like, vcpu, memory_mib, disk_gib, storage_class) {
        (Some(like), None, None, None, None) if region.is_none() && gpus.is_none() => Ok(Addition::Like(like, count)),
        (None, Some(vcpu), Some(memory), Some(disk), Some(storage_class)) => {
            let demand = Demand { vcpu, memory, disk, storage_class, gpus: gpus.map(gpus_of) };
            Ok(Addition::Of(Machine { region, demand, count }))
        }
        (Some(_) | None, ..) => Err(Failure::field(
            "add_nodes",
            "name either `like` alone, or `vcpu`, `memory_mib`, `disk_gib` and `storage_class` together, with `gpus` where it has any",
        )),
    }
}
