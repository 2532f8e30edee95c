//! The money-leak check.

use jiff::Timestamp;
use nemordp_types::{InstanceId, NodeId, OrderId, SagaId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditFinding {
    /// What.
    #[schema(example = "reservation_without_instance")]
    pub finding: String,
    /// With which order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub order_id: Option<OrderId>,
    /// With which instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_id: Option<InstanceId>,
    /// On which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// In which operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation_id: Option<SagaId>,
    /// The figures that do not fit.
    pub detail: String,
    /// What to do about it.
    pub fix: String,
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReport {
    /// When the nodes were asked.
    #[schema(value_type = String, format = DateTime)]
    pub audited_at: Timestamp,
    /// Orders that were compared.
    pub orders: u64,
    /// Instances that were compared.
    pub instances: u64,
    /// Nodes that were compared.
    pub nodes: u64,
    /// What does not fit; empty when everything does.
    pub findings: Vec<AuditFinding>,
}
