//! Which of the operations, for whoever lists them.

use nemordp_model::SagaStatus;
use nemordp_store::{Page, SagaFilter};
use nemordp_types::{Failure, InstanceId, OrderId, SagaId};
use utoipa::IntoParams;

use crate::http::request::PageQuery;

/// Which operations.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OperationQuery {
    /// Only those in this status; `stuck` are those that wait for a human.
    #[param(value_type = Option<nemordp_api::OperationStatus>)]
    status: Option<SagaStatus>,
    /// Only those about this order.
    #[param(value_type = Option<String>)]
    order_id: Option<OrderId>,
    /// Only those about this instance.
    #[param(value_type = Option<String>)]
    instance_id: Option<InstanceId>,
    /// Rows, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl OperationQuery {
    /// As the store wants it.
    pub(in crate::http) fn parts(self) -> Result<(SagaFilter, Page<SagaId>), Failure> {
        let Self { status, order_id, instance_id, limit, cursor } = self;
        Ok((SagaFilter { status, order_id, instance_id }, PageQuery { limit, cursor }.page()?))
    }
}
